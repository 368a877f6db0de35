//! The contrastive loss of each row's pairs.

use super::anchors::{Pairs, block_of, rows_of};
use super::check::same_elem;
use super::samples::{ContrastiveOptions, Labels, params, two_or_more};
use crate::graph::{Graph, Var};
use crate::kernels::contrastive::Metric;
use crate::kernels::pair_loss as k;
use crate::kernels::similarity::Similarity;
use crate::{Error, Result};

/// What the loss measures: as in [`ContrastiveOptions`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLossOptions {
    /// What similarities are: Euclidean distances, or cosines, of which the distance is `1 − cos`.
    pub metric: Metric,
    /// A negative pair of label distance `w` should be `margin·w` apart; positive.
    pub margin: f32,
    /// Largest label distance of a positive pair, with the tolerance of [`ContrastiveOptions::tau`].
    pub tau: f32,
}

impl Default for PairLossOptions {
    /// Euclidean, margin 0.5, positive at equal labels.
    fn default() -> Self {
        let ContrastiveOptions { metric, margin, tau, .. } = ContrastiveOptions::default();
        Self { metric, margin, tau }
    }
}

/// The losses `[R]` of the pairs of each row of `similarities` `[R, M]`, and what these pairs weigh, `[R]`: of pairs whose labels
/// are `apart` `[R, M]`, and which count as `weights` `[R, M]` say, or all alike.
///
/// It is what [`contrastive`](super::contrastive::contrastive) sums over pairs, for those who have more to say of them: labels of
/// any kind, of which only the distances matter, pairs that do not count, a gradient of its own for each row's loss. That by the
/// similarities goes on to the embeddings through [`similarity`](super::similarity::similarity); a block of rows at a time keeps
/// memory to a block's pairs. With `own` rows are those of the columns' own set from that one on, and none makes a pair with
/// itself.
///
/// A pair of weight 0 has no part, whatever it holds. The loss of a row is NaN where a weight is not finite or negative, or of a
/// pair that counts the similarity is not finite, or how far its labels are apart is not finite or negative. What pairs weigh has
/// no gradient.
///
/// # Errors
/// When a shape or an option does not fit.
pub fn pair_loss(
    g: &mut Graph,
    similarities: Var,
    apart: Var,
    weights: Option<Var>,
    own: Option<usize>,
    options: PairLossOptions,
) -> Result<[Var; 2]> {
    let op = "pair_loss";
    let [rows, m] = g.dims(op, "similarities", similarities)?;
    let p = pair_loss_params(op, [rows, m], own, options)?;
    let p = k::PairLossParams { weighted: if weights.is_some() { k::OF_PAIRS } else { 0 }, ..p };
    for (argument, var) in [("apart", Some(apart)), ("weights", weights)] {
        let Some(var) = var else { continue };
        if g.shape(var) != [rows, m] {
            let message = format!("shape {:?} for similarities of shape {:?}", g.shape(var), [rows, m]);
            return Err(Error::shape(op, argument, message));
        }
    }
    let (sums, totals) = (g.temp(&[rows]), g.temp(&[rows]));
    let bound = weights.unwrap_or(apart);
    g.launch(&k::FWD, &p, &[apart, apart, bound, similarities, sums, totals])?;
    g.on_backward(sums, &[similarities], move |g, upstream| {
        let slopes = g.grad_target(similarities).unwrap_or_else(|| g.temp_like(similarities));
        g.launch(&k::BWD, &p, &[apart, apart, bound, similarities, upstream, slopes])?;
        g.give_grad(similarities, slopes)
    });
    Ok([sums, totals])
}

/// The losses `[N]` of the rows of `z` `[N, D]`, and what their pairs weigh, `[N]`: of each row with all others of its set, or
/// with those of `others` `[M, D]`.
///
/// The one over the other is each row's mean over its pairs; without weights, the mean of these is
/// [`contrastive`](super::contrastive::contrastive), or [`contrastive_cross`](super::contrastive::contrastive_cross). A row
/// counts in the others' pairs as its weight says; its own loss is that whatever it weighs. A row that is not finite makes the
/// losses of all its pairs NaN, and all gradients, whatever it weighs.
///
/// It takes memory for some rows of the distances, whatever `N`; a backward pass goes through the rows again. Rows may be stored
/// in 16 bits; gradients are f32.
///
/// # Errors
/// When a shape or an option does not fit, sets are stored differently, or there is no pair.
pub fn contrastive_rows(
    g: &mut Graph,
    z: Var,
    labels: impl Into<Labels>,
    others: Option<(Var, Labels)>,
    options: PairLossOptions,
) -> Result<[Var; 2]> {
    let of_block = block_of(g, z, others.map_or(z, |(others, _)| others));
    rows_in_blocks(g, (z, labels.into()), others, options, of_block)
}

