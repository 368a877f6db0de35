//! `etude train` as a program of one's own: trains the network on the built-in synthetic set and grades performers it never
//! heard.
//!
//!     cargo run --release --example train

use etude::Result;
use etude::audio::Scale;
use etude::data::synth::{SynthOptions, generate};
use etude::data::{InputOptions, Inputs, SplitBy};
use etude::device::Cpu;
use etude::report::metrics::Metrics;
use etude::train::{Epoch, Hooks, Snapshot, TrainOptions, fit};
use std::ops::ControlFlow;

fn main() -> Result<()> {
    // Takes with their grades; `etude::data::load` reads those of a directory instead.
    let recordings = generate(&SynthOptions::default())?;
    let inputs = Inputs::build(&recordings, &InputOptions::default(), &|_, _| {})?;
    // A fifth of the takes to test on, by other performers; none to validate on, as the falling rate ends the training.
    let split = inputs.holdout(SplitBy::Performer, 0.0, 0.2, 0)?;

    let cpu = Cpu::<f32>::new(0)?; // every core; or Wgpu::new(&Select::Auto)?, or Cuda::new(0)?
    let options =
        TrainOptions::for_inputs(inputs.kind, Scale::default().semitone()).for_takes(split.train.len());
    let mut progress = |epoch: &Epoch, _: &mut Snapshot<'_>| {
        if epoch.epoch.is_multiple_of(10) {
            println!("epoch {} of {}: loss {:.4}", epoch.epoch, epoch.of, epoch.train_loss);
        }
        Ok(ControlFlow::Continue(()))
    };
    let hooks = Hooks { progress: Some(&mut progress), ..Hooks::default() };
    let mut fitted = fit(&cpu, &inputs, &split, &options, hooks)?;

    let predictions = fitted.predict(&cpu, &split.test)?;
    let made: Vec<f32> = predictions.iter().map(|p| p.rating).collect();
    let ratings: Vec<f32> = split.test.iter().map(|&take| inputs.examples[take].rating).collect();
    let metrics = Metrics::new(&made, &ratings);
    let shown = |value: Option<f64>| value.map_or("undefined".into(), |v| format!("{v:.4}"));
    println!("{} recordings: R² {}, Pearson r {}", metrics.n, shown(metrics.r2), shown(metrics.pearson));
    Ok(())
}
