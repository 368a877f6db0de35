//! One-dimensional convolution.

use super::check::count;
use super::conv::{Launches, Slide, check_channels};
use crate::Result;
use crate::graph::{Graph, Var};
pub use crate::kernel::Precision;
use crate::kernels::conv1d::{BWD_B, BWD_W, BWD_X, Conv1dParams, FWD};

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
    /// How exact the products are, forward and backward; [`Precision::F32`] lets the CPU take fewer of them.
    pub precision: Precision,
}

impl Default for ConvOptions1d {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1, precision: Precision::F32 }
    }
}

const OP: &str = "conv1d";

/// What the kernels take, and the output's shape.
pub(crate) fn params(
    x_shape: [usize; 3],
    w_shape: [usize; 3],
    bias: Option<&[usize]>,
    options: ConvOptions1d,
) -> Result<(Conv1dParams, [usize; 3])> {
    let ConvOptions1d { stride, padding, dilation, groups, precision } = options;
    check_channels(OP, &x_shape, &w_shape, bias, groups)?;
    let ([batch, cin, t], [cout, _, taps]) = (x_shape, w_shape);
    let shapes = format!("x of shape {x_shape:?} and weight of shape {w_shape:?}");
    let out = Slide { input: t, kernel: taps, stride, padding, dilation }.output(OP, &shapes)?;
    let y_shape = [batch, cout, out];
    count(OP, "output", &y_shape)?;
    // Every value is below 2³² by the checks above.
    let [batch, cin, cout, groups, t, k, out] = [batch, cin, cout, groups, t, taps, out].map(|v| v as u32);
    let [stride, padding, dilation] = [stride, padding, dilation].map(|v| v as u32);
    let (bias, tf32) = (bias.is_some().into(), precision as u32);
    let p = Conv1dParams {
        batch,
        cin,
        cout,
        groups,
        t,
        k,
        out,
        stride,
        padding,
        dilation,
        bias,
        splits: 1,
        tf32,
    };
    Ok((Conv1dParams { splits: p.runs(), ..p }, y_shape))
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
    let rows = [&FWD, &BWD_X, &BWD_W, &BWD_B];
    Launches { rows, p, unbiased: Conv1dParams { bias: 0, ..p }, parts: p.parts() }.record(
        g,
        [x, w],
        b,
        &y_shape,
    )
}
