//! Measures of grades on a scale of whole steps, as studies of graders report them.
//!
//! A *level* is a grade's place on the scale, from 0 for the lowest; which grade that is does not matter here: on a scale from
//! 1 to 4 the levels are 0 to 3. All of them are `None` where there is nothing to measure: no levels, or unequally many.

/// The level of a grade in 0..=1 on a scale of `levels` grades: `round((levels − 1)·grade)`, halves up, clipped to the scale.
/// On 1..4 that is the grade `round(1 + 3·grade)`. `None` for what is no number.
pub fn level(grade: f32, levels: u8) -> Option<u8> {
    let top = f64::from(levels.saturating_sub(1));
    grade.is_finite().then(|| (f64::from(grade) * top).round().clamp(0.0, top) as u8)
}

/// The level that more than half of them are; `None` where none is, or fewer than two are given. So there is no tie to break, and
/// what MASTmelody's own column `majority_score` says of its takes is what comes out.
pub fn majority(levels: &[u8]) -> Option<u8> {
    let count = |level: u8| levels.iter().filter(|&&other| other == level).count();
    levels.iter().copied().find(|&level| levels.len() >= 2 && 2 * count(level) > levels.len())
}

fn pairs(predicted: &[u8], labels: &[u8]) -> Option<Vec<(u8, u8)>> {
    let usable = predicted.len() == labels.len() && !labels.is_empty();
    usable.then(|| predicted.iter().copied().zip(labels.iter().copied()).collect())
}

/// Share of pairs.
fn share(predicted: &[u8], labels: &[u8], is: impl Fn(u8, u8) -> bool) -> Option<f64> {
    let p = pairs(predicted, labels)?;
    Some(p.iter().filter(|&&(a, b)| is(a, b)).count() as f64 / p.len() as f64)
}

/// Mean absolute error in steps of the scale, `Σ|p − y| / n`, ≥ 0.
pub fn mae(predicted: &[u8], labels: &[u8]) -> Option<f64> {
    let p = pairs(predicted, labels)?;
    Some(p.iter().map(|&(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / p.len() as f64)
}

/// Share of grades that are exactly right, in [0, 1].
pub fn exact(predicted: &[u8], labels: &[u8]) -> Option<f64> {
    share(predicted, labels, |a, b| a == b)
}

/// Share of grades that are right or one step off, in [0, 1].
pub fn within_one(predicted: &[u8], labels: &[u8]) -> Option<f64> {
    share(predicted, labels, |a, b| a.abs_diff(b) <= 1)
}

/// Of each level that some label is: how many labels are, how many predictions are, how many are both.
fn counts(pairs: &[(u8, u8)]) -> Vec<[f64; 3]> {
    let mut counts = [[0u64; 3]; 256];
    for &(predicted, label) in pairs {
        counts[usize::from(label)][0] += 1;
        counts[usize::from(predicted)][1] += 1;
        counts[usize::from(label)][2] += u64::from(label == predicted);
    }
    counts.iter().filter(|count| count[0] > 0).map(|count| count.map(|n| n as f64)).collect()
}

/// F1 of each level that occurs among the labels, `2·TP / (2·TP + FP + FN)`, weighted by how often it does, in [0, 1]:
/// scikit-learn's `f1_score(average="weighted", zero_division=0)`.
pub fn weighted_f1(predicted: &[u8], labels: &[u8]) -> Option<f64> {
    let p = pairs(predicted, labels)?;
    let weighted = |[true_, made, both]: [f64; 3]| true_ * 2.0 * both / (true_ + made);
    Some(counts(&p).into_iter().map(weighted).sum::<f64>() / p.len() as f64)
}

/// Mean over the levels that occur among the labels of the share of each that is found, in [0, 1]: macro recall, scikit-learn's
/// `balanced_accuracy_score`.
pub fn balanced_accuracy(predicted: &[u8], labels: &[u8]) -> Option<f64> {
    let counts = counts(&pairs(predicted, labels)?);
    Some(counts.iter().map(|[true_, _, both]| both / true_).sum::<f64>() / counts.len() as f64)
}

/// Krippendorff's α with the ordinal metric, ≤ 1: 1 where all agree, 0 where they agree as chance would have it.
///
/// `takes` holds of each take what each grader gave it, `None` where one gave nothing; takes with fewer than two grades count for
/// nothing. With `o_ck` the coincidences of levels `c` and `k` (each ordered pair of grades of a take adds
/// `1/(grades of the take − 1)`), `n_c = Σ_k o_ck`, `n = Σ_c n_c` and `δ_ck = (Σ_{g=c..k} n_g − (n_c + n_k)/2)²`:
///
/// `α = 1 − (n − 1)·Σ_{c<k} o_ck·δ_ck / Σ_{c<k} n_c·n_k·δ_ck`
///
/// `None` where fewer than two levels occur. Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
pub fn krippendorff(takes: &[Vec<Option<u8>>]) -> Option<f64> {
    let mut coincidences = vec![[0.0f64; 256]; 256];
    for take in takes {
        let given: Vec<usize> = take.iter().flatten().map(|&level| usize::from(level)).collect();
        for (i, &c) in given.iter().enumerate() {
            for (_, &k) in given.iter().enumerate().filter(|&(j, _)| j != i) {
                coincidences[c][k] += 1.0 / (given.len() - 1) as f64;
            }
        }
    }
    let n: Vec<f64> = coincidences.iter().map(|row| row.iter().sum()).collect();
    let (mut observed, mut expected) = (0.0, 0.0);
    for c in 0..256 {
        // n_c + … + n_k
        let mut run = n[c];
        for k in c + 1..256 {
            run += n[k];
            let delta = (run - (n[c] + n[k]) / 2.0).powi(2);
            observed += coincidences[c][k] * delta;
            expected += n[c] * n[k] * delta;
        }
    }
    (expected > 0.0).then(|| 1.0 - (n.iter().sum::<f64>() - 1.0) * observed / expected)
}
