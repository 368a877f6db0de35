//! The contrastive loss of 1,000 embeddings, and its gradient: nothing else of the crate is needed.
//!
//! `cargo run --release --example contrastive`

use etude::Result;
use etude::cases::{normal, uniform};
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};

fn main() -> Result<()> {
    let (n, d) = (1000, 16);
    let (embeddings, ratings) = (normal(1, n * d), uniform(2, n));

    let cpu = Cpu::<f32>::new(0)?;
    let device: &dyn Device = &cpu;
    let z = device.upload(&embeddings)?;
    let labels = device.upload(&bins(&ratings, 5)?)?;

    // Recorded once: value and gradient are one launch, and no n × n matrix exists.
    let mut g = Graph::new();
    let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
    let loss = contrastive(&mut g, z, labels, ContrastiveOptions { margin: 0.5, ..Default::default() })?;
    g.backward(loss)?;
    let grad = g.grad(z).expect("z is a leaf that the loss depends on");
    let mut step = g.compile(device, &[loss, grad])?;

    // Run as often as you like; write to the buffers of z and the labels in between.
    step.run()?;
    println!("loss {:.6}", device.download(step.buf(loss)?)?[0]);
    println!("gradient of the first row {:.6?}", &device.download(step.buf(grad)?)?[..d]);
    Ok(())
}
