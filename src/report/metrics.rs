//! How good predictions and embeddings are. All sums run in f64; a metric that
//! is undefined (constant targets, too few bins, no finite data) is `None`.

use serde::{Deserialize, Serialize};

/// Pairs where both values are finite and equally many of each; else `None`.
fn pairs(a: &[f32], b: &[f32]) -> Option<Vec<(f64, f64)>> {
    let usable = a.len() == b.len() && !a.is_empty() && a.iter().chain(b).all(|v| v.is_finite());
    usable.then(|| a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y))).collect())
}

/// Coefficient of determination, `1 − Σ(y−p)² / Σ(y−ȳ)²`, in (−∞, 1].
/// `None` when the targets are constant, empty, or anything is not finite.
pub fn r2(predictions: &[f32], targets: &[f32]) -> Option<f64> {
    let p = pairs(predictions, targets)?;
    // Exact comparison: a mean rounded in f64 would leave a tiny non-zero spread for constant targets.
    if p.iter().all(|v| v.1 == p[0].1) {
        return None;
    }
    let mean = p.iter().map(|v| v.1).sum::<f64>() / p.len() as f64;
    let rest: f64 = p.iter().map(|v| (v.1 - v.0).powi(2)).sum();
    let total: f64 = p.iter().map(|v| (v.1 - mean).powi(2)).sum();
    Some(1.0 - rest / total)
}

