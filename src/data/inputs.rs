//! Network inputs made of recordings.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::recordings::{OVERALL, Recordings, Reference};
use super::split::{self, Split, SplitIndices};
use crate::audio::{AlignOptions, CHANNELS, Contour, Scale, align};
use crate::names::{named, quoted};
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

named!(InputKind, "input": Contour "contour", ContourReference "contour-reference", AlignmentPath "alignment-path");

impl InputKind {
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
    /// A kind with a reference compares each take with the references of its melody, the first
    /// `max_references` by id: the same ones for every take of a melody, so that what is particular to a
    /// reference take is so for all (with one reference, choosing differently from take to take costs 0.03
    /// of R² on MASTmelody; with six, nothing either way).
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
                Error::config(format!("criterion {}: the data has {known}", quoted(name)))
            })?,
        };

        let mut by_id: Vec<&Reference> = recordings.references.iter().collect();
        by_id.sort_by(|a, b| a.id.cmp(&b.id));
        let mut references: BTreeMap<&str, Vec<&Contour>> = BTreeMap::new();
        for reference in by_id {
            references.entry(&reference.melody).or_default().push(&reference.contour);
        }

        let total = recordings.takes.len();
        let done = AtomicUsize::new(0);
        let examples: Vec<Option<Example>> = recordings
            .takes
            .par_iter()
            .map(|take| {
                let rating = take.ratings.get(criterion).copied();
                let rating = rating.filter(|rating| (0.0..=1.0).contains(rating)).ok_or_else(|| {
                    Error::config(format!("take {}: no rating in 0..=1 for criterion {criterion}", take.id))
                })?;
                let all = take.melody.as_deref().and_then(|melody| references.get(melody));
                let chosen = match all {
                    Some(all) if kind.needs_reference() => &all[..all.len().min(options.max_references)],
                    _ => &[],
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
                        rows: rows(kind, &take.contour, chosen, options)?,
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
        let criterion = recordings.criteria.get(criterion).cloned().unwrap_or_else(|| OVERALL.into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synth::{self, SynthOptions};
    use std::sync::Mutex;

    fn set(references: usize) -> Recordings {
        let options =
            SynthOptions { takes: 12, performers: 6, melodies: 2, references, ..Default::default() };
        synth::generate(&options).unwrap()
    }

    fn build(recordings: &Recordings, options: &InputOptions) -> Result<Inputs> {
        Inputs::build(recordings, options, &|_, _| {})
    }

    fn of_kind(kind: InputKind) -> InputOptions {
        InputOptions { kind: Some(kind), ..Default::default() }
    }

    #[test]
    fn shapes_of_each_kind() {
        let recordings = set(3);
        for kind in InputKind::ALL {
            let inputs = build(&recordings, &of_kind(kind)).unwrap();
            assert_eq!((inputs.kind, inputs.channels), (kind, kind.channels()));
            assert_eq!(inputs.examples.len(), 12);
            assert_eq!(kind.to_string().parse::<InputKind>().unwrap(), kind);
            for (example, take) in inputs.examples.iter().zip(&recordings.takes) {
                assert_eq!((&example.id, &example.performer), (&take.id, &take.performer));
                assert_eq!((example.rating, example.pass), (take.ratings[0], take.pass));
                assert_eq!(example.rows.len(), if kind.needs_reference() { 3 } else { 1 });
                for row in &example.rows {
                    assert_eq!(row.data.len(), kind.channels() * row.len);
                    assert!(row.data.iter().all(|x| x.is_finite()));
                    if kind != InputKind::AlignmentPath {
                        assert_eq!(row.len, take.contour.len());
                        let first = &row.data[..row.len];
                        assert!(first.iter().zip(take.contour.pitch()).all(|(x, p)| *x == p / 127.0));
                    }
                }
            }
        }
        assert!("midi".parse::<InputKind>().unwrap_err().to_string().contains("alignment-path"));
    }

    #[test]
    fn the_aligned_reference_follows_the_take() {
        // The reference itself as a take, a fifth up: its second channel is the take again.
        let mut recordings = set(1);
        let reference = recordings.references[0].clone();
        let up = reference.contour.pitch().iter().map(|&p| if p > 0.0 { p + 5.0 } else { 0.0 }).collect();
        recordings.takes.truncate(1);
        recordings.takes[0].contour = Contour::from_pitch(up, reference.contour.hop()).unwrap();
        recordings.takes[0].melody = Some(reference.melody.clone());
        let inputs = build(&recordings, &of_kind(InputKind::ContourReference)).unwrap();
        let row = &inputs.examples[0].rows[0];
        let (take, aligned) = row.data.split_at(row.len);
        let close = take.iter().zip(aligned).filter(|(a, b)| (*a - *b).abs() < 1e-5).count();
        // Only frames before the first whole block and after the last may differ.
        assert!(close + 8 >= row.len, "{close} of {}", row.len);
    }

    #[test]
    fn criterion_scale_and_kind_can_be_chosen() {
        let recordings = set(1);
        let options = InputOptions {
            criterion: Some("rhythm".into()),
            scale: Scale::Centered72,
            ..of_kind(InputKind::Contour)
        };
        let inputs = build(&recordings, &options).unwrap();
        assert_eq!(inputs.criterion, "rhythm");
        assert_eq!(inputs.examples[0].rating, recordings.takes[0].ratings[2]);
        let pitch = recordings.takes[0].contour.pitch();
        let frame = pitch.iter().position(|&p| p > 0.0).unwrap();
        assert_eq!(inputs.examples[0].rows[0].data[frame], (pitch[frame] - 36.0) / 72.0);

        let wrong =
            build(&recordings, &InputOptions { criterion: Some("tone".into()), ..Default::default() });
        assert!(wrong.unwrap_err().to_string().contains("the data has overall, pitch, rhythm"));
        assert!(build(&recordings, &InputOptions { max_references: 0, ..Default::default() }).is_err());
        assert_eq!(InputKind::default_for(&Recordings::default()), InputKind::Contour);
        assert!(build(&Recordings::default(), &InputOptions::default()).is_err());
    }

    #[test]
    fn rows_are_of_the_first_references_by_id() {
        let mut recordings = set(3);
        let options = InputOptions { max_references: 2, ..Default::default() };
        let inputs = build(&recordings, &options).unwrap();
        let take = &recordings.takes[0];
        let of_melody: Vec<&Contour> = recordings
            .references
            .iter()
            .filter(|reference| Some(&reference.melody) == take.melody.as_ref())
            .map(|reference| &reference.contour)
            .collect();
        let expected = rows(InputKind::AlignmentPath, &take.contour, &of_melody[..2], &options).unwrap();
        assert_eq!(inputs.examples[0].rows, expected);
        recordings.references.reverse();
        assert_eq!(build(&recordings, &options).unwrap(), inputs);
    }

    #[test]
    fn takes_without_a_reference_are_dropped_and_counted() {
        let mut recordings = set(1);
        recordings.takes[2].melody = None;
        recordings.takes[5].melody = Some("another".into());
        let inputs = build(&recordings, &InputOptions::default()).unwrap();
        assert_eq!(inputs.examples.len(), 10);
        assert_eq!(inputs.notes, ["2 takes dropped: no reference of their melody"]);
        recordings.references.clear();
        let error = build(&recordings, &of_kind(InputKind::AlignmentPath)).unwrap_err().to_string();
        assert!(error.contains("none of 12 takes has a reference"), "{error}");
        assert_eq!(build(&recordings, &InputOptions::default()).unwrap().kind, InputKind::Contour);
    }

    #[test]
    fn threads_do_not_matter_and_progress_counts_up() {
        let recordings = set(2);
        let options = InputOptions::default();
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let seen = Mutex::new(Vec::new());
        let inputs =
            Inputs::build(&recordings, &options, &|done, of| seen.lock().unwrap().push((done, of))).unwrap();
        assert_eq!(inputs, one_thread.install(|| build(&recordings, &options)).unwrap());
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
    }

    #[test]
    fn a_prescribed_split_is_honoured() {
        let mut recordings = set(1);
        let free = build(&recordings, &InputOptions::default()).unwrap().holdout(0.2, 0.2, 1).unwrap();
        assert!(!free.test.is_empty());
        let mut performers: Vec<String> =
            recordings.takes.iter().map(|take| take.performer.clone()).collect();
        performers.dedup();
        for take in &mut recordings.takes {
            let index = performers.iter().position(|performer| *performer == take.performer).unwrap();
            take.split = Some(Split::ALL[index % 3]);
        }
        let split = build(&recordings, &InputOptions::default()).unwrap().holdout(0.2, 0.2, 1).unwrap();
        assert_eq!(split.train, [0, 1, 6, 7]);
        assert_eq!(split.val, [2, 3, 8, 9]);
    }
}
