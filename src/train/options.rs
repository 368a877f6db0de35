//! How to train.

use crate::data::input_options::InputKind;
use crate::kernels::contrastive::Metric;
use crate::names::named;
use crate::net::{NetConfig, NoteHeadConfig};
use crate::ops::optim::{Adam, Sgd};
use crate::optim::{Method, Schedule};
use crate::report::neighbours::Distance;
use crate::{Error, Result};

/// Epochs of a phase at most: its steps are counted in 32 bits.
const MOST_EPOCHS: usize = 1_000_000;

/// Degraded takes for each training take at most.
const MOST_DEGRADED: f64 = 1000.0;

/// Steps of a phase whose learning rate falls, at least, where [`TrainOptions::for_takes`] says: 50 epochs of 384 takes.
const LEAST_STEPS: usize = 300;

/// Samples of a step at most.
const MOST_SAMPLES: usize = 1 << 24;

/// What is minimised, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Mean squared error alone: the baseline.
    Mse,
    /// The encoder on the contrastive loss, then the head on the mean squared error.
    TwoPhase,
    /// Mean squared error plus λ times the contrastive loss.
    Joint,
}

named!(Protocol, "protocol": Mse "mse", TwoPhase "two-phase", Joint "joint");

impl Protocol {
    /// What suits a kind of input: the squared error with the contrastive loss where the network sees an alignment path, the
    /// squared error alone elsewhere, where the other gained nothing (docs/study.md).
    pub fn of(kind: InputKind) -> Self {
        match kind {
            InputKind::AlignmentPath | InputKind::AlignmentPathNotes => Self::Joint,
            InputKind::Contour | InputKind::ContourReference | InputKind::Notes => Self::Mse,
        }
    }
}

/// Which pairs of a batch the contrastive loss compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// All of them.
    All,
    /// Two random halves matched one to one, as the paper's code does.
    Halves,
}

named!(Pairs, "pairs": All "all", Halves "halves");

/// An update rule, with what goes well with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Stochastic gradient descent with momentum, at a constant rate.
    Sgd,
    /// Adam, its rate falling along a cosine.
    Adam,
    /// The same, with decay decoupled from the gradient.
    AdamW,
}

named!(Rule, "optimizer": Sgd "sgd", Adam "adam", AdamW "adamw");

impl Rule {
    /// What suits a kind of input.
    pub fn of(kind: InputKind) -> Self {
        match kind {
            InputKind::AlignmentPath | InputKind::Notes | InputKind::AlignmentPathNotes => Self::AdamW,
            InputKind::Contour | InputKind::ContourReference => Self::Sgd,
        }
    }

    /// The rule with its usual weight decay, or this one.
    pub fn method(self, weight_decay: Option<f32>) -> Method {
        match self {
            Self::Sgd => Method::Sgd(Sgd { momentum: 0.9, weight_decay: weight_decay.unwrap_or(1e-5) }),
            Self::Adam | Self::AdamW => Method::Adam(Adam {
                weight_decay: weight_decay.unwrap_or(1e-4),
                decoupled: self == Self::AdamW,
                ..Adam::default()
            }),
        }
    }

    /// The share of the takes to validate on where nothing else is said. A constant rate has no end of its own: the lowest
    /// validation loss ends it. A rate that falls to 0 does, and what validation takes from training costs more than its choice
    /// of an epoch brings: 0.013 of R² on MASTmelody, with a tenth.
    pub fn val_fraction(self) -> f64 {
        match self {
            Self::Sgd => 0.1,
            Self::Adam | Self::AdamW => 0.0,
        }
    }

    /// Its usual schedule, whose warm-up counts epochs, with its usual highest rate, or this one.
    pub fn schedule(self, lr: Option<f64>) -> Schedule {
        match self {
            Self::Sgd => Schedule::Constant { lr: lr.unwrap_or(0.005), warm_up: 0 },
            Self::Adam | Self::AdamW => Schedule::Cosine { lr: lr.unwrap_or(2e-3), warm_up: 2 },
        }
    }
}

/// The network of the path head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// The paper's: [`NetConfig::paper`].
    Paper,
    /// That for alignment paths: [`NetConfig::alignment`].
    Alignment,
}

named!(Encoder, "net": Paper "paper", Alignment "alignment");

