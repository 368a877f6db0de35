//! Splits by performer or by melody, never by take: a model must not know a voice, or a tune, from training that it is tested on.

use std::collections::BTreeMap;

use super::random::Random;
use crate::names::{named, quoted};
use crate::{Error, Result};

/// The parts of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Trained on.
    Train,
    /// Watched while training, to stop and to choose.
    Val,
    /// Looked at once, at the end.
    Test,
}

named!(Split, "split": Train "train", Val "val", Test "test");

/// What the parts of a split never share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SplitBy {
    /// Who performs: how good is it on new performers?
    #[default]
    Performer,
    /// What is performed: how good is it on new melodies? A performer may be in several parts.
    Melody,
}

named!(SplitBy, "split by": Performer "performer", Melody "melody");

impl SplitBy {
    /// Several of them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Performer => "performers",
            Self::Melody => "melodies",
        }
    }

    /// How a number of them is spoken of.
    pub fn count(self, count: usize) -> String {
        format!("{count} {}", if count == 1 { self.name() } else { self.plural() })
    }
}

/// The group of each example: parts of a split never share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups<'a> {
    /// What the groups are.
    pub by: SplitBy,
    /// That of each example, by name.
    pub names: Vec<&'a str>,
}

/// Indices of the examples in each part of a split, ascending. No group is in two parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SplitIndices {
    /// To train on.
    pub train: Vec<usize>,
    /// To watch while training.
    pub val: Vec<usize>,
    /// To look at once, at the end.
    pub test: Vec<usize>,
}

