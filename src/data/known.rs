//! The takes that a network was made with, and what those of other data are to it.
//!
//! Takes are known by their name and by digests of what was read of them. The digests guard against accidents, an edited or
//! exchanged file, not against someone who wants to deceive.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::inputs::{Example, Inputs};
use super::split::{Split, SplitIndices};
use crate::hash::Fnv1a;
use crate::names::{few, quoted};
use crate::{Error, Result};

/// Names that a message lists at most.
const NAMED: usize = 5;

/// A take: its name, and digests of its pitch, of its references', and of what was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known(String, [u64; 3]);

impl Known {
    fn of(example: &Example) -> Self {
        let mut said = Fnv1a::default();
        said.add(&example.rating.to_bits().to_le_bytes());
        example.ratings.iter().for_each(|r| said.add(&r.map_or(u32::MAX, f32::to_bits).to_le_bytes()));
        said.add(&[example.pass.map_or(2, u8::from)]);
        said.add(example.performer.as_bytes());
        let Contents { contour, references } = example.contents;
        Self(example.id.clone(), [contour, references, said.get()])
    }

    /// What of it is no more what it was.
    fn changes(&self, now: &Self) -> String {
        let what = ["pitch", "references", "rating, pass or performer"];
        let changed: Vec<&str> = what
            .into_iter()
            .zip(self.1.iter().zip(&now.1))
            .filter(|(_, (a, b))| a != b)
            .map(|c| c.0)
            .collect();
        changed.join(" and ")
    }
}

/// The takes that a network was trained, validated and tested on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownTakes {
    train: Vec<Known>,
    val: Vec<Known>,
    test: Vec<Known>,
    /// Who performs what it was trained and validated on.
    performers: BTreeSet<String>,
}

/// What a take is to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// In this part, as it was then: by the same name, or by another where that name is gone.
    Known(Split),
    /// In this part, but something is no more what it was.
    Changed(Split, String),
    /// The pitch of a take in this part, which is there too, under another name.
    Copy(Split),
    /// In no part.
    New,
}

impl KnownTakes {
    /// Those of a split.
    pub fn of(inputs: &Inputs, split: &SplitIndices) -> Self {
        let part = |indices: &[usize]| indices.iter().map(|&i| Known::of(&inputs.examples[i])).collect();
        let seen = split.train.iter().chain(&split.val);
        Self {
            train: part(&split.train),
            val: part(&split.val),
            test: part(&split.test),
            performers: seen.map(|&i| inputs.examples[i].performer.clone()).collect(),
        }
    }

    /// Whether no take is named: the model is not to tell what it was made with.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    fn part(&self, part: Split) -> &[Known] {
        match part {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Every take with its part, those trained on first.
    fn all(&self) -> impl Iterator<Item = (Split, &Known)> {
        Split::ALL.into_iter().flat_map(|part| self.part(part).iter().map(move |known| (part, known)))
    }

    /// What the takes of `inputs` are to the network.
    pub fn relate<'a>(&'a self, inputs: &'a Inputs) -> Related<'a> {
        let names: BTreeSet<&str> = inputs.examples.iter().map(|e| e.id.as_str()).collect();
        let by_name: BTreeMap<&str, (Split, &Known)> = self.all().map(|k| (k.1.0.as_str(), k)).collect();
        let mut by_pitch: BTreeMap<u64, (Split, &Known)> = BTreeMap::new();
        for known in self.all() {
            by_pitch.entry(known.1.1[0]).or_insert(known);
        }
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let relations = inputs.examples.iter().map(|example| {
            let now = Known::of(example);
            let known = by_name.get(example.id.as_str()).or_else(|| by_pitch.get(&now.1[0]));
            let Some(&(part, then)) = known else { return Relation::New };
            let renamed = then.0 != now.0;
            if renamed && (names.contains(then.0.as_str()) || found.contains(then.0.as_str())) {
                return Relation::Copy(part);
            }
            found.insert(&then.0);
            if then.1 == now.1 { Relation::Known(part) } else { Relation::Changed(part, then.changes(&now)) }
        });
        let relations = relations.collect();
        let heard = inputs.examples.iter().any(|e| by_pitch.contains_key(&e.contents.contour));
        Related { takes: self, inputs, relations, found, heard }
    }
}

/// What the takes of some data are to a network.
pub struct Related<'a> {
    takes: &'a KnownTakes,
    inputs: &'a Inputs,
    /// Of each example.
    pub relations: Vec<Relation>,
    /// Names of the takes that are there.
    found: BTreeSet<&'a str>,
    /// Whether the pitch of any is known.
    heard: bool,
}

