//! Predictions of a trained network.

use super::batch::BatchBufs;
use super::heads::{Heads, mean_of};
use super::resident::{Resident, View, check_examples};
use crate::Result;
use crate::data::inputs::{Example, mean_of_known};
use crate::device::Device;
use crate::graph::{Graph, Step, Var};
use crate::net::{Learn, PcConvNet};

/// Samples per step of evaluation.
const BATCH: usize = 64;

/// What the network makes of one example: the mean over its views.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Rating in [0, 1]; of several criteria their mean.
    pub rating: f32,
    /// Of several criteria the rating by each; empty of one.
    pub ratings: Vec<f32>,
    /// Embedding, of the network's width.
    pub embedding: Vec<f32>,
}

impl Prediction {
    /// The rating to be held against that of an example, which may have been rated by some of several criteria: the mean of
    /// these.
    pub fn beside(&self, example: &Example) -> f32 {
        mean_of_known(&self.ratings, &example.ratings).unwrap_or(self.rating)
    }
}

/// The network in evaluation mode, recorded over one data set.
pub struct Predictor {
    step: Step,
    bufs: BatchBufs,
    /// `[BATCH, K]`.
    ratings: Var,
    embedding: Var,
}

impl Predictor {
    /// Records evaluation of `net` on `data`. Parameters are read when it runs.
    ///
    /// # Errors
    /// When the network does not take the data, or the device refuses.
    pub(super) fn new(device: &dyn Device, net: &PcConvNet, data: &Resident) -> Result<Self> {
        let mut g = Graph::new();
        let bufs = BatchBufs::new(device, BATCH, data.padded())?;
        let vars = net.bind(&mut g, Learn::No, Learn::No)?;
        let batch = bufs.record(&mut g, data, &net.config)?;
        let heads = Heads::record(&mut g, net, &vars, &batch, None, true)?;
        let ratings = heads.rate(&mut g, net, &vars, None)?;
        let (embedding, ratings) = (heads.embedding, mean_of(&mut g, &ratings)?);
        let step = g.compile(device, &[embedding, ratings])?;
        Ok(Self { step, bufs, ratings, embedding })
    }

    /// Predicts the given examples.
    ///
    /// # Errors
    /// When there is no such example, or the device fails.
    pub(super) async fn run(
        &mut self,
        device: &dyn Device,
        net: &PcConvNet,
        data: &Resident,
        examples: &[usize],
    ) -> Result<Vec<Prediction>> {
        check_examples(examples, data.shape[0])?;
        let views: Vec<(usize, View)> = examples
            .iter()
            .enumerate()
            .flat_map(|(i, &e)| data.views(e).into_iter().map(move |v| (i, v)))
            .collect();
        let (width, criteria) = (net.config.embedding(), net.config.criteria);
        let mut sums = vec![(vec![0.0f64; criteria], vec![0.0f64; width], 0.0f64); examples.len()];
        for chunk in views.chunks(BATCH) {
            let batch: Vec<View> = chunk.iter().map(|v| v.1).collect();
            let values = self.bufs.values(&batch, |v| net.config.valid_frames(data.valid_frames(v)))?;
            self.bufs.write(device, &values)?;
            self.step.run_async().await?;
            let ratings = device.download_async(self.step.buf(self.ratings)?).await?;
            let embeddings = device.download_async(self.step.buf(self.embedding)?).await?;
            for (lane, &(i, _)) in chunk.iter().enumerate() {
                let (rating, embedding, n) = &mut sums[i];
                let add = |sums: &mut [f64], values: &[f32]| {
                    sums.iter_mut().zip(values).for_each(|(sum, &v)| *sum += f64::from(v));
                };
                add(rating, &ratings[lane * criteria..]);
                add(embedding, &embeddings[lane * width..]);
                *n += 1.0;
            }
        }
        let mean = |(ratings, embedding, n): (Vec<f64>, Vec<f64>, f64)| {
            let of_all = ratings.iter().sum::<f64>() / criteria as f64;
            let means = |sums: Vec<f64>| sums.into_iter().map(|v| (v / n) as f32).collect();
            Prediction {
                rating: (of_all / n) as f32,
                ratings: if criteria > 1 { means(ratings) } else { Vec::new() },
                embedding: means(embedding),
            }
        };
        Ok(sums.into_iter().map(mean).collect())
    }
}
