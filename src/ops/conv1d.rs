//! One-dimensional convolution.

use crate::graph::{Graph, Var};
pub use crate::kernel::Precision;
use crate::kernels::conv1d as k;
use crate::{Error, Result};

/// How [`conv1d`] slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions1d {
    /// Input positions from one output position to the next.
    pub stride: usize,
    /// Zeros added at either end.
    pub padding: usize,
    /// Input positions from one tap to the next.
    pub dilation: usize,
    /// Groups that input and output channels are split into; each output channel sees its own group only.
    pub groups: usize,
    /// How exact the products are, forward and backward.
    pub precision: Precision,
}

impl Default for ConvOptions1d {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1, precision: Precision::F32 }
    }
}

/// One axis of a convolution: input length, taps, stride, padding, dilation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slide {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Slide {
    /// Output positions along the axis; `shapes` names both shapes in messages.
    pub fn output(&self, op: &'static str, shapes: &str) -> Result<usize> {
        let Self { input, kernel, stride, padding, dilation } = *self;
        for (argument, value) in [("stride", stride), ("dilation", dilation)] {
            if value == 0 {
                return Err(Error::shape(op, argument, format!("must be at least 1, is 0, for {shapes}")));
            }
        }
        // Signed 32-bit positions on a device must reach every padded one, and one stride beyond.
        let fits = |v: Option<usize>| v.filter(|&v| v <= i32::MAX as usize);
        let padded = fits(padding.checked_mul(2).and_then(|p| p.checked_add(input))).ok_or_else(|| {
            Error::shape(op, "padding", format!("{padding} is beyond 32-bit indexing, for {shapes}"))
        })?;
        let reach = fits((kernel - 1).checked_mul(dilation).and_then(|r| r.checked_add(1)))
            .filter(|&reach| reach <= padded)
            .ok_or_else(|| {
                Error::shape(
                    op,
                    "weight",
                    format!(
                        "{kernel} taps with dilation {dilation} reach beyond the {input} positions \
                         with padding {padding} at either end, for {shapes}"
                    ),
                )
            })?;
        fits(padded.checked_add(stride)).ok_or_else(|| {
            Error::shape(op, "stride", format!("{stride} is beyond 32-bit indexing, for {shapes}"))
        })?;
        Ok((padded - reach) / stride + 1)
    }
}

/// Checks what does not depend on the number of dimensions; shapes are of `x`, the weight and the bias.
pub(crate) fn check_channels(
    op: &'static str,
    x: &[usize],
    w: &[usize],
    b: Option<&[usize]>,
    groups: usize,
) -> Result<()> {
    let shapes = format!("x of shape {x:?} and weight of shape {w:?}");
    for (argument, shape) in [("x", x), ("weight", w)] {
        if shape.contains(&0) {
            return Err(Error::shape(op, argument, format!("has an empty dimension: {shapes}")));
        }
        count(op, argument, shape)?;
    }
    let (cin, cout) = (x[1], w[0]);
    if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
        return Err(Error::shape(
            op,
            "groups",
            format!("{groups} does not divide {cin} input and {cout} output channels: {shapes}"),
        ));
    }
    if w[1] != cin / groups {
        return Err(Error::shape(
            op,
            "weight",
            format!("needs {} input channels in each of {groups} groups: {shapes}", cin / groups),
        ));
    }
    match b {
        Some(b) if b != [cout] => {
            Err(Error::shape(op, "bias", format!("shape {b:?} instead of [{cout}], for {shapes}")))
        }
        _ => Ok(()),
    }
}

/// Checks that a buffer of this shape can be indexed with 32 bits.
pub(crate) fn count(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<()> {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match n {
        Some(n) if u32::try_from(n).is_ok() => Ok(()),
        _ => Err(Error::shape(
            op,
            argument,
            format!("shape {shape:?} has more elements than 32 bits can index"),
        )),
    }
}

const OP: &str = "conv1d";

/// What the kernels take, and the output's shape.
pub(crate) fn params(
    x_shape: [usize; 3],
    w_shape: [usize; 3],
    bias: Option<&[usize]>,
    options: ConvOptions1d,
) -> Result<(k::Conv1dParams, [usize; 3])> {
    let ConvOptions1d { stride, padding, dilation, groups, .. } = options;
    check_channels(OP, &x_shape, &w_shape, bias, groups)?;
    let ([batch, cin, t], [cout, _, taps]) = (x_shape, w_shape);
    let shapes = format!("x of shape {x_shape:?} and weight of shape {w_shape:?}");
    let out = Slide { input: t, kernel: taps, stride, padding, dilation }.output(OP, &shapes)?;
    let y_shape = [batch, cout, out];
    count(OP, "output", &y_shape)?;
    // Every value is below 2³² by the checks above.
    let [n, ci, co, gr, len, ks] = [batch, cin, cout, groups, t, taps].map(|v| v as u32);
    let [out_len, st, pad, dil] = [out, stride, padding, dilation].map(|v| v as u32);
    let p = k::Conv1dParams {
        batch: n,
        cin: ci,
        cout: co,
        groups: gr,
        t: len,
        k: ks,
        out: out_len,
        stride: st,
        padding: pad,
        dilation: dil,
        bias: bias.is_some().into(),
        splits: 1,
        tf32: (options.precision == Precision::Tf32).into(),
    };
    Ok((k::Conv1dParams { splits: p.runs(), ..p }, y_shape))
}

/// `y[n,c,o] = b[c] + Σ_i Σ_k w[c,i,k] · x[n, i, o·stride + k·dilation − padding]`, PyTorch's
/// convention: `x` `[batch, cin, t]`, `w` `[cout, cin/groups, taps]`, `b` `[cout]`, and `y`
/// `[batch, cout, (t + 2·padding − dilation·(taps − 1) − 1)/stride + 1]`, rounded down.
///
/// # Errors
/// When shapes and options do not fit together, a dimension is empty, or 32 bits cannot index
/// what they describe.
pub fn conv1d(g: &mut Graph, x: Var, w: Var, b: Option<Var>, options: ConvOptions1d) -> Result<Var> {
    let (x_shape, w_shape) = (g.dims(OP, "x", x)?, g.dims(OP, "weight", w)?);
    let (p, y_shape) = params(x_shape, w_shape, b.map(|b| g.shape(b)), options)?;
    let y = g.temp(&y_shape);
    g.launch(&k::FWD, &p, &[x, w, b.unwrap_or(w), y])?;
    let inputs: Vec<Var> = [x, w].into_iter().chain(b).collect();
    g.on_backward(y, &inputs, move |g, dy| {
        if let Some(dx) = g.grad_target(x) {
            g.launch(&k::BWD_X, &p, &[dy, w, dx])?;
            g.give_grad(x, dx)?;
        }
        if let Some(dw) = g.grad_target(w) {
            let part = g.temp(&[p.parts()]);
            g.launch(&k::BWD_W, &p, &[x, dy, part, dw])?;
            g.give_grad(w, dw)?;
        }
        if let Some(b) = b
            && let Some(db) = g.grad_target(b)
        {
            g.launch(&k::BWD_B, &p, &[dy, db])?;
            g.give_grad(b, db)?;
        }
        Ok(())
    });
    Ok(y)
}
