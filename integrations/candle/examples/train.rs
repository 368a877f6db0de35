//! Trains a tiny encoder until sequences lie as far apart as their ratings do.

use candle_core::{Device, Tensor, Var};
use candle_nn::{Optimizer, SGD};
use etude_candle::{ContrastiveOptions, ConvOptions1d, Samples, bins, contrastive, conv1d};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = &Device::Cpu;
    // Noise, the louder the higher it is rated.
    let ratings: Vec<f32> = (0..64).map(|i| i as f32 / 63.0).collect();
    let noise = Tensor::randn(0f32, 1.0, (64, 1, 200), cpu)?;
    let x = noise.broadcast_mul(&Tensor::from_slice(&ratings, (64, 1, 1), cpu)?)?;
    let labels = Tensor::new(bins(&ratings, 5)?, cpu)?;

    let w = Var::randn(0f32, 0.1, (8, 1, 7), cpu)?;
    let mut sgd = SGD::new(vec![w.clone()], 0.2)?;
    for epoch in 0..=100 {
        let z = conv1d(&x, &w, None, ConvOptions1d { stride: 3, ..Default::default() })?.relu()?.mean(2)?;
        let loss = contrastive(Samples::new(&z, &labels), ContrastiveOptions::default())?;
        sgd.backward_step(&loss)?;
        if epoch % 20 == 0 {
            println!("epoch {epoch}: loss {:.4}", loss.to_scalar::<f32>()?);
        }
    }
    Ok(())
}
