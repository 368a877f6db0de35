//! What the command line takes.

use crate::choice::one_of;
use crate::study::records::Share;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use etude::audio::pitch::Voice;
use etude::audio::{F0Options, F0Unit, Scale, TrackFormat};
use etude::contrastive::Metric;
use etude::data::synth::SynthOptions;
use etude::data::{InputKind, InputOptions, RatingScale, Split, SplitBy};
use etude::train::{Encoder, Pairs, Protocol, Rule};
use etude::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// What `--version` prints: the version, and what the binary was built with.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ETUDE_BUILD"), ")");

/// Grade music performances: train a small network on judged takes, with a contrastive loss
/// weighted by the distance between grades.
#[derive(Parser)]
#[command(name = "etude", version, long_version = LONG_VERSION, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a network and test it on performers, or melodies, it never heard.
    ///
    /// Without --data it trains on a built-in synthetic set: melodies sung with graded errors of
    /// pitch, rhythm, hesitation, drift and octave.
    ///
    /// With --out DIR a checkpoint is kept in DIR while it trains. Should the run be cut short,
    /// `etude train --resume DIR` goes on from there and ends with the very same files. Ctrl-C and SIGTERM end it after the
    /// epoch with a checkpoint, a second one at once.
    #[command(
        allow_negative_numbers = true,
        after_help = "Examples:\n  etude train\n  etude train --data MASTmelody_dataset --folds 5 --out run\n  \
                            etude train --data takes.csv --protocol mse --out run\n  \
                            etude train --data takes.csv --tensorboard runs/first --out run\n  \
                            etude train --resume run"
    )]
    Train(Box<TrainArgs>),
    /// Test a trained network.
    ///
    /// The model knows the takes that it was trained, validated and tested on, by name and by content: `--split test` grades
    /// those that it was tested on, and is refused where one of them is missing or has changed. What the takes of other data
    /// are to the model is said before they are graded.
    #[command(allow_negative_numbers = true)]
    Eval(EvalArgs),
    /// Grade takes that nobody has graded.
    ///
    /// Prints a line for each take: its name, its grade on the data's scale from 0 to 1, between which ratings nine in ten takes
    /// with such a grade lie (learned from takes that the model was not trained on), pass or fail where judges said which takes
    /// pass, and its mark on the graders' scale where the model was trained with --calibrate. A take that cannot be
    /// read is listed on standard error, the others are graded, and the exit code is 1.
    ///
    /// A model that was trained with references compares each take with references of its melody: those of --reference, for all
    /// takes, or those that the manifest names.
    #[command(
        allow_negative_numbers = true,
        after_help = "Examples:\n  etude score --reference melody.mid take.wav\n  \
                            etude score --model run/model.safetensors --reference melody.mid takes/*.wav\n  \
                            etude score --model run/model.safetensors --reference melody.mid --notes take.wav\n  \
                            etude score --model run/model.safetensors --reference melody.mid --out graded takes/*.wav\n  \
                            etude score --model run/fold-1.safetensors --json ungraded.csv"
    )]
    Score(ScoreArgs),
    /// Listen to recordings: their pitch as a file and a picture.
    ///
    /// Takes recordings (WAV, AIFF, FLAC, MP3, Ogg, M4A), whose f0 is found by pYIN, scores (MIDI, MusicXML), and f0 files, which
    /// are converted. `etude train` and `etude score` take recordings themselves; this shows what they hear.
    #[command(
        allow_negative_numbers = true,
        after_help = "Examples:\n  etude contour take.wav > take.csv\n  etude contour --voice alto --out contours takes/*.m4a\n  \
                            etude contour --against annotated.csv take.wav"
    )]
    Contour(ContourArgs),
    /// Compare finished runs: side by side, and how sure the differences are.
    ///
    /// Takes directories that were --out of `etude train`. Each run is put beside the first, on the takes that all of them
    /// tested: every measure with the difference to the first and its 95 % interval, by a bootstrap over performers, paired; fold
    /// by fold where the folds are the same; and the takes that the runs differ in most. An interval without 0 is marked, ▲ where
    /// the run is better than the first and ▼ where it is worse.
    ///
    /// Two runs alone do not tell whether another seed would have said the same: `etude study` trains each way with several.
    #[command(
        allow_negative_numbers = true,
        after_help = "Examples:\n  etude compare mse joint\n  etude compare --out beside mse joint two-phase\n\n\
                            where, e.g.:\n  etude train --data MASTmelody_dataset --folds 5 --protocol mse --out mse\n  \
                            etude train --data MASTmelody_dataset --folds 5 --protocol joint --out joint"
    )]
    Compare(CompareArgs),
    /// Compare ways to train: many networks over seeds and folds, and how sure the differences are.
    ///
    /// A study's file, in TOML, says which options of `etude train` are tried, beside which others:
    ///
    ///   seeds = [1, 2, 3, 4, 5]
    ///   folds = 5
    ///
    ///   [[table]]
    ///   title = "Loss"
    ///   arms = [
    ///     { protocol = "mse" },
    ///     { protocol = "joint", lambda = [0.03, 0.1, 0.3], pairs = ["all", "halves"] },
    ///   ]
    ///
    /// A list makes an arm of each value, several lists one of each combination. The first arm of a table is what the others are
    /// compared with. `with = { … }` at the top, or in a table, holds options that its arms share; lists there make a table of
    /// each combination. Two options are a study's own: `labels = 100` trains on so many of the training takes, `one-pass = true`
    /// learns from what one grading pass gave each take, and is tested on the mean.
    ///
    /// Networks are trained on the CPU, one a core. Each is recorded in --out as it is done: whatever ends a study, the same
    /// command goes on with what is missing. Many machines share one by --shard 1/4 to 4/4; when their files lie in one folder,
    /// the command without --shard makes the tables: study.md with pictures, and study.csv.
    #[command(verbatim_doc_comment)]
    Study(StudyArgs),
    /// List the devices, and why one cannot be used.
    Devices,
    /// Measure a device: whether every kernel is right on it, and how fast.
    ///
    /// Kernels are checked against the oracle, double precision on the CPU, then timed beside what the device was measured to do
    /// at most, with a training step. It takes up to two minutes. With --out FILE.md the page can be sent along: cards that
    /// nobody here has are welcome.
    #[command(after_help = "Examples:\n  etude bench\n  etude bench --device wgpu --out my-card.md\n  \
                            ETUDE_ADAPTER=llvmpipe etude bench --device wgpu\n  etude bench --only cases")]
    Bench(BenchArgs),
    /// Write the synthetic set as a CSV manifest with one f0 file per take.
    Synth(SynthArgs),
}

