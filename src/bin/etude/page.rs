//! What `report.html` tells of a run.

use crate::fold::Trained;
use crate::run::Run;
use crate::session::Session;
use crate::settings;
use etude::contrastive::bins;
use etude::data::{Example, Split};
use etude::report::files::EpochRow;
use etude::report::page::{Embeddings, Tested, TrainingRun, training_page};
use etude::report::run::RunReport;
use etude::report::scores::silhouette;
use etude::simd::Simd;
use etude::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// The page; `history` are the epochs of the only, or the first, fold.
pub fn page(
    session: &Session<'_>,
    run: &Run,
    last: &Trained,
    report: &RunReport,
    history: &[EpochRow],
) -> Result<String> {
    let inputs = session.inputs;
    let label_bins = session.options.contrast.label_bins();
    let labels = bins(&last.grades.ratings, label_bins)?;
    let labels: Vec<usize> = labels.into_iter().map(|bin| bin as usize).collect();
    let Some(before) = &last.before else { return Err(Error::config("the last fold kept no embedding")) };
    training_page(&TrainingRun {
        report,
        data: session.data_name(),
        takes: inputs.examples.len(),
        performers: inputs.examples.iter().map(|take| &take.performer).collect::<BTreeSet<_>>().len(),
        kind: inputs.kind,
        split_by: session.args.split_by,
        tested: tested(session, run),
        scale: inputs.graders.as_ref().map(|graders| graders.scale),
        history,
        embeddings: Embeddings {
            ratings: &last.grades.ratings,
            width: last.options.net.embedding(),
            before,
            after: &last.grades.embedding,
            bins: label_bins,
            silhouettes: [before, &last.grades.embedding].map(|embedding| silhouette(embedding, &labels)),
        },
        settings: settings::settings(session, run, &last.options),
        machine: machine(session, report),
        command: settings::command(session, run, &last.options),
    })
}

/// The takes of `predictions.csv` that were tested, with what was decided of them.
fn tested<'a>(session: &'a Session<'_>, run: &'a Run) -> Vec<Tested<'a>> {
    let examples: HashMap<&str, &Example> =
        session.inputs.examples.iter().map(|example| (example.id.as_str(), example)).collect();
    let rows: Vec<_> = run.predictions.iter().filter(|row| row.split == Split::Test.name()).collect();
    // A checkpoint of an earlier version has none of them.
    let decided = |i: usize| run.decisions.get(i).filter(|_| run.decisions.len() == rows.len());
    let take = |(i, row): (usize, &&'a etude::report::files::PredictionRow)| Tested {
        melody: examples.get(row.id.as_str()).and_then(|example| example.melody.as_deref()),
        rating: row.rating,
        prediction: row.prediction,
        pass: decided(i).and_then(|decision| row.pass.zip(decision.pass)),
        grade: decided(i).and_then(|decision| decision.grade),
    };
    rows.iter().enumerate().map(take).collect()
}

fn machine(session: &Session<'_>, report: &RunReport) -> Vec<[String; 2]> {
    let cores = std::thread::available_parallelism().map_or(String::new(), |n| format!("{n} cores, "));
    let facts = [
        ("device", session.device.name()),
        ("processor", format!("{}, {cores}{:?}", std::env::consts::ARCH, Simd::best())),
        ("operating system", std::env::consts::OS.to_string()),
        ("etude", format!("{} ({})", report.version, env!("ETUDE_BUILD"))),
        ("parameters of the network", report.parameters.to_string()),
        ("kernel launches in a training step", report.launches_per_step.to_string()),
        ("epochs of all folds", report.epochs.to_string()),
    ];
    facts.map(|(name, value)| [name.to_string(), value]).into()
}
