//! Network inputs made of recordings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::split::{self, SplitIndices};
use super::{Recordings, Reference, Split};
use crate::audio::{AlignOptions, CHANNELS, Contour, Scale, align};
use crate::{Error, Result};

/// What the network sees of a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// The contour alone: 1 channel, a column per frame. One row.
    Contour,
    /// The contour, and the reference aligned to it and moved into its octave and key: 2 channels, a column
    /// per frame of the take. A row per reference.
    ContourReference,
    /// The alignment of take and reference: the 14 channels of [`CHANNELS`], a column per step of the path.
    /// A row per reference.
    AlignmentPath,
}

impl InputKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Contour, Self::ContourReference, Self::AlignmentPath];

    /// The best kind these recordings allow: the alignment path if there are references, else the contour.
    pub fn default_for(recordings: &Recordings) -> Self {
        if recordings.references.is_empty() { Self::Contour } else { Self::AlignmentPath }
    }

    /// Rows of the input, C.
    pub fn channels(self) -> usize {
        match self {
            Self::Contour => 1,
            Self::ContourReference => 2,
            Self::AlignmentPath => CHANNELS.len(),
        }
    }

    /// Whether a take needs a reference.
    pub fn needs_reference(self) -> bool {
        self != Self::Contour
    }

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contour => "contour",
            Self::ContourReference => "contour-reference",
            Self::AlignmentPath => "alignment-path",
        }
    }
}

impl fmt::Display for InputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for InputKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::config(format!("input {name:?}: expected one of {names}"))
        })
    }
}

/// How to make inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct InputOptions {
    /// What the network sees; `None` is [`InputKind::default_for`] the recordings.
    pub kind: Option<InputKind>,
    /// What to rate by; `None` is the first criterion of the recordings.
    pub criterion: Option<String>,
    /// How MIDI pitch becomes a number, for the kinds with a contour.
    pub scale: Scale,
    /// At most this many references per take, and so rows per example.
    pub max_references: usize,
    /// How to align, for the kinds with a reference.
    pub align: AlignOptions,
}

impl Default for InputOptions {
    /// The best kind, the first criterion, MIDI/127, at most 6 references.
    fn default() -> Self {
        Self {
            kind: None,
            criterion: None,
            scale: Scale::default(),
            max_references: 6,
            align: AlignOptions::default(),
        }
    }
}

/// One view of a take, of any length.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Columns.
    pub len: usize,
    /// `[channels][len]`, row-major.
    pub data: Vec<f32>,
}

/// A take as the network is trained on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The take's.
    pub id: String,
    /// The take's; what splits go by.
    pub performer: String,
    /// The rating by the chosen criterion, in 0..=1.
    pub rating: f32,
    /// Whether the judges passed it, where the data says.
    pub pass: Option<bool>,
    /// The part of the split the data itself puts it in, if it does.
    pub split: Option<Split>,
    /// At least one, one per reference where the kind has references. Train on a random one and predict
    /// the mean over all of them.
    pub rows: Vec<Row>,
}

/// A data set as the network is trained on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Rows of each input, C.
    pub channels: usize,
    /// What the network sees.
    pub kind: InputKind,
    /// What the rating is for.
    pub criterion: String,
    /// In the order of the takes.
    pub examples: Vec<Example>,
    /// What was dropped and why, with counts; for the log.
    pub notes: Vec<String>,
}

