//! What the nearest of known takes were rated: whether an embedding puts alike what is rated alike.

use crate::{Error, Result};

/// How far apart two rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// `‖a − b‖`.
    Euclidean,
    /// `1 − a·b / (‖a‖‖b‖)`; 1 when a row is zero.
    Cosine,
}

/// The mean rating of the `k` known rows that lie nearest to each asked row, of all if they are fewer; the first of those that
/// are equally near. `known` is row-major `[ratings.len(), width]`, `asked` `[_, width]`. Distances are taken in f64.
///
/// Where a distance is no number, so is the answer. Takes O(known · asked · width) time.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit, or there is nothing to choose: `k` or `width` 0, or no known row.
pub fn neighbours(
    known: &[f32],
    ratings: &[f32],
    asked: &[f32],
    width: usize,
    k: usize,
    distance: Distance,
) -> Result<Vec<f32>> {
    let refuse = |argument, message: String| Err(Error::shape("neighbours", argument, message));
    if width == 0 || k == 0 {
        return refuse(if k == 0 { "k" } else { "width" }, "0, where it is to be at least 1".into());
    }
    if ratings.is_empty() || ratings.len().checked_mul(width) != Some(known.len()) {
        let message = format!("{} values, where {} ratings have {width} each", known.len(), ratings.len());
        return refuse("known", message);
    }
    if !asked.len().is_multiple_of(width) {
        return refuse("asked", format!("{} values are no whole rows of {width}", asked.len()));
    }
    let squares: Vec<f64> = known.chunks_exact(width).map(|row| dot(row, row)).collect();
    let mut far: Vec<(f64, usize)> = Vec::with_capacity(ratings.len());
    let of_row = |row: &[f32]| {
        far.clear();
        let own = dot(row, row);
        for (i, (other, square)) in known.chunks_exact(width).zip(&squares).enumerate() {
            let distance = match distance {
                Distance::Euclidean => squared(row, other),
                Distance::Cosine if own == 0.0 || *square == 0.0 => 1.0,
                Distance::Cosine => 1.0 - dot(row, other) / (own.sqrt() * square.sqrt()),
            };
            far.push((distance, i));
        }
        if far.iter().any(|f| f.0.is_nan()) {
            return f32::NAN;
        }
        let k = k.min(far.len());
        let nearer = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        far.select_nth_unstable_by(k - 1, nearer);
        // One order of adding up, whatever the selection made of it.
        far[..k].sort_unstable_by(nearer);
        (far[..k].iter().map(|f| f64::from(ratings[f.1])).sum::<f64>() / k as f64) as f32
    };
    Ok(asked.chunks_exact(width).map(of_row).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The square of the Euclidean distance, which has its order.
fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}
