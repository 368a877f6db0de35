//! A convolution and the contrastive loss of Etude inside a network of burn's, trained with burn's autodiff.
//!
//!     cargo run --release -p etude-burn --example train [cpu]      cpu: a software adapter

use burn::tensor::{Device, DeviceKind, Distribution, Tensor, activation};
use etude_burn::{ContrastiveOptions, ConvOptions1d, Samples, bins, contrastive, conv1d};
use std::time::Instant;

const ROWS: usize = 256;
const FRAMES: usize = 200;
const STEPS: usize = 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kind = match std::env::args().nth(1).as_deref() {
        None => DeviceKind::DefaultDevice,
        Some("cpu") => DeviceKind::Cpu,
        Some(other) => return Err(format!("usage: train [cpu], not `{other}`").into()),
    };
    let device = etude_burn::init(Device::wgpu_options().device_kind(kind))?.autodiff();
    device.seed(0);

    // The better a take is graded, the steadier it is.
    let grades: Vec<f64> = (0..ROWS).map(|i| i as f64 / (ROWS - 1) as f64).collect();
    let noise: Vec<f32> = grades.iter().map(|g| 1.0 - 0.9 * *g as f32).collect();
    let noise = Tensor::<1>::from_floats(&noise[..], &device).reshape([ROWS, 1, 1]);
    let x = Tensor::<3>::random([ROWS, 1, FRAMES], Distribution::Normal(0.0, 1.0), &device) * noise;
    let labels = Tensor::<1>::from_floats(&bins(&grades, 5)?[..], &device);

    let mut w = Tensor::<3>::random([8, 1, 7], Distribution::Normal(0.0, 0.3), &device).require_grad();
    let start = Instant::now();
    for step in 0..STEPS {
        let y = conv1d(x.clone(), w.clone(), None, ConvOptions1d { stride: 3, ..Default::default() })?;
        let z = activation::relu(y).mean_dim(2).squeeze_dim::<2>(2);
        let loss = contrastive(Samples::new(z, labels.clone()), ContrastiveOptions::default())?;
        let gradient = w.grad(&loss.backward()).ok_or("the loss depends on w")?;
        w = Tensor::from_inner(w.inner() - gradient).require_grad();
        if step % 5 == 4 {
            println!("step {:2}: loss {:.4}", step + 1, loss.into_scalar::<f32>());
        }
    }
    println!("{STEPS} steps in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
