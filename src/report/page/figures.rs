//! The figures of a run of training, with what they show in words.

use super::base::{Figure, count, number};
use super::run::{Embeddings, TrainingRun};
use crate::Result;
use crate::data::RatingScale;
use crate::report::files::EpochRow;
use crate::report::plots::{
    Projection, agreement_svg, confusion_svg, history_svg_of, projection_svg, residuals_svg, scatter_svg,
};
use crate::report::run::RunReport;
use crate::report::scores::{pearson, r2};

/// Width and height of the drawing of the losses.
const HISTORY: (i32, i32) = (640, 440);

/// The network beside the graders, where several graded.
pub(super) fn agreement(report: &RunReport) -> Result<Option<Figure>> {
    let (Some(graders), Some(network)) = (&report.graders, &report.as_grader) else { return Ok(None) };
    let r2 = match (network.r2, graders.r2) {
        (Some(network), Some(graders)) => format!(
            "By R², the network reaches {} and a grader {}.",
            number(Some(network), 3),
            number(Some(graders), 3)
        ),
        _ => String::new(),
    };
    let caption = format!(
        "The network beside the graders. Each grader in turn is left out and measured against what the others gave; then the \
         network is measured in that grader’s place, on the same takes. Shown are means over the graders. {r2}"
    );
    let svg = agreement_svg(graders, network)?;
    Ok(Some(Figure::new(
        "agreement",
        "Measures of the network and of the graders side by side",
        &svg,
        caption,
    )))
}

/// Predicted against judged, what predictions are off by, and which grades are taken for which.
pub(super) fn predictions(run: &TrainingRun<'_>) -> Result<Vec<Figure>> {
    let tested = &run.tested;
    let (ratings, made): (Vec<f32>, Vec<f32>) = tested.iter().map(|t| (t.rating, t.prediction)).unzip();
    let pass: Option<Vec<bool>> = tested.iter().map(|t| Some(t.pass?.0)).collect();
    let n = count(tested.len(), "take");
    let together = if run.report.folds.len() > 1 {
        " Numbers are of all takes together, not means over folds as in the table."
    } else {
        ""
    };
    let marks = if pass.is_some() { " Discs passed by the judges, triangles failed." } else { "" };
    let caption = format!(
        "Predicted against judged rating of {n} that were tested. On the line both are the same. R² is {}, the correlation r \
         {}.{marks}{together}",
        number(r2(&made, &ratings), 3),
        number(pearson(&made, &ratings), 3)
    );
    let svg = scatter_svg(&ratings, &made, pass.as_deref())?;
    let mut figures =
        vec![Figure::new("scatter", "Predicted against judged rating, a point a take", &svg, caption)];

    let off: Vec<f64> = tested.iter().map(|t| f64::from(t.prediction) - f64::from(t.rating)).collect();
    let of = |share: usize| number(Some(100.0 * share as f64 / off.len().max(1) as f64), 0);
    let mean = off.iter().sum::<f64>() / off.len().max(1) as f64;
    let kind = match mean {
        m if m >= 0.01 => ": on the whole kinder",
        m if m <= -0.01 => ": on the whole stricter",
        _ => "",
    };
    let caption = format!(
        "What predictions are off by (residuals): above the line the network is kinder than the judges, below it stricter. Its \
         mean is {}{kind}; {} % of the takes are within 0.1 and {} % within 0.2 of the judges’ rating.",
        number(Some(mean), 3),
        of(off.iter().filter(|v| v.abs() <= 0.1).count()),
        of(off.iter().filter(|v| v.abs() <= 0.2).count()),
    );
    let svg = residuals_svg(&ratings, &made)?;
    figures.push(Figure::new("residuals", "Predicted less judged rating, a point a take", &svg, caption));
    figures.extend(confusions(run)?);
    Ok(figures)
}

