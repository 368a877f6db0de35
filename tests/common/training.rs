//! A small synthetic set, to train on for some epochs.

use etude::data::split::{SplitBy, SplitIndices};
use etude::data::synth::{SynthOptions, generate};
use etude::data::{InputKind, InputOptions, Inputs};

/// So many takes of three melodies, seven tenths of them to train on.
pub fn small(takes: usize, kind: InputKind) -> (Inputs, SplitIndices) {
    let synth = SynthOptions { takes, performers: 20, melodies: 3, references: 2, ..SynthOptions::default() };
    let options = InputOptions { kind: Some(kind), ..InputOptions::default() };
    let inputs = Inputs::build(&generate(&synth).unwrap(), &options, &|_, _| {}).unwrap();
    let split = inputs.holdout(SplitBy::Performer, 0.1, 0.2, 1).unwrap();
    (inputs, split)
}