impl Encoder {
    /// The network for rows of `channels`, resampled to or cut into `frames` columns; it has no note head.
    pub fn config(self, channels: usize, frames: usize) -> NetConfig {
        match self {
            Self::Paper => NetConfig::paper(channels, frames),
            Self::Alignment => NetConfig::alignment(channels, frames),
        }
    }
}

/// How a row of any length becomes the network's `frames` columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Windows {
    /// The whole row, resampled (nearest); in training a random 80–100 % of it. For alignment paths,
    /// whose time axis is elastic anyway. No padding at all.
    Resampled,
    /// Stretches of `frames` frames at the row's own hop, padded with zeros that the mean over time
    /// leaves out; in training from a random start, transposed by up to `semitones` (in the input's unit).
    Chunks {
        /// Largest transposition, in the unit of the input.
        shift: f32,
    },
}

impl Windows {
    /// What suits a kind of input.
    pub fn of(kind: InputKind, semitone: f32) -> Self {
        match kind {
            InputKind::AlignmentPath | InputKind::Notes | InputKind::AlignmentPathNotes => Self::Resampled,
            InputKind::Contour | InputKind::ContourReference => Self::Chunks { shift: 2.0 * semitone },
        }
    }
}

/// The contrastive loss of a protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// Distance between embeddings.
    pub metric: Metric,
    /// Distance at which a negative pair stops to matter, per unit of label distance.
    pub margin: f32,
    /// Number of label bins; `None` compares the ratings themselves.
    pub bins: Option<usize>,
    /// Largest label distance of a positive pair.
    pub tau: f32,
    /// Which pairs.
    pub pairs: Pairs,
    /// Weight λ beside the mean squared error, in [`Protocol::Joint`].
    pub weight: f32,
}

impl Default for Contrast {
    /// The paper's: Euclidean, margin 0.5, five bins; all pairs; λ = 0.1.
    fn default() -> Self {
        Self {
            metric: Metric::Euclidean,
            margin: 0.5,
            bins: Some(5),
            tau: 0.0,
            pairs: Pairs::All,
            weight: 0.1,
        }
    }
}

impl Contrast {
    /// The margin that suits a kind of input: 2 in Euclidean embeddings of alignment paths, where it gains what the paper's 0.5
    /// does not (docs/study.md), else 0.5.
    pub fn margin(kind: InputKind, metric: Metric) -> f32 {
        match (kind, metric) {
            (InputKind::AlignmentPath | InputKind::AlignmentPathNotes, Metric::Euclidean) => 2.0,
            _ => Self::default().margin,
        }
    }

    /// Label bins of the embedding's metrics: those of the loss, or five.
    pub fn label_bins(&self) -> usize {
        self.bins.unwrap_or(5)
    }
}

/// Neighbours are looked for as the loss measured.
impl From<Metric> for Distance {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Euclidean => Self::Euclidean,
            Metric::Cosine => Self::Cosine,
        }
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// What is minimised.
    pub protocol: Protocol,
    /// The network.
    pub net: NetConfig,
    /// Rows to columns.
    pub windows: Windows,
    /// Most epochs of the only, or the second, phase.
    pub epochs: usize,
    /// Most epochs of the encoder's phase, in [`Protocol::TwoPhase`].
    pub encoder_epochs: usize,
    /// Epochs without a better validation loss after which a phase stops.
    pub patience: usize,
    /// Samples per step.
    pub batch: usize,
    /// The contrastive loss.
    pub contrast: Contrast,
    /// Whether the encoder stays as it is in the second phase of [`Protocol::TwoPhase`].
    pub freeze_encoder: bool,
    /// How parameters are updated.
    pub method: Method,
    /// Learning rate; warm-up counts epochs.
    pub schedule: Schedule,
    /// Degraded takes ([`crate::data::Inputs::degraded`]) in an epoch, for each training take.
    pub degraded: f64,
    /// Seed of initial weights, batches and dropout.
    pub seed: u64,
    /// Run launch by launch and stop at the first NaN.
    pub checked: bool,
}

