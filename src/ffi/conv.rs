//! Convolutions.

use super::context::{Call, EtudeContext};
use super::pointer::{give, some};
use super::status::{EtudeStatus, entry};
use super::types::{EtudePrecision, precision};
use crate::Result;
use crate::embed::{self, ConvGradients};
use crate::kernel::Elem;
use crate::ops::conv1d::ConvOptions1d;
use crate::ops::conv2d::ConvOptions2d;

/// A convolution over one dimension: shapes and options. Start from etude_conv1d_defaults() and set the shapes.
///
/// `x [batch, cin, length]`, `weight [cout, cin/groups, taps]`, `bias [cout]`, `y [batch, cout, etude_conv1d_output()]`, all f32
/// in C order.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeConv1d {
    /// Samples; 0 until set.
    pub batch: usize,
    /// Input channels; 0 until set.
    pub cin: usize,
    /// Input positions; 0 until set.
    pub length: usize,
    /// Output channels; 0 until set.
    pub cout: usize,
    /// Positions of the weight; 0 until set.
    pub taps: usize,
    /// Input positions from one output position to the next; 1.
    pub stride: usize,
    /// Zeros added at either end; 0.
    pub padding: usize,
    /// Input positions from one tap to the next; 1.
    pub dilation: usize,
    /// Groups that input and output channels are split into; 1.
    pub groups: usize,
    /// An EtudePrecision; ETUDE_PRECISION_F32.
    pub precision: EtudePrecision,
}

/// A convolution over two dimensions: shapes and options. Start from etude_conv2d_defaults() and set the shapes.
///
/// `x [batch, cin, size[0], size[1]]`, `weight [cout, cin/groups, taps[0], taps[1]]`, `bias [cout]` and
/// `y [batch, cout, size of the output]`, all f32 in C order. Pairs are vertical, then horizontal.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeConv2d {
    /// Samples; 0 until set.
    pub batch: usize,
    /// Input channels; 0 until set.
    pub cin: usize,
    /// Input rows and columns; 0 until set.
    pub size: [usize; 2],
    /// Output channels; 0 until set.
    pub cout: usize,
    /// Rows and columns of the weight; 0 until set.
    pub taps: [usize; 2],
    /// Input positions from one output position to the next; 1.
    pub stride: [usize; 2],
    /// Zeros added at either edge; 0.
    pub padding: [usize; 2],
    /// Input positions from one tap to the next; 1.
    pub dilation: [usize; 2],
    /// Groups that input and output channels are split into; 1.
    pub groups: usize,
    /// An EtudePrecision; ETUDE_PRECISION_F32.
    pub precision: EtudePrecision,
}

/// Defaults; every shape is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_conv1d_defaults() -> EtudeConv1d {
    let ConvOptions1d { stride, padding, dilation, groups, precision } = ConvOptions1d::default();
    let precision = precision as u32;
    EtudeConv1d {
        batch: 0,
        cin: 0,
        length: 0,
        cout: 0,
        taps: 0,
        stride,
        padding,
        dilation,
        groups,
        precision,
    }
}

/// Defaults; every shape is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_conv2d_defaults() -> EtudeConv2d {
    let ConvOptions2d { stride, padding, dilation, groups, precision } = ConvOptions2d::default();
    let precision = precision as u32;
    EtudeConv2d {
        batch: 0,
        cin: 0,
        size: [0; 2],
        cout: 0,
        taps: [0; 2],
        stride,
        padding,
        dilation,
        groups,
        precision,
    }
}

/// Input channels of a group; never 0, so that groups which do not divide the channels are what is found at fault.
fn in_group(cin: usize, groups: usize) -> usize {
    cin.checked_div(groups).unwrap_or(cin).max(1)
}

impl EtudeConv1d {
    fn shapes(&self) -> [[usize; 3]; 2] {
        [[self.batch, self.cin, self.length], [self.cout, in_group(self.cin, self.groups), self.taps]]
    }

    fn embed(&self, op: &'static str) -> Result<embed::Conv1d> {
        let &Self { stride, padding, dilation, groups, .. } = self;
        let precision = precision(op, self.precision)?;
        let [x, w] = self.shapes();
        embed::Conv1d::new(x, w, ConvOptions1d { stride, padding, dilation, groups, precision })
    }
}

impl EtudeConv2d {
    fn shapes(&self) -> [[usize; 4]; 2] {
        let ([h, w], [kh, kw]) = (self.size, self.taps);
        [[self.batch, self.cin, h, w], [self.cout, in_group(self.cin, self.groups), kh, kw]]
    }

    fn embed(&self, op: &'static str) -> Result<embed::Conv2d> {
        let &Self { stride, padding, dilation, groups, .. } = self;
        let precision = precision(op, self.precision)?;
        let [x, w] = self.shapes();
        embed::Conv2d::new(x, w, ConvOptions2d { stride, padding, dilation, groups, precision })
    }
}

