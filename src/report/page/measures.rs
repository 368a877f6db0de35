//! Tables of measures: of the run, its folds, its melodies.

use super::base::{Cell, Column, NAME, Table, number};
use super::run::Tested;
use crate::names::shown;
use crate::report::metrics::{Metric, Metrics};
use crate::report::run::{CriterionReport, RunReport};
use crate::report::scores::{mae, r2};
use std::collections::BTreeMap;

/// What a measure is, in a few words, by its name in `metrics.json` or in a comparison.
pub(super) fn meaning(name: &str) -> &'static str {
    match name {
        "r2" => {
            "share of the ratings’ variance that is predicted: 1 is perfect, 0 what always saying their mean reaches"
        }
        "pearson" => {
            "correlation of predicted and judged ratings: 1 where one is a straight line of the other"
        }
        "spearman" => "correlation of ranks: 1 where takes are put in the judges’ order",
        "mae" => {
            "mean absolute error: what a prediction is off by on average, where ratings go from 0 to 1; lower is better"
        }
        "accuracy" => "share of takes rightly told to pass or to fail",
        "accuracy_11" => "share of ratings right to the tenth",
        "auc" => "chance that of one take that passed and one that failed the former is rated higher",
        "grade_mae" => {
            "what a grade is off by on average, in steps of the graders’ scale, from what most of them gave; lower is better"
        }
        "grade_accuracy" => "share of takes given the grade that most graders gave",
        "within_one" => "share of takes given that grade or one beside it",
        "weighted_f1" => "F1 of each grade, weighted by how often it was given",
        "balanced_accuracy" => "share of takes given the right grade, each grade counting the same",
        "krippendorff" => "agreement of all who graded, on an ordinal scale: 1 is perfect, 0 is chance",
        "order" => "of two takes of one melody, how often the better rated is predicted higher",
        "neighbours" => "R² of what the nearest training takes in the embedding were rated on average",
        "calibration" => {
            "between mean prediction and mean rating, over tenths of the takes by prediction; lower is better"
        }
        "silhouette" => {
            "how well the embedding keeps apart takes of different ratings: 1 is apart, 0 mixed, below 0 with others"
        }
        "davies_bouldin" => {
            "the same by how wide groups of like rating are beside how far apart: lower is better"
        }
        _ => "",
    }
}

/// A number and, where there is one, its deviation.
pub(super) fn with_sd(text: String, sd: Option<f64>) -> String {
    match sd {
        Some(sd) => format!("{text} ± {}", number(Some(sd), 3)),
        None => text,
    }
}

/// Every measure that the run has: the network's, and the graders' where several graded.
pub(super) fn measures(report: &RunReport) -> Table {
    let several = report.graders.is_some() && report.as_grader.is_some();
    let folds = report.folds.len();
    let over = if folds > 1 { format!(": mean ± deviation over {folds} folds") } else { String::new() };
    let mut columns = vec![Column::text("measure"), Column::number("network")];
    if several {
        columns.extend(["network as a grader", "graders"].map(Column::number));
    }
    let cell = |metrics: Option<&Metrics>, metric: &Metric| number(metrics.and_then(metric.value), 3);
    let row = |metric: &Metric| {
        let test = (metric.value)(&report.test)?;
        let sd = report.test_sd.as_ref().and_then(metric.value);
        let mut row = vec![metric.label.to_string(), with_sd(number(Some(test), 3), sd)];
        if several {
            row.extend([&report.as_grader, &report.graders].map(|m| cell(m.as_ref(), metric)));
        }
        Some(row.into_iter().map(Cell::from).collect())
    };
    let beside = match several {
        true => {
            "; beside it the network in the place of each grader, and the graders themselves, both by what the other graders \
             gave (– where that is not measured)"
        }
        false => "",
    };
    let caption = format!("Measures on takes that the network was not trained on{over}{beside}.");
    Table {
        id: "measures-table".into(),
        caption,
        columns,
        rows: Metrics::TABLE.iter().filter_map(row).collect(),
    }
}

/// What each measure that the run has is: its label and a few words.
pub(super) fn meanings(report: &RunReport) -> Vec<[&'static str; 2]> {
    let there = Metrics::TABLE.into_iter().filter(|metric| (metric.value)(&report.test).is_some());
    there.map(|metric| [metric.label, meaning(metric.name)]).collect()
}