#[derive(Args)]
pub struct Common {
    /// Where to compute. `auto` takes the first NVIDIA card, else hardware through wgpu, else the CPU. `cuda` takes the first
    /// card of CUDA_VISIBLE_DEVICES; `wgpu` hardware (Vulkan, Metal, DX12), or the adapter that ETUDE_ADAPTER names; see
    /// `etude devices`.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// CPU threads; 0 takes every core. The result does not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Print one JSON object as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    Auto,
    Cpu,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

#[derive(Args)]
#[command(group = ArgGroup::new("kept").args(["out", "tensorboard"]).multiple(true))]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub files: DataArgs,
    #[command(flatten)]
    pub common: Common,
    /// Directory for the model, metrics, history, predictions, plots and a page that shows them, report.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the run that --out holds, and the event files in --tensorboard: they are removed before training begins.
    #[arg(long, requires = "kept")]
    pub overwrite: bool,
    /// Go on with the unfinished run in DIR, with the options it was begun with.
    ///
    /// Only --device, --threads and --json may be given beside it; device and threads are else the run's own.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["RunArgs", "DataArgs", "F0Args", "out", "overwrite"])]
    pub resume: Option<PathBuf>,
}

/// What makes a run; a checkpoint keeps it.
#[derive(Clone, Args, Serialize, Deserialize)]
pub struct RunArgs {
    /// A manifest (CSV), a directory with manifest.csv, or one in the layout of MASTmelody or FBA's auditions. Absent: the
    /// synthetic set.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// What is minimised: the squared error, with the contrastive loss beside it (joint) or before it (two-phase), or alone (mse)
    /// [default: joint where the network sees an alignment path and learns one criterion, else mse].
    #[arg(long, value_name = "PROTOCOL", value_parser = one_of(Protocol::ALL, Protocol::name))]
    pub protocol: Option<Protocol>,
    /// Seed of the data set, the split, the weights and the batches.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Most epochs; of the second phase, in two-phase [default: 50 with references, more where takes are so few that these make
    /// fewer than 300 steps; 300 without].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: Option<u32>,
    /// Most epochs of the encoder's phase, in two-phase [default: the same, at most 150 unless takes are few].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub encoder_epochs: Option<u32>,
    /// Epochs without a better validation loss before a phase stops.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub patience: usize,
    /// Takes per step.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub batch: u32,
    /// What training and test never share: performers, or melodies, which then may be sung by performers known from training.
    #[arg(long, default_value_t = SplitBy::Performer, value_name = "WHAT", value_parser = one_of(SplitBy::ALL, SplitBy::name))]
    pub split_by: SplitBy,
    /// Cross-validate over K folds of performers, or melodies, instead of holding one part out.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..))]
    pub folds: Option<u32>,
    /// Share of the takes to validate on [default: 0.1 for sgd, whose training ends by it; 0 for adamw, whose rate falls to 0].
    #[arg(long, value_name = "SHARE")]
    pub val_fraction: Option<f64>,
    /// Share of the takes to test on, without folds.
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", conflicts_with = "folds")]
    pub test_fraction: f64,
    /// What the network sees [default: alignment-path+notes where the data has references, else contour].
    #[arg(long, value_name = "KIND", value_parser = one_of(InputKind::ALL, InputKind::name))]
    pub input: Option<InputKind>,
    /// Which rating to learn [default: the first of the data]. Given several times, one network learns them all: it shares
    /// everything but an output for each, a rating that a take lacks counts for nothing, and the grade is the mean of those that
    /// there are.
    #[arg(long, value_name = "NAME")]
    pub criterion: Vec<String>,
    /// How MIDI pitch becomes a number.
    #[arg(long, default_value_t = Scale::Midi127, value_name = "NAME", value_parser = one_of(Scale::ALL, Scale::name))]
    pub scale: Scale,
    /// Compare each take with at most this many references of its melody, the most typical.
    #[arg(long, default_value_t = InputOptions::default().max_references, value_name = "N")]
    pub references: usize,
    /// Learn from reference takes with planted errors too: so many in an epoch for each training take. They are rated by wrong
    /// notes and times, whatever the criterion. With 50 graded takes or fewer to learn from, 1 helps much.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    #[serde(default)]
    pub degraded: f64,
    /// The network that sees the contour or the path [default: alignment for alignment paths, else paper]. The paper's has 4, 8
    /// and 16 channels at stride 3, that for alignment paths 32, 64 and 64 at stride 2.
    #[arg(long, value_name = "NET", value_parser = one_of(Encoder::ALL, Encoder::name))]
    pub net: Option<Encoder>,
    /// How parameters are updated [default: adamw with references, sgd without].
    #[arg(long, value_parser = one_of(Rule::ALL, Rule::name))]
    pub optimizer: Option<Rule>,
    /// Highest learning rate [default: 0.002 for adamw, 0.005 for sgd].
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// Weight decay [default: 1e-4 for adamw, 1e-5 for sgd].
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f32>,
    /// Weight of the contrastive loss beside the squared error, in joint.
    #[arg(long, default_value_t = 0.1, value_name = "WEIGHT")]
    pub lambda: f32,
    /// Margin of the contrastive loss per unit of label distance: a bin, or with --tau the whole scale [default: 2 where the
    /// network sees an alignment path and the metric is euclidean, else the paper's 0.5].
    #[arg(long, value_name = "DISTANCE")]
    pub margin: Option<f32>,
    /// Distance between embeddings.
    #[arg(long, default_value_t = Metric::Euclidean, value_parser = one_of(Metric::ALL, Metric::name))]
    pub metric: Metric,
    /// Label bins of the contrastive loss.
    #[arg(long, default_value_t = 5, value_name = "K", conflicts_with = "tau")]
    pub bins: usize,
    /// Compare ratings as they are instead of bins; pairs up to this far apart are positive.
    #[arg(long, value_name = "DISTANCE")]
    pub tau: Option<f32>,
    /// Which pairs of a batch are compared.
    #[arg(long, default_value_t = Pairs::All, value_parser = one_of(Pairs::ALL, Pairs::name))]
    pub pairs: Pairs,
    /// Let the encoder learn in the second phase of two-phase too.
    #[arg(long)]
    pub no_freeze: bool,
    /// Learn what a prediction is worth on the scale of the graders, from the takes that the network is trained and validated on:
    /// the grade that most of them gave. Measures on their scale, and `etude score`, then use it; ratings stay as they are.
    #[arg(long)]
    pub calibrate: bool,
    /// Keep no names and digests of takes and performers in the model, as one that is given away should not have: `etude eval`
    /// then cannot tell which takes it was trained or tested on.
    #[arg(long)]
    #[serde(default)]
    pub forget_takes: bool,
    /// Seconds between two checkpoints in --out; 0 writes one after each epoch.
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    pub checkpoint_every: u64,
    /// Print where the time of a training step goes, launch by launch, when training is done.
    #[arg(long)]
    pub profile: bool,
    /// Directory for TensorBoard's event files, with folds DIR/fold-1 and so on: losses, validation R² and learning rate of each
    /// epoch as it ends, then the measures of the test, and the settings. `tensorboard --logdir DIR` shows them.
    #[arg(long, value_name = "DIR")]
    #[serde(default)]
    pub tensorboard: Option<PathBuf>,
}

