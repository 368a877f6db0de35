//! What a run comes to, and the files it leaves.

use crate::fold::Trained;
use crate::grades::Grades;
use crate::page::page;
use crate::run::Run;
use crate::session::Session;
use etude::Result;
use etude::data::Split;
use etude::report::files::{CHECKPOINT, OutDir, PAGE};
use etude::report::interval::Coverage;
use etude::report::metrics::Metrics;
use etude::report::plots::{agreement_svg, embedding_svg, history_svg, scatter_svg};
use etude::report::run::{CriterionReport, RunReport};

/// The report of a run whose folds are all done; `last` is the last of them.
pub fn report(session: &Session<'_>, run: &Run, last: &Trained, seconds: f64) -> RunReport {
    let (mean, sd) = Metrics::mean_sd(&run.folds);
    let many = run.folds.len() > 1;
    RunReport {
        device: session.device.name(),
        protocol: session.options.protocol.name().to_string(),
        seed: session.args.seed,
        epochs: run.epochs,
        seconds,
        parameters: last.parameters as u64,
        launches_per_step: last.launches_per_step as u64,
        dispatches_per_step: last.dispatches_per_step,
        criterion: session.inputs.criterion(),
        inputs: session.inputs.channels as u64,
        version: env!("CARGO_PKG_VERSION").to_string(),
        test: if many { mean } else { run.folds[0].clone() },
        test_sd: many.then_some(sd),
        folds: if many { run.folds.clone() } else { vec![] },
        graders: mean_of(&run.graders),
        as_grader: mean_of(&run.as_grader),
        criteria: criteria(session, run),
        coverage: Coverage::of(&tested_in_folds(run)),
    }
}

/// How good the networks are by each of several criteria.
fn criteria(session: &Session<'_>, run: &Run) -> Vec<CriterionReport> {
    let of = |(place, name): (usize, &String)| {
        let folds: Vec<Metrics> = run.criteria.iter().filter_map(|fold| fold.get(place).cloned()).collect();
        let (mean, sd) = Metrics::mean_sd(&folds);
        let many = folds.len() > 1;
        let test = if many { mean } else { folds.into_iter().next()? };
        Some(CriterionReport { name: name.clone(), test, test_sd: many.then_some(sd) })
    };
    session.inputs.criteria.iter().enumerate().filter_map(of).collect()
}

/// Fold, prediction and rating of the tested takes, where there are folds.
fn tested_in_folds(run: &Run) -> Vec<(u64, f32, f32)> {
    let tested = run.predictions.iter().filter(|row| row.split == Split::Test.name());
    tested.filter_map(|row| Some((row.fold?, row.prediction, row.rating))).collect()
}

/// The mean over folds, where there is anything.
fn mean_of(folds: &[Metrics]) -> Option<Metrics> {
    (!folds.is_empty()).then(|| Metrics::mean_sd(folds).0)
}

/// Writes everything but the models, and then removes the checkpoint. The plots and the page are of the first fold's epochs, of
/// all tested takes, and of the last fold's, whose embeddings lie in one space.
pub fn write(
    out: &OutDir,
    session: &Session<'_>,
    run: &Run,
    last: &Trained,
    report: &RunReport,
) -> Result<()> {
    out.predictions(&[&run.predictions[..], &run.by_criterion].concat())?;
    out.metrics(report)?;
    let folds = session.args.folds.is_some();
    let mut first = out.read_history()?;
    first.retain(|row| !folds || row.phase.ends_with("(fold 1)"));
    out.write("history.svg", history_svg(&first)?.as_bytes())?;
    out.write("scatter.svg", scatter(run)?.as_bytes())?;
    if let (Some(graders), Some(network)) = (&report.graders, &report.as_grader) {
        out.write("agreement.svg", agreement_svg(graders, network)?.as_bytes())?;
    }
    let Grades { ratings, embedding, .. } = &last.grades;
    let svg = embedding_svg(embedding, ratings.len(), session.options.net.embedding(), ratings)?;
    out.write("embedding.svg", svg.as_bytes())?;
    out.write(PAGE, page(session, run, last, report, &first)?.as_bytes())?;
    out.remove(CHECKPOINT)
}

fn scatter(run: &Run) -> Result<String> {
    let tested = || run.predictions.iter().filter(|row| row.split == Split::Test.name());
    let (ratings, made): (Vec<f32>, Vec<f32>) = tested().map(|row| (row.rating, row.prediction)).unzip();
    let pass: Option<Vec<bool>> = tested().map(|row| row.pass).collect();
    scatter_svg(&ratings, &made, pass.as_deref())
}
