//! What the arms of a study train on.

use super::arm::Arm;
use super::file::Study;
use crate::failure::Failure;
use crate::load;
use crate::options::val_fraction;
use etude::data::{InputKind, InputOptions, Inputs, Recordings};
use etude::names::quoted;
use etude::{Error, Result};
use std::collections::HashMap;

/// Inputs of one kind, for every arm that asks for them.
pub struct Prepared {
    pub inputs: Inputs,
    /// The place of each example among the recordings' takes.
    pub takes: Vec<u32>,
}

impl Prepared {
    fn new(recordings: &Recordings, options: &InputOptions) -> Result<Self> {
        let inputs = load::inputs(recordings, options)?;
        let place: HashMap<&str, u32> = recordings.takes.iter().map(|take| &*take.id).zip(0u32..).collect();
        let takes = inputs.examples.iter().map(|e| place.get(&*e.id).copied()).collect::<Option<Vec<u32>>>();
        let takes = takes.ok_or_else(|| Error::config("an example that is of no take"))?;
        Ok(Self { inputs, takes })
    }
}

/// The inputs of every arm of a study, each kind made once.
pub struct Preparations {
    made: Vec<Prepared>,
    /// The place in `made` of each arm.
    of_arm: Vec<usize>,
}

impl Preparations {
    /// # Errors
    /// Where no inputs can be made.
    pub fn new(study: &Study, recordings: &Recordings) -> Result<Self, Failure> {
        let mut options: Vec<InputOptions> = Vec::new();
        let mut made = Vec::new();
        let mut of_arm = Vec::new();
        for arm in &study.arms {
            let wanted = arm.input_options();
            let known = options.iter().position(|known| *known == wanted);
            of_arm.push(known.unwrap_or(made.len()));
            if known.is_none() {
                made.push(Prepared::new(recordings, &wanted)?);
                options.push(wanted);
            }
        }
        Ok(Self { made, of_arm })
    }

    pub fn of(&self, arm: usize) -> &Prepared {
        &self.made[self.of_arm[arm]]
    }
}

/// Checks that every arm can be trained on this data, before anything is aligned or written.
///
/// # Errors
/// Where the takes cannot be split as an arm asks, or the data does not say what it needs.
pub fn check(study: &Study, recordings: &Recordings) -> Result<(), Failure> {
    for arm in &study.arms {
        check_arm(arm, study, recordings)
            .map_err(Failure::hint(format!("that is the arm {}", quoted(&arm.name))))?;
    }
    Ok(())
}

fn check_arm(arm: &Arm, study: &Study, recordings: &Recordings) -> Result<()> {
    let (args, options) = (&arm.args.run, arm.input_options());
    let kind = args.input.unwrap_or_else(|| InputKind::default_for(recordings));
    let fractions = (val_fraction(args, kind), 0.0);
    for &seed in &study.seeds {
        let folds = Some(study.folds as usize);
        Inputs::check_split(recordings, &options, args.split_by, folds, fractions, u64::from(seed))?;
    }
    if arm.args.one_pass && recordings.graders.is_none() {
        return Err(Error::config("one-pass: the data does not say what each grading pass gave a take"));
    }
    Ok(())
}