/// How the files of --data are read; a checkpoint keeps it.
#[derive(Clone, Args, Serialize, Deserialize)]
pub struct DataArgs {
    /// The lowest and the highest rating there can be, where the data does not say so itself [default: 0..1].
    #[arg(long, value_name = "LOW..HIGH", allow_hyphen_values = true)]
    pub rating_scale: Option<RatingScale>,
    /// Compare takes with scores too: a directory with <melody>.mid, .midi, .musicxml, .xml or .mxl for each melody.
    #[arg(long, value_name = "DIR")]
    #[serde(default)]
    pub scores: Option<PathBuf>,
    /// Compare takes with scores alone: reference takes, and takes of melodies without a score, are left out.
    #[arg(long, requires = "scores")]
    #[serde(default)]
    pub score_only: bool,
    #[command(flatten)]
    pub f0: F0Args,
}

/// How f0 files are read.
#[derive(Clone, Args, Serialize, Deserialize)]
pub struct F0Args {
    /// Time from row to row of f0 files without times, or with frame numbers for times.
    #[arg(long, value_name = "SECONDS")]
    pub f0_hop: Option<f64>,
    /// Rows of f0 files with less confidence are unvoiced, where a file has a confidence, as CREPE's do.
    #[arg(long, default_value_t = F0Options::default().min_confidence, value_name = "P")]
    pub min_confidence: f64,
    /// What f0 is counted in, where a file does not say.
    #[arg(long, default_value_t = F0Unit::Hz, value_name = "UNIT", value_parser = one_of(F0Unit::ALL, F0Unit::name))]
    pub f0_unit: F0Unit,
    /// Who sings or plays in recordings: which f0 is looked for.
    #[arg(long, visible_alias = "instrument", default_value_t = Voice::Any, value_name = "VOICE")]
    #[arg(value_parser = one_of(Voice::ALL, Voice::name))]
    #[serde(default)]
    pub voice: Voice,
}