impl SplitIndices {
    /// One part.
    pub fn part(&self, part: Split) -> &[usize] {
        match part {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// The same with `count` of the training examples, or all if there are no more: what is learned from few labels. Which they
    /// are depends on the seed; of one seed, few are among many.
    pub fn with_few(&self, count: usize, seed: u64) -> Self {
        let mut train = self.train.clone();
        Random::new(seed, FEW).shuffle(&mut train);
        train.truncate(count);
        train.sort_unstable();
        Self { train, ..self.clone() }
    }
}

/// The stream of [`SplitIndices::with_few`]; folds have those from 1 on, a holdout 0.
const FEW: u64 = 1 << 32;

/// The examples of each group, groups in a random order that depends on the names and the seed alone.
fn shuffled(groups: &Groups<'_>, random: &mut Random) -> Vec<Vec<usize>> {
    let mut takes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, group) in groups.names.iter().enumerate() {
        takes.entry(group).or_default().push(index);
    }
    let mut groups: Vec<_> = takes.into_values().collect();
    random.shuffle(&mut groups);
    groups
}

/// Moves groups from the end of `groups` until they make up about `wanted` examples: at least one
/// group, unless `wanted` is 0, and the last only if that comes nearer. As many as `left` stay.
fn take_about(groups: &mut Vec<Vec<usize>>, wanted: f64, left: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    while groups.len() > left
        && let Some(group) = groups.pop_if(|group| {
            let (now, then) = (taken.len() as f64, (taken.len() + group.len()) as f64);
            wanted > 0.0 && (taken.is_empty() || then - wanted <= wanted - now)
        })
    {
        taken.extend(group);
    }
    taken.sort_unstable();
    taken
}

fn check_fraction(name: &str, fraction: f64) -> Result<()> {
    if (0.0..1.0).contains(&fraction) {
        Ok(())
    } else {
        Err(Error::config(format!("{name} {fraction}: expected 0 up to, not including, 1")))
    }
}

/// Checks the fractions of [`holdout`] by themselves, before there is anything to split.
///
/// # Errors
/// [`Error::Config`] unless both are in 0..1, and so is their sum.
pub fn check_fractions(val_fraction: f64, test_fraction: f64) -> Result<()> {
    check_fraction("validation fraction", val_fraction)?;
    check_fraction("test fraction", test_fraction)?;
    if val_fraction + test_fraction >= 1.0 {
        return Err(Error::config(format!(
            "validation fraction {val_fraction} and test fraction {test_fraction} leave nothing to train on"
        )));
    }
    Ok(())
}

/// All that is left, ascending.
fn rest(groups: Vec<Vec<usize>>) -> Vec<usize> {
    let mut rest: Vec<usize> = groups.into_iter().flatten().collect();
    rest.sort_unstable();
    rest
}

/// The fractions of a split, and its folds where there are any.
fn check_numbers(folds: Option<usize>, val_fraction: f64, test_fraction: f64) -> Result<()> {
    match folds {
        None => check_fractions(val_fraction, test_fraction),
        Some(k) if k < 2 => Err(Error::config(format!("{k} folds: expected 2 or more"))),
        Some(_) => check_fraction("validation fraction", val_fraction),
    }
}

/// Checks, before any work is done for it, that examples of these groups can be split: into `folds` by [`k_folds`], or
/// where there are none by [`holdout`], whatever the seed.
///
/// # Errors
/// [`Error::Config`] where a number is out of range, or there are too few groups: that says what helps.
pub fn check(groups: &Groups<'_>, folds: Option<usize>, val_fraction: f64, test_fraction: f64) -> Result<()> {
    check_numbers(folds, val_fraction, test_fraction)?;
    // The seed decides who goes where, never how many.
    let shuffled = shuffled(groups, &mut Random::new(0, 0));
    let count = shuffled.len();
    match folds {
        None => enough_for_holdout(groups.by, count, val_fraction, test_fraction),
        Some(k) => enough_for_folds(groups.by, count, val_fraction, k, &dealt(shuffled, k)),
    }
}

/// A part of a split has at least a group.
fn enough_for_holdout(by: SplitBy, groups: usize, val_fraction: f64, test_fraction: f64) -> Result<()> {
    let needs = |fraction: f64| usize::from(fraction > 0.0);
    let needed = 1 + needs(val_fraction) + needs(test_fraction);
    if groups >= needed {
        return Ok(());
    }
    let help = if val_fraction > 0.0 && groups + 1 == needed && groups > 0 {
        "; validation fraction 0 trains without validation"
    } else {
        ""
    };
    Err(Error::config(format!("a split into {needed} parts by {by}, but only {}{help}", by.count(groups))))
}

/// Each fold leaves a group to train on, and another one to validate on where that is wanted.
fn enough_for_folds(
    by: SplitBy,
    groups: usize,
    val_fraction: f64,
    k: usize,
    folds: &[Vec<Vec<usize>>],
) -> Result<()> {
    if groups < k {
        return Err(Error::config(format!("{k} folds by {by}, but only {}", by.count(groups))));
    }
    let needed = if val_fraction > 0.0 { 2 } else { 1 };
    let largest = folds.iter().map(Vec::len).max().unwrap_or(0);
    if groups - largest >= needed {
        return Ok(());
    }
    // With two groups or more, any number of folds leaves one to train on; of three folds each leaves two.
    let more = if groups > 2 { "3 folds do, and " } else { "" };
    Err(Error::config(format!(
        "{k} folds of {}: one leaves {} which cannot be both trained on and validated on; {more}validation fraction 0 trains \
         without validation",
        by.count(groups),
        by.count(groups - largest),
    )))
}

/// One random split, given the group of each example.
///
/// The parts hold about these fractions of the examples, as near as whole groups allow, and at least
/// one group each where the fraction is above 0.
///
/// # Errors
/// As [`check`].
pub fn holdout(
    groups: &Groups<'_>,
    val_fraction: f64,
    test_fraction: f64,
    seed: u64,
) -> Result<SplitIndices> {
    check(groups, None, val_fraction, test_fraction)?;
    let examples = groups.names.len() as f64;
    let mut groups = shuffled(groups, &mut Random::new(seed, 0));
    let test = take_about(&mut groups, test_fraction * examples, 1 + usize::from(val_fraction > 0.0));
    let val = take_about(&mut groups, val_fraction * examples, 1);
    Ok(SplitIndices { train: rest(groups), val, test })
}

/// The examples of each group in each of `k` folds of about equal size.
fn dealt(mut groups: Vec<Vec<usize>>, k: usize) -> Vec<Vec<Vec<usize>>> {
    // The largest first, each into the fold that is smallest by now: nearly equal folds, none empty.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    // No more than there are groups can be filled.
    let k = k.min(groups.len());
    let mut folds: Vec<Vec<Vec<usize>>> = vec![Vec::new(); k];
    let mut sizes = vec![0; k];
    for group in groups {
        let smallest = (0..k).min_by_key(|&fold| (sizes[fold], folds[fold].len())).unwrap_or(0);
        sizes[smallest] += group.len();
        folds[smallest].push(group);
    }
    folds
}

/// `k` splits in which each example is tested exactly once, folds of about equal size.
///
/// In each, about `val_fraction` of what is not tested is validated on, at least one group (none at 0).
///
/// # Errors
/// As [`check`].
pub fn k_folds(groups: &Groups<'_>, k: usize, val_fraction: f64, seed: u64) -> Result<Vec<SplitIndices>> {
    check(groups, Some(k), val_fraction, 0.0)?;
    let folds = dealt(shuffled(groups, &mut Random::new(seed, 0)), k);
    let split = |fold: usize| {
        let mut others: Vec<Vec<usize>> =
            folds.iter().enumerate().filter(|&(i, _)| i != fold).flat_map(|(_, f)| f.clone()).collect();
        Random::new(seed, 1 + fold as u64).shuffle(&mut others);
        let examples: usize = others.iter().map(Vec::len).sum();
        let val = take_about(&mut others, val_fraction * examples as f64, 1);
        let mut test: Vec<usize> = folds[fold].iter().flatten().copied().collect();
        test.sort_unstable();
        SplitIndices { train: rest(others), val, test }
    };
    Ok((0..k).map(split).collect())
}

/// The split that the data itself prescribes: `None` unless every example has a part.
///
/// Errors where a part is empty or a group is in two.
pub fn preset(groups: &Groups<'_>, parts: &[Option<Split>]) -> Result<Option<SplitIndices>> {
    let Groups { by, names } = groups;
    if names.len() != parts.len() {
        return Err(Error::config(format!("{} examples for {} parts", names.len(), parts.len())));
    }
    let Some(parts) = parts.iter().copied().collect::<Option<Vec<Split>>>().filter(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let mut part_of: BTreeMap<&str, Split> = BTreeMap::new();
    let mut split = SplitIndices::default();
    for (index, (&name, &part)) in names.iter().zip(&parts).enumerate() {
        let earlier = *part_of.entry(name).or_insert(part);
        if earlier != part {
            return Err(Error::config(format!(
                "the data's split has {by} {} in both {earlier} and {part}; a {by} belongs in one",
                quoted(name)
            )));
        }
        match part {
            Split::Train => split.train.push(index),
            Split::Val => split.val.push(index),
            Split::Test => split.test.push(index),
        }
    }
    match Split::ALL.into_iter().find(|&part| split.part(part).is_empty()) {
        Some(empty) => Err(Error::config(format!("the data's split puts no example in {empty}"))),
        None => Ok(Some(split)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn performers() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec((0_u32..12).prop_map(|p| format!("p{p}")), 1..80)
    }

    /// Examples by these performers.
    fn by<S: AsRef<str>>(performers: &[S]) -> Groups<'_> {
        Groups { by: SplitBy::Performer, names: performers.iter().map(AsRef::as_ref).collect() }
    }

    /// Parts do not share a performer, and together are every example once.
    fn complete(performers: &[String], split: &SplitIndices) -> Result<(), TestCaseError> {
        let mut all: Vec<usize> = Vec::new();
        let mut names = 0;
        for part in Split::ALL {
            let indices = split.part(part);
            prop_assert!(indices.is_sorted());
            all.extend(indices);
            names += indices.iter().map(|&i| &performers[i]).collect::<BTreeSet<_>>().len();
        }
        all.sort_unstable();
        prop_assert_eq!(all, (0..performers.len()).collect::<Vec<_>>());
        prop_assert_eq!(names, performers.iter().collect::<BTreeSet<_>>().len());
        Ok(())
    }

    proptest! {
        #[test]
        fn holdout_parts_performers(performers in performers(), val in 0.0..0.4, test in 0.0..0.5, seed: u64) {
            let count = performers.iter().collect::<BTreeSet<_>>().len();
            match holdout(&by(&performers), val, test, seed) {
                Ok(split) => {
                    complete(&performers, &split)?;
                    prop_assert!(!split.train.is_empty());
                    prop_assert_eq!(split.val.is_empty(), val == 0.0);
                    prop_assert_eq!(split.test.is_empty(), test == 0.0);
                    prop_assert_eq!(&split, &holdout(&by(&performers), val, test, seed).unwrap());
                }
                Err(_) => prop_assert!(count < 1 + usize::from(val > 0.0) + usize::from(test > 0.0)),
            }
        }

        #[test]
        fn folds_test_each_example_once(performers in performers(), k in 2_usize..6, seed: u64) {
            let count = performers.iter().collect::<BTreeSet<_>>().len();
            match k_folds(&by(&performers), k, 0.2, seed) {
                Ok(folds) => {
                    prop_assert_eq!(folds.len(), k);
                    let mut tested: Vec<usize> = Vec::new();
                    for split in &folds {
                        complete(&performers, split)?;
                        prop_assert!(Split::ALL.into_iter().all(|part| !split.part(part).is_empty()));
                        tested.extend(&split.test);
                    }
                    tested.sort_unstable();
                    prop_assert_eq!(tested, (0..performers.len()).collect::<Vec<_>>());
                }
                // With two folds, one performer may be all there is on the other side.
                Err(_) => prop_assert!(count < k || k == 2),
            }
        }

        #[test]
        fn what_is_checked_can_be_split_whatever_the_seed(
            performers in performers(),
            k in prop::option::of(0_usize..6),
            val in prop_oneof![Just(0.0), 0.0..1.0, Just(0.999)],
            test in prop_oneof![Just(0.0), 0.0..1.0],
            seed: u64,
        ) {
            let checked = check(&by(&performers), k, val, test);
            let splits = match k {
                Some(k) => k_folds(&by(&performers), k, val, seed),
                None => holdout(&by(&performers), val, test, seed).map(|split| vec![split]),
            };
            prop_assert_eq!(checked.is_ok(), splits.is_ok());
            for split in splits.unwrap_or_default() {
                complete(&performers, &split)?;
                prop_assert!(!split.train.is_empty());
                prop_assert_eq!(split.val.is_empty(), val == 0.0);
                prop_assert_eq!(split.test.is_empty(), k.is_none() && test == 0.0);
            }
        }
    }

    #[test]
    fn fractions_are_met_and_the_seed_matters() {
        let performers: Vec<String> = (0..600).map(|i| format!("p{}", i / 3)).collect();
        let split = holdout(&by(&performers), 0.1, 0.2, 1).unwrap();
        assert_eq!((split.train.len(), split.val.len(), split.test.len()), (420, 60, 120));
        assert_ne!(split, holdout(&by(&performers), 0.1, 0.2, 2).unwrap());
        for fold in k_folds(&by(&performers), 5, 0.1, 1).unwrap() {
            assert_eq!((fold.test.len(), fold.val.len()), (120, 48));
        }
    }

    #[test]
    fn few_are_among_many_of_the_same_training_part() {
        let split = SplitIndices { train: (10..60).collect(), val: vec![1], test: vec![2, 3] };
        let few = split.with_few(10, 7);
        let more = split.with_few(20, 7);
        assert_eq!((few.train.len(), more.train.len()), (10, 20));
        assert!(few.train.is_sorted() && few.train.iter().all(|e| more.train.contains(e)));
        assert!(more.train.iter().all(|e| split.train.contains(e)));
        assert_eq!((&few.val, &few.test), (&split.val, &split.test));
        assert_ne!(few, split.with_few(10, 8));
        assert_eq!(split.with_few(50, 7), split);
        assert_eq!(split.with_few(51, 7), split);
    }

    #[test]
    fn refuses_what_cannot_be_split() {
        let two = ["a", "b", "b"];
        let message = |result: Result<Vec<SplitIndices>>| result.unwrap_err().to_string();
        assert!(message(k_folds(&by(&two), 3, 0.1, 0)).contains("only 2 performers"));
        assert!(message(k_folds(&by(&two), 1, 0.1, 0)).contains("expected 2 or more"));
        assert_eq!(
            message(k_folds(&by(&two), 2, 0.1, 0)),
            "2 folds of 2 performers: one leaves 1 performer which cannot be both trained on and validated on; validation \
             fraction 0 trains without validation"
        );
        // What a message says helps.
        let three = ["a", "b", "c"];
        let said = message(k_folds(&by(&three), 2, 0.1, 0));
        assert!(said.contains("3 folds do, and validation fraction 0"), "{said}");
        assert!(k_folds(&by(&three), 3, 0.1, 0).is_ok() && k_folds(&by(&three), 2, 0.0, 0).is_ok());
        assert!(k_folds(&by(&two), 2, 0.0, 0).is_ok());
        let said = holdout(&by(&two), 0.1, 0.1, 0).unwrap_err().to_string();
        assert!(said.contains("only 2 performers; validation fraction 0"), "{said}");
        assert!(holdout(&by(&two), 0.0, 0.1, 0).is_ok());
        assert!(holdout(&by(&["a"]), 0.0, 0.1, 0).is_err());
        assert!(holdout(&by::<&str>(&[]), 0.1, 0.1, 0).is_err());
        for (val, test) in [(0.5, 0.5), (-0.1, 0.1), (f64::NAN, 0.1), (0.1, 1.0)] {
            assert!(holdout(&by(&two), val, test, 0).is_err(), "{val} {test}");
        }
    }

    #[test]
    fn a_prescribed_split_is_followed_or_refused() {
        use Split::{Test, Train, Val};
        let performers = ["a", "b", "c", "a"];
        let split =
            preset(&by(&performers), &[Some(Train), Some(Val), Some(Test), Some(Train)]).unwrap().unwrap();
        assert_eq!((split.train, split.val, split.test), (vec![0, 3], vec![1], vec![2]));
        assert_eq!(preset(&by(&performers), &[Some(Train), None, Some(Test), Some(Train)]).unwrap(), None);
        let shared = preset(&by(&performers), &[Some(Train), Some(Val), Some(Test), Some(Test)]).unwrap_err();
        assert!(shared.to_string().contains("\"a\" in both train and test"));
        let empty =
            preset(&by(&performers), &[Some(Train), Some(Test), Some(Test), Some(Train)]).unwrap_err();
        assert!(empty.to_string().contains("no example in val"));
    }
}