/// [`contrastive_rows`] in blocks of so many rows.
pub(crate) fn rows_in_blocks(
    g: &mut Graph,
    (z, labels): (Var, Labels),
    others: Option<(Var, Labels)>,
    options: PairLossOptions,
    of_block: usize,
) -> Result<[Var; 2]> {
    let op = "contrastive_rows";
    let [n, d] = rows_of(g, op, "z", z)?;
    labels.count(g, op, ["labels", "weights"], (z, n as usize))?;
    let own = others.is_none();
    if own {
        two_or_more(op, "z", [n, d])?;
    }
    let (others, other_labels) = others.unwrap_or((z, labels));
    let [m, columns] = rows_of(g, op, "others", others)?;
    if columns != d {
        let message = format!("shape [{m}, {columns}] against z of shape [{n}, {d}]");
        return Err(Error::shape(op, "others", message));
    }
    same_elem(g, op, (others, "others"), (z, "z"))?;
    other_labels.count(g, op, ["other_labels", "other_weights"], (others, m as usize))?;
    let kind = match options.metric {
        Metric::Euclidean => Similarity::Euclidean,
        Metric::Cosine => Similarity::Cosine,
    };
    // A block is checked as it is launched.
    let p = pair_loss_params(op, [1, m as usize], None, options)?;
    let weighted = if other_labels.is_weighted() > 0 { k::OF_COLUMNS } else { 0 };
    let p = k::PairLossParams { own: own.into(), apart: 0, weighted, ..p };
    let pairs = Pairs { op, z, others, kind };
    let (sums, totals) = (g.temp(&[n as usize]), g.temp(&[n as usize]));
    let bound = [other_labels.values(), other_labels.bound()];
    pairs.in_blocks(g, of_block, false, |g, rows, similarities| {
        let p = k::PairLossParams { first: rows.start, rows: rows.len() as u32, ..p };
        let mut of_rows = |var| g.window(var, rows.start as usize, &[rows.len()]);
        let (labels, sums, totals) = (of_rows(labels.values())?, of_rows(sums)?, of_rows(totals)?);
        g.launch(&k::FWD, &p, &[labels, bound[0], bound[1], similarities, sums, totals])?;
        Ok(similarities)
    })?;
    let sets = pairs.sets();
    g.on_backward(sums, &sets.clone(), move |g, upstream| {
        let gradients = pairs.in_blocks(g, of_block, true, |g, rows, similarities| {
            let p = k::PairLossParams { first: rows.start, rows: rows.len() as u32, ..p };
            let mut of_rows = |var| g.window(var, rows.start as usize, &[rows.len()]);
            let (labels, upstream) = (of_rows(labels.values())?, of_rows(upstream)?);
            let slopes = g.temp_like(similarities);
            g.launch(&k::BWD, &p, &[labels, bound[0], bound[1], similarities, upstream, slopes])?;
            Ok(slopes)
        })?;
        sets.iter().zip(gradients).try_for_each(|(&rows, gradient)| g.give_grad(rows, gradient))
    });
    Ok([sums, totals])
}

/// The kernels' params of a block `[rows, m]` of pairs whose labels are a matrix.
pub(crate) fn pair_loss_params(
    op: &'static str,
    [rows, m]: [usize; 2],
    own: Option<usize>,
    PairLossOptions { metric, margin, tau }: PairLossOptions,
) -> Result<k::PairLossParams> {
    let counted = |v: usize| u32::try_from(v).ok().filter(|&v| v > 0);
    let (Some(of_rows), Some(of_m), Some(_)) =
        (counted(rows), counted(m), rows.checked_mul(m).and_then(counted))
    else {
        let message = format!("needs from 1 to 2^32 − 1 pairs, has shape [{rows}, {m}]");
        return Err(Error::shape(op, "similarities", message));
    };
    if own.is_some_and(|first| first.checked_add(rows).is_none_or(|end| end > m)) {
        let message = format!("rows from {} on of {m} are not {rows}", own.unwrap_or_default());
        return Err(Error::shape(op, "own", message));
    }
    let options = ContrastiveOptions { metric, margin, tau, ..ContrastiveOptions::default() };
    let p = params(op, [of_rows, of_m, 1], 0, options)?;
    Ok(k::PairLossParams {
        rows: of_rows,
        m: of_m,
        first: own.map_or(0, |first| first as u32),
        own: own.is_some().into(),
        apart: k::MATRIX,
        weighted: 0,
        metric: p.metric,
        margin: p.margin,
        tau: p.tau,
    })
}
