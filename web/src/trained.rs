//! Networks: trained, stopped, tested, saved and loaded.

use crate::device::Processor;
use crate::events::{EpochEvent, HeldOut, Listener};
use crate::settings::Settings;
use crate::takes::Takes;
use crate::{json, thrown};
use etude::data::{InputOptions, Split};
use etude::model::{self, ModelInfo};
use etude::report::interval::Interval;
use etude::report::metrics::Metrics;
use etude::report::scores::{best_threshold, r2};
use etude::train::{Epoch, Fit, Prediction, Snapshot, State, fit_async};
use js_sys::Function;
use serde::Serialize;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use wasm_bindgen::prelude::*;

/// What errors call the files that the page reads and writes.
const MODEL: &str = "model.safetensors";
const CHECKPOINT: &str = "checkpoint.safetensors";

/// A network, and what it makes of the test takes.
#[wasm_bindgen]
pub struct Trained {
    fitted: Fit,
    info: ModelInfo,
    report: Report,
    state: Option<State>,
}

#[derive(Serialize)]
struct Report {
    test: Metrics,
    /// The test takes.
    ids: Vec<String>,
    held_out: HeldOut,
    epochs: usize,
    parameters: usize,
    protocol: &'static str,
    stopped: bool,
    /// What the steps of the last epoch asked the GPU for.
    traffic: Option<EpochTraffic>,
}

#[derive(Serialize)]
struct EpochTraffic {
    steps: usize,
    dispatches: u64,
    submissions: u64,
    reads: u64,
}

/// Trains a network. `listener` is told of each epoch as JSON, and answers, at once or by a promise, whether to stop there; with
/// `resume`, what [`Trained::checkpoint`] gave, it goes on from where that run stopped.
#[wasm_bindgen]
pub async fn train(
    on: &Processor,
    takes: &Takes,
    settings: &str,
    resume: Option<Vec<u8>>,
    listener: Function,
) -> Result<Trained, JsError> {
    let settings: Settings = serde_json::from_str(settings).map_err(thrown)?;
    let options = settings.options(takes);
    let resume = match resume {
        Some(bytes) => Some(State::parse::<()>(Path::new(CHECKPOINT), &bytes).map_err(thrown)?.0),
        None => None,
    };
    let (listener, state) = (Listener::new(listener), RefCell::new(None));
    let (device, test) = (on.device.as_ref(), &takes.split.test);
    let watch = async |epoch: &Epoch, now: &mut Snapshot<'_>| {
        let event = EpochEvent {
            epoch: epoch.epoch,
            of: epoch.of,
            phase: &epoch.phase,
            train_loss: epoch.train_loss,
            held_out: held_out(takes, test, &now.predict_async(test).await?),
        };
        if !listener.tell(&event).await?.is_truthy() {
            return Ok(ControlFlow::Continue(()));
        }
        let kept = now.state_async().await?;
        state.replace(Some(kept));
        Ok(ControlFlow::Break(()))
    };
    let mut fitted =
        fit_async(device, &takes.inputs, &takes.split, &options, resume, watch).await.map_err(thrown)?;
    let info =
        ModelInfo::of((&takes.inputs, takes.name), &takes.split, &takes.shown, &options, fitted.epochs);
    let threshold = threshold(on, takes, &mut fitted).await?;
    let mut trained = Trained::tested((on, takes, test), fitted, ModelInfo { threshold, ..info }).await?;
    let HeldOut { ratings, predictions, .. } = &trained.report.held_out;
    trained.info.interval = Interval::of(predictions, ratings);
    trained.state = state.into_inner();
    Ok(trained)
}

fn pass(takes: &Takes, examples: &[usize]) -> Option<Vec<bool>> {
    examples.iter().map(|&e| takes.inputs.examples[e].pass).collect()
}

/// The rating from which on a take best passes: of those that were learned from, never of the test part.
async fn threshold(on: &Processor, takes: &Takes, fitted: &mut Fit) -> Result<Option<f32>, JsError> {
    let known: Vec<usize> = takes.split.train.iter().chain(&takes.split.val).copied().collect();
    let Some(pass) = pass(takes, &known) else { return Ok(None) };
    let made = fitted.predict_async(on.device.as_ref(), &known).await.map_err(thrown)?;
    let predictions: Vec<f32> = made.iter().map(|p| p.rating).collect();
    Ok(Some(best_threshold(&predictions, &pass)))
}

