//! Network inputs made of recordings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::comparison::{Comparison, Row, Shown};
use super::contents::Contents;
use super::input_options::{InputKind, InputOptions};
use super::random::Random;
use super::recordings::{Graders, OVERALL, Recordings, Reference, Take};
use super::split::{self, Groups, Split, SplitBy, SplitIndices};
use crate::audio::Contour;
use crate::hash::Fnv1a;
use crate::names::quoted;
use crate::{Error, Result};

/// A take as the network is trained on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The take's.
    pub id: String,
    /// The take's; what splits go by, unless they go by melody.
    pub performer: String,
    /// The take's.
    pub melody: Option<String>,
    /// The rating by the chosen criterion, in 0..=1; of several the mean of those that it was rated by.
    pub rating: f32,
    /// Of several criteria the rating by each, in the order of [`Inputs::criteria`]; empty of one.
    pub ratings: Vec<Option<f32>>,
    /// The take's, see [`Take::grades`]; empty where [`Inputs::graders`] is none.
    pub grades: Vec<Option<f32>>,
    /// Whether the judges passed it, where the data says.
    pub pass: Option<bool>,
    /// The part of the split the data itself puts it in, if it does.
    pub split: Option<Split>,
    /// Digests of what the rows were made of.
    pub contents: Contents,
    /// One per reference where the kind has references; none where it has notes alone. Train on a random one and predict the mean
    /// over all of them.
    pub rows: Vec<Row>,
    /// [`crate::audio::notes::FEATURES`] where the kind has notes, else none.
    pub features: Vec<f32>,
}

impl Example {
    /// What the network is shown of a take, of which nothing is said: no name, no melody, no grade, and a rating of 0.
    ///
    /// # Errors
    /// As [`Comparison::show`].
    pub fn ungraded(comparison: &Comparison, take: &Contour) -> Result<Self> {
        Ok(Self::of(comparison.show(take)?, comparison.contents(take)))
    }

    /// What the network is shown, of which nothing is said.
    pub fn of(shown: Shown, contents: Contents) -> Self {
        let Shown { rows, features } = shown;
        Self {
            id: String::new(),
            performer: String::new(),
            melody: None,
            rating: 0.0,
            ratings: Vec::new(),
            grades: Vec::new(),
            pass: None,
            split: None,
            contents,
            rows,
            features,
        }
    }
}

/// A data set as the network is trained on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Channels of each row, C.
    pub channels: usize,
    /// What the network sees.
    pub kind: InputKind,
    /// What the ratings are for: one criterion, or several, each of which the network learns.
    pub criteria: Vec<String>,
    /// Who graded, where the data says so and the rating is [`OVERALL`] alone.
    pub graders: Option<Graders>,
    /// In the order of the takes.
    pub examples: Vec<Example>,
    /// What was dropped and why, with counts; for the log.
    pub notes: Vec<String>,
    /// Reference takes with planted errors, rated by these: to learn from beside the examples, never to test on. Of each melody
    /// that an example has, where [`InputOptions::degraded`] asks for them; nobody performs them.
    pub degraded: Vec<Example>,
}

/// Degraded takes of each melody.
const DEGRADED: u64 = 32;

/// The stream of [`Inputs::by_one_pass`].
const ONE_PASS: u64 = 2 << 32;

