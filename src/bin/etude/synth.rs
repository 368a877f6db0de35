//! `etude synth`: the synthetic set as files.

use crate::args::SynthArgs;
use crate::failure::Failure;
use crate::out::tell;
use etude::data::synth::{SynthOptions, write};

pub fn synthesise(args: &SynthArgs) -> Result<(), Failure> {
    let options = SynthOptions {
        seed: args.seed,
        takes: args.takes,
        performers: args.performers,
        ..SynthOptions::default()
    };
    let set = write(&args.out, &options)?;
    tell!(
        "{} takes and {} references in {}; train with: etude train --data {}",
        set.takes.len(),
        set.references.len(),
        args.out.display(),
        args.out.display()
    );
    Ok(())
}
