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

/// Where values lie densest: the mean of what is within `reach` of the value that is most densely surrounded, each weighted by
/// its nearness; of equally dense ones that which is nearest to the middle one. 0 of none. Unlike the median it minds no
/// outliers, however many lie on one side. Sorts `values`, and tries 512 of many.
pub(super) fn densest(values: &mut [f64], reach: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let nearness = |at: f64, value: f64| (1.0 - (at - value).abs() / reach).max(0.0);
    let density = |at: f64| values.iter().map(|&value| nearness(at, value)).sum::<f64>();
    let Some(&middle) = values.get(values.len() / 2) else { return 0.0 };
    let tried = values.iter().step_by(values.len().div_ceil(512));
    let ranked = tried.map(|&at| (density(at), -(at - middle).abs(), at));
    let best = ranked.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let at = best.map_or(middle, |best| best.2);
    values.iter().map(|&value| nearness(at, value) * value).sum::<f64>() / density(at)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_densest_place_is_found_beside_any_outliers() {
        assert_eq!((densest(&mut [], 1.0), densest(&mut [3.0], 1.0)), (0.0, 3.0));
        // Half of the values lie far off on one side, where the median would go.
        assert!((densest(&mut [9.0, 1.0, 7.0, 1.1, 5.0, 0.9, 3.0, 11.0], 0.5) - 1.0).abs() < 1e-9);
        // Of two equal places the one in the middle.
        assert_eq!(densest(&mut [0.0, 0.0, 5.0, 5.0, 6.5], 1.0), 5.0);
        let mut many: Vec<f64> = (0..20_000).map(|i| if i % 3 == 0 { f64::from(i) } else { -2.0 }).collect();
        assert_eq!(densest(&mut many, 0.5), -2.0);
    }
}
