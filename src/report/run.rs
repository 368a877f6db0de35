//! What a run reports of itself.

use super::interval::Coverage;
use super::metrics::{Metric, Metrics};
use crate::names::shown;
use serde::{Deserialize, Serialize};

/// Characters of a criterion's name that a table shows at most.
const NAME: usize = 40;

/// What `metrics.json` holds: how a run was made and how well it did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Device, e.g. `cpu`.
    pub device: String,
    /// `mse`, `two-phase` or `joint`.
    pub protocol: String,
    /// Seed of the run.
    pub seed: u64,
    /// Epochs run.
    pub epochs: u64,
    /// Wall-clock time, seconds; NaN where unknown, which JSON writes as `null`.
    #[serde(deserialize_with = "null_as_nan")]
    pub seconds: f64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Kernel launches in one training step.
    pub launches_per_step: u64,
    /// Kernels started for them, on a device where a launch may take several; counted in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatches_per_step: Option<f64>,
    /// The criterion rated, e.g. `musicality`.
    pub criterion: String,
    /// Channels of the network's input: 1 of a contour, 2 of a contour and its reference, 14 of an alignment path, 0 of notes
    /// alone.
    pub inputs: u64,
    /// Version of this crate that made the run.
    pub version: String,
    /// On the test set; with folds, their mean. Of several criteria it is of the means of what each take was rated by.
    pub test: Metrics,
    /// Sample deviation over folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_sd: Option<Metrics>,
    /// One per fold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Metrics>,
    /// How good the graders are by each other, on the same takes; with folds, the mean. See [`super::graded::Graded::agreement`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graders: Option<Metrics>,
    /// How good the network is by the same labels: in the place of each grader, see [`super::graded::Graded::in_their_place`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_grader: Option<Metrics>,
    /// Of several criteria, how good the network is by each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionReport>,
    /// How often the intervals that `etude score` gives held the rating, over held-out folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// How good a network is by one of several criteria, on those test takes that were rated by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CriterionReport {
    /// What the criterion is called.
    pub name: String,
    /// With folds, their mean.
    pub test: Metrics,
    /// Sample deviation over folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_sd: Option<Metrics>,
}

impl CriterionReport {
    /// What is told of it: R², both correlations and the mean absolute error.
    pub(super) fn measures() -> Vec<Metric> {
        let told = ["r2", "pearson", "spearman", "mae"];
        Metrics::TABLE.into_iter().filter(|metric| told.contains(&metric.name)).collect()
    }
}

/// JSON has no NaN: serde_json writes `null`, which this reads back.
fn null_as_nan<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

impl RunReport {
    /// A table for people: one row per metric, `mean ± sd` with folds, `–` where undefined; in two more columns how good the
    /// graders are by each other, and the network in their place. Metrics of grades on a scale are left out where there are none,
    /// and all where nothing was tested.
    pub fn table(&self) -> String {
        let cell = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let sd_width = if self.test_sd.is_some() { 9 } else { 0 };
        let line = |label: &str, test: &str, sd: &str, [graders, likewise]: [&str; 2]| {
            let line = format!("{label:<17}{test:>9}{sd:<sd_width$}{graders:>10}{likewise:>12}");
            format!("{}\n", line.trim_end())
        };
        let beside = [&self.graders, &self.as_grader];
        let headings = if self.graders.is_some() { ["graders", "as grader"] } else { [""; 2] };
        let mut out = line("recordings", &self.test.n.to_string(), "", headings);
        for Metric { label, value, on_scale, .. } in Metrics::TABLE {
            let test = value(&self.test);
            if (on_scale || self.test.n == 0) && test.is_none() {
                continue;
            }
            let sd = self.test_sd.as_ref().map_or(String::new(), |sd| format!(" ± {}", cell(value(sd))));
            let [graders, likewise] = beside
                .map(|metrics| metrics.as_ref().and_then(value).map_or(String::new(), |v| cell(Some(v))));
            out += &line(label, &cell(test), &sd, [&graders, &likewise]);
        }
        out += &self.by_criterion();
        if let Some(Coverage { level, held, width }) = &self.coverage {
            out += &format!(
                "\n{:.0} % intervals, learned from the other folds, held {:.1} % of the ratings; they are {width:.2} wide\n",
                100.0 * level,
                100.0 * held
            );
        }
        out
    }

    /// A line for each of several criteria.
    fn by_criterion(&self) -> String {
        if self.criteria.is_empty() {
            return String::new();
        }
        let measures = CriterionReport::measures();
        let names: Vec<_> = self.criteria.iter().map(|criterion| shown(&criterion.name, NAME)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(9);
        let mut out = format!("\n{:<width$}{:>7}", "criterion", "takes");
        measures.iter().for_each(|metric| out += &format!("{:>12}", metric.label));
        out.push('\n');
        for (name, criterion) in names.iter().zip(&self.criteria) {
            out += &format!("{name:<width$}{:>7}", criterion.test.n);
            for metric in &measures {
                let value = (metric.value)(&criterion.test).map_or("–".into(), |v| format!("{v:.4}"));
                out += &format!("{value:>12}");
            }
            out.push('\n');
        }
        out
    }
}