/// Of pass and fail, and of grades, where there are any; else of quarters of the rating.
fn confusions(run: &TrainingRun<'_>) -> Result<Vec<Figure>> {
    let tested = &run.tested;
    let mut figures = Vec::new();
    let mut add = |id, title: &str, what: &str, classes: &[String], pairs: &[(usize, usize)]| -> Result<()> {
        let k = classes.len();
        let mut counts = vec![0; k * k];
        pairs
            .iter()
            .filter(|pair| pair.0 < k && pair.1 < k)
            .for_each(|pair| counts[pair.0 * k + pair.1] += 1);
        let right = pairs.iter().filter(|pair| pair.0 == pair.1).count();
        let caption = format!(
            "{what} A row is what was judged, a column what was predicted; shares are of the row. {right} of {} are right, {} %.",
            count(pairs.len(), "take"),
            number(Some(100.0 * right as f64 / pairs.len().max(1) as f64), 0)
        );
        let svg = confusion_svg(title, classes, &counts)?;
        figures.push(Figure::new(id, format!("Confusion matrix. {title}"), &svg, caption));
        Ok(())
    };
    let pass: Option<Vec<_>> = tested
        .iter()
        .map(|t| t.pass.map(|(judged, made)| (usize::from(judged), usize::from(made))))
        .collect();
    let grades: Vec<_> =
        tested.iter().filter_map(|t| t.grade).map(|(a, b)| (usize::from(a), usize::from(b))).collect();
    let levels = run.scale.and_then(RatingScale::levels);
    if let Some(pass) = pass.as_ref().filter(|pass| !pass.is_empty()) {
        let what = "Pass and fail, the network’s by the rating from which on a training take best passes.";
        add("confusion-pass", "Pass or fail", what, &["fail", "pass"].map(String::from), pass)?;
    }
    if let (Some(scale), Some(levels)) = (run.scale.filter(|_| !grades.is_empty()), levels) {
        let classes: Vec<String> = (0..levels).map(|l| format!("{}", scale.low() + f64::from(l))).collect();
        let what =
            "Grades on the graders’ scale, against the grade that most of them gave, where there is one.";
        add("confusion-grades", "Grades", what, &classes, &grades)?;
    } else if pass.is_none() && !tested.is_empty() {
        let bin = |v: f32| ((v * 4.0).floor().clamp(0.0, 3.0)) as usize;
        let quarters: Vec<_> = tested.iter().map(|t| (bin(t.rating), bin(t.prediction))).collect();
        let classes = ["0–0.25", "0.25–0.5", "0.5–0.75", "0.75–1"].map(String::from);
        add(
            "confusion-quarters",
            "Quarters of the rating",
            "Ratings in four equal bins.",
            &classes,
            &quarters,
        )?;
    }
    Ok(figures)
}

/// The losses, where there are any.
pub(super) fn curves(run: &TrainingRun<'_>) -> Result<Option<Figure>> {
    let Some(last) = run.history.last() else { return Ok(None) };
    let phase: Vec<&EpochRow> = run.history.iter().filter(|row| row.phase == last.phase).collect();
    let fold = match run.report.folds.len() {
        0 | 1 => String::new(),
        k => format!(" of the first of {k} folds"),
    };
    let loss = match run.report.protocol.as_str() {
        "mse" => " The loss is the squared error.",
        "joint" => " The loss is the squared error and, weighted, the contrastive loss.",
        "two-phase" => " The encoder learns by the contrastive loss, then the head by the squared error.",
        _ => "",
    };
    let of_phase = if phase.len() < run.history.len() { " of the last phase" } else { "" };
    let kept = match run.history.iter().any(|row| row.val_loss.is_some()) {
        true => format!("The ring marks the lowest validation loss{of_phase}, whose weights were kept."),
        false => "There was no validation: the weights of the last epoch were kept.".to_string(),
    };
    let caption = format!(
        "Mean loss of each epoch{fold}, {}.{loss} In training it was {} in the first epoch{of_phase} and {} in the last. {kept}",
        count(run.history.len(), "epoch"),
        number(phase.first().map(|row| row.train_loss), 4),
        number(Some(last.train_loss), 4),
    );
    let svg = history_svg_of(run.history, HISTORY)?;
    Ok(Some(Figure::new("curves", "Loss by epoch", &svg, caption)))
}

/// What an embedding is, and four views of it; none where it has no take or no dimension.
pub(super) fn embeddings(run: &TrainingRun<'_>) -> Result<(String, Vec<Figure>)> {
    let Embeddings { ratings, width, before, after, bins, silhouettes } = run.embeddings;
    if ratings.is_empty() || width == 0 {
        return Ok((String::new(), Vec::new()));
    }
    let which = match run.report.folds.len() {
        0 | 1 => "the test takes".to_string(),
        k => format!("the test takes of the last of {k} folds"),
    };
    let trained = match run.report.protocol == "two-phase" {
        true => "after both phases of it, that of the contrastive loss and that of the squared error",
        false => "after it",
    };
    let about = format!(
        "Before it grades a take, the network makes a point in {} of it, its embedding. Here is that of {which}, before \
         training, with the weights that the network began with, and {trained}. Takes that the judges rated alike should lie \
         together.",
        count(width, "dimension"),
    );
    let views = [
        ("pca-before", "tsne-before", "before training", before, silhouettes[0]),
        ("pca-after", "tsne-after", "after training", after, silhouettes[1]),
    ];
    let mut figures = Vec::new();
    for by in [Projection::Principal, Projection::Neighbours] {
        for (pca, tsne, when, embedding, silhouette) in views {
            let (id, how, what) = match by {
                Projection::Principal => {
                    (pca, "principal components", "on the two directions along which takes differ most (PCA)")
                }
                Projection::Neighbours => (
                    tsne,
                    "t-SNE",
                    "by t-SNE, which keeps neighbours together; distances between groups mean nothing",
                ),
            };
            let silhouette = silhouette.map_or(String::new(), |s| {
                format!(" Silhouette over {bins} bins of the rating: {}.", number(Some(s), 3))
            });
            let title = format!("Embedding {when}, {how}");
            let caption = format!(
                "The embedding of {} {when}, {what}. The lighter a point, the higher its rating.{silhouette}",
                count(ratings.len(), "take")
            );
            let svg = projection_svg(&title, by, (embedding, ratings.len(), width), ratings)?;
            figures.push(Figure::new(id, title, &svg, caption));
        }
    }
    Ok((about, figures))
}
