//! Statistics of short lists, defined on empty ones too.

/// The mean; 0 of none.
pub(super) fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    if values.is_empty() { 0.0 } else { (sum / values.len() as f64) as f32 }
}

/// The mean by weights; 0 where they sum to 0.
pub(super) fn weighted_mean(values: &[f32], weights: &[f32]) -> f32 {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let sum: f64 = values.iter().zip(weights).map(|(&v, &w)| f64::from(v) * f64::from(w)).sum();
    if total > 0.0 { (sum / total) as f32 } else { 0.0 }
}

/// The deviation, over n; 0 of none.
pub(super) fn deviation(values: &[f32]) -> f32 {
    let middle = f64::from(mean(values));
    let squares: f64 = values.iter().map(|&v| (f64::from(v) - middle).powi(2)).sum();
    if values.is_empty() { 0.0 } else { (squares / values.len() as f64).sqrt() as f32 }
}

/// The median; 0 of none.
pub(super) fn median(values: &[f32]) -> f32 {
    super::super::blocks::median(&mut values.to_vec())
}

/// The least value; 0 of none.
pub(super) fn least(values: &[f32]) -> f32 {
    values.iter().copied().reduce(f32::min).unwrap_or(0.0)
}

/// The `N` largest values, largest first, filled up with 0.
pub(super) fn largest<const N: usize>(values: &[f32]) -> [f32; N] {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    std::array::from_fn(|i| sorted.get(i).copied().unwrap_or(0.0))
}

/// The `N` smallest values, smallest first, filled up with the last of them; zeros of none.
pub(super) fn smallest<const N: usize>(values: &[f32]) -> [f32; N] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    std::array::from_fn(|i| sorted.get(i.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0))
}

/// How many values a test holds for.
pub(super) fn count(values: &[f32], test: impl Fn(f32) -> bool) -> f32 {
    values.iter().filter(|&&v| test(v)).count() as f32
}

/// The share of values that a test holds for; 0 of none.
pub(super) fn share(values: &[f32], test: impl Fn(f32) -> bool) -> f32 {
    count(values, test) / values.len().max(1) as f32
}

/// The longest run of values that a test holds for.
pub(super) fn longest_run(values: &[f32], test: impl Fn(f32) -> bool) -> f32 {
    let (mut longest, mut now) = (0, 0);
    for &value in values {
        now = if test(value) { now + 1 } else { 0 };
        longest = longest.max(now);
    }
    longest as f32
}
