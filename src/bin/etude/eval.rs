//! `etude eval`: a trained network on recordings.

use crate::args::{EvalArgs, Part};
use crate::failure::Failure;
use crate::grades::{Grades, note_labels};
use crate::out::tell;
use crate::{device, load, print};
use etude::data::{InputOptions, Inputs, Recordings};
use etude::model::{self, ModelInfo};
use etude::report::run::{CriterionReport, RunReport};
use etude::train::Fit;
use etude::{Error, Result};
use std::path::Path;
use std::time::Instant;

pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let device = device::open(args.common.device, args.common.threads)?;
    let device = device.as_ref();
    let (info, net) = model::load(&args.model, device)
        .map_err(Failure::hint("--model takes what `etude train --out` left: model.safetensors"))?;
    let keep = load::kept_for(&args.model);
    let recordings = load::recordings(args.data.as_deref(), &args.files, keep, info.hop, info.seed)?;
    let inputs = load::inputs(&recordings, &input_options(&args.model, &info, &recordings)?)?;
    let examples = select(args, &info, &inputs)?;
    note_labels(&inputs, &examples);
    let parameters = net.parameters();
    let mut fitted = Fit::of(device, net, &inputs, info.windows())?;
    let grades = Grades::new(&inputs, &examples, &fitted.predict(device, &examples)?);
    let report = RunReport {
        device: device.name(),
        protocol: info.protocol.name().to_string(),
        seed: info.seed,
        epochs: info.epochs as u64,
        seconds: start.elapsed().as_secs_f64(),
        parameters: parameters as u64,
        launches_per_step: fitted.launches_per_step as u64,
        dispatches_per_step: None,
        criterion: info.criterion.clone(),
        criteria: (info.criteria.iter().zip(&grades.criteria))
            .map(|(of, grades)| CriterionReport {
                name: of.name.clone(),
                test: grades.metrics(),
                test_sd: None,
            })
            .collect(),
        inputs: inputs.channels as u64,
        version: env!("CARGO_PKG_VERSION").to_string(),
        test: grades.metrics(info.bins, info.threshold, info.calibration.as_ref())?,
        test_sd: None,
        folds: vec![],
        graders: grades.agreement(None),
        as_grader: grades.as_grader(info.calibration.as_ref()),
        coverage: None,
    };
    Ok(print::report(&report, &format!("{} takes", examples.len()), args.common.json)?)
}

/// The inputs that the model was trained on.
fn input_options(model: &Path, info: &ModelInfo, recordings: &Recordings) -> Result<InputOptions> {
    let criteria = info.criteria();
    if let Some(missing) = criteria.iter().find(|name| recordings.criterion(name).is_none()) {
        let known = recordings.criteria.join(", ");
        return Err(Error::data(model, None, format!("grades {missing}, but the data has {known}")));
    }
    Ok(InputOptions {
        kind: Some(info.input),
        criteria,
        scale: info.scale,
        max_references: info.max_references,
        ..InputOptions::default()
    })
}

/// The takes of the wanted part; says what else the data holds.
fn select(args: &EvalArgs, info: &ModelInfo, inputs: &Inputs) -> Result<Vec<usize>, Failure> {
    if info.takes.is_empty() && !matches!(args.split, Part::All) {
        let message =
            "does not tell which takes it was trained or tested on: it was trained with --forget-takes";
        let hint = Failure::hint("--split all grades every take of the data");
        return Err(hint(Error::data(&args.model, None, message)));
    }
    let related = info.takes.relate(inputs);
    let examples = match args.split {
        Part::All => (0..inputs.examples.len()).collect(),
        Part::New => related.new_takes(),
        Part::Of(part) => related.part(part).map_err(Failure::hint(
            "--split all grades every take of the data, --split new those in no part of the model's split",
        ))?,
    };
    if examples.is_empty() {
        let message =
            "the data holds no new takes: each has the name or the pitch of one that the model was made with";
        return Err(Failure::hint("--split all grades every take of the data")(Error::config(message)));
    }
    for note in related.notes(&examples) {
        tell!("note: {note}");
    }
    Ok(examples)
}
