//! The bytes of a checkpoint. Their checksum is made right, so that more than that is looked at; what is a checkpoint is gone on
//! from.
#![no_main]

#[path = "../../tests/common/seal.rs"]
mod seal;
#[path = "../../tests/common/tiny.rs"]
mod tiny;

use etude::data::{Inputs, SplitIndices};
use etude::device::Cpu;
use etude::train::{Hooks, State, fit};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

static CPU: LazyLock<Cpu<f32>> = LazyLock::new(|| Cpu::new(1).expect("one thread"));
static DATA: LazyLock<(Inputs, SplitIndices)> = LazyLock::new(tiny::inputs);

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    seal::seal(&mut bytes);
    if let Ok((state, _)) = State::parse::<String>(Path::new("checkpoint"), &bytes) {
        let hooks = Hooks { resume: Some(state), progress: None };
        let _ = fit(&*CPU, &DATA.0, &DATA.1, &tiny::options(), hooks);
    }
});
