//! The gradient of the contrastive loss at dual rows, of which its second derivatives are made.

use super::check::count;
use super::elementwise::times;
use super::samples::{ContrastiveOptions, Labels, both_sides, params, rows as rows_of};
use super::similarity_hvp::{bent, units};
use crate::graph::{Graph, Var};
use crate::kernels::contrastive::Metric;
use crate::kernels::contrastive_hvp as k;
use crate::kernels::elementwise::{COPY, ElementwiseParams};
use crate::{Error, Result};

/// `[n, d]` of dual rows `[2, n, d]`.
fn size(op: &'static str, argument: &'static str, [two, n, d]: [usize; 3]) -> Result<[u32; 2]> {
    match (u32::try_from(n), two, u32::try_from(d)) {
        (Ok(n @ 1..), 2, Ok(d @ 1..)) => Ok([n, d]),
        _ => {
            Err(Error::shape(op, argument, format!("needs dual rows [2, N, D], has shape [{two}, {n}, {d}]")))
        }
    }
}

/// A kernel's params for `n` rows and `m` others of `d` columns, of which `weighted` says the weights.
pub(crate) fn hvp_params(
    op: &'static str,
    [n, m, d]: [u32; 3],
    (weighted, same): (u32, bool),
    opts: ContrastiveOptions,
) -> Result<k::ContrastiveHvpParams> {
    both_sides(op, n, m)?;
    if d > u32::MAX / 2 {
        return Err(Error::shape(op, "rows", format!("needs fewer than 2^31 columns, has {d}")));
    }
    let p = params(op, [n, m, d], weighted, opts)?;
    Ok(k::ContrastiveHvpParams {
        n,
        m,
        d,
        metric: p.metric,
        margin: p.margin,
        tau: p.tau,
        scale: p.weight * p.grad_scale,
        weighted,
        same: same.into(),
    })
}

/// The sums `[2, N, D]` over all pairs of a row of `rows` `[2, N, D]` with any of `others`, or without them with the other rows.
///
/// Dual rows are rows `z`, and then how they move, `v`. With `L` the sum (not the mean) of
/// [`contrastive`](super::contrastive::contrastive)'s pairs, each counted as the product of its weights, times `weight` and
/// `grad_scale`, the first half of the sums is `∂L/∂z`, the second how that moves: without others, or where they move
/// too, the Hessian times `v`.
///
/// Rows for the cosine have norm 1, or are 0; sums are then by these rows, and the chain to rows of other norms is the caller's.
/// Nothing goes backward from here: this is not differentiated itself. [`Graph::gradients`] has all of it done where a gradient
/// of the loss is differentiated.
///
/// # Errors
/// When a shape or an option does not fit.
pub fn contrastive_hvp(
    g: &mut Graph,
    rows: Var,
    labels: impl Into<Labels>,
    others: Option<(Var, Labels)>,
    opts: ContrastiveOptions,
) -> Result<Var> {
    let (op, labels) = ("contrastive_hvp", labels.into());
    let [n, d] = size(op, "rows", g.dims(op, "rows", rows)?)?;
    labels.count(g, op, ["labels", "weights"], (rows, n as usize))?;
    let same = others.is_none();
    let (others, labels_o) = others.unwrap_or((rows, labels));
    let [m, columns] = size(op, "others", g.dims(op, "others", others)?)?;
    if d != columns {
        let message = format!("shape {:?} against rows of shape {:?}", g.shape(others), g.shape(rows));
        return Err(Error::shape(op, "others", message));
    }
    labels_o.count(g, op, ["labels_o", "weights_o"], (others, m as usize))?;
    let weighted = labels.is_weighted() | labels_o.is_weighted() << 1;
    let p = hvp_params(op, [n, m, d], (weighted, same), opts)?;
    let sums = g.temp(&[2, n as usize, d as usize]);
    let of = |labels: Labels| [labels.values(), labels.bound()];
    let ([l, w], [lo, wo]) = (of(labels), of(labels_o));
    g.launch(&k::ROWS, &p, &[rows, l, w, others, lo, wo, sums])?;
    Ok(sums)
}

