//! InfoNCE weighted by how far labels are from one another: an anchor's row is to be told from all as those are whose labels are
//! near its own.

use super::anchors::{Pairs, block_of, of_anchors, positive, rows_of};
use super::check::same_elem;
use super::elementwise::give_scaled;
use super::samples::two_or_more;
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
    let of_block = block_of(g, z, others.map_or(z, |(others, _)| others));
    in_blocks(g, (z, labels), others, options, of_block)
}

/// [`info_nce`] in blocks of so many anchors.
pub(crate) fn in_blocks(
    g: &mut Graph,
    own: (Var, Var),
    others: Option<(Var, Var)>,
    options: InfoNceOptions,
    of_block: usize,
) -> Result<Var> {
    let held = Held::checked(g, own, others, options, of_block)?;
    let (losses, loss) = (g.temp(&[held.p.n as usize]), g.temp(&[1]));
    let gradient = if held.pairs.wanted(g) { k::OF_MEAN } else { 0 };
    let gradients = held.run(g, gradient, held.labels, losses)?;
    g.launch(&k::MEAN, &held.p, &[losses, loss])?;
    let sets = held.pairs.sets();
    g.on_backward(loss, &sets.clone(), move |g, up| {
        sets.iter()
            .zip(gradients)
            .try_for_each(|(&rows, gradient)| give_scaled(g, "info_nce", rows, gradient, up))
    });
    Ok(loss)
}

/// The losses `[N]` of the anchors, of which [`info_nce`] is the mean.
///
/// A backward pass goes through the anchors again, in the memory of some rows of the cosines.
///
/// # Errors
/// As [`info_nce`].
pub fn info_nce_rows(
    g: &mut Graph,
    z: Var,
    labels: Var,
    others: Option<(Var, Var)>,
    options: InfoNceOptions,
) -> Result<Var> {
    let of_block = block_of(g, z, others.map_or(z, |(others, _)| others));
    rows_in_blocks(g, (z, labels), others, options, of_block)
}

/// [`info_nce_rows`] in blocks of so many anchors.
pub(crate) fn rows_in_blocks(
    g: &mut Graph,
    own: (Var, Var),
    others: Option<(Var, Var)>,
    options: InfoNceOptions,
    of_block: usize,
) -> Result<Var> {
    let held = Held::checked(g, own, others, options, of_block)?;
    let losses = g.temp(&[held.p.n as usize]);
    held.run(g, 0, held.labels, losses)?;
    let sets = held.pairs.sets();
    g.on_backward(losses, &sets.clone(), move |g, upstream| {
        let again = g.temp_like(losses);
        let gradients = held.run(g, k::OF_EACH, upstream, again)?;
        sets.iter().zip(gradients).try_for_each(|(&rows, gradient)| g.give_grad(rows, gradient))
    });
    Ok(losses)
}

/// Anchors and what they are held against.
struct Held {
    pairs: Pairs,
    labels: Var,
    other_labels: Var,
    p: k::InfoNceParams,
    of_block: usize,
}

impl Held {
    fn checked(
        g: &Graph,
        (z, labels): (Var, Var),
        others: Option<(Var, Var)>,
        options: InfoNceOptions,
        of_block: usize,
    ) -> Result<Self> {
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
        let p = rows_params(op, [n, m].map(|v| v as usize), (0, n as usize), others.is_none(), options)?;
        let (others, other_labels) = others.unwrap_or((z, labels));
        let pairs = Pairs { op, z, others, kind: Similarity::Cosine };
        Ok(Self { pairs, labels, other_labels, p, of_block })
    }

    /// The anchors' losses, and the gradients where it says of what.
    fn run(&self, g: &mut Graph, gradient: u32, upstream: Var, losses: Var) -> Result<[Var; 2]> {
        self.pairs.in_blocks(g, self.of_block, gradient > 0, |g, anchors, cosines| {
            let p = k::InfoNceParams { first: anchors.start, rows: anchors.len() as u32, gradient, ..self.p };
            let mut of_anchors = |var| g.window(var, anchors.start as usize, &[anchors.len()]);
            let (upstream, losses) = (of_anchors(upstream)?, of_anchors(losses)?);
            g.launch(&k::ROWS, &p, &[self.labels, self.other_labels, upstream, cosines, losses])?;
            Ok(cosines)
        })
    }
}

/// What a launch over so many of `n` anchors, from the first on, and `m` rows is told, where it gives the gradient too.
pub(crate) fn rows_params(
    op: &'static str,
    [n, m]: [usize; 2],
    rows: (usize, usize),
    own: bool,
    InfoNceOptions { sigma, temperature }: InfoNceOptions,
) -> Result<k::InfoNceParams> {
    positive(op, "sigma", sigma)?;
    positive(op, "temperature", temperature)?;
    let [first, rows] = of_anchors(op, rows, n, m)?;
    if own && n != m {
        return Err(Error::shape(op, "labels", format!("{n} for the {m} rows of one set")));
    }
    let (n, m, own) = (n as u32, m as u32, own.into());
    Ok(k::InfoNceParams { n, m, first, rows, own, gradient: k::OF_MEAN, sigma, temperature })
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