impl Inputs {
    /// Makes inputs of all takes, in parallel; the result does not depend on the number of threads.
    ///
    /// A kind with a reference compares each take with the `max_references` most typical references of its melody: the same
    /// ones for every take of a melody, so that what is particular to a reference take is so for all. What the melody is, all of
    /// its references tell together ([`crate::audio::notes`]).
    /// Takes that were not rated by the criterion, or by none of several, and takes without a reference are dropped and counted
    /// in the notes.
    ///
    /// `progress` is called from any thread with the takes done and their number, once each, degraded ones too.
    ///
    /// # Errors
    /// [`Error::Config`] where the options ask for what the recordings don't have, or no take is left.
    pub fn build(
        recordings: &Recordings,
        options: &InputOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let Chosen { kind, criteria, takes, references, notes } = Chosen::of(recordings, options)?;
        let graders = recordings.graders.clone().filter(|_| criteria == [OVERALL]);
        let melodies: BTreeSet<&str> = takes.iter().map(|chosen| chosen.melody).collect();
        let compare = |melody| {
            let of_melody = references.get(melody).map_or(&[][..], Vec::as_slice);
            Ok((melody, Comparison::of(kind, of_melody, options)?))
        };
        let comparisons: BTreeMap<&str, Comparison> =
            melodies.into_par_iter().map(compare).collect::<Result<_>>()?;
        let made = if options.degraded { comparisons.len() * DEGRADED as usize } else { 0 };
        let total = recordings.takes.len() + made;
        // Those that are left out are done.
        let done = AtomicUsize::new(0);
        let count = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        (takes.len()..recordings.takes.len()).for_each(|_| count());
        let examples = takes
            .into_par_iter()
            .map(|ChosenTake { take, rating, ratings, melody }| {
                let comparison = &comparisons[melody];
                let shown = Example::ungraded(comparison, &take.contour)?;
                count();
                Ok(Example {
                    id: take.id.clone(),
                    performer: take.performer.clone(),
                    melody: take.melody.clone(),
                    rating,
                    ratings,
                    grades: if graders.is_some() { take.grades.clone() } else { Vec::new() },
                    pass: take.pass,
                    split: take.split,
                    ..shown
                })
            })
            .collect::<Result<_>>()?;
        let degraded = match options.degraded {
            true => degraded(&comparisons, &references, &count)?,
            false => Vec::new(),
        };
        Ok(Self { channels: kind.channels(), kind, criteria, graders, examples, notes, degraded })
    }

    /// The criteria in words.
    pub fn criterion(&self) -> String {
        self.criteria.join(", ")
    }

    /// The examples, and after them the degraded takes.
    pub(crate) fn with_degraded(&self) -> impl Iterator<Item = &Example> {
        self.examples.iter().chain(&self.degraded)
    }

    /// The same, each rated by one grading pass alone: one of those that graded the take, at random. What is learned from one
    /// opinion can be tested on what all said.
    ///
    /// # Errors
    /// [`Error::Config`] where the data does not say what each pass gave a take.
    pub fn by_one_pass(&self, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed, ONE_PASS);
        let mut inputs = self.clone();
        for example in &mut inputs.examples {
            let given: Vec<f32> = example.grades.iter().copied().flatten().collect();
            example.rating = *given.get(random.below(given.len())).ok_or_else(|| {
                Error::config(format!(
                    "ratings by one grading pass: the data does not say what each gave take {}",
                    quoted(&example.id)
                ))
            })?;
        }
        Ok(inputs)
    }

    /// The group of each example that the parts of a split never share.
    ///
    /// # Errors
    /// [`Error::Config`] by melody, where an example has none.
    pub fn groups(&self, by: SplitBy) -> Result<Groups<'_>> {
        let names = self.examples.iter().map(|e| group(by, &e.id, &e.performer, e.melody.as_deref()));
        Ok(Groups { by, names: names.collect::<Result<_>>()? })
    }

    /// Checks, before anything is aligned, that the examples which [`Inputs::build`] will make of these recordings can be split
    /// as asked and leave two to train on: into `folds`, or where there are none as [`Inputs::holdout`] does.
    ///
    /// # Errors
    /// [`Error::Config`] as [`split::check`], where too few are left to train on, and where no inputs can be made.
    pub fn check_split(
        recordings: &Recordings,
        options: &InputOptions,
        by: SplitBy,
        folds: Option<usize>,
        (val_fraction, test_fraction): (f64, f64),
        seed: u64,
    ) -> Result<()> {
        let takes: Vec<&Take> = Chosen::of(recordings, options)?.takes.iter().map(|c| c.take).collect();
        let parts: Vec<Option<Split>> = takes.iter().map(|take| take.split).collect();
        let names = takes.iter().map(|take| group(by, &take.id, &take.performer, take.melody.as_deref()));
        let groups = Groups { by, names: names.collect::<Result<_>>()? };
        let splits = match folds {
            Some(k) => split::k_folds(&groups, k, val_fraction, seed)?,
            None => vec![one_split(&groups, &parts, val_fraction, test_fraction, seed)?],
        };
        match splits.iter().map(|split| split.train.len()).min() {
            Some(fewest) if fewest < 2 => {
                let what = if folds.is_some() { "a fold" } else { "the split" };
                Err(Error::config(format!("{what} leaves {fewest} take to train on: at least 2 are needed")))
            }
            _ => Ok(()),
        }
    }

    /// One split: the one the data prescribes if every example has a part, else [`split::holdout`].
    pub fn holdout(
        &self,
        by: SplitBy,
        val_fraction: f64,
        test_fraction: f64,
        seed: u64,
    ) -> Result<SplitIndices> {
        let parts: Vec<Option<Split>> = self.examples.iter().map(|example| example.split).collect();
        one_split(&self.groups(by)?, &parts, val_fraction, test_fraction, seed)
    }
}

