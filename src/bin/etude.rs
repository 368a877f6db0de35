//! The command line: train, evaluate and make data.

use clap::{Args, Parser, Subcommand, ValueEnum};
use etude::audio::{HOP, Scale};
use etude::data::inputs::{InputKind, InputOptions, Inputs};
use etude::data::split::{SplitIndices, k_folds};
use etude::data::synth::{self, SynthOptions};
use etude::data::{self, Recordings, Split};
#[cfg(feature = "cuda")]
use etude::device::cuda::{Cuda, cards};
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{Select, Wgpu, adapters};
use etude::device::{Cpu, Device, Traffic};
use etude::kernel::{Cost, Kernel};
use etude::kernels::contrastive::Metric;
use etude::model::{self, ModelInfo, SplitInfo};
use etude::ops::optim::{Adam, Sgd};
use etude::optim::{Method, Schedule};
use etude::report::files::{CHECKPOINT, EpochRow, OutDir, PredictionRow};
use etude::report::metrics::{Metrics, RunReport, best_threshold};
use etude::report::plots::{embedding_svg, history_svg, scatter_svg};
use etude::simd::Simd;
use etude::train::{Epoch, Fit, Hooks, Pairs, Prediction, Protocol, Snapshot, State, TrainOptions, fit};
use etude::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What `--version` prints: the version, and what the binary was built with.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ETUDE_BUILD"), ")");

/// Grade music performances: train a small network on judged takes, with a contrastive loss
/// weighted by the distance between grades.
#[derive(Parser)]
#[command(name = "etude", version, long_version = LONG_VERSION, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network and test it on performers it never heard.
    ///
    /// Without --data it trains on a built-in synthetic set: melodies sung with graded errors of
    /// pitch, rhythm, hesitation, drift and octave.
    ///
    /// With --out DIR a checkpoint is kept in DIR while it trains. Should the run be cut short,
    /// `etude train --resume DIR` goes on from there and ends with the very same files.
    #[command(
        after_help = "Examples:\n  etude train\n  etude train --data MASTmelody_dataset --folds 5 --out run\n  \
                            etude train --data takes.csv --protocol joint --lambda 0.1 --out run\n  \
                            etude train --resume run"
    )]
    Train(Box<TrainArgs>),
    /// Test a trained network.
    ///
    /// The data is split as it was for training, so that `--split test` means takes the model never saw.
    Eval(EvalArgs),
    /// List the devices, and why one cannot be used.
    Devices,
    /// Write the synthetic set as a CSV manifest with one f0 file per take.
    Synth(SynthArgs),
}

