//! A fitted network.

use super::options::{TrainOptions, Windows};
use super::predict::{Prediction, Predictor};
use super::resident::{Resident, check_examples};
use crate::Result;
use crate::data::inputs::Inputs;
use crate::data::split::SplitIndices;
use crate::device::{Device, Traffic, block_on};
use crate::graph::Step;
use crate::kernel::{Cost, Kernel};
use crate::net::PcConvNet;

/// How often [`Fit::profile`] runs a step after the first.
const PROFILE_RUNS: usize = 30;

/// A fitted network.
pub struct Fit {
    /// The network, with the weights of its best epoch.
    pub net: PcConvNet,
    /// Epochs of all phases, those before an interruption too; whoever watches is told what each gave.
    pub epochs: usize,
    /// Launches of one step of the last phase.
    pub launches_per_step: usize,
    /// What the steps of the last epoch asked the device for, and how many steps those were; nothing where the device does not
    /// count, or no epoch was run.
    pub traffic: Option<(Traffic, usize)>,
    /// Whether whoever watched ended it before its time; the phases that were to follow are missing.
    pub stopped: bool,
    pub(super) data: Resident,
    pub(super) predictor: Predictor,
    /// The last phase's.
    pub(super) step: Option<Step>,
}

impl Fit {
    /// A network at hand, to predict on `inputs`.
    ///
    /// # Errors
    /// When the network does not take the inputs, or the device refuses.
    pub fn of(device: &dyn Device, net: PcConvNet, inputs: &Inputs, windows: Windows) -> Result<Self> {
        block_on(Self::of_async(device, net, inputs, windows))
    }

    /// [`Fit::of`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn of_async(
        device: &dyn Device,
        net: PcConvNet,
        inputs: &Inputs,
        windows: Windows,
    ) -> Result<Self> {
        let data = Resident::new(device, inputs, windows, &net, None).await?;
        let predictor = Predictor::new(device, &net, &data)?;
        let (epochs, launches_per_step, traffic, stopped, step) = (0, 0, None, false, None);
        Ok(Self { net, epochs, launches_per_step, traffic, stopped, data, predictor, step })
    }

    /// The network that [`super::fit()`] begins with, to predict on `inputs`: with the initial weights of `options.seed`, and
    /// features standardised over the training part of `split`.
    ///
    /// # Errors
    /// When `split` or `options` do not fit the inputs, or the device fails.
    pub fn untrained(
        device: &dyn Device,
        inputs: &Inputs,
        split: &SplitIndices,
        options: &TrainOptions,
    ) -> Result<Self> {
        Self::of(device, initial(device, inputs, split, options)?, inputs, options.windows)
    }

    /// Predictions for examples of the inputs it was fitted on.
    ///
    /// # Errors
    /// When there is no such example, or the device fails.
    pub fn predict(&mut self, device: &dyn Device, examples: &[usize]) -> Result<Vec<Prediction>> {
        block_on(self.predict_async(device, examples))
    }

    /// [`Fit::predict`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn predict_async(
        &mut self,
        device: &dyn Device,
        examples: &[usize],
    ) -> Result<Vec<Prediction>> {
        self.predictor.run(device, &self.net, &self.data, examples).await
    }

    /// One training step of the last phase launch by launch: kernel, cost and the least seconds of some
    /// runs, in order; nothing for [`Fit::of`]. The network stays as it is.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile(&mut self, device: &dyn Device) -> Result<Vec<(&'static Kernel, Cost, f64)>> {
        let Some(step) = &mut self.step else { return Ok(Vec::new()) };
        let tensors = self.net.tensors(device)?;
        let mut rows = step.profile()?;
        for _ in 0..PROFILE_RUNS {
            for (row, again) in rows.iter_mut().zip(step.profile()?) {
                row.2 = row.2.min(again.2);
            }
        }
        self.net.load(device, &tensors)?;
        Ok(rows)
    }
}

/// The network before its first step.
pub(super) fn initial(
    device: &dyn Device,
    inputs: &Inputs,
    split: &SplitIndices,
    options: &TrainOptions,
) -> Result<PcConvNet> {
    let net = PcConvNet::new(device, options.net.clone(), options.seed)?;
    check_examples(&split.train, inputs.examples.len())?;
    let features: Vec<&[f32]> = split.train.iter().map(|&e| inputs.examples[e].features.as_slice()).collect();
    net.fit_standardisation(device, &features)?;
    Ok(net)
}