#[derive(Args)]
pub struct EvalArgs {
    /// A model that `etude train --out` wrote.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// As in train. Absent: the synthetic set of the model's seed.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub files: DataArgs,
    /// Which takes: those of a part of the model's split, all, or the new ones, which are in no part of it.
    #[arg(long, default_value = "test", value_parser = one_of(Part::ALL, Part::name))]
    pub split: Part,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct ScoreArgs {
    /// A model that `etude train --out` wrote: model.safetensors, or that of one fold. Absent: the model that comes with etude,
    /// which has learned from synthetic takes; its grade is the share of notes that are performed without an error.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The melody as it should be, for all takes and in place of a manifest's own: a score (MIDI, MusicXML), a recording, a pitch
    /// track. May be given several times.
    #[arg(long = "reference", value_name = "FILE")]
    pub references: Vec<PathBuf>,
    /// Recordings (WAV, FLAC, MP3, Ogg, M4A), pitch tracks, or a manifest: a CSV file with a column `path` and, where the model
    /// needs them, `reference` and `melody`.
    #[arg(required = true, value_name = "TAKE")]
    pub takes: Vec<PathBuf>,
    #[command(flatten)]
    pub f0: F0Args,
    /// How each note was performed, and what it costs: pitch in cents, onset and length beside what the take's tempo asks for,
    /// notes that are missing or not in the melody. What a note costs is found by grading the take again with the note put right.
    #[arg(long)]
    pub notes: bool,
    /// Print an object of JSON a line: id, grade, interval, pass and error, null where there is none; mark too, of a calibrated
    /// model; with --notes key, tempo, notes, and the spans of time that cost most.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV, a row a take: id, grade, low, high, pass, mark, error. With --notes a row a note.
    #[arg(long)]
    pub csv: bool,
    /// A new or empty directory for report.html, a page of all takes beside what is printed: grades, how each note was performed
    /// and what it costs, the pitch over the notes as written, and the sound of recordings. It is one file and opens offline.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the page that --out holds.
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Where to compute; see `etude train --help`.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// CPU threads; 0 takes every core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

/// A part of the split, the takes that are in none, or all.
#[derive(Clone, Copy)]
pub enum Part {
    Of(Split),
    New,
    All,
}

impl Part {
    const ALL: [Self; 5] =
        [Self::Of(Split::Train), Self::Of(Split::Val), Self::Of(Split::Test), Self::New, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::Of(split) => split.name(),
            Self::New => "new",
            Self::All => "all",
        }
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "new" => Ok(Self::New),
            "all" => Ok(Self::All),
            part => part.parse().map(Self::Of),
        }
    }
}