/// The degraded takes of each melody, the same whatever other melodies there are; those that do not align are left out.
fn degraded(
    comparisons: &BTreeMap<&str, Comparison>,
    references: &BTreeMap<&str, Vec<&Contour>>,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Example>> {
    let all = comparisons.iter().flat_map(|(&melody, comparison)| {
        let mut seed = Fnv1a::default();
        seed.add(melody.as_bytes());
        (0..DEGRADED).map(move |number| (melody, comparison, Random::new(seed.get(), number)))
    });
    let all: Vec<(&str, &Comparison, Random)> = all.collect();
    let make = |(melody, comparison, mut random): (&str, &Comparison, Random)| {
        let references = references.get(melody).map_or(&[][..], Vec::as_slice);
        let made = comparison.degrade(references, &mut random)?;
        let example = made.and_then(|(contour, rating)| {
            let shown = Example::ungraded(comparison, &contour).ok()?;
            Some(Example { melody: Some(melody.to_string()), rating, ..shown })
        });
        done();
        Ok(example)
    };
    let made = all.into_par_iter().map(make).collect::<Result<Vec<_>>>()?;
    Ok(made.into_iter().flatten().collect())
}

/// The group of a take.
fn group<'a>(by: SplitBy, id: &str, performer: &'a str, melody: Option<&'a str>) -> Result<&'a str> {
    match by {
        SplitBy::Performer => Ok(performer),
        SplitBy::Melody => melody.ok_or_else(|| {
            Error::config(format!(
                "split by melody: take {} has none; a manifest says it in a column melody",
                quoted(id)
            ))
        }),
    }
}

/// The split the data prescribes, else a random one.
fn one_split(
    groups: &Groups<'_>,
    parts: &[Option<Split>],
    val_fraction: f64,
    test_fraction: f64,
    seed: u64,
) -> Result<SplitIndices> {
    match split::preset(groups, parts)? {
        Some(split) => Ok(split),
        None => split::holdout(groups, val_fraction, test_fraction, seed),
    }
}

/// A take of which an input is made, and with what.
struct ChosenTake<'a> {
    take: &'a Take,
    /// As of [`Example`].
    rating: f32,
    ratings: Vec<Option<f32>>,
    /// Whose references it is compared with; of a kind without references none is.
    melody: &'a str,
}

/// What inputs are made of, before anything is aligned.
struct Chosen<'a> {
    kind: InputKind,
    criteria: Vec<String>,
    takes: Vec<ChosenTake<'a>>,
    /// Those of each melody, by id.
    references: BTreeMap<&'a str, Vec<&'a Contour>>,
    notes: Vec<String>,
}