/// The first few of some names, quoted.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(quoted).collect();
    few(names.iter().map(String::as_str), NAMED)
}

impl Related<'_> {
    fn such(&self, is: impl Fn(&Relation) -> bool) -> Vec<usize> {
        (0..self.relations.len()).filter(|&i| is(&self.relations[i])).collect()
    }

    fn names(&self, examples: &[usize]) -> String {
        some(examples.iter().map(|&e| self.inputs.examples[e].id.as_str()))
    }

    /// The takes of no part.
    pub fn new_takes(&self) -> Vec<usize> {
        self.such(|r| *r == Relation::New)
    }

    /// The takes of a part: all of them, and as they were.
    ///
    /// # Errors
    /// Naming the first that are missing or have changed.
    pub fn part(&self, part: Split) -> Result<Vec<usize>> {
        let wanted = self.takes.part(part);
        let what = match part {
            Split::Train => "trained",
            Split::Val => "validated",
            Split::Test => "tested",
        };
        if wanted.is_empty() {
            return Err(Error::config(format!("the model was {what} on no takes")));
        }
        if !self.heard {
            return Err(Error::config(format!(
                "none of these {} takes was seen in training: this is other data than the model was {what} on",
                self.relations.len()
            )));
        }
        let (mut faults, mut changed) = (Vec::new(), Vec::new());
        let missing: Vec<&Known> = wanted.iter().filter(|k| !self.found.contains(k.0.as_str())).collect();
        if !missing.is_empty() {
            let names = some(missing.iter().map(|known| known.0.as_str()));
            faults.push(format!("{} missing: {names}", missing.len()));
        }
        for (example, relation) in self.inputs.examples.iter().zip(&self.relations) {
            match relation {
                Relation::Changed(of, change) if *of == part => changed.push((&example.id, change)),
                _ => {}
            }
        }
        if !changed.is_empty() {
            let shown: Vec<String> =
                changed.iter().map(|(id, change)| format!("{} ({change})", quoted(id))).collect();
            let names = few(shown.iter().map(String::as_str), NAMED);
            faults.push(format!("{} changed: {names}", changed.len()));
        }
        if faults.is_empty() {
            return Ok(self.such(|r| *r == Relation::Known(part)));
        }
        let (count, faults) = (wanted.len(), faults.join("; "));
        Err(Error::config(format!("of the {count} takes that the model was {what} on, {faults}")))
    }

    /// What else there is to know before grades of these examples are believed.
    pub fn notes(&self, examples: &[usize]) -> Vec<String> {
        if self.takes.is_empty() {
            let note = "the model does not tell which takes it was trained on: these may be among them";
            return vec![note.to_string()];
        }
        let count = |part| self.such(|r| *r == Relation::Known(part)).len();
        let [train, val, test] = Split::ALL.map(count);
        let (new, all) = (self.new_takes(), self.relations.len());
        let mut notes = Vec::new();
        if train + val + test < all || examples.len() == all {
            let mut note = match self.heard {
                true => format!(
                    "of {all} takes the model was trained on {train}, validated on {val} and tested on {test}"
                ),
                false => format!("none of these {all} takes was seen in training"),
            };
            let changed = self.such(|r| matches!(r, Relation::Changed(..)));
            let copies = self.such(|r| matches!(r, Relation::Copy(_)));
            let kinds = [("new", &new), ("changed since", &changed), ("copies of others", &copies)];
            for (what, which) in kinds.into_iter().filter(|(_, which)| !which.is_empty()) {
                note += &format!("; {what}: {} ({})", which.len(), self.names(which));
            }
            notes.push(note);
        }
        let heard = |&&e: &&usize| self.takes.performers.contains(&self.inputs.examples[e].performer);
        let known = examples.iter().filter(|e| new.binary_search(e).is_ok()).filter(heard).count();
        if known > 0 {
            notes.push(format!("new takes by performers that the model was trained on: {known}"));
        }
        notes
    }
}