#[derive(Args)]
struct Common {
    /// Where to compute. `auto` takes the first NVIDIA card, else hardware through wgpu, else the CPU. `cuda` takes the first
    /// card of CUDA_VISIBLE_DEVICES; `wgpu` hardware (Vulkan, Metal, DX12), or the adapter that ETUDE_ADAPTER names; see
    /// `etude devices`.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    device: DeviceName,
    /// CPU threads; 0 takes every core. The result does not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Print one JSON object as the last line of standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum, Serialize, Deserialize)]
enum DeviceName {
    Auto,
    Cpu,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

#[derive(Args)]
struct TrainArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    common: Common,
    /// Directory for the model, metrics, history, predictions and plots.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the unfinished run in DIR, with the options it was begun with.
    ///
    /// Only --device, --threads and --json may be given beside it; device and threads are else the run's own.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["RunArgs", "out"])]
    resume: Option<PathBuf>,
}

/// What makes a run; a checkpoint keeps it.
#[derive(Clone, Args, Serialize, Deserialize)]
struct RunArgs {
    /// A MASTmelody directory, a CSV manifest or a directory with manifest.csv. Absent: the synthetic set.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// What is minimised.
    #[arg(long, value_enum, default_value_t = ProtocolName::Mse)]
    protocol: ProtocolName,
    /// Seed of the data set, the split, the weights and the batches.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Most epochs; of the second phase, in two-phase [default: 50 with references, 300 without].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Most epochs of the encoder's phase, in two-phase [default: the same, at most 150].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    encoder_epochs: Option<u32>,
    /// Epochs without a better validation loss before a phase stops.
    #[arg(long, default_value_t = 100, value_name = "N")]
    patience: usize,
    /// Takes per step.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65536))]
    batch: u32,
    /// Cross-validate over K folds of performers instead of holding one part out.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..))]
    folds: Option<u32>,
    /// Share of the takes to validate on.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    val_fraction: f64,
    /// Share of the takes to test on, without folds.
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", conflicts_with = "folds")]
    test_fraction: f64,
    /// What the network sees [default: alignment-path where the data has references, else contour].
    #[arg(long, value_name = "KIND", value_parser = parse::<InputKind>)]
    input: Option<InputKind>,
    /// Which rating to learn [default: the first of the data].
    #[arg(long, value_name = "NAME")]
    criterion: Option<String>,
    /// How MIDI pitch becomes a number: midi127 or centered72.
    #[arg(long, default_value = "midi127", value_name = "NAME", value_parser = parse::<Scale>)]
    scale: Scale,
    /// Compare each take with at most this many references of its melody.
    #[arg(long, default_value_t = 6, value_name = "N")]
    references: usize,
    /// How parameters are updated [default: adamw with references, sgd without].
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerName>,
    /// Highest learning rate [default: 0.002 for adamw, 0.005 for sgd].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Weight decay [default: 1e-4 for adamw, 1e-5 for sgd].
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f32>,
    /// Weight of the contrastive loss beside the squared error, in joint.
    #[arg(long, default_value_t = 0.1, value_name = "WEIGHT")]
    lambda: f32,
    /// Margin of the contrastive loss per unit of label distance.
    #[arg(long, default_value_t = 0.5, value_name = "DISTANCE")]
    margin: f32,
    /// Distance between embeddings.
    #[arg(long, value_enum, default_value_t = MetricName::Euclidean)]
    metric: MetricName,
    /// Label bins of the contrastive loss.
    #[arg(long, default_value_t = 5, value_name = "K", conflicts_with = "tau")]
    bins: usize,
    /// Compare ratings as they are instead of bins; pairs up to this far apart are positive.
    #[arg(long, value_name = "DISTANCE")]
    tau: Option<f32>,
    /// Which pairs of a batch are compared.
    #[arg(long, value_enum, default_value_t = PairsName::All)]
    pairs: PairsName,
    /// Let the encoder learn in the second phase of two-phase too.
    #[arg(long)]
    no_freeze: bool,
    /// Seconds between two checkpoints in --out; 0 writes one after each epoch.
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    checkpoint_every: u64,
    /// Print where the time of a training step goes, launch by launch, when training is done.
    #[arg(long)]
    profile: bool,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
enum ProtocolName {
    Mse,
    TwoPhase,
    Joint,
}

#[derive(Clone, Copy, PartialEq, ValueEnum, Serialize, Deserialize)]
enum OptimizerName {
    Sgd,
    Adam,
    Adamw,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
enum MetricName {
    Euclidean,
    Cosine,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
enum PairsName {
    All,
    Halves,
}

#[derive(Args)]
struct EvalArgs {
    /// A model that `etude train --out` wrote.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// As in train. Absent: the synthetic set of the model's seed.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Which takes.
    #[arg(long, value_enum, default_value_t = Part::Test)]
    split: Part,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Train,
    Val,
    Test,
    All,
}

#[derive(Args)]
struct SynthArgs {
    /// Directory to create.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the set.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Graded takes.
    #[arg(long, default_value_t = SynthOptions::default().takes, value_name = "N")]
    takes: usize,
    /// Performers.
    #[arg(long, default_value_t = SynthOptions::default().performers, value_name = "N")]
    performers: usize,
}

fn parse<T: std::str::FromStr<Err = Error>>(text: &str) -> std::result::Result<T, String> {
    text.parse().map_err(|e: Error| e.to_string())
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Train(args) => train(&args),
        Command::Eval(args) => eval(&args),
        Command::Synth(args) => synthesise(&args),
        Command::Devices => devices(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn device(name: DeviceName, threads: usize) -> Result<Box<dyn Device>> {
    match name {
        DeviceName::Auto => match gpu() {
            Some(device) => Ok(device),
            None => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        },
        DeviceName::Cpu => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda => Ok(Box::new(Cuda::new(0)?)),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu => {
            let device = Wgpu::new(&Select::Auto)?;
            if device.is_software() {
                eprintln!("note: {} computes on the processor: right, but slow", device.adapter_name());
            }
            Ok(Box::new(device))
        }
    }
}

/// The GPU that `auto` takes, if there is one that can be used.
fn gpu() -> Option<Box<dyn Device>> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = Cuda::new(0) {
        eprintln!("note: computing on {} through CUDA; --device cpu keeps to the CPU", device.card().name);
        return Some(Box::new(device));
    }
    #[cfg(feature = "wgpu")]
    if let Ok(device) = Wgpu::new(&Select::Auto) {
        eprintln!("note: computing on {} through wgpu; --device cpu keeps to the CPU", device.adapter_name());
        return Some(Box::new(device));
    }
    None
}

/// A progress bar on standard error; silent where that is no terminal.
fn bar(length: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:<18} {bar:30} {pos}/{len}  {msg}  eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style).with_prefix(what.to_string())
}

fn recordings(data: Option<&Path>, seed: u64) -> Result<Recordings> {
    match data {
        Some(path) => data::load(path),
        None => synth::generate(&SynthOptions { seed, ..SynthOptions::default() }),
    }
}

fn inputs(recordings: &Recordings, options: &InputOptions) -> Result<Inputs> {
    let progress = bar(recordings.takes.len(), "aligning");
    let inputs = Inputs::build(recordings, options, &|done, _| progress.set_position(done as u64));
    progress.finish_and_clear();
    let inputs = inputs?;
    for note in &inputs.notes {
        eprintln!("note: {note}");
    }
    Ok(inputs)
}

fn options(args: &RunArgs, kind: InputKind) -> TrainOptions {
    let protocol = match args.protocol {
        ProtocolName::Mse => Protocol::Mse,
        ProtocolName::TwoPhase => Protocol::TwoPhase,
        ProtocolName::Joint => Protocol::Joint,
    };
    let mut o = TrainOptions::for_inputs(kind, protocol, args.scale.semitone());
    if let Some(epochs) = args.epochs {
        o.epochs = epochs as usize;
        o.encoder_epochs = o.epochs.min(150);
    }
    if let Some(epochs) = args.encoder_epochs {
        o.encoder_epochs = epochs as usize;
    }
    let decay = |default| args.weight_decay.unwrap_or(default);
    match args.optimizer.unwrap_or(match o.method {
        Method::Sgd(_) => OptimizerName::Sgd,
        Method::Adam(_) => OptimizerName::Adamw,
    }) {
        OptimizerName::Sgd => {
            o.method = Method::Sgd(Sgd { momentum: 0.9, weight_decay: decay(1e-5) });
            o.schedule = Schedule::Constant { lr: args.lr.unwrap_or(0.005), warm_up: 0 };
        }
        name => {
            let decoupled = name == OptimizerName::Adamw;
            o.method = Method::Adam(Adam { weight_decay: decay(1e-4), decoupled, ..Adam::default() });
            o.schedule = Schedule::Cosine { lr: args.lr.unwrap_or(2e-3), warm_up: 2 };
        }
    }
    o.patience = args.patience;
    o.batch = args.batch as usize;
    o.contrast.margin = args.margin;
    o.contrast.weight = args.lambda;
    o.contrast.metric = match args.metric {
        MetricName::Euclidean => Metric::Euclidean,
        MetricName::Cosine => Metric::Cosine,
    };
    o.contrast.bins = args.tau.is_none().then_some(args.bins);
    o.contrast.tau = args.tau.unwrap_or(0.0);
    o.contrast.pairs = match args.pairs {
        PairsName::All => Pairs::All,
        PairsName::Halves => Pairs::Halves,
    };
    o.freeze_encoder = !args.no_freeze;
    o.seed = args.seed;
    o.checked = std::env::var_os("ETUDE_DEBUG").is_some_and(|v| v != "0");
    o
}

/// Ratings, decisions and predictions of some examples, side by side.
struct Table {
    ratings: Vec<f32>,
    made: Vec<f32>,
    embedding: Vec<f32>,
    pass: Option<Vec<bool>>,
}

impl Table {
    fn new(inputs: &Inputs, examples: &[usize], predictions: &[Prediction]) -> Self {
        Self {
            ratings: examples.iter().map(|&e| inputs.examples[e].rating).collect(),
            made: predictions.iter().map(|p| p.rating).collect(),
            embedding: predictions.iter().flat_map(|p| p.embedding.iter().copied()).collect(),
            pass: examples.iter().map(|&e| inputs.examples[e].pass).collect(),
        }
    }

