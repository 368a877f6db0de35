//! Principal components.

/// The rows' coordinates on their first two principal components, and each one's share of
/// the variance. Power iteration with deflation; no d × d matrix is formed.
pub(super) fn principal(rows: &[&[f32]]) -> (Vec<[f64; 2]>, [f64; 2]) {
    let (n, d) = (rows.len(), rows.first().map_or(0, |r| r.len()));
    let mut mean = vec![0.0; d];
    for row in rows {
        mean.iter_mut().zip(*row).for_each(|(m, v)| *m += f64::from(*v) / n as f64);
    }
    let centred = |i: usize| rows[i].iter().zip(&mean).map(|(v, m)| f64::from(*v) - m);
    let total: f64 = (0..n).flat_map(centred).map(|v| v * v).sum();
    let length = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let project = |axis: &[f64]| -> Vec<f64> {
        (0..n).map(|i| centred(i).zip(axis).map(|(v, a)| v * a).sum()).collect()
    };
    let mut points = vec![[0.0; 2]; n];
    let mut share = [0.0; 2];
    let mut first: Vec<f64> = Vec::new();
    for k in 0..2 {
        // Any fixed start in the rows' span that no symmetry of the data favours.
        let mut scores: Vec<f64> =
            (1..=n).map(|i| (i as f64 * 0.618_033_988_749_895).fract() - 0.4).collect();
        let mut axis = vec![0.0; d];
        for _ in 0..300 {
            let mut next = vec![0.0; d];
            for (i, s) in scores.iter().enumerate() {
                next.iter_mut().zip(centred(i)).for_each(|(a, v)| *a += s * v);
            }
            if k == 1 {
                let along: f64 = next.iter().zip(&first).map(|(a, b)| a * b).sum();
                next.iter_mut().zip(&first).for_each(|(a, b)| *a -= along * b);
            }
            let size = length(&next);
            // What is left is rounding.
            if size.is_nan() || size <= 1e-7 * length(&scores) * total.sqrt() {
                axis.fill(0.0);
                break;
            }
            next.iter_mut().for_each(|a| *a /= size);
            let moved: f64 = axis.iter().zip(&next).map(|(a, b)| (a - b).powi(2)).sum();
            axis = next;
            scores = project(&axis);
            if moved < 1e-18 {
                break;
            }
        }
        // An axis has no direction of its own: its largest part points up.
        let largest = axis.iter().fold(0.0f64, |m, a| if a.abs() > m.abs() + 1e-9 { *a } else { m });
        if largest < 0.0 {
            axis.iter_mut().for_each(|a| *a = -*a);
        }
        let scores = project(&axis);
        if total > 0.0 {
            share[k] = scores.iter().map(|s| s * s).sum::<f64>() / total;
        }
        points.iter_mut().zip(scores).for_each(|(p, s)| p[k] = s);
        first = axis;
    }
    (points, share)
}