impl<'a> Chosen<'a> {
    fn of(recordings: &'a Recordings, options: &InputOptions) -> Result<Self> {
        let kind = options.kind.unwrap_or_else(|| InputKind::default_for(recordings));
        if options.max_references == 0 && kind.needs_reference() {
            return Err(Error::config(format!("max references 0: input {kind} needs at least 1")));
        }
        if options.degraded && !kind.needs_reference() {
            return Err(Error::config(format!(
                "degraded takes are made of references, which input {kind} has not"
            )));
        }
        let total = recordings.takes.len();
        if total == 0 {
            return Err(Error::config("no takes to make inputs of"));
        }
        let places = criteria(recordings, &options.criteria)?;
        let criteria: Vec<String> = places.iter().map(|&place| recordings.criteria[place].clone()).collect();
        let name = criteria.join(" or ");
        if options.degraded && criteria.len() > 1 {
            return Err(Error::config("degraded takes have one rating: learn one criterion from them"));
        }

        let mut by_id: Vec<&Reference> = recordings.references.iter().collect();
        by_id.sort_by(|a, b| a.id.cmp(&b.id));
        let mut of_melody: BTreeMap<&str, Vec<&Contour>> = BTreeMap::new();
        for reference in by_id {
            of_melody.entry(&reference.melody).or_default().push(&reference.contour);
        }

        let (mut takes, mut unrated, mut alone) = (Vec::new(), 0, 0);
        for take in &recordings.takes {
            let ratings: Vec<Option<f32>> =
                places.iter().map(|&place| take.ratings.get(place).copied().flatten()).collect();
            for (rating, of) in ratings.iter().zip(&criteria) {
                if let Some(rating) = rating.filter(|rating| !(0.0..=1.0).contains(rating)) {
                    return Err(Error::config(format!(
                        "take {}: rating {rating} for {of} is not in 0..=1",
                        take.id
                    )));
                }
            }
            let Some(rating) = mean_of_known(&ratings, &ratings) else {
                unrated += 1;
                continue;
            };
            let ratings = if ratings.len() > 1 { ratings } else { Vec::new() };
            let melody = take.melody.as_deref().unwrap_or_default();
            if kind.needs_reference() && (take.melody.is_none() || !of_melody.contains_key(melody)) {
                alone += 1;
            } else {
                takes.push(ChosenTake { take, rating, ratings, melody });
            }
        }
        if takes.is_empty() {
            return Err(Error::config(match alone {
                0 => format!("criterion {name}: none of {total} takes is rated by it"),
                _ if unrated == 0 => {
                    format!("input {kind}: none of {total} takes has a reference; try input contour")
                }
                _ => format!(
                    "input {kind}: none of the {alone} takes that are rated by {name} has a reference; try input contour"
                ),
            }));
        }
        let mut notes = Vec::new();
        if unrated > 0 {
            notes.push(format!("{unrated} takes dropped: not rated by {name}"));
        }
        if alone > 0 {
            notes.push(format!("{alone} takes dropped: no reference of their melody"));
        }
        Ok(Self { kind, criteria, takes, references: of_melody, notes })
    }
}

/// The mean of those values whose rating is known; none where no rating is.
pub fn mean_of_known(values: &[impl Copy + Into<Option<f32>>], ratings: &[Option<f32>]) -> Option<f32> {
    let known = values.iter().zip(ratings).filter(|(_, rating)| rating.is_some());
    let known: Vec<f32> = known.filter_map(|(value, _)| (*value).into()).collect();
    match known[..] {
        [] => None,
        // Of one it is that one, to the bit.
        [only] => Some(only),
        _ => Some((known.iter().map(|v| f64::from(*v)).sum::<f64>() / known.len() as f64) as f32),
    }
}