    fn threshold(&self) -> Option<f32> {
        self.pass.as_ref().filter(|p| !p.is_empty()).map(|pass| best_threshold(&self.made, pass))
    }

    fn metrics(&self, bins: usize, threshold: Option<f32>) -> Result<Metrics> {
        let labels = etude::ops::contrastive::bins(&self.ratings, bins)?;
        let labels: Vec<usize> = labels.into_iter().map(|b| b as usize).collect();
        let metrics = Metrics::new(&self.made, &self.ratings).with_embedding(&self.embedding, &labels);
        Ok(match (&self.pass, threshold) {
            (Some(pass), Some(threshold)) => metrics.with_pass(&self.made, pass, threshold),
            _ => metrics,
        })
    }
}

fn print(report: &RunReport, heading: &str, json: bool) -> Result<()> {
    let table = format!("{heading}\n\n{}", report.table());
    if json {
        eprintln!("{table}");
        let line =
            serde_json::to_string(report).map_err(|e| Error::config(format!("cannot print JSON: {e}")))?;
        println!("{line}");
    } else {
        println!("{table}");
    }
    Ok(())
}

/// What a run has done so far, and how it goes on; a checkpoint keeps it beside the fit's state.
#[derive(Serialize, Deserialize)]
struct Run {
    args: RunArgs,
    device: DeviceName,
    threads: usize,
    /// Seconds it took before it was last interrupted.
    seconds: f64,
    /// The test of each finished fold.
    folds: Vec<Metrics>,
    history: Vec<EpochRow>,
    predictions: Vec<PredictionRow>,
}

/// The run to train, where its fit goes on from, and its directory.
fn begin(args: &TrainArgs) -> Result<(Run, Option<State>, Option<OutDir>)> {
    let Common { device, threads, .. } = args.common;
    let Some(dir) = &args.resume else {
        let out = args.out.as_ref().map(OutDir::create).transpose()?;
        let (args, folds, history, predictions) = (args.run.clone(), vec![], vec![], vec![]);
        let run = Run { args, device, threads, seconds: 0.0, folds, history, predictions };
        return Ok((run, None, out));
    };
    let path = dir.join(CHECKPOINT);
    if !path.exists() {
        return Err(Error::data(dir, None, no_checkpoint(dir)?));
    }
    let (state, mut run) = State::read::<Run>(&path)?;
    if device != DeviceName::Auto {
        run.device = device;
    }
    if threads != 0 {
        run.threads = threads;
    }
    Ok((run, Some(state), Some(OutDir::create(dir)?)))
}

/// Why a directory without a checkpoint cannot be resumed.
fn no_checkpoint(dir: &Path) -> Result<String> {
    if dir.exists() && !dir.is_dir() {
        return Ok("is a file; --resume needs the directory that was --out".into());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        names.push(entry.map_err(Error::io(dir, "read"))?.file_name().display().to_string());
    }
    names.sort();
    Ok(match &names[..] {
        [] => "is empty: a run was stopped before its first checkpoint, or none was begun; train anew".into(),
        _ if names.iter().any(|n| n == "metrics.json") => {
            "holds a finished run: nothing is left to resume".into()
        }
        _ => format!("holds no {CHECKPOINT} to go on from, only {}", names.join(", ")),
    })
}

fn train(args: &TrainArgs) -> Result<()> {
    let start = Instant::now();
    let (mut run, mut state, out) = begin(args)?;
    let (json, args, before) = (args.common.json, run.args.clone(), run.seconds);
    let mut checkpoints = out.as_ref();
    if let Some(data) = &mut run.args.data {
        // To be found again from wherever the run is taken up.
        *data = std::path::absolute(&data).map_err(Error::io(&data, "find"))?;
        if checkpoints.is_some() && data.to_str().is_none() {
            eprintln!("note: the path of the data is not Unicode, so no checkpoints are written");
            checkpoints = None;
        }
    }
    let device = device(run.device, run.threads)?;
    let device = device.as_ref();
    let recordings = recordings(args.data.as_deref(), args.seed)?;
    for note in &recordings.notes {
        eprintln!("note: {note}");
    }
    let input_options = InputOptions {
        kind: args.input,
        criterion: args.criterion.clone(),
        scale: args.scale,
        max_references: args.references,
        ..InputOptions::default()
    };
    let inputs = inputs(&recordings, &input_options)?;
    let options = options(&args, inputs.kind);
    if let Some(state) = &state {
        state.check(&inputs)?;
    }
    let splits: Vec<SplitIndices> = match args.folds {
        Some(k) => k_folds(&inputs.performers(), k as usize, args.val_fraction, args.seed)?,
        None => vec![inputs.holdout(args.val_fraction, args.test_fraction, args.seed)?],
    };
    eprintln!(
        "{} takes by {} performers, {} ({} channels), rated by {}; {} on {}",
        inputs.examples.len(),
        inputs.performers().into_iter().collect::<std::collections::BTreeSet<_>>().len(),
        inputs.kind,
        inputs.channels,
        inputs.criterion,
        options.protocol.name(),
        device.name(),
    );
    match (&state, &out) {
        (Some(state), _) => {
            let fold =
                args.folds.map_or(String::new(), |k| format!(" of fold {} of {k}", run.folds.len() + 1));
            eprintln!("going on after epoch {}{fold}", state.epochs());
        }
        // This run replaces what an earlier one left to resume.
        (None, Some(out)) => out.remove(CHECKPOINT)?,
        (None, None) => {}
    }
    // The last fold's test takes, whose embeddings lie in one space.
    let mut last = None;
    let (mut parameters, mut launches, mut dispatches) = (0, 0, None);
    let mut written = Instant::now();
    for (i, split) in splits.iter().enumerate().skip(run.folds.len()) {
        let fold = args.folds.map(|k| (i + 1, k as usize));
        let name = fold.map_or("training".to_string(), |(i, k)| format!("fold {i} of {k}"));
        let progress = bar(1, &name);
        let mut watch = |e: &Epoch, now: &Snapshot<'_>| {
            progress.set_length(e.of as u64);
            progress.set_position(e.epoch as u64);
            let val = e.val_loss.map_or(String::new(), |v| format!(", validation {v:.4}"));
            progress.set_message(format!("{} loss {:.4}{val}", e.phase, e.train_loss));
            if let Some(out) = checkpoints
                && written.elapsed() >= Duration::from_secs(args.checkpoint_every)
            {
                run.seconds = before + start.elapsed().as_secs_f64();
                now.state()?.save(&out.path().join(CHECKPOINT), &run)?;
                written = Instant::now();
            }
            Ok(ControlFlow::Continue(()))
        };
        let hooks = Hooks { resume: state.take(), progress: Some(&mut watch) };
        let mut fitted = fit(device, &inputs, split, &options, hooks)?;
        progress.finish_and_clear();
        parameters = fitted.net.parameters();
        launches = fitted.launches_per_step;
        dispatches = fitted.traffic.map(|(t, steps)| t.dispatches as f64 / steps as f64);
        if args.profile && i + 1 == splits.len() {
            print_profile(&fitted.profile(device)?);
            fitted.traffic.iter().for_each(|&(t, steps)| print_traffic(t, steps));
        }
        // The decision between pass and fail is learned like the rest: never on the test part.
        let known: Vec<usize> = split.train.iter().chain(&split.val).copied().collect();
        let threshold = if known.iter().all(|&e| inputs.examples[e].pass.is_some()) {
            Table::new(&inputs, &known, &fitted.predict(device, &known)?).threshold()
        } else {
            None
        };
        let made = fitted.predict(device, &split.test)?;
        let table = Table::new(&inputs, &split.test, &made);
        let metrics = table.metrics(options.contrast.bins.unwrap_or(5), threshold)?;
        if let (Some((i, k)), Some(r2)) = (fold, metrics.r2) {
            eprintln!("fold {i} of {k}: {} takes, R² {r2:.3}", split.test.len());
        }
        run.folds.push(metrics);
        run.history.extend(fitted.history.iter().map(|e| EpochRow {
            epoch: e.epoch as u64,
            phase: fold.map_or(e.phase.clone(), |(i, _)| format!("{} (fold {i})", e.phase)),
            lr: e.lr,
            train_loss: e.train_loss,
            val_loss: e.val_loss,
            val_r2: e.val_r2,
        }));
        if let Some(out) = &out {
            let parts = [(Split::Test, Some(made)), (Split::Val, None), (Split::Train, None)];
            for (part, made) in parts {
                // With folds each take is tested once; only that prediction is listed.
                let made = match made {
                    Some(made) => made,
                    None if fold.is_some() => continue,
                    None => fitted.predict(device, split.part(part))?,
                };
                run.predictions.extend(split.part(part).iter().zip(&made).map(|(&e, p)| {
                    let example = &inputs.examples[e];
                    PredictionRow {
                        id: example.id.clone(),
                        performer: example.performer.clone(),
                        split: part.name().to_string(),
                        rating: example.rating,
                        prediction: p.rating,
                        pass: example.pass,
                        fold: fold.map(|f| f.0 as u64),
                    }
                }));
            }
            let info = ModelInfo {
                format: ModelInfo::FORMAT,
                version: env!("CARGO_PKG_VERSION").to_string(),
                net: options.net.clone(),
                input: inputs.kind,
                scale: args.scale,
                hop: HOP,
                max_references: args.references,
                criterion: inputs.criterion.clone(),
                protocol: options.protocol,
                epochs: fitted.history.len(),
                threshold,
                bins: options.contrast.bins.unwrap_or(5),
                split: SplitInfo {
                    seed: args.seed,
                    val_fraction: args.val_fraction,
                    test_fraction: args.test_fraction,
                    fold,
                },
            };
            let name = fold.map_or("model.safetensors".to_string(), |(i, _)| format!("fold-{i}.safetensors"));
            model::save(&out.path().join(name), device, &fitted.net, &info)?;
        }
        last = Some(table);
    }
    let Run { folds, history, predictions, .. } = run;
    let (test, sd) = Metrics::mean_sd(&folds);
    let many = folds.len() > 1;
    let report = RunReport {
        device: device.name(),
        protocol: options.protocol.name().to_string(),
        seed: args.seed,
        epochs: history.len() as u64,
        seconds: before + start.elapsed().as_secs_f64(),
        parameters: parameters as u64,
        launches_per_step: launches as u64,
        dispatches_per_step: dispatches,
        criterion: inputs.criterion.clone(),
        inputs: inputs.channels as u64,
        version: env!("CARGO_PKG_VERSION").to_string(),
        test: if many { test } else { folds[0].clone() },
        test_sd: many.then_some(sd),
        folds: if many { folds } else { vec![] },
    };
    if let Some(out) = out {
        out.history(&history)?;
        out.predictions(&predictions)?;
        out.metrics(&report)?;
        let first = history.iter().take_while(|row| args.folds.is_none() || row.phase.ends_with("(fold 1)"));
        out.write("history.svg", history_svg(&first.cloned().collect::<Vec<_>>())?.as_bytes())?;
        let tested = || predictions.iter().filter(|row| row.split == Split::Test.name());
        let (ratings, made): (Vec<f32>, Vec<f32>) = tested().map(|row| (row.rating, row.prediction)).unzip();
        let pass: Option<Vec<bool>> = tested().map(|row| row.pass).collect();
        let scatter = scatter_svg(&ratings, &made, pass.as_deref())?;
        out.write("scatter.svg", scatter.as_bytes())?;
        if let Some(Table { ratings, embedding, .. }) = &last {
            let svg = embedding_svg(embedding, ratings.len(), options.net.embedding(), ratings)?;
            out.write("embedding.svg", svg.as_bytes())?;
        }
        out.remove(CHECKPOINT)?;
        out.finish();
    }
    let heading = match args.folds {
        Some(k) => format!("Test on performers never heard, mean and deviation over {k} folds"),
        None => "Test on performers never heard".to_string(),
    };
    print(&report, &format!("{heading} ({:.1} s)", report.seconds), json)
}

/// Where the time of one training step goes.
fn print_profile(rows: &[(&'static Kernel, Cost, f64)]) {
    let total: f64 = rows.iter().map(|row| row.2).sum();
    let line = |name: &str, cost: Cost, seconds: f64| {
        // A clock may not tell short launches from 0.
        let rate = |count: u64| count as f64 / seconds.max(1e-9) / 1e9;
        let share = 100.0 * seconds / total.max(1e-9);
        let (us, flops, bytes) = (seconds * 1e6, rate(cost.flops), rate(cost.bytes));
        eprintln!("{name:<26} {us:>9.1} {flops:>9.1} {bytes:>9.1} {share:>6.1}%");
    };
    eprintln!("{:<26} {:>9} {:>9} {:>9} {:>7}", "kernel", "us", "GFLOP/s", "GB/s", "share");
    rows.iter().for_each(|&(kernel, cost, seconds)| line(kernel.name, cost, seconds));
    let cost = rows.iter().map(|row| row.1).sum();
    line(&format!("{} launches", rows.len()), cost, total);
}

/// What a training step asked of the device, as counted over the last epoch.
fn print_traffic(traffic: Traffic, steps: usize) {
    let Traffic { dispatches, submissions, writes, reads } = traffic;
    let [d, s, w, r] = [dispatches, submissions, writes, reads].map(|n| n as f64 / steps as f64);
    eprintln!("a step: {d} dispatches, {s} submissions, {w} uploads, {r} read-backs (over {steps} steps)");
}

fn eval(args: &EvalArgs) -> Result<()> {
    let start = Instant::now();
    let device = device(args.common.device, args.common.threads)?;
    let device = device.as_ref();
    let (info, net) = model::load(&args.model, device)?;
    let recordings = recordings(args.data.as_deref(), info.split.seed)?;
    let criterion = recordings.criteria.contains(&info.criterion).then(|| info.criterion.clone());
    if criterion.is_none() {
        return Err(Error::data(
            &args.model,
            None,
            format!("grades {}, but the data has {}", info.criterion, recordings.criteria.join(", ")),
        ));
    }
    let inputs = inputs(
        &recordings,
        &InputOptions {
            kind: Some(info.input),
            criterion,
            scale: info.scale,
            max_references: info.max_references,
            ..InputOptions::default()
        },
    )?;
    let split = || match info.split.fold {
        Some((i, k)) => {
            let folds = k_folds(&inputs.performers(), k, info.split.val_fraction, info.split.seed)?;
            folds.into_iter().nth(i.wrapping_sub(1)).ok_or_else(|| {
                Error::data(&args.model, None, format!("names fold {i} of {k}, which does not exist"))
            })
        }
        None => inputs.holdout(info.split.val_fraction, info.split.test_fraction, info.split.seed),
    };
    let examples: Vec<usize> = match args.split {
        Part::All => (0..inputs.examples.len()).collect(),
        Part::Train => split()?.train,
        Part::Val => split()?.val,
        Part::Test => split()?.test,
    };
    if examples.is_empty() {
        return Err(Error::config("this part of the data holds no takes: try --split all"));
    }
    let parameters = net.parameters();
    let mut fitted = Fit::of(device, net, &inputs, info.windows())?;
    let made = fitted.predict(device, &examples)?;
    let report = RunReport {
        device: device.name(),
        protocol: info.protocol.name().to_string(),
        seed: info.split.seed,
        epochs: info.epochs as u64,
        seconds: start.elapsed().as_secs_f64(),
        parameters: parameters as u64,
        launches_per_step: fitted.launches_per_step as u64,
        dispatches_per_step: None,
        criterion: info.criterion.clone(),
        inputs: inputs.channels as u64,
        version: env!("CARGO_PKG_VERSION").to_string(),
        test: Table::new(&inputs, &examples, &made).metrics(info.bins, info.threshold)?,
        test_sd: None,
        folds: vec![],
    };
    print(&report, &format!("{} takes", examples.len()), args.common.json)
}

fn devices() -> Result<()> {
    let cpu = Cpu::<f32>::new(0)?;
    println!("cpu      {} threads, {:?}", cpu.threads(), Simd::best());
    #[cfg(feature = "cuda")]
    match cards() {
        Err(why) => println!("{why}"),
        Ok(cards) => {
            for c in cards {
                println!("cuda {:>2}  {}", c.ordinal, c.name);
                println!(
                    "         compute capability {}.{}, {} MiB, driver for CUDA {}.{}, kernels {}",
                    c.capability.0,
                    c.capability.1,
                    c.memory >> 20,
                    c.driver.0,
                    c.driver.1,
                    c.origin
                );
                if let Some(why) = c.unusable {
                    println!("         cannot be used: {why}");
                }
            }
        }
    }
    #[cfg(feature = "wgpu")]
    for a in adapters() {
        println!("wgpu {:>2}  {} ({}, {}, {})", a.index, a.name, a.backend, a.kind, a.driver);
        println!(
            "         largest buffer {} MiB, {} KiB workgroup memory, {} threads a workgroup, {} storage buffers; {}",
            a.max_buffer >> 20,
            a.workgroup_memory >> 10,
            a.workgroup_threads,
            a.storage_buffers,
            if a.features.is_empty() { "no optional features".into() } else { a.features.join(", ") }
        );
        if let Some(why) = a.unusable {
            println!("         cannot be used: {why}");
        } else if a.kind == "software" {
            println!("         computes on the processor: taken only when ETUDE_ADAPTER names it");
        }
    }
    Ok(())
}

fn synthesise(args: &SynthArgs) -> Result<()> {
    let options = SynthOptions {
        seed: args.seed,
        takes: args.takes,
        performers: args.performers,
        ..SynthOptions::default()
    };
    let set = synth::write(&args.out, &options)?;
    eprintln!(
        "{} takes and {} references in {}; train with: etude train --data {}",
        set.takes.len(),
        set.references.len(),
        args.out.display(),
        args.out.display()
    );
    Ok(())
}
