//! What to learn from.

use crate::thrown;
use etude::data::synth::{SynthOptions, generate};
use etude::data::{InputOptions, Inputs, SplitBy, SplitIndices};
use etude::train::Rule;
use js_sys::Function;
use wasm_bindgen::prelude::*;

/// Takes that were compared with the references of their melodies, and which of them are tested on.
#[wasm_bindgen]
pub struct Takes {
    pub(crate) inputs: Inputs,
    pub(crate) split: SplitIndices,
    pub(crate) shown: InputOptions,
    /// What the set is called in a model.
    pub(crate) name: &'static str,
}

#[wasm_bindgen]
impl Takes {
    /// The synthetic set of a seed, as `etude train` makes it without data; `progress` is told of takes done and their number.
    pub fn synthetic(seed: u32, progress: &Function) -> Result<Self, JsError> {
        let seed = u64::from(seed);
        let recordings = generate(&SynthOptions { seed, ..SynthOptions::default() }).map_err(thrown)?;
        let (shown, told) = (InputOptions::default(), Told(progress));
        let inputs = Inputs::build(&recordings, &shown, &|done, of| told.of(done, of)).map_err(thrown)?;
        let val_fraction = Rule::of(inputs.kind).val_fraction();
        let split = inputs.holdout(SplitBy::Performer, val_fraction, 0.2, seed).map_err(thrown)?;
        Ok(Self { inputs, split, shown, name: "the built-in synthetic set" })
    }
}

/// A listener of the page's that nobody waits for.
struct Told<'a>(&'a Function);

// SAFETY: WebAssembly without shared memory has one thread, and the function never leaves it.
unsafe impl Sync for Told<'_> {}

impl Told<'_> {
    fn of(&self, done: usize, of: usize) {
        // A page that no longer listens is no reason to stop.
        let _ = self.0.call2(&JsValue::NULL, &done.into(), &of.into());
    }
}