/// Where the criteria of these names are, or the first.
fn criteria(recordings: &Recordings, names: &[String]) -> Result<Vec<usize>> {
    if recordings.criteria.is_empty() {
        return Err(Error::config(
            "the data has no ratings; a manifest has them in a column rating, or rating_<criterion>",
        ));
    }
    if names.is_empty() {
        return Ok(vec![0]);
    }
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let place = recordings.criterion(name).ok_or_else(|| {
            let known = recordings.criteria.join(", ");
            Error::config(format!("criterion {}: the data has {known}", quoted(name)))
        })?;
        if places.contains(&place) {
            return Err(Error::config(format!("criterion {} is named twice", quoted(name))));
        }
        places.push(place);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Scale, align};
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
                assert_eq!((Some(example.rating), example.pass), (take.ratings[0], take.pass));
                let rows = match kind {
                    InputKind::Contour => 1,
                    InputKind::Notes => 0,
                    _ => 3,
                };
                assert_eq!((example.rows.len(), example.features.len()), (rows, kind.features()));
                assert!(example.features.iter().all(|x| x.is_finite()));
                for row in &example.rows {
                    assert_eq!(row.data.len(), kind.channels() * row.len);
                    assert!(row.data.iter().all(|x| x.is_finite()));
                    if matches!(kind, InputKind::Contour | InputKind::ContourReference) {
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
            criteria: vec!["rhythm".into()],
            scale: Scale::Centered72,
            ..of_kind(InputKind::Contour)
        };
        let inputs = build(&recordings, &options).unwrap();
        assert_eq!(inputs.criterion(), "rhythm");
        assert_eq!(Some(inputs.examples[0].rating), recordings.takes[0].ratings[2]);
        let pitch = recordings.takes[0].contour.pitch();
        let frame = pitch.iter().position(|&p| p > 0.0).unwrap();
        assert_eq!(inputs.examples[0].rows[0].data[frame], (pitch[frame] - 36.0) / 72.0);

        let wrong = build(&recordings, &InputOptions { criteria: vec!["tone".into()], ..Default::default() });
        assert!(wrong.unwrap_err().to_string().contains("the data has overall, pitch, rhythm"));
        assert!(build(&recordings, &InputOptions { max_references: 0, ..Default::default() }).is_err());
        assert_eq!(InputKind::default_for(&Recordings::default()), InputKind::Contour);
        assert!(build(&Recordings::default(), &InputOptions::default()).is_err());
    }

    #[test]
    fn rows_are_of_the_most_typical_references() {
        let mut recordings = set(4);
        // The first by id has the melody wrong.
        let sharp = |p: &f32| if *p > 0.0 { p + f32::from(*p > 60.0) * 3.0 } else { 0.0 };
        let melody = recordings.takes[0].melody.clone().unwrap();
        let first = recordings.references.iter_mut().find(|r| r.melody == melody).unwrap();
        let wrong = first.contour.pitch().iter().map(sharp).collect();
        first.contour = Contour::from_pitch(wrong, first.contour.hop()).unwrap();
        let options = InputOptions { max_references: 2, ..Default::default() };
        let inputs = build(&recordings, &options).unwrap();
        let take = &recordings.takes[0];
        let of_melody: Vec<&Contour> = recordings
            .references
            .iter()
            .filter(|reference| Some(&reference.melody) == take.melody.as_ref())
            .map(|reference| &reference.contour)
            .collect();
        let row = |reference: &Contour| {
            let alignment = align(&take.contour, reference, &options.align).unwrap();
            Row { len: alignment.path.len(), data: alignment.columns() }
        };
        let rows: Vec<Row> = of_melody.into_iter().map(row).collect();
        let of: Vec<_> =
            inputs.examples[0].rows.iter().map(|row| rows.iter().position(|r| r == row)).collect();
        assert!(of.len() == 2 && of[0] != of[1] && of.iter().all(|of| of.is_some_and(|k| k > 0)), "{of:?}");
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
    fn takes_that_were_not_rated_are_dropped_and_counted() {
        let mut recordings = set(1);
        recordings.takes[0].ratings[2] = None;
        recordings.takes[4].ratings[2] = None;
        recordings.takes[4].melody = None;
        recordings.takes[7].melody = None;
        let by = |criterion: &str| InputOptions { criteria: vec![criterion.into()], ..Default::default() };
        let inputs = build(&recordings, &by("Rhythm")).unwrap();
        assert_eq!((inputs.examples.len(), inputs.criterion().as_str()), (9, "rhythm"));
        assert_eq!(
            inputs.notes,
            ["2 takes dropped: not rated by rhythm", "1 takes dropped: no reference of their melody"]
        );
        // Other criteria have no say.
        assert_eq!(build(&recordings, &by("pitch")).unwrap().examples.len(), 10);

        recordings.takes.iter_mut().for_each(|take| take.ratings[2] = None);
        let message = |recordings: &Recordings| build(recordings, &by("rhythm")).unwrap_err().to_string();
        assert_eq!(message(&recordings), "criterion rhythm: none of 12 takes is rated by it");
        recordings.takes[0].ratings[2] = Some(1.5);
        assert!(message(&recordings).contains("rating 1.5 for rhythm is not in 0..=1"));
        recordings.takes[4].ratings[2] = Some(0.5);
        recordings.takes[0].ratings[2] = None;
        assert!(
            message(&recordings).contains("none of the 1 takes that are rated by rhythm has a reference")
        );
        recordings.criteria.clear();
        assert!(message(&recordings).contains("no ratings"));
    }

    #[test]
    fn a_split_is_checked_as_the_examples_will_be() {
        let mut recordings = set(1);
        let check = |recordings: &Recordings, folds, val| {
            Inputs::check_split(
                recordings,
                &InputOptions::default(),
                SplitBy::Performer,
                folds,
                (val, 0.2),
                1,
            )
            .map_err(|e| e.to_string())
        };
        assert_eq!(check(&recordings, Some(6), 0.1), Ok(()));
        assert!(check(&recordings, Some(7), 0.1).unwrap_err().contains("only 6 performers"));
        // Two performers have no references, and so no examples.
        let gone = [recordings.takes[0].performer.clone(), recordings.takes[11].performer.clone()];
        for take in recordings.takes.iter_mut().filter(|take| gone.contains(&take.performer)) {
            take.melody = None;
        }
        assert!(check(&recordings, Some(6), 0.1).unwrap_err().contains("only 4 performers"));
        assert_eq!(check(&recordings, None, 0.2), Ok(()));
        assert!(check(&recordings, None, 1.0).is_err());
        // One take of each of three performers: one is tested, one validated on.
        let mut few = set(1);
        let three: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        few.takes.truncate(3);
        few.takes.iter_mut().zip(&three).for_each(|(take, name)| take.performer.clone_from(name));
        for folds in [None, Some(3)] {
            assert!(check(&few, folds, 0.1).unwrap_err().contains("leaves 1 take to train on"));
            assert_eq!(check(&few, folds, 0.0), Ok(()));
        }
        // What the data prescribes needs no fractions.
        for take in &mut recordings.takes {
            let last = take.performer.chars().last().and_then(|digit| digit.to_digit(10)).unwrap();
            take.split = Some(Split::ALL[last as usize % 3]);
        }
        assert_eq!(check(&recordings, None, 1.0), Ok(()));
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
        let free = build(&recordings, &InputOptions::default())
            .unwrap()
            .holdout(SplitBy::Performer, 0.2, 0.2, 1)
            .unwrap();
        assert!(!free.test.is_empty());
        let mut performers: Vec<String> =
            recordings.takes.iter().map(|take| take.performer.clone()).collect();
        performers.dedup();
        for take in &mut recordings.takes {
            let index = performers.iter().position(|performer| *performer == take.performer).unwrap();
            take.split = Some(Split::ALL[index % 3]);
        }
        let split = build(&recordings, &InputOptions::default())
            .unwrap()
            .holdout(SplitBy::Performer, 0.2, 0.2, 1)
            .unwrap();
        assert_eq!(split.train, [0, 1, 6, 7]);
        assert_eq!(split.val, [2, 3, 8, 9]);
    }
}
