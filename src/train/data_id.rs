//! What a run was fitted on, to tell when that has changed.

use crate::data::input_options::InputKind;
use crate::data::inputs::{Example, Inputs};
use crate::hash::Fnv1a;
use crate::names::quoted;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A digest for each thing that a run reads, so that a change has a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataId {
    examples: usize,
    input: InputKind,
    criterion: String,
    names: u64,
    contours: u64,
    references: u64,
    performers: u64,
    ratings: u64,
    pass: u64,
    split: u64,
    /// Of what the network sees, which all else goes into: how pitch is scaled, how takes are aligned.
    rows: u64,
}

/// The digest of the digests of what `feed` feeds of each example.
fn digest(inputs: &Inputs, feed: impl Fn(&mut Fnv1a, &Example) + Sync) -> u64 {
    let each = inputs.examples.par_iter().map(|example| {
        let mut digest = Fnv1a::default();
        feed(&mut digest, example);
        digest.get()
    });
    let mut digest = Fnv1a::default();
    each.collect::<Vec<u64>>().into_iter().for_each(|part| digest.add(&part.to_le_bytes()));
    digest.get()
}

impl DataId {
    pub(super) fn of(inputs: &Inputs) -> Self {
        Self {
            examples: inputs.examples.len(),
            input: inputs.kind,
            criterion: inputs.criterion(),
            names: digest(inputs, |d, e| d.add(e.id.as_bytes())),
            contours: digest(inputs, |d, e| d.add(&e.contents.contour.to_le_bytes())),
            references: digest(inputs, |d, e| d.add(&e.contents.references.to_le_bytes())),
            performers: digest(inputs, |d, e| d.add(e.performer.as_bytes())),
            ratings: digest(inputs, |d, e| {
                d.add(&e.rating.to_bits().to_le_bytes());
                e.ratings
                    .iter()
                    .chain(&e.grades)
                    .for_each(|grade| d.add(&grade.map_or(u32::MAX, f32::to_bits).to_le_bytes()));
            }),
            pass: digest(inputs, |d, e| d.add(&[e.pass.map_or(2, u8::from)])),
            split: digest(inputs, |d, e| d.add(e.split.map_or("", |part| part.name()).as_bytes())),
            rows: digest(inputs, |d, e| {
                for row in &e.rows {
                    d.add(&(row.len as u64).to_le_bytes());
                    d.add_words(bytemuck::cast_slice(&row.data));
                }
                d.add_words(bytemuck::cast_slice(&e.features));
            }),
        }
    }

    /// What of it is no more as it was.
    pub(super) fn differs(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        if self.examples != now.examples {
            return Some(format!("it had {} takes, now {}", self.examples, now.examples));
        }
        let mut what = Vec::new();
        let mut add = |differs: bool, text: &str| {
            if differs {
                what.push(text.to_string());
            }
        };
        let (then, criterion) = (quoted(&self.criterion), quoted(&now.criterion));
        add(self.input != now.input, &format!("the input, then {}, now {}", self.input, now.input));
        add(self.criterion != now.criterion, &format!("the criterion, then {then}, now {criterion}"));
        add(self.names != now.names, "the takes' names or their order");
        add(self.contours != now.contours, "the pitch of takes");
        add(self.references != now.references, "the references of takes");
        add(self.performers != now.performers, "performers");
        add(self.ratings != now.ratings, "ratings");
        add(self.pass != now.pass, "which takes passed");
        add(self.split != now.split, "the split that the data prescribes");
        if what.is_empty() {
            what.push("what the network sees of the takes, their scale or alignment".into());
        }
        Some(what.join(", "))
    }
}
