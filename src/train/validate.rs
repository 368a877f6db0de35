//! The loss of a phase on examples that it is not trained on.

use super::options::Contrast;
use super::phase::Phase;
use super::predict::Prediction;
use super::record::contrast;
use super::resident::Resident;
use crate::Result;
use crate::data::inputs::Inputs;
use crate::device::Device;
use crate::graph::Graph;
use crate::report::scores::r2;

/// How good predictions are.
#[derive(Default)]
pub(super) struct Validation {
    /// `None` where a pair is needed and there is none.
    pub loss: Option<f64>,
    /// R², where ratings are trained and it is defined.
    pub r2: Option<f64>,
}

impl Validation {
    /// Of the predictions for these examples.
    pub(super) async fn of(
        device: &dyn Device,
        inputs: &Inputs,
        data: &Resident,
        phase: &Phase,
        examples: &[usize],
        predictions: &[Prediction],
    ) -> Result<Self> {
        if phase.mse {
            let of = || examples.iter().map(|&e| &inputs.examples[e]).zip(predictions);
            let ratings: Vec<f32> = of().map(|(example, _)| example.rating).collect();
            let made: Vec<f32> = of().map(|(example, made)| made.beside(example)).collect();
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let loss = match inputs.criteria.len() {
                1 => made.iter().zip(&ratings).map(square).sum::<f64>() / made.len() as f64,
                // As in training: of all ratings that there are, over all that there could be.
                criteria => {
                    let each = of().flat_map(|(example, made)| made.ratings.iter().zip(&example.ratings));
                    let sum: f64 = each.filter_map(|(made, rating)| Some(square((made, &(*rating)?)))).sum();
                    sum / (made.len() * criteria) as f64
                }
            };
            return Ok(Self { loss: Some(loss), r2: r2(&made, &ratings) });
        }
        let (Some(c), 2..) = (phase.contrast, predictions.len()) else { return Ok(Self::default()) };
        let labels: Vec<f32> = examples.iter().map(|&e| data.label_values[e]).collect();
        Ok(Self { loss: Some(contrast_loss(device, c, predictions, &labels).await?), r2: None })
    }
}

/// The contrastive loss over all pairs.
async fn contrast_loss(
    device: &dyn Device,
    c: Contrast,
    predictions: &[Prediction],
    labels: &[f32],
) -> Result<f64> {
    let mut g = Graph::new();
    let flat: Vec<f32> = predictions.iter().flat_map(|p| p.embedding.iter().copied()).collect();
    let (z, l) = (device.upload(&flat)?, device.upload(labels)?);
    let z = g.bind(&z, &[predictions.len(), flat.len() / predictions.len().max(1)])?;
    let l = g.bind(&l, &[labels.len()])?;
    let loss = contrast(&mut g, c, z, l, None)?;
    let mut step = g.compile(device, &[loss])?;
    step.run_async().await?;
    Ok(device.download_f64_async(step.buf(loss)?).await?[0])
}