impl TrainOptions {
    /// Defaults for a kind of input: for alignment paths and notes AdamW on a cosine over 50 epochs, a head for each; for bare
    /// contours the paper's network, SGD at 0.005 and early stopping; [`Protocol::of`] and [`Contrast::margin`] say the rest.
    pub fn for_inputs(kind: InputKind, semitone: f32) -> Self {
        let windows = Windows::of(kind, semitone);
        let (net, epochs) = match kind {
            InputKind::Contour | InputKind::ContourReference => {
                (NetConfig::paper(kind.channels(), 1000), 300)
            }
            InputKind::AlignmentPath => (NetConfig::alignment(kind.channels(), 128), 50),
            InputKind::Notes => (NetConfig::notes(kind.features()), 50),
            InputKind::AlignmentPathNotes => {
                let notes = Some(NoteHeadConfig::new(kind.features()));
                (NetConfig { notes, ..NetConfig::alignment(kind.channels(), 128) }, 50)
            }
        };
        let rule = Rule::of(kind);
        Self {
            protocol: Protocol::of(kind),
            net,
            windows,
            epochs,
            encoder_epochs: Self::encoder_epochs(epochs),
            patience: 100,
            batch: 64,
            contrast: Contrast { margin: Contrast::margin(kind, Metric::Euclidean), ..Contrast::default() },
            freeze_encoder: true,
            method: rule.method(None),
            schedule: rule.schedule(None),
            degraded: 0.0,
            seed: 0,
            checked: false,
        }
    }

    /// The same for ratings by so many criteria: by several the squared error alone. Of two takes the contrastive loss knows one
    /// distance, that of their means: it draws together what criteria keep apart.
    #[must_use]
    pub fn for_criteria(mut self, criteria: usize) -> Self {
        self.net.criteria = criteria;
        if criteria > 1 {
            self.protocol = Protocol::Mse;
        }
        self
    }

    /// The same with more epochs where so few training takes need them: where the learning rate falls to 0 a phase has 300 steps
    /// at least. An epoch of 25 takes is one step, and 50 of these leave 0.02 of R² unlearned on MASTmelody.
    #[must_use]
    pub fn for_takes(mut self, takes: usize) -> Self {
        if let Schedule::Cosine { .. } = self.schedule {
            let steps = takes / self.batch.min(takes).max(1);
            let least = LEAST_STEPS.div_ceil(steps.max(1));
            self.epochs = self.epochs.max(least);
            self.encoder_epochs = self.encoder_epochs.max(least);
        }
        self
    }

    /// Checks every number by itself; what depends on data is checked with it.
    ///
    /// # Errors
    /// [`Error::Config`], naming the first that is out of its range.
    pub fn check(&self) -> Result<()> {
        let Self { epochs, encoder_epochs, patience, batch, contrast, method, schedule, .. } = self;
        let counts = [
            ("epochs", *epochs, 1..=MOST_EPOCHS),
            ("epochs of the encoder", *encoder_epochs, 0..=MOST_EPOCHS),
            ("patience", *patience, 1..=usize::MAX),
            ("batch", *batch, 1..=MOST_SAMPLES),
            // The labels of bins are 32-bit floats.
            ("bins", contrast.bins.unwrap_or(2), 2..=1 << 24),
        ];
        for (name, value, range) in counts {
            if !range.contains(&value) {
                let most =
                    if *range.end() == usize::MAX { "or more" } else { &format!("to {}", range.end()) };
                return Err(Error::config(format!("{name} {value}: expected {} {most}", range.start())));
            }
        }
        if !(0.0..=MOST_DEGRADED).contains(&self.degraded) {
            return Err(Error::config(format!(
                "{} degraded takes for each training take: expected 0 to {MOST_DEGRADED}",
                self.degraded
            )));
        }
        let (Schedule::Constant { lr, .. } | Schedule::Cosine { lr, .. }) = *schedule;
        let (Method::Sgd(Sgd { weight_decay, .. }) | Method::Adam(Adam { weight_decay, .. })) = *method;
        // As the devices see it: the optimizer computes in 32 bits.
        let lr = lr as f32;
        let numbers = [
            ("learning rate", lr, lr > 0.0),
            ("weight decay", weight_decay, weight_decay >= 0.0),
            ("margin", contrast.margin, contrast.margin > 0.0),
            ("tau", contrast.tau, contrast.tau >= 0.0),
            ("weight of the contrastive loss", contrast.weight, contrast.weight >= 0.0),
        ];
        for (name, value, right) in numbers {
            if !right || !value.is_finite() {
                let range = if name == "learning rate" || name == "margin" { "above 0" } else { "0 or more" };
                return Err(Error::config(format!("{name} {value}: expected a number {range}")));
            }
        }
        Ok(())
    }

    /// Most epochs of the encoder's phase where nothing else is said, beside `epochs` of the other.
    pub fn encoder_epochs(epochs: usize) -> usize {
        epochs.min(150)
    }
}