fn held_out(takes: &Takes, examples: &[usize], made: &[Prediction]) -> HeldOut {
    let ratings: Vec<f32> = examples.iter().map(|&e| takes.inputs.examples[e].rating).collect();
    let predictions: Vec<f32> = made.iter().map(|p| p.rating).collect();
    let embedding = made.iter().flat_map(|p| p.embedding.iter().copied()).collect();
    HeldOut { r2: r2(&predictions, &ratings), ratings, predictions, embedding }
}

/// The seed that a model was trained with: that of the synthetic set that it knows.
#[wasm_bindgen]
pub fn seed_of(bytes: &[u8]) -> Result<u32, JsError> {
    let seed = model::parse(Path::new(MODEL), bytes).map_err(thrown)?.0.seed;
    u32::try_from(seed).map_err(|_| thrown(format!("its seed {seed} has more than 32 bits")))
}

#[wasm_bindgen]
impl Trained {
    /// A network of a file that this page or `etude train --out` wrote, tested as `etude eval` does: on those of the takes that
    /// it was tested on when it was trained.
    pub async fn load(on: &Processor, takes: &Takes, bytes: &[u8]) -> Result<Self, JsError> {
        let device = on.device.as_ref();
        let (info, net) = model::load_bytes(Path::new(MODEL), bytes, device).map_err(thrown)?;
        let InputOptions { scale, max_references, .. } = takes.shown;
        let kind = takes.inputs.kind;
        if (info.input, info.scale, info.max_references, info.criteria())
            != (kind, scale, max_references, takes.inputs.criteria.clone())
        {
            let message = "the model grades other inputs than this page makes: train it with the default options, \
                           or test it with etude eval";
            return Err(thrown(message));
        }
        let test = info.takes.relate(&takes.inputs).part(Split::Test).map_err(thrown)?;
        let fitted = Fit::of_async(device, net, &takes.inputs, info.windows()).await.map_err(thrown)?;
        Self::tested((on, takes, &test), fitted, info).await
    }

    async fn tested(
        (on, takes, test): (&Processor, &Takes, &[usize]),
        mut fitted: Fit,
        info: ModelInfo,
    ) -> Result<Self, JsError> {
        let made = fitted.predict_async(on.device.as_ref(), test).await.map_err(thrown)?;
        let held_out = held_out(takes, test, &made);
        let HeldOut { ratings, predictions, .. } = &held_out;
        let mut metrics = Metrics::new(predictions, ratings);
        if let (Some(threshold), Some(pass)) = (info.threshold, pass(takes, test)) {
            metrics = metrics.with_pass(predictions, &pass, threshold);
        }
        let report = Report {
            test: metrics,
            ids: test.iter().map(|&e| takes.inputs.examples[e].id.clone()).collect(),
            held_out,
            epochs: info.epochs,
            parameters: fitted.net.parameters(),
            protocol: info.protocol.name(),
            stopped: fitted.stopped,
            traffic: fitted.traffic.map(|(traffic, steps)| EpochTraffic {
                steps,
                dispatches: traffic.dispatches,
                submissions: traffic.submissions,
                reads: traffic.reads,
            }),
        };
        Ok(Self { fitted, info, report, state: None })
    }

    /// `{test, ids, held_out: {r2, ratings, predictions, embedding}, epochs, parameters, protocol, stopped, traffic}`.
    pub fn report(&self) -> Result<String, JsError> {
        json(&self.report)
    }

    /// The file that `etude eval` and `etude score` read. `on` is what it was trained or loaded on.
    pub async fn model(&self, on: &Processor) -> Result<Vec<u8>, JsError> {
        let device = on.device.as_ref();
        model::to_bytes_async(Path::new(MODEL), device, &self.fitted.net, &self.info).await.map_err(thrown)
    }

    /// What [`train`] takes to go on from where this run was stopped; nothing of one that ended.
    pub fn checkpoint(&self) -> Result<Option<Vec<u8>>, JsError> {
        self.state
            .as_ref()
            .map(|state| state.to_bytes(Path::new(CHECKPOINT), &()).map_err(thrown))
            .transpose()
    }
}