/// A set of samples.
#[derive(Clone, Copy)]
pub(super) struct Set {
    /// `[N, D]`.
    pub(super) rows: Var,
    pub(super) labels: Labels,
}

/// Hands to the rows of one set, or of two whose pairs are across, how the loss's gradient moves where they move so: the Hessian
/// of the loss times that. A set that nobody moves stays.
pub(super) fn give_moves(g: &mut Graph, sets: &[(Set, Option<Var>)], opts: ContrastiveOptions) -> Result<()> {
    let op = "contrastive_hvp";
    let cosine = opts.metric == Metric::Cosine;
    let mut moving = Vec::with_capacity(2);
    for &(Set { rows, labels }, along) in sets {
        let [n, d] = g.dims(op, "rows", rows)?;
        let along = along.map_or_else(|| g.fill(&[n, d], 0.0), Ok)?;
        let duals = if cosine { units(g, rows, along)? } else { both(g, [rows, along], [n, d])? };
        moving.push((rows, along, (duals, labels)));
    }
    let counts: Vec<f64> = sets.iter().map(|(set, _)| g.shape(set.rows)[0] as f64).collect();
    let pairs = if let [n, m] = counts[..] { n * m } else { counts[0] * (counts[0] - 1.0) / 2.0 };
    let weighted = sets.iter().any(|(set, _)| set.labels.is_weighted() > 0);
    let share = if weighted { Some(share(g, op, sets)?) } else { None };
    let opts = match share {
        Some((_, relative)) => {
            for ((_, _, (_, labels)), relative) in moving.iter_mut().zip(relative) {
                *labels = Labels::weighted(labels.values(), relative);
            }
            opts
        }
        None => ContrastiveOptions { weight: (f64::from(opts.weight) / pairs) as f32, ..opts },
    };
    for (i, &(rows, along, (duals, labels))) in moving.iter().enumerate() {
        if !g.needs_grad(rows) {
            continue;
        }
        let others = (moving.len() == 2).then(|| moving[1 - i].2);
        let sums = contrastive_hvp(g, duals, labels, others, opts)?;
        let shape = g.dims::<2>(op, "rows", rows)?;
        let moves = match cosine {
            true => bent(g, rows, along, sums)?,
            false => g.window(sums, shape[0] * shape[1], &shape)?,
        };
        let moves = match share {
            Some((share, _)) => {
                let shared = g.temp(&shape);
                times(g, moves, (share, 1.0), shared)?;
                shared
            }
            None => moves,
        };
        g.give_grad(rows, moves)?;
    }
    Ok(())
}

/// Rows, and then how they move, in one place.
fn both(g: &mut Graph, halves: [Var; 2], [n, d]: [usize; 2]) -> Result<Var> {
    let duals = g.temp(&[2, n, d]);
    let p = ElementwiseParams { n: count("contrastive_hvp", "rows", &[n, d])?, factor: 1.0 };
    for (i, half) in halves.into_iter().enumerate() {
        let to = g.window(duals, i * n * d, &[n, d])?;
        g.launch(&COPY, &p, &[half, to])?;
    }
    Ok(duals)
}

/// One over what the pairs weigh, and the weights that it is by, whose products fit.
fn share(g: &mut Graph, op: &'static str, sets: &[(Set, Option<Var>)]) -> Result<(Var, [Var; 2])> {
    let (own, others) = (sets[0].0, sets[sets.len() - 1].0);
    let ([n, d], [m, _]) = (rows_of(g, op, "rows", own.rows)?, rows_of(g, op, "others", others.rows)?);
    let weighted = own.labels.is_weighted() | others.labels.is_weighted() << 1;
    let p = hvp_params(op, [n, m, d], (weighted, sets.len() == 1), ContrastiveOptions::default())?;
    let (share, relative) = (g.temp(&[1]), [n, m].map(|rows| g.temp(&[rows as usize])));
    g.launch(&k::SHARE, &p, &[own.labels.bound(), others.labels.bound(), relative[0], relative[1], share])?;
    Ok((share, relative))
}