/// Output positions of a convolution.
///
/// # Safety
/// `conv` is valid to read, `length` to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv1d_output(conv: *const EtudeConv1d, length: *mut usize) -> EtudeStatus {
    const OP: &str = "etude_conv1d_output";
    // SAFETY: the caller's promise.
    entry(|| unsafe { give(OP, "length", length, some(OP, "conv", conv)?.embed(OP)?.output()[2]) })
}

/// Output rows and columns of a convolution, into `size[0]` and `size[1]`.
///
/// # Safety
/// `conv` is valid to read, `size` to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv2d_output(conv: *const EtudeConv2d, size: *mut usize) -> EtudeStatus {
    const OP: &str = "etude_conv2d_output";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let [_, _, h, w] = some(OP, "conv", conv)?.embed(OP)?.output();
        give(OP, "size", size.cast(), [h, w])
    })
}

/// What both convolutions do, since their entries must be spelled out for the header.
macro_rules! conv {
    ($op:literal forward, $context:ident, $conv:ident, $x:ident, $weight:ident, $bias:ident, $y:ident) => {
        // SAFETY: the caller's promise.
        entry(|| unsafe {
            let call = Call::new($op, $context)?;
            let conv = call.described("conv", $conv)?;
            let (of, [x, w]) = (conv.embed($op)?, conv.shapes());
            let bias = call.optional("bias", $bias, Elem::Real, &w[..1])?;
            let y = call.buf("y", $y, Elem::Real, &of.output())?;
            let x = call.buf("x", $x, Elem::Real, &x)?;
            let weight = call.buf("weight", $weight, Elem::Real, &w)?;
            of.forward(call.device(), &x, &weight, bias.as_ref(), &y)
        })
    };
    ($op:literal backward, $context:ident, $conv:ident, $x:ident, $weight:ident, $dy:ident, $dx:ident, $dw:ident, $db:ident) => {
        // SAFETY: the caller's promise.
        entry(|| unsafe {
            let call = Call::new($op, $context)?;
            let conv = call.described("conv", $conv)?;
            let (of, [x, w]) = (conv.embed($op)?, conv.shapes());
            let dx = call.optional("dx", $dx, Elem::Real, &x)?;
            let dw = call.optional("dweight", $dw, Elem::Real, &w)?;
            let db = call.optional("dbias", $db, Elem::Real, &w[..1])?;
            let dy = call.buf("dy", $dy, Elem::Real, &of.output())?;
            let x = call.buf("x", $x, Elem::Real, &x)?;
            let weight = call.buf("weight", $weight, Elem::Real, &w)?;
            let wanted = ConvGradients { x: dx.as_ref(), weight: dw.as_ref(), bias: db.as_ref() };
            of.backward(call.device(), &x, &weight, &dy, wanted)
        })
    };
}

/// The convolution of `x` with `weight`, plus `bias` unless that is null, into `y`.
///
/// # Safety
/// Pointers are null or as EtudeConv1d describes, on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv1d_forward(
    context: *const EtudeContext,
    conv: *const EtudeConv1d,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    y: *mut f32,
) -> EtudeStatus {
    conv!("etude_conv1d_forward" forward, context, conv, x, weight, bias, y)
}

/// From `dy`, the gradient by the output, those by input, weight and bias; a null `dx`, `dweight` or `dbias` is not wanted and
/// costs nothing.
///
/// # Safety
/// As etude_conv1d_forward().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv1d_backward(
    context: *const EtudeContext,
    conv: *const EtudeConv1d,
    x: *const f32,
    weight: *const f32,
    dy: *const f32,
    dx: *mut f32,
    dweight: *mut f32,
    dbias: *mut f32,
) -> EtudeStatus {
    conv!("etude_conv1d_backward" backward, context, conv, x, weight, dy, dx, dweight, dbias)
}

/// As etude_conv1d_forward(), over two dimensions.
///
/// # Safety
/// Pointers are null or as EtudeConv2d describes, on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv2d_forward(
    context: *const EtudeContext,
    conv: *const EtudeConv2d,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    y: *mut f32,
) -> EtudeStatus {
    conv!("etude_conv2d_forward" forward, context, conv, x, weight, bias, y)
}

/// As etude_conv1d_backward(), over two dimensions.
///
/// # Safety
/// As etude_conv2d_forward().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_conv2d_backward(
    context: *const EtudeContext,
    conv: *const EtudeConv2d,
    x: *const f32,
    weight: *const f32,
    dy: *const f32,
    dx: *mut f32,
    dweight: *mut f32,
    dbias: *mut f32,
) -> EtudeStatus {
    conv!("etude_conv2d_backward" backward, context, conv, x, weight, dy, dx, dweight, dbias)
}
