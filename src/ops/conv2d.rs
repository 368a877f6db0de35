//! Two-dimensional convolution.

use super::check::count;
use super::conv::{Launches, Slide, check_channels};
use crate::Result;
use crate::graph::{Graph, Var};
pub use crate::kernel::Precision;
use crate::kernels::conv2d::{BWD_B, BWD_W, BWD_X, Conv2dParams, FWD};

/// How [`conv2d`] slides; pairs are vertical, then horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions2d {
    /// Input positions from one output position to the next.
    pub stride: [usize; 2],
    /// Zeros added at either edge.
    pub padding: [usize; 2],
    /// Input positions from one tap to the next.
    pub dilation: [usize; 2],
    /// Groups that input and output channels are split into; each output channel sees its own group only.
    pub groups: usize,
    /// How exact the products are, forward and backward; [`Precision::F32`] lets the CPU take fewer of them.
    pub precision: Precision,
}

impl Default for ConvOptions2d {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, precision: Precision::F32 }
    }
}

const OP: &str = "conv2d";

/// What the kernels take, and the output's shape.
pub(crate) fn params(
    x_shape: [usize; 4],
    w_shape: [usize; 4],
    bias: Option<&[usize]>,
    options: ConvOptions2d,
) -> Result<(Conv2dParams, [usize; 4])> {
    let ConvOptions2d { stride, padding, dilation, groups, precision } = options;
    check_channels(OP, &x_shape, &w_shape, bias, groups)?;
    let ([batch, cin, h, wide], [cout, _, kh, kw]) = (x_shape, w_shape);
    let shapes = format!("x of shape {x_shape:?} and weight of shape {w_shape:?}");
    let (input, kernel) = ([h, wide], [kh, kw]);
    let mut output = [0; 2];
    for (a, out) in output.iter_mut().enumerate() {
        *out = Slide {
            input: input[a],
            kernel: kernel[a],
            stride: stride[a],
            padding: padding[a],
            dilation: dilation[a],
        }
        .output(OP, &shapes)?;
    }
    let y_shape = [batch, cout, output[0], output[1]];
    count(OP, "output", &y_shape)?;
    // Every value is below 2³² by the checks above.
    let [batch, cin, cout, groups] = [batch, cin, cout, groups].map(|v| v as u32);
    let p = Conv2dParams {
        batch,
        cin,
        cout,
        groups,
        h: h as u32,
        w: wide as u32,
        kh: kh as u32,
        kw: kw as u32,
        oh: output[0] as u32,
        ow: output[1] as u32,
        stride_h: stride[0] as u32,
        stride_w: stride[1] as u32,
        padding_h: padding[0] as u32,
        padding_w: padding[1] as u32,
        dilation_h: dilation[0] as u32,
        dilation_w: dilation[1] as u32,
        bias: bias.is_some().into(),
        splits: 1,
        tf32: precision as u32,
    };
    Ok((Conv2dParams { splits: p.runs(), ..p }, y_shape))
}

/// PyTorch's convolution: over the channels `i` of output channel `c`'s group
///
/// ```text
/// y[n,c,o,p] = b[c] + Σ_i Σ_k Σ_l w[c,i,k,l] · x[n, i, o·stride₀ + k·dilation₀ − padding₀,
///                                                      p·stride₁ + l·dilation₁ − padding₁]
/// ```
///
/// for `x` `[batch, cin, h, w]`, `w` `[cout, cin/groups, kh, kw]`, `b` `[cout]`,
/// and `y` `[batch, cout, oh, ow]`, each axis as in [`conv1d`](super::conv1d::conv1d).
///
/// # Errors
/// When shapes and options do not fit together, a dimension is empty, or 32 bits cannot index
/// what they describe.
pub fn conv2d(g: &mut Graph, x: Var, w: Var, b: Option<Var>, options: ConvOptions2d) -> Result<Var> {
    let (x_shape, w_shape) = (g.dims(OP, "x", x)?, g.dims(OP, "weight", w)?);
    let (p, y_shape) = params(x_shape, w_shape, b.map(|b| g.shape(b)), options)?;
    let rows = [&FWD, &BWD_X, &BWD_W, &BWD_B];
    Launches { rows, p, unbiased: Conv2dParams { bias: 0, ..p }, parts: p.parts() }.record(
        g,
        [x, w],
        b,
        &y_shape,
    )
}