/// Every measure of each fold, where there are several.
pub(super) fn folds(report: &RunReport) -> Option<Table> {
    let folds = &report.folds;
    if folds.len() < 2 {
        return None;
    }
    let mut columns = vec![Column::text("measure")];
    columns.extend((1..=folds.len()).map(|fold| Column::number(format!("fold {fold}"))));
    let mut takes = vec!["takes".to_string()];
    takes.extend(folds.iter().map(|fold| fold.n.to_string()));
    let of_metric = |metric: &Metric| {
        let values: Vec<Option<f64>> = folds.iter().map(metric.value).collect();
        values.iter().any(Option::is_some).then(|| {
            let cells = values.iter().map(|v| number(*v, 3));
            std::iter::once(metric.label.to_string()).chain(cells).map(Cell::from).collect()
        })
    };
    let rows = std::iter::once(takes.into_iter().map(Cell::from).collect())
        .chain(Metrics::TABLE.iter().filter_map(of_metric))
        .collect();
    let caption =
        "What each fold’s network reached on the takes of its fold, none of which it was trained on.";
    Some(Table { id: "folds-table".into(), caption: caption.into(), columns, rows })
}

/// How good the network is by each of several criteria.
pub(super) fn criteria(report: &RunReport) -> Option<Table> {
    if report.criteria.is_empty() {
        return None;
    }
    let told = CriterionReport::measures();
    let mut columns = vec![Column::text("criterion"), Column::number("takes")];
    columns.extend(told.iter().map(|metric| Column::number(metric.label)));
    let row = |criterion: &CriterionReport| {
        let mut row = vec![shown(&criterion.name, NAME).into_owned(), criterion.test.n.to_string()];
        row.extend(told.iter().map(|metric| {
            let sd = criterion.test_sd.as_ref().and_then(metric.value);
            with_sd(number((metric.value)(&criterion.test), 3), sd)
        }));
        row.into_iter().map(Cell::from).collect()
    };
    let over = if report.folds.len() > 1 { "; mean ± deviation over folds" } else { "" };
    Some(Table {
        id: "criteria-table".into(),
        caption: format!(
            "The network by each criterion that it learned, on the tested takes that were rated by it{over}. All else on this \
             page is of the means of what each take was rated by."
        ),
        columns,
        rows: report.criteria.iter().map(row).collect(),
    })
}

/// Ratings and predictions of the takes of a melody.
#[derive(Default)]
struct OfMelody {
    ratings: Vec<f32>,
    made: Vec<f32>,
}

impl OfMelody {
    fn row(&self, melody: &str) -> Vec<Cell> {
        let Self { ratings, made } = self;
        let mean = |v: &[f32]| Some(v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64);
        let cells = [
            shown(melody, NAME).into_owned(),
            ratings.len().to_string(),
            number(mean(ratings), 3),
            number(mean(made), 3),
            number(mae(made, ratings), 3),
            number(r2(made, ratings), 3),
        ];
        cells.map(Cell::from).into()
    }
}

/// How good predictions are for each melody, where the data names any.
pub(super) fn melodies(tested: &[Tested<'_>]) -> Option<Table> {
    // Numbers come in their order.
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let numbers = tested.iter().filter_map(|t| t.melody).all(is_number);
    let mut of_melody: BTreeMap<(usize, &str), OfMelody> = BTreeMap::new();
    for take in tested {
        let Some(melody) = take.melody else { continue };
        let own = of_melody.entry((if numbers { melody.len() } else { 0 }, melody)).or_default();
        own.ratings.push(take.rating);
        own.made.push(take.prediction);
    }
    if of_melody.is_empty() {
        return None;
    }
    let mut columns = vec![Column::text("melody")];
    let names = ["takes", "mean judged", "mean predicted", "mean absolute error", "R²"];
    columns.extend(names.map(Column::number));
    let caption = "Tested takes by melody. R² within a melody is against that melody’s own mean rating; – where it is undefined.";
    let rows = of_melody.iter().map(|(&(_, melody), own)| own.row(melody)).collect();
    Some(Table { id: "melodies-table".into(), caption: caption.into(), columns, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::measure::Measure;

    #[test]
    fn every_measure_is_explained() {
        let names =
            Metrics::TABLE.map(|metric| metric.name).into_iter().chain(Measure::ALL.map(Measure::name));
        for name in names {
            assert!(!meaning(name).is_empty(), "{name}");
        }
    }
}