fn correlation(p: &[(f64, f64)]) -> Option<f64> {
    if p.iter().all(|v| v.0 == p[0].0) || p.iter().all(|v| v.1 == p[0].1) {
        return None;
    }
    let n = p.len() as f64;
    let (mx, my) = (p.iter().map(|v| v.0).sum::<f64>() / n, p.iter().map(|v| v.1).sum::<f64>() / n);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for &(x, y) in p {
        xy += (x - mx) * (y - my);
        xx += (x - mx).powi(2);
        yy += (y - my).powi(2);
    }
    Some((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Pearson's correlation, in [−1, 1]; `None` when either side is constant or not finite.
pub fn pearson(predictions: &[f32], targets: &[f32]) -> Option<f64> {
    correlation(&pairs(predictions, targets)?)
}

/// One-based ranks; tied values share the average of the ranks they span.
fn ranks(v: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_by(|&a, &b| v[a].total_cmp(&v[b]));
    let mut out = vec![0.0; v.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        // `==`, so that 0.0 and −0.0 tie although total_cmp orders them.
        while end < order.len() && v[order[end]] == v[order[start]] {
            end += 1;
        }
        for &i in &order[start..end] {
            out[i] = (start + 1 + end) as f64 / 2.0;
        }
        start = end;
    }
    out
}

/// Spearman's rank correlation (average ranks for ties), in [−1, 1]; `None` as for [`pearson`].
pub fn spearman(predictions: &[f32], targets: &[f32]) -> Option<f64> {
    pairs(predictions, targets)?;
    let p: Vec<_> = ranks(predictions).into_iter().zip(ranks(targets)).collect();
    correlation(&p)
}

/// Mean absolute error, in rating units; `None` when empty or not finite.
pub fn mae(predictions: &[f32], targets: &[f32]) -> Option<f64> {
    let p = pairs(predictions, targets)?;
    Some(p.iter().map(|v| (v.0 - v.1).abs()).sum::<f64>() / p.len() as f64)
}

/// Share of ratings right to the tenth: 11 classes `round(10·y)`, clipped to 0..=10.
pub fn accuracy_11(predictions: &[f32], targets: &[f32]) -> Option<f64> {
    let p = pairs(predictions, targets)?;
    let class = |v: f64| (10.0 * v).round().clamp(0.0, 10.0);
    Some(p.iter().filter(|v| class(v.0) == class(v.1)).count() as f64 / p.len() as f64)
}

/// Share of pass/fail decisions right when `prediction >= threshold` means pass.
pub fn accuracy(predictions: &[f32], pass: &[bool], threshold: f32) -> Option<f64> {
    if !labelled(predictions, pass) || threshold.is_nan() {
        return None;
    }
    let right = predictions.iter().zip(pass).filter(|(p, q)| (**p >= threshold) == **q).count();
    Some(right as f64 / pass.len() as f64)
}

fn labelled(predictions: &[f32], pass: &[bool]) -> bool {
    !pass.is_empty() && predictions.len() == pass.len() && predictions.iter().all(|v| v.is_finite())
}

/// Area under the ROC curve, in [0, 1]: the chance that a pass is predicted above
/// a fail, ties counting half (Mann–Whitney U). `None` unless both classes occur.
pub fn auc(predictions: &[f32], pass: &[bool]) -> Option<f64> {
    if !labelled(predictions, pass) {
        return None;
    }
    let passes = pass.iter().filter(|p| **p).count() as f64;
    let fails = pass.len() as f64 - passes;
    if passes == 0.0 || fails == 0.0 {
        return None;
    }
    let sum: f64 = ranks(predictions).iter().zip(pass).filter(|v| *v.1).map(|v| v.0).sum();
    Some((sum - passes * (passes + 1.0) / 2.0) / (passes * fails))
}

/// The threshold on predicted ratings that maximises balanced accuracy, for [`accuracy`].
///
/// Choose it on training or validation predictions, never on test. Candidates lie midway
/// between neighbouring predictions; the lowest of equally good ones wins. 0.5 where
/// either class is missing or a prediction is not finite.
pub fn best_threshold(predictions: &[f32], pass: &[bool]) -> f32 {
    let passes = pass.iter().filter(|p| **p).count();
    if !labelled(predictions, pass) || passes == 0 || passes == pass.len() {
        return 0.5;
    }
    let fails = pass.len() - passes;
    let mut sorted: Vec<(f32, bool)> = predictions.iter().copied().zip(pass.iter().copied()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Integers, so equally good thresholds compare equal: TPR + TNR times passes·fails.
    let (mut above, mut below) = (passes as u128, 0u128);
    let (mut best, mut at) = (above * fails as u128, sorted[0].0);
    for i in 0..sorted.len() - 1 {
        if sorted[i].1 {
            above -= 1
        } else {
            below += 1
        }
        let (lo, hi) = (sorted[i].0, sorted[i + 1].0);
        let score = above * fails as u128 + below * passes as u128;
        if lo != hi && score > best {
            let mid = (f64::midpoint(f64::from(lo), f64::from(hi))) as f32;
            // Between adjacent floats the midpoint may round down onto `lo`, which must fail.
            (best, at) = (score, if mid > lo { mid } else { hi });
        }
    }
    at
}

/// Rows and their bins renumbered 0..k in order of bin, or `None` where malformed.
fn clusters(embedding: &[f32], bins: &[usize]) -> Option<(usize, Vec<usize>, Vec<usize>)> {
    let n = bins.len();
    if n == 0 || embedding.is_empty() || !embedding.len().is_multiple_of(n) {
        return None;
    }
    let mut names = bins.to_vec();
    names.sort_unstable();
    names.dedup();
    // scikit-learn's condition: 2 <= bins <= n − 1.
    if names.len() < 2 || names.len() >= n || !embedding.iter().all(|v| v.is_finite()) {
        return None;
    }
    let ids: Vec<usize> = bins.iter().map(|b| names.partition_point(|x| x < b)).collect();
    let mut sizes = vec![0; names.len()];
    ids.iter().for_each(|&c| sizes[c] += 1);
    Some((embedding.len() / n, ids, sizes))
}

/// Mean silhouette over label bins, in [−1, 1] (Rousseeuw 1987; Euclidean).
///
/// `embedding` is row-major `[n, d]` with `n = bins.len()`. Bins of one member count 0.
/// Takes O(n²·d) time, O(n + bins) extra memory. `None` unless 2 ≤ bins ≤ n − 1.
pub fn silhouette(embedding: &[f32], bins: &[usize]) -> Option<f64> {
    let (d, ids, sizes) = clusters(embedding, bins)?;
    let mut total = 0.0;
    let mut sums = vec![0.0f64; sizes.len()];
    for (x, &own) in embedding.chunks_exact(d).zip(&ids) {
        if sizes[own] == 1 {
            continue;
        }
        sums.fill(0.0);
        for (y, &c) in embedding.chunks_exact(d).zip(&ids) {
            let sq: f64 = x.iter().zip(y).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            sums[c] += sq.sqrt();
        }
        let a = sums[own] / (sizes[own] - 1) as f64;
        let others = (0..sizes.len()).filter(|&c| c != own).map(|c| sums[c] / sizes[c] as f64);
        let b = others.fold(f64::INFINITY, f64::min);
        if a.max(b) > 0.0 {
            total += (b - a) / a.max(b);
        }
    }
    Some(total / ids.len() as f64)
}

/// Davies–Bouldin index over label bins, ≥ 0, lower is better (Davies & Bouldin 1979).
///
/// Arguments and undefined cases as for [`silhouette`]. As in scikit-learn, coinciding
/// centroids contribute 0.
pub fn davies_bouldin(embedding: &[f32], bins: &[usize]) -> Option<f64> {
    let (d, ids, sizes) = clusters(embedding, bins)?;
    let k = sizes.len();
    let mut centre = vec![0.0f64; k * d];
    for (x, &c) in embedding.chunks_exact(d).zip(&ids) {
        for (m, v) in centre[c * d..(c + 1) * d].iter_mut().zip(x) {
            *m += f64::from(*v) / sizes[c] as f64;
        }
    }
    let mut spread = vec![0.0f64; k];
    for (x, &c) in embedding.chunks_exact(d).zip(&ids) {
        let sq: f64 = x.iter().zip(&centre[c * d..]).map(|(a, m)| (f64::from(*a) - m).powi(2)).sum();
        spread[c] += sq.sqrt() / sizes[c] as f64;
    }
    let mut total = 0.0;
    for i in 0..k {
        let mut worst = 0.0f64;
        for j in (0..k).filter(|&j| j != i) {
            let (p, q) = (&centre[i * d..(i + 1) * d], &centre[j * d..(j + 1) * d]);
            let gap = p.iter().zip(q).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            if gap > 0.0 {
                worst = worst.max((spread[i] + spread[j]) / gap);
            }
        }
        total += worst;
    }
    Some(total / k as f64)
}

/// What `metrics.json` holds for one set of recordings. `None` is written as `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Recordings; over folds the mean (and the deviation), to the nearest whole number.
    pub n: u64,
    /// See [`r2`].
    pub r2: Option<f64>,
    /// See [`pearson`].
    pub pearson: Option<f64>,
    /// See [`spearman`].
    pub spearman: Option<f64>,
    /// See [`mae`].
    pub mae: Option<f64>,
    /// Binary, see [`accuracy`]; only where the data has pass/fail.
    pub accuracy: Option<f64>,
    /// See [`accuracy_11`].
    pub accuracy_11: Option<f64>,
    /// See [`auc`]; only where the data has pass/fail.
    pub auc: Option<f64>,
    /// See [`silhouette`].
    pub silhouette: Option<f64>,
    /// See [`davies_bouldin`].
    pub davies_bouldin: Option<f64>,
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

    /// Name and value of every metric but `n`, in the order of `metrics.json`.
    pub fn rows(&self) -> [(&'static str, Option<f64>); 9] {
        [
            ("r2", self.r2),
            ("pearson", self.pearson),
            ("spearman", self.spearman),
            ("mae", self.mae),
            ("accuracy", self.accuracy),
            ("accuracy_11", self.accuracy_11),
            ("auc", self.auc),
            ("silhouette", self.silhouette),
            ("davies_bouldin", self.davies_bouldin),
        ]
    }

    /// Mean and sample deviation (n − 1) over folds, each metric over the folds that have it;
    /// the deviation of fewer than two is `None` (0 for `n`).
    pub fn mean_sd(folds: &[Self]) -> (Self, Self) {
        let of = |get: fn(&Self) -> Option<f64>| {
            let v: Vec<f64> = folds.iter().filter_map(get).collect();
            let n = v.len() as f64;
            let mean = (n > 0.0).then(|| v.iter().sum::<f64>() / n);
            let sd = mean.filter(|_| n > 1.0);
            (mean, sd.map(|m| (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()))
        };
        let (mut mean, mut sd) = (Self::default(), Self::default());
        let n = of(|m| Some(m.n as f64));
        let whole = |v: Option<f64>| v.unwrap_or(0.0).round() as u64;
        (mean.n, sd.n) = (whole(n.0), whole(n.1));
        (mean.r2, sd.r2) = of(|m| m.r2);
        (mean.pearson, sd.pearson) = of(|m| m.pearson);
        (mean.spearman, sd.spearman) = of(|m| m.spearman);
        (mean.mae, sd.mae) = of(|m| m.mae);
        (mean.accuracy, sd.accuracy) = of(|m| m.accuracy);
        (mean.accuracy_11, sd.accuracy_11) = of(|m| m.accuracy_11);
        (mean.auc, sd.auc) = of(|m| m.auc);
        (mean.silhouette, sd.silhouette) = of(|m| m.silhouette);
        (mean.davies_bouldin, sd.davies_bouldin) = of(|m| m.davies_bouldin);
        (mean, sd)
    }
}

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
    /// Input channels: 1 contour, 2 contour and reference.
    pub inputs: u64,
    /// Version of this crate that made the run.
    pub version: String,
    /// On the test set; with folds, their mean.
    pub test: Metrics,
    /// Sample deviation over folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_sd: Option<Metrics>,
    /// One per fold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Metrics>,
}

/// JSON has no NaN: serde_json writes `null`, which this reads back.
fn null_as_nan<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

impl RunReport {
    /// A table for people: one row per metric, `mean ± sd` with folds, `–` where undefined.
    pub fn table(&self) -> String {
        let cell = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let mut out = format!("{:<16}{:>9}\n", "recordings", self.test.n);
        let sds = self.test_sd.as_ref().map(Metrics::rows);
        for (i, (name, value)) in self.test.rows().into_iter().enumerate() {
            // The names of metrics.json, as people write them.
            let label = match name {
                "r2" => "R²",
                "pearson" => "Pearson r",
                "spearman" => "Spearman ρ",
                "mae" => "MAE",
                "accuracy" => "accuracy",
                "accuracy_11" => "accuracy of 11",
                "auc" => "AUC",
                "davies_bouldin" => "Davies–Bouldin",
                other => other,
            };
            out += &format!("{label:<16}{:>9}", cell(value));
            if let Some(sds) = &sds {
                out += &format!(" ± {}", cell(sds[i].1));
            }
            out.push('\n');
        }
        out
    }
}
