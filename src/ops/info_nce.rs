//! InfoNCE weighted by how far labels are from one another: an anchor's row is to be told from all as those are whose labels are
//! near its own.

use super::anchors::{Pairs, block, positive, rows_of};
use super::check::same_elem;
use super::contrastive::two_or_more;
use super::elementwise::give_scaled;
use crate::graph::{Graph, Var};
use crate::kernels::info_nce as k;
use crate::kernels::similarity::Similarity;
use crate::{Error, Result};

/// What the loss measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfoNceOptions {
    /// How far labels are from one another that count as near, σ, in their own unit; positive.
    pub sigma: f32,
    /// What cosines are divided by, t; positive.
    pub temperature: f32,
}

/// The loss `[1]` of the rows of `z` `[N, D]` with finite `labels` `[N]`, each of which is an anchor i held against the rows j of
/// `others` `[M, D]` with labels `[M]`, or without these against all other rows of its own set: the mean over the anchors of
///
/// ```text
/// Σ_j w_ij·(log Σ_k exp(cos(z_i, o_k)/t) − cos(z_i, o_j)/t),        w_ij = exp(−δ_ij²/2σ²) / Σ_k exp(−δ_ik²/2σ²)
/// ```
///
/// where δ_ij is how far their labels are from one another: Dufumier et al., "Contrastive Learning with Continuous Proxy
/// Meta-Data for 3D MRI Classification", MICCAI 2021. Where σ is far below all differences between labels that is the mean over
/// the anchor's nearest ones: over those with its own label the supervised contrastive loss (Khosla et al., NeurIPS 2020), and
/// where each label is there once on either side InfoNCE.
///
/// It takes `N·M·D` time, and memory for some rows of the cosines, whatever `N`. Rows may be stored in 16 bits; gradients are
/// f32. The cosine with a zero row is 0, and so is the gradient. A row that is not finite makes the loss NaN, as do labels whose
/// differences, over σ, are not all finite.
///
/// # Errors
/// When a shape does not fit, sets are stored differently, there is no pair, or an option is not positive.
pub fn info_nce(
    g: &mut Graph,
    z: Var,
    labels: Var,
    others: Option<(Var, Var)>,
    options: InfoNceOptions,
) -> Result<Var> {
    let rows = |var: Var| g.shape(var).first().map_or(1, |&n| n);
    let of_block = block(rows(z), rows(others.map_or(z, |(others, _)| others)));
    in_blocks(g, (z, labels), others, options, of_block)
}

/// [`info_nce`] in blocks of so many anchors.
pub(crate) fn in_blocks(
    g: &mut Graph,
    (z, labels): (Var, Var),
    others: Option<(Var, Var)>,
    InfoNceOptions { sigma, temperature }: InfoNceOptions,
    of_block: usize,
) -> Result<Var> {
    let op = "info_nce";
    let [n, d] = rows_of(g, op, "z", z)?;
    with_labels(g, op, ("z", z), ("labels", labels))?;
    let m = match others {
        Some((others, other_labels)) => {
            let [m, columns] = rows_of(g, op, "others", others)?;
            if columns != d {
                let message = format!("shape [{m}, {columns}] against z of shape [{n}, {d}]");
                return Err(Error::shape(op, "others", message));
            }
            same_elem(g, op, (others, "others"), (z, "z"))?;
            with_labels(g, op, ("others", others), ("other_labels", other_labels))?;
            m
        }
        None => {
            two_or_more(op, "z", [n, d])?;
            n
        }
    };
    positive(op, "sigma", sigma)?;
    positive(op, "temperature", temperature)?;
    let own = u32::from(others.is_none());
    let (others, other_labels) = others.unwrap_or((z, labels));
    let pairs = Pairs { op, z, others, kind: Similarity::Cosine };
    let gradient = pairs.wanted(g).into();
    let p = k::InfoNceParams { n, m, first: 0, rows: 0, own, gradient, sigma, temperature };
    let (losses, loss) = (g.temp(&[n as usize]), g.temp(&[1]));
    let [dz, d_others] = pairs.in_blocks(g, of_block, |g, anchors, cosines| {
        let p = k::InfoNceParams { first: anchors.start, rows: anchors.len() as u32, ..p };
        let of_anchors = g.window(losses, anchors.start as usize, &[anchors.len()])?;
        g.launch(&k::ROWS, &p, &[labels, other_labels, cosines, of_anchors])
    })?;
    g.launch(&k::MEAN, &p, &[losses, loss])?;
    // Of one set, whether it is held against itself by name or not, both are one gradient.
    let sets = if others == z { vec![(z, dz)] } else { vec![(z, dz), (others, d_others)] };
    let rows: Vec<Var> = sets.iter().map(|&(rows, _)| rows).collect();
    g.on_backward(loss, &rows, move |g, up| {
        sets.into_iter().try_for_each(|(rows, gradient)| give_scaled(g, rows, gradient, up))
    });
    Ok(loss)
}

/// Checks for a label for each row.
fn with_labels(
    g: &Graph,
    op: &'static str,
    (of_rows, rows): (&'static str, Var),
    (argument, labels): (&'static str, Var),
) -> Result<()> {
    let [count] = g.dims(op, argument, labels)?;
    if g.shape(rows).first() == Some(&count) {
        return Ok(());
    }
    let message = format!("shape [{count}] for the rows of {of_rows} of shape {:?}", g.shape(rows));
    Err(Error::shape(op, argument, message))
}
