//! InfoNCE weighted by label distances.

use super::recorded::{OfRows, bound, finish, gradients_fit};
use super::shared::{apart, fits, launch, look_for_numbers};
use crate::device::{Buf, Device};
use crate::graph::{Graph, Var};
use crate::kernels::info_nce as kn;
use crate::ops::info_nce::{self as nce, InfoNceOptions};
use crate::{Error, Result};

/// [`info_nce`](nce::info_nce): the loss `[1]` of `n` rows of `d` columns with their labels, an anchor each, held against each
/// other or against so many `others` with theirs; and where they are given the gradients by both, f32.
///
/// A label that is not finite is an error on the CPU, where it can be seen; elsewhere it makes the loss NaN, as labels do
/// everywhere whose differences, over sigma, are not finite.
///
/// # Errors
/// When a buffer is of another length or type, an option does not fit, a label is seen to be no number, or the device fails.
pub fn info_nce(
    device: &dyn Device,
    [n, d]: [usize; 2],
    own: [&Buf; 2],
    others: Option<(usize, [&Buf; 2])>,
    options: InfoNceOptions,
    loss: &Buf,
    gradients: [Option<&Buf>; 2],
) -> Result<()> {
    let op = "info_nce";
    let read = nce_fits(device, op, [n, d], own, others)?;
    fits(op, "loss", loss, &[1])?;
    let [own_gradient, of_others] = gradients_fit(op, [n, d], others.map(|(m, _)| m), gradients)?;
    apart(op, &read, &[("loss", Some(loss)), own_gradient, of_others])?;
    let mut g = Graph::new();
    let (own, others) = nce_bound(&mut g, [n, d], own, others, gradients)?;
    let of_rows = nce::info_nce(&mut g, own.0, own.1, others, options)?;
    finish(g, device, of_rows, loss, gradients.iter().any(Option::is_some))
}

/// Whether InfoNCE's rows and labels are as many as they are said to be; and what they are called.
fn nce_fits<'a>(
    device: &dyn Device,
    op: &'static str,
    [n, d]: [usize; 2],
    own: [&'a Buf; 2],
    others: Option<(usize, [&'a Buf; 2])>,
) -> Result<Vec<(&'static str, &'a Buf)>> {
    let mut read = Vec::new();
    let others = others.map(|(m, others)| (["others", "other_labels"], m, others));
    for (names, rows, [z, labels]) in [(["embeddings", "labels"], n, own)].into_iter().chain(others) {
        fits(op, names[0], z, &[rows, d])?;
        fits(op, names[1], labels, &[rows])?;
        look_for_numbers(device, op, names[1], labels)?;
        read.extend([(names[0], z), (names[1], labels)]);
    }
    Ok(read)
}

/// Rows with their labels.
type Set = (Var, Var);

/// InfoNCE's rows with their labels, those of the others where there are any, and where gradients go.
fn nce_bound(
    g: &mut Graph,
    [n, d]: [usize; 2],
    own: [&Buf; 2],
    others: Option<(usize, [&Buf; 2])>,
    gradients: [Option<&Buf>; 2],
) -> Result<(Set, Option<Set>)> {
    let mut set = |rows: usize, [z, labels]: [&Buf; 2], gradient: Option<&Buf>| {
        Ok::<_, Error>((bound(g, z, gradient, [rows, d])?, g.bind(labels, &[rows])?))
    };
    let own = set(n, own, gradients[0])?;
    Ok((own, others.map(|(m, others)| set(m, others, gradients[1])).transpose()?))
}

/// [`info_nce_rows`](nce::info_nce_rows): the losses `[N]` of `n` rows of `d` columns, or their gradients.
///
/// Of labels as in [`info_nce`].
///
/// # Errors
/// As there.
pub fn info_nce_rows(
    device: &dyn Device,
    [n, d]: [usize; 2],
    own: [&Buf; 2],
    others: Option<(usize, [&Buf; 2])>,
    options: InfoNceOptions,
    of: OfRows<'_>,
) -> Result<()> {
    let op = "info_nce";
    let read = nce_fits(device, op, [n, d], own, others)?;
    of.fits(op, [n, d], others.map(|(m, _)| m), &read, &[])?;
    let mut g = Graph::new();
    let (own, others) = nce_bound(&mut g, [n, d], own, others, of.gradients())?;
    let losses = nce::info_nce_rows(&mut g, own.0, own.1, others, options)?;
    of.finish(g, device, losses)
}

/// The losses `[rows]` of some anchors of [`info_nce`](nce::info_nce), those from `first` on of as many as there are `labels`, of
/// whose mean over all of them it is; `cosines` `[rows, m]` of these and the rows that they are held against become the gradient
/// of that mean by them. With `own` these are the anchors' own set.
///
/// # Errors
/// When a buffer is of another length, an option does not fit, or the device fails.
pub fn info_nce_of_cosines(
    device: &dyn Device,
    [rows, m]: [usize; 2],
    (first, own): (usize, bool),
    [labels, other_labels]: [&Buf; 2],
    options: InfoNceOptions,
    cosines: &Buf,
    losses: &Buf,
) -> Result<()> {
    let op = "info_nce";
    fits(op, "other_labels", other_labels, &[m])?;
    fits(op, "cosines", cosines, &[rows, m])?;
    fits(op, "losses", losses, &[rows])?;
    let p = nce::rows_params(op, [labels.len(), m], (first, rows), own, options)?;
    device.run_once(vec![launch(&kn::ROWS, &p, &[labels, other_labels, labels, cosines, losses])])
}