#[derive(Args)]
pub struct BenchArgs {
    /// What to measure; see `etude train --help`. `wgpu` takes a processor that plays a GPU too where ETUDE_ADAPTER names it.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// CPU threads; 0 takes every core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Write the report as a page of Markdown.
    #[arg(long, value_name = "FILE.md")]
    pub out: Option<PathBuf>,
    /// Print an object of JSON a line for all that is measured, as it is measured, and no report.
    #[arg(long)]
    pub json: bool,
    /// Only these parts, in this order [default: info,ceilings,cases,step,kernels].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,...")]
    pub only: Vec<BenchPart>,
    /// Only kernels of workloads whose name has TEXT.
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub filter: String,
    /// About how long it may take: what would take too long is left out, and said so. 0 leaves nothing out.
    #[arg(long, default_value_t = 100, value_name = "SECONDS")]
    pub seconds: u64,
    /// Small workloads, for a look at whether all of it works.
    #[arg(long)]
    pub quick: bool,
    /// Of the cases only those that are small enough for a sanitizer.
    #[arg(long, hide = true)]
    pub small: bool,
}

/// A part of what is measured.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum BenchPart {
    /// The device, as JSON.
    Info,
    /// A copy, and multiply-adds.
    Ceilings,
    /// The case table against the oracle; named alone, all of it.
    Cases,
    /// A training step.
    Step,
    /// Every kernel by itself.
    Kernels,
    /// The loss of a million rows, as JSON.
    Large,
    /// Every workload of `kernels` once, for a profiler.
    Once,
}

#[derive(Args)]
pub struct CompareArgs {
    /// Directories of finished runs; the others are compared with the first.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// What the bootstrap draws: all takes of a performer, or all of a melody.
    #[arg(long, default_value_t = SplitBy::Performer, value_name = "WHAT", value_parser = one_of(SplitBy::ALL, SplitBy::name))]
    pub by: SplitBy,
    /// Directory for report.html, a page with tables and pictures, and comparison.csv.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the page of an earlier comparison in --out.
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Print one JSON object as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct StudyArgs {
    /// What is compared, in TOML; `etude study --help` has an example.
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// As in train. Absent: the synthetic set of seed 0.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub files: DataArgs,
    /// Directory for the records of the runs, and for the tables.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Make only every N-th run, beginning with the I-th, and no tables.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Share>,
    /// Networks that are trained at once; 0 takes every core. The result does not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Print the tables as one JSON object, the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ContourArgs {
    /// Recordings, scores, f0 files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Directory for a file and a picture of each, NAME.csv and NAME.svg. Absent: one file's f0 goes to standard output.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Whose files it is written like: etude's have time, f0 (0 where unvoiced) and the probability that it is voiced.
    #[arg(long, default_value_t = TrackFormat::Etude, value_name = "NAME")]
    #[arg(value_parser = one_of(TrackFormat::ALL, TrackFormat::name))]
    pub format: TrackFormat,
    /// Compare each with this f0, recording or score, by the five measures of mir_eval.melody (voicing recall, voicing false
    /// alarm, raw pitch, raw chroma and overall accuracy), and print them instead.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    #[command(flatten)]
    pub f0: F0Args,
    /// CPU threads; 0 takes every core. The result does not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

#[derive(Args)]
pub struct SynthArgs {
    /// Directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the set.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Graded takes.
    #[arg(long, default_value_t = SynthOptions::default().takes, value_name = "N")]
    pub takes: usize,
    /// Performers.
    #[arg(long, default_value_t = SynthOptions::default().performers, value_name = "N")]
    pub performers: usize,
}
