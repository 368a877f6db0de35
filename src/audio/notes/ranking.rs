//! How typical each reference take of a melody is.

use super::super::align::{AlignOptions, Key, align_blocks};
use super::super::blocks::{Blocks, median};
use crate::Result;
use rayon::prelude::*;

/// Other references that each is compared with, at most.
const COMPARED: usize = 12;

/// How far each reference is from the others: the median of cost per step of its alignments to up to 12 of them, in the same
/// key; 0 where there is no other. The lower, the more typical. No grade is used.
///
/// Reference `k` of `K` is compared with `(k + 1 + ⌊i·(K − 1)/c⌋) mod K`, `i` in `0..c`, `c = min(12, K − 1)`: spread over all,
/// and others for each. Takes `24·K` alignments, on all threads; the result does not depend on their number.
///
/// # Errors
/// As [`align_blocks`].
pub fn typicality(references: &[Blocks], options: &AlignOptions) -> Result<Vec<f32>> {
    let all = references.len();
    let of = |k: usize| -> Result<f32> {
        let compared = COMPARED.min(all - 1);
        let cost = |i: usize| {
            let other = (k + 1 + i * (all - 1) / compared) % all;
            let aligned = align_blocks(&references[k], &references[other], Key::Same, options)?;
            Ok(aligned.cost / aligned.path.len() as f32)
        };
        Ok(median(&mut (0..compared).map(cost).collect::<Result<Vec<f32>>>()?))
    };
    (0..all).into_par_iter().map(of).collect()
}

/// The references from the most typical to the least, as indices; of equal ones the first comes first.
///
/// # Errors
/// As [`typicality`].
pub fn rank(references: &[Blocks], options: &AlignOptions) -> Result<Vec<usize>> {
    let typicality = typicality(references, options)?;
    let mut order: Vec<usize> = (0..references.len()).collect();
    order.sort_by(|&a, &b| typicality[a].total_cmp(&typicality[b]));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::super::tune::{TUNE, blocks, sing};
    use super::*;

    #[test]
    fn a_reference_with_a_wrong_note_comes_last_in_whatever_key() {
        let mut takes: Vec<Blocks> = (0..5).map(|k| blocks(&sing(&TUNE, 0.1 * k as f32))).collect();
        let mut wrong = TUNE;
        wrong[1].0 += 3.0;
        takes.insert(2, blocks(&sing(&wrong, 0.0)));
        let order = rank(&takes, &AlignOptions::default()).unwrap();
        assert_eq!(order, [0, 1, 3, 4, 5, 2]);
        let typical = typicality(&takes, &AlignOptions::default()).unwrap();
        assert!(typical[2] > 0.1 && typical[0] < 1e-4, "{typical:?}");
    }

    #[test]
    fn one_reference_is_the_best_and_of_none_there_is_none() {
        assert_eq!(rank(&[blocks(&sing(&TUNE, 0.0))], &AlignOptions::default()).unwrap(), [0]);
        assert_eq!(rank(&[], &AlignOptions::default()).unwrap(), [0; 0]);
    }
}