impl Inputs {
    /// Makes inputs of all takes, in parallel; the result does not depend on the number of threads.
    ///
    /// A kind with a reference compares each take with the references of its melody, in order of their ids.
    /// Where there are more than `max_references`, each take gets that many of them, evenly spaced from a
    /// start that moves on from take to take: all references are used, and one bad one spoils few takes.
    /// Takes without a reference are dropped and counted in the notes.
    ///
    /// `progress` is called from any thread with the takes done and their number, once each.
    pub fn build(
        recordings: &Recordings,
        options: &InputOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let kind = options.kind.unwrap_or_else(|| InputKind::default_for(recordings));
        if options.max_references == 0 && kind.needs_reference() {
            return Err(Error::config(format!("max references 0: input {kind} needs at least 1")));
        }
        let criterion = match &options.criterion {
            None => 0,
            Some(name) => recordings.criteria.iter().position(|known| known == name).ok_or_else(|| {
                let known = recordings.criteria.join(", ");
                Error::config(format!("criterion {name:?}: the data has {known}"))
            })?,
        };

        let mut references: BTreeMap<&str, Vec<&Reference>> = BTreeMap::new();
        for reference in &recordings.references {
            references.entry(&reference.melody).or_default().push(reference);
        }
        for list in references.values_mut() {
            list.sort_by(|a, b| a.id.cmp(&b.id));
        }

        let total = recordings.takes.len();
        let done = AtomicUsize::new(0);
        let examples: Vec<Option<Example>> = recordings
            .takes
            .par_iter()
            .enumerate()
            .map(|(index, take)| {
                let rating = take.ratings.get(criterion).copied();
                let rating = rating.filter(|rating| (0.0..=1.0).contains(rating)).ok_or_else(|| {
                    Error::config(format!("take {}: no rating in 0..=1 for criterion {criterion}", take.id))
                })?;
                let all = take.melody.as_deref().and_then(|melody| references.get(melody));
                let chosen = match all {
                    Some(all) if kind.needs_reference() => choose(all, options.max_references, index),
                    _ => Vec::new(),
                };
                let example = if kind.needs_reference() && chosen.is_empty() {
                    None
                } else {
                    Some(Example {
                        id: take.id.clone(),
                        performer: take.performer.clone(),
                        rating,
                        pass: take.pass,
                        split: take.split,
                        rows: rows(kind, &take.contour, &chosen, options)?,
                    })
                };
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                Ok(example)
            })
            .collect::<Result<_>>()?;

        let examples: Vec<Example> = examples.into_iter().flatten().collect();
        let dropped = total - examples.len();
        if examples.is_empty() {
            return Err(Error::config(match dropped {
                0 => "no takes to make inputs of".into(),
                _ => format!("input {kind}: none of {total} takes has a reference; try input contour"),
            }));
        }
        let mut notes = Vec::new();
        if dropped > 0 {
            notes.push(format!("{dropped} takes dropped: no reference of their melody"));
        }
        let criterion = recordings.criteria.get(criterion).cloned().unwrap_or_else(|| super::OVERALL.into());
        Ok(Self { channels: kind.channels(), kind, criterion, examples, notes })
    }

    /// The performer of each example, as [`split::k_folds`] takes it.
    pub fn performers(&self) -> Vec<&str> {
        self.examples.iter().map(|example| example.performer.as_str()).collect()
    }

    /// One split: the one the data prescribes if every example has a part, else [`split::holdout`].
    pub fn holdout(&self, val_fraction: f64, test_fraction: f64, seed: u64) -> Result<SplitIndices> {
        let performers = self.performers();
        let parts: Vec<Option<Split>> = self.examples.iter().map(|example| example.split).collect();
        match split::preset(&performers, &parts)? {
            Some(split) => Ok(split),
            None => split::holdout(&performers, val_fraction, test_fraction, seed),
        }
    }
}

/// At most `most` of `all`, evenly spaced, from a start that differs from take to take.
fn choose<'a>(all: &[&'a Reference], most: usize, take: usize) -> Vec<&'a Contour> {
    let count = most.min(all.len());
    // In id order from 0 if all are used, so that row k is the same reference for every take.
    let start = if count < all.len() { take } else { 0 };
    (0..count).map(|k| &all[(start + k * all.len() / count) % all.len()].contour).collect()
}

/// The rows of one take: one for [`InputKind::Contour`], else one per reference.
pub fn rows(
    kind: InputKind,
    take: &Contour,
    references: &[&Contour],
    options: &InputOptions,
) -> Result<Vec<Row>> {
    let scaled = |pitch: &[f32]| -> Vec<f32> { pitch.iter().map(|&p| options.scale.apply(p)).collect() };
    if kind == InputKind::Contour {
        return Ok(vec![Row { len: take.len(), data: scaled(take.pitch()) }]);
    }
    references
        .iter()
        .map(|reference| {
            let alignment = align(take, reference, &options.align)?;
            Ok(if kind == InputKind::ContourReference {
                let mut data = scaled(take.pitch());
                data.extend(scaled(&alignment.reference_on_performance(take, reference)));
                Row { len: take.len(), data }
            } else {
                Row { len: alignment.path.len(), data: alignment.columns() }
            })
        })
        .collect()
}
