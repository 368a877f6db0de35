//! Where few takes are graded: takes with planted errors, made of references, what they are rated and who learns from them; and
//! more epochs.

use etude::data::synth::{self, SynthOptions};
use etude::data::{InputKind, InputOptions, Inputs, Recordings, SplitIndices};
use etude::device::Cpu;
use etude::train::{Hooks, TrainOptions, fit};

fn set(takes: usize) -> Recordings {
    let options =
        SynthOptions { takes, performers: 6, melodies: 3, references: 4, ..SynthOptions::default() };
    synth::generate(&options).unwrap()
}

fn build(recordings: &Recordings, degraded: bool) -> Inputs {
    let options = InputOptions { degraded, ..InputOptions::default() };
    Inputs::build(recordings, &options, &|_, _| {}).unwrap()
}

/// Spearman's correlation: that of ranks.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let ranks =
        |v: &[f32]| -> Vec<f64> { v.iter().map(|x| v.iter().filter(|y| *y < x).count() as f64).collect() };
    let (a, b) = (ranks(a), ranks(b));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let dot = |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 {
        a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum()
    };
    dot(&a, ma, &b, mb) / (dot(&a, ma, &a, ma) * dot(&b, mb, &b, mb)).sqrt()
}

#[test]
fn planted_errors_are_heard_and_cost_what_they_are_rated() {
    let inputs = build(&set(12), true);
    assert_eq!(inputs.degraded.len(), 3 * 32);
    let ratings: Vec<f32> = inputs.degraded.iter().map(|take| take.rating).collect();
    assert!(ratings.iter().all(|rating| (0.0..=1.0).contains(rating)));
    // From all but right to all but everything wrong.
    let share = |of: &dyn Fn(f32) -> bool| ratings.iter().filter(|r| of(**r)).count() as f64 / 96.0;
    assert!(share(&|r| r > 0.9) > 0.1 && share(&|r| r < 0.2) > 0.1, "{ratings:?}");
    // Feature 48 is the edit distance a note.
    let heard: Vec<f32> = inputs.degraded.iter().map(|take| take.features[47]).collect();
    let agree = spearman(&ratings, &heard);
    assert!(agree < -0.85, "{agree}");
    for take in &inputs.degraded {
        assert_eq!(take.rows.len(), 4);
        assert!(
            take.features.iter().chain(take.rows.iter().flat_map(|row| &row.data)).all(|x| x.is_finite())
        );
    }
}

#[test]
fn they_depend_on_the_references_alone_and_are_made_when_asked_for() {
    let (few, many) = (build(&set(12), true), build(&set(18), true));
    assert_eq!(few.degraded, many.degraded);
    let without = build(&set(12), false);
    assert!(without.degraded.is_empty());
    assert_eq!(Inputs { degraded: Vec::new(), ..few }, without);
    let alone = InputOptions { kind: Some(InputKind::Contour), degraded: true, ..InputOptions::default() };
    let refused = Inputs::build(&set(12), &alone, &|_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("made of references, which input contour has not"), "{refused}");
}

#[test]
fn an_epoch_has_as_many_as_asked_for_of_the_melodies_that_are_sung_in_training() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let mut inputs = build(&set(18), true);
    let mut options = TrainOptions::for_inputs(inputs.kind, 1.0 / 127.0);
    (options.epochs, options.batch) = (2, 4);
    let melody = inputs.examples[0].melody.clone();
    let (train, test): (Vec<usize>, Vec<usize>) = (0..18).partition(|&e| inputs.examples[e].melody == melody);
    let split = SplitIndices { train, val: Vec::new(), test };
    let last = |inputs: &Inputs, degraded: f64| -> etude::Result<Vec<f32>> {
        let options = TrainOptions { degraded, ..options.clone() };
        let mut fitted = fit(&cpu, inputs, &split, &options, Hooks::default())?;
        let predictions = fitted.predict(&cpu, &split.test)?;
        Ok(predictions.into_iter().map(|p| p.rating).collect())
    };
    let with = last(&inputs, 2.0).unwrap();
    assert_ne!(with, last(&inputs, 0.0).unwrap());
    // Those of other melodies count for nothing, not even in the draws.
    let others = std::mem::take(&mut inputs.degraded);
    assert_eq!(
        last(&inputs, 0.0).unwrap(),
        last(&Inputs { degraded: others.clone(), ..inputs.clone() }, 0.0).unwrap()
    );
    let (own, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|take| take.melody == melody);
    inputs.degraded = own;
    assert_eq!(with, last(&inputs, 2.0).unwrap());
    inputs.degraded = others;
    let refused = last(&inputs, 2.0).unwrap_err().to_string();
    assert!(refused.contains("the inputs have none"), "{refused}");
    for share in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
        let refused = last(&inputs, share).unwrap_err().to_string();
        assert!(refused.contains("degraded takes"), "{refused}");
    }
}

#[test]
fn few_takes_are_gone_through_more_often() {
    let of = |kind| TrainOptions::for_inputs(kind, 1.0 / 127.0);
    for (takes, epochs) in [(1, 300), (25, 300), (127, 300), (128, 150), (383, 60), (384, 50), (5000, 50)] {
        assert_eq!(of(InputKind::AlignmentPathNotes).for_takes(takes).epochs, epochs, "{takes}");
        assert_eq!(of(InputKind::AlignmentPathNotes).for_takes(takes).encoder_epochs, epochs, "{takes}");
        // A constant rate ends by validation.
        assert_eq!(of(InputKind::Contour).for_takes(takes), of(InputKind::Contour));
    }
}
