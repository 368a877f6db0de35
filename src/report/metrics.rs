//! The metrics of one set of recordings, and their mean over folds.

use super::ordinal;
use super::scores::{accuracy, accuracy_11, auc, davies_bouldin, mae, pearson, r2, silhouette, spearman};
use serde::{Deserialize, Serialize};

/// A metric of [`Metrics`].
pub struct Metric {
    /// Its name in `metrics.json`.
    pub name: &'static str,
    /// Its name as people write it.
    pub label: &'static str,
    /// Whether it is one of grades on a scale of whole steps, which few data sets have.
    pub on_scale: bool,
    /// Its value.
    pub value: fn(&Metrics) -> Option<f64>,
    place: fn(&mut Metrics) -> &mut Option<f64>,
}

/// Defines [`Metrics`] and the table of what it holds: a line of the table is all that a metric takes.
macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident $label:literal $($on_scale:ident)?,)+) => {
        /// What `metrics.json` holds for one set of recordings. `None` is written as `null`.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Metrics {
            /// Recordings; over folds the mean (and the deviation), to the nearest whole number.
            pub n: u64,
            $($(#[$doc])* pub $name: Option<f64>,)+
        }

        impl Metrics {
            /// Every metric but `n`, in the order of `metrics.json`.
            pub const TABLE: [Metric; [$($label),+].len()] = [$(Metric {
                name: stringify!($name),
                label: $label,
                on_scale: !concat!($(stringify!($on_scale))?).is_empty(),
                value: |metrics| metrics.$name,
                place: |metrics| &mut metrics.$name,
            }),+];
        }
    };
}

metrics! {
    /// See [`r2`].
    r2 "R²",
    /// See [`pearson`].
    pearson "Pearson r",
    /// See [`spearman`].
    spearman "Spearman ρ",
    /// See [`mae`].
    mae "MAE",
    /// Binary, see [`accuracy`]; only where the data has pass/fail.
    accuracy "accuracy",
    /// See [`accuracy_11`].
    accuracy_11 "accuracy of 11",
    /// See [`auc`]; only where the data has pass/fail.
    auc "AUC",
    /// See [`ordinal::mae`]; this and the five below only where several graded on a scale of whole steps, see
    /// [`super::graded::Graded::measure`].
    grade_mae "grade MAE" on_scale,
    /// See [`ordinal::exact`].
    grade_accuracy "grade exact" on_scale,
    /// See [`ordinal::within_one`].
    within_one "grade within 1" on_scale,
    /// See [`ordinal::weighted_f1`].
    weighted_f1 "weighted F1" on_scale,
    /// See [`ordinal::balanced_accuracy`].
    balanced_accuracy "balanced accuracy" on_scale,
    /// See [`ordinal::krippendorff`].
    krippendorff "Krippendorff α" on_scale,
    /// See [`silhouette`].
    silhouette "silhouette",
    /// See [`davies_bouldin`].
    davies_bouldin "Davies–Bouldin",
}

/// Mean and sample deviation (n − 1); `None` of none, and the deviation of fewer than two.
fn mean_sd(values: impl Iterator<Item = f64>) -> (Option<f64>, Option<f64>) {
    let v: Vec<f64> = values.collect();
    let n = v.len() as f64;
    let mean = (n > 0.0).then(|| v.iter().sum::<f64>() / n);
    let sd = mean.filter(|_| n > 1.0);
    (mean, sd.map(|m| (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()))
}

impl Metrics {
    /// The regression metrics; add the others with [`Self::with_pass`] and [`Self::with_embedding`].
    pub fn new(predictions: &[f32], targets: &[f32]) -> Self {
        Self {
            n: targets.len() as u64,
            r2: r2(predictions, targets),
            pearson: pearson(predictions, targets),
            spearman: spearman(predictions, targets),
            mae: mae(predictions, targets),
            accuracy_11: accuracy_11(predictions, targets),
            ..Self::default()
        }
    }

    /// Adds [`accuracy`] and [`auc`].
    pub fn with_pass(mut self, predictions: &[f32], pass: &[bool], threshold: f32) -> Self {
        self.accuracy = accuracy(predictions, pass, threshold);
        self.auc = auc(predictions, pass);
        self
    }

    /// Adds [`silhouette`] and [`davies_bouldin`]; `embedding` is row-major `[bins.len(), d]`.
    pub fn with_embedding(mut self, embedding: &[f32], bins: &[usize]) -> Self {
        self.silhouette = silhouette(embedding, bins);
        self.davies_bouldin = davies_bouldin(embedding, bins);
        self
    }

    /// Adds what is measured of levels on a scale, against labels, but for Krippendorff's α.
    pub fn with_levels(mut self, predicted: &[u8], labels: &[u8]) -> Self {
        self.grade_mae = ordinal::mae(predicted, labels);
        self.grade_accuracy = ordinal::exact(predicted, labels);
        self.within_one = ordinal::within_one(predicted, labels);
        self.weighted_f1 = ordinal::weighted_f1(predicted, labels);
        self.balanced_accuracy = ordinal::balanced_accuracy(predicted, labels);
        self
    }

    /// These, and where one is undefined that of `other`.
    pub fn or(mut self, other: &Self) -> Self {
        for Metric { value, place, .. } in Self::TABLE {
            let own = place(&mut self);
            *own = own.or(value(other));
        }
        self
    }

    /// Mean and sample deviation (n − 1) over folds, each metric over the folds that have it;
    /// the deviation of fewer than two is `None` (0 for `n`).
    pub fn mean_sd(folds: &[Self]) -> (Self, Self) {
        let whole = |v: Option<f64>| v.unwrap_or(0.0).round() as u64;
        let n = mean_sd(folds.iter().map(|fold| fold.n as f64));
        let mut mean = Self { n: whole(n.0), ..Self::default() };
        let mut sd = Self { n: whole(n.1), ..Self::default() };
        for Metric { value, place, .. } in Self::TABLE {
            (*place(&mut mean), *place(&mut sd)) = mean_sd(folds.iter().filter_map(value));
        }
        (mean, sd)
    }
}
