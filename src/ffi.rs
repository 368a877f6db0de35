//! The C ABI: what `include/etude.h` declares, over [`embed`].
//!
//! The header is made of this file by cbindgen (`cbindgen.toml`), so comments on items speak to C programmers;
//! `tests/ffi.rs` fails when the two differ. Nothing unwinds into C: every entry catches panics.

use crate::device::{Buf, Cpu, Device};
use crate::embed::{self, Buffers, ConvGradients};
use crate::kernel::{Elem, Precision};
use crate::ops::contrastive::{ContrastiveOptions, Metric};
use crate::ops::conv1d::ConvOptions1d;
use crate::ops::conv2d::ConvOptions2d;
use crate::ops::similarity::Similarity;
use crate::{Error, Result};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Counts up when a struct or a function changes; compare it with etude_abi_version() where the library is loaded at run time.
pub const ETUDE_ABI_VERSION: u32 = 1;

/// What a call returns: one of ETUDE_OK, ETUDE_INVALID_ARGUMENT, ETUDE_DEVICE_FAILED and ETUDE_PANICKED. Where it is not
/// ETUDE_OK, etude_last_error() says why, and what a call was to write holds nothing of use.
pub type EtudeStatus = i32;
/// The call did what it says.
pub const ETUDE_OK: EtudeStatus = 0;
/// An argument is null, or does not fit the others.
pub const ETUDE_INVALID_ARGUMENT: EtudeStatus = 1;
/// There is no such device, or it could not do what was asked: memory ran out, the driver failed.
pub const ETUDE_DEVICE_FAILED: EtudeStatus = 2;
/// A fault in the library, caught before it reached the caller. The context should be freed and not used again.
pub const ETUDE_PANICKED: EtudeStatus = 3;

/// How embeddings and the rows of similarities are stored: one of ETUDE_F32, ETUDE_F16 and ETUDE_BF16.
pub type EtudeType = u32;
/// Single precision.
pub const ETUDE_F32: EtudeType = 0;
/// IEEE half precision, read and computed on in f32.
pub const ETUDE_F16: EtudeType = 1;
/// The upper half of an f32, read and computed on in f32.
pub const ETUDE_BF16: EtudeType = 2;

/// How exact the factors of products are: ETUDE_PRECISION_F32 or ETUDE_PRECISION_TF32.
pub type EtudePrecision = u32;
/// As they are.
pub const ETUDE_PRECISION_F32: EtudePrecision = 0;
/// CUDA may round them to ten bits for the tensor cores (an error of 2^-11 each), with sums in f32; the CPU computes in f32.
pub const ETUDE_PRECISION_TF32: EtudePrecision = 1;

/// What is computed of two rows: one of ETUDE_DOT, ETUDE_COSINE, ETUDE_SQUARED_EUCLIDEAN and ETUDE_EUCLIDEAN.
pub type EtudeSimilarityKind = u32;
/// a·b
pub const ETUDE_DOT: EtudeSimilarityKind = 0;
/// a·b / (|a| |b|)
pub const ETUDE_COSINE: EtudeSimilarityKind = 1;
/// |a - b|^2
pub const ETUDE_SQUARED_EUCLIDEAN: EtudeSimilarityKind = 2;
/// |a - b|
pub const ETUDE_EUCLIDEAN: EtudeSimilarityKind = 3;

/// How far apart two embeddings are: ETUDE_METRIC_EUCLIDEAN or ETUDE_METRIC_COSINE.
pub type EtudeMetric = u32;
/// |a - b|
pub const ETUDE_METRIC_EUCLIDEAN: EtudeMetric = 0;
/// 1 - a·b / (|a| |b|), and 1 where a row is zero
pub const ETUDE_METRIC_COSINE: EtudeMetric = 1;

/// Where calls run. Made by etude_cpu_new() and its like, freed by etude_context_free().
///
/// Any thread may use it, several at once too; on the CPU their calls then wait for each other.
pub struct EtudeContext {
    place: Place,
}

enum Place {
    Cpu(Cpu<f32>),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::Cuda),
}

/// A convolution over one dimension: shapes and options. Start from etude_conv1d_defaults() and set the shapes.
///
/// `x [batch, cin, length]`, `weight [cout, cin/groups, taps]`, `bias [cout]`, `y [batch, cout, etude_conv1d_output()]`, all f32 in
/// C order.
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

/// Every row of `a [n, d]` against every row of `b [m, d]`. Start from etude_similarity_defaults() and set the shapes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeSimilarity {
    /// Rows of a; 0 until set.
    pub n: usize,
    /// Rows of b; 0 until set.
    pub m: usize,
    /// Columns of both; 0 until set.
    pub d: usize,
    /// An EtudeSimilarityKind; ETUDE_DOT.
    pub kind: EtudeSimilarityKind,
    /// An EtudeType, of a and b alike; ETUDE_F32. The matrix and all gradients are f32.
    pub dtype: EtudeType,
}

/// The label-distance-weighted contrastive loss. Start from etude_contrastive_defaults() and set d.
///
/// `weight` times the mean over pairs, 0 where no pair counts: with D the distance of two embeddings and w that of their labels, a
/// pair with w <= tau costs D^2/2, any other max(0, margin·w - D)^2/2.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeContrastive {
    /// Columns of the embeddings; 0 until set.
    pub d: usize,
    /// An EtudeType, of all embeddings; ETUDE_F32. The loss and all gradients are f32.
    pub dtype: EtudeType,
    /// An EtudeMetric; ETUDE_METRIC_EUCLIDEAN.
    pub metric: EtudeMetric,
    /// A negative pair of label distance w should be margin·w apart; positive; 0.5.
    pub margin: f32,
    /// Largest label distance of a positive pair; 0, for labels that are bins.
    pub tau: f32,
    /// Multiplies the loss, and so its gradient; 1.
    pub weight: f32,
    /// Multiplies the gradient alone; 1.
    pub grad_scale: f32,
}

/// A set of samples: memory of the caller's, on the context's device.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EtudeSamples {
    /// How many there are.
    pub n: usize,
    /// `[n, d]` of the loss's dtype, read.
    pub embeddings: *const c_void,
    /// `[n]`, read.
    pub labels: *const f32,
    /// `[n]`, finite and not negative, read: a pair counts as the product of its two, so that 0 masks a sample out. May be null:
    /// all samples count alike.
    pub weights: *const f32,
    /// `[n, d]`, written: the loss's gradient by the embeddings, which comes in the same pass.
    pub gradient: *mut f32,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an entry; what goes wrong becomes a status and the thread's message.
fn entry(body: impl FnOnce() -> Result<()>) -> EtudeStatus {
    let (status, message) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return ETUDE_OK,
        Ok(Err(error)) => match error {
            Error::Device { .. } => (ETUDE_DEVICE_FAILED, error.to_string()),
            _ => (ETUDE_INVALID_ARGUMENT, error.to_string()),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let message = format!("a fault in etude, please report it: {text}");
            // What a panic carries may panic when dropped.
            std::mem::forget(panic);
            (ETUDE_PANICKED, message)
        }
    };
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // A thread that is ending has no message left to read.
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
    status
}

fn null(op: &'static str, argument: &'static str) -> Error {
    Error::shape(op, argument, "is null")
}

/// # Safety
/// `pointer` is null or valid to read for as long as the result is used.
unsafe fn some<'a, T>(op: &'static str, argument: &'static str, pointer: *const T) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(op, argument))
}

/// # Safety
/// `out` is null or valid to write.
unsafe fn give<T>(op: &'static str, argument: &'static str, out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null(op, argument));
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}

/// The variant that a number from C stands for.
fn pick<T: Copy>(op: &'static str, argument: &'static str, value: u32, of: &[T]) -> Result<T> {
    let variant = of.get(value as usize).copied();
    variant.ok_or_else(|| Error::shape(op, argument, format!("must be below {}, is {value}", of.len())))
}

fn elem(op: &'static str, dtype: EtudeType) -> Result<Elem> {
    pick(op, "dtype", dtype, &[Elem::Real, Elem::F16, Elem::Bf16])
}

fn precision(op: &'static str, value: EtudePrecision) -> Result<Precision> {
    pick(op, "precision", value, &[Precision::F32, Precision::Tf32])
}

/// A call's context and name: what turns its pointers into buffers.
struct Call<'a> {
    context: &'a EtudeContext,
    op: &'static str,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `context` is null or one of ours.
    unsafe fn new(op: &'static str, context: *const EtudeContext) -> Result<Self> {
        // SAFETY: the caller's promise.
        Ok(Self { context: unsafe { some(op, "context", context) }?, op })
    }

    fn device(&self) -> &'a dyn Device {
        match &self.context.place {
            Place::Cpu(cpu) => cpu,
            #[cfg(feature = "cuda")]
            Place::Cuda(cuda) => cuda,
        }
    }

    /// # Safety
    /// `pointer` is null or leads to as many elements as `shape` has, which stay as they are until the buffer is dropped and what was
    /// launched with it is done.
    unsafe fn optional<T>(
        &self,
        argument: &'static str,
        pointer: *const T,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Option<Buf>> {
        if pointer.is_null() {
            return Ok(None);
        }
        let fail = |message: String| Error::shape(self.op, argument, message);
        // No object is larger than half the address space.
        let len = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        let len = len.filter(|&n| n <= isize::MAX as usize / 4);
        let len = len.ok_or_else(|| fail(format!("shape {shape:?} is beyond any memory")))?;
        // SAFETY: the caller's promise.
        let imported = unsafe {
            match &self.context.place {
                Place::Cpu(cpu) => cpu.import(pointer.cast_mut().cast(), elem, len),
                #[cfg(feature = "cuda")]
                Place::Cuda(cuda) => cuda.import(pointer as u64, elem, len, ()),
            }
        };
        imported.map(Some).map_err(|e| fail(e.to_string()))
    }

    /// # Safety
    /// As [`Self::optional`].
    unsafe fn buf<T>(
        &self,
        argument: &'static str,
        pointer: *const T,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Buf> {
        // SAFETY: the caller's promise.
        unsafe { self.optional(argument, pointer, elem, shape) }?.ok_or_else(|| null(self.op, argument))
    }
}

/// The library's version, as "0.1.0"; static.
#[unsafe(no_mangle)]
pub extern "C" fn etude_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no zero byte"),
        };
    VERSION.as_ptr()
}

/// The ETUDE_ABI_VERSION that the library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn etude_abi_version() -> u32 {
    ETUDE_ABI_VERSION
}

/// Why the last call of this thread that failed did: UTF-8 that names the call, the argument, what was expected and what was given.
/// Empty where none failed. The library's: valid until another call of this thread fails, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn etude_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// A context for the CPU on `threads` threads, 0 for as many as there are cores. Calls take host pointers, and are done when they
/// return. The result is the same to the last bit whatever the number of threads.
///
/// # Safety
/// `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cpu_new(threads: usize, context: *mut *mut EtudeContext) -> EtudeStatus {
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cpu_new", context, || Ok(Place::Cpu(Cpu::new(threads)?))) })
}

/// A context for NVIDIA card `ordinal` as CUDA counts them, with a stream of its own, in the card's primary context (the CUDA
/// runtime's).
///
/// Calls take device pointers (EtudeSamples, descriptions of shapes and `context` itself stay on the host), are enqueued and
/// return at once: wait with etude_synchronize() before reading results or freeing memory. Kernels are compiled or loaded when
/// first used, so that call takes longer.
///
/// # Safety
/// `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cuda_new(ordinal: usize, context: *mut *mut EtudeContext) -> EtudeStatus {
    #[cfg(feature = "cuda")]
    let make = || Ok(Place::Cuda(crate::device::Cuda::new(ordinal)?));
    #[cfg(not(feature = "cuda"))]
    let make = || without_cuda(ordinal);
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cuda_new", context, make) })
}

/// As etude_cuda_new(), on a stream of the caller's: a cudaStream_t or CUstream of card `ordinal`'s primary context, null for the
/// default stream. Calls are in order with whatever else is enqueued there. The stream must outlive the context.
///
/// # Safety
/// `stream` is such a stream, and `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cuda_on_stream(
    ordinal: usize,
    stream: *mut c_void,
    context: *mut *mut EtudeContext,
) -> EtudeStatus {
    #[cfg(feature = "cuda")]
    // SAFETY: the caller's promise.
    let make = || Ok(Place::Cuda(unsafe { crate::device::Cuda::on_stream(ordinal, stream) }?));
    #[cfg(not(feature = "cuda"))]
    let make = || {
        let _ = stream;
        without_cuda(ordinal)
    };
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cuda_on_stream", context, make) })
}

#[cfg(not(feature = "cuda"))]
fn without_cuda(ordinal: usize) -> Result<Place> {
    let message = format!("card {ordinal}: the library was built without the feature `cuda`");
    Err(Error::device("cuda", message))
}

/// # Safety
/// `out` is null or valid to write.
unsafe fn give_context(
    op: &'static str,
    out: *mut *mut EtudeContext,
    make: impl FnOnce() -> Result<Place>,
) -> Result<()> {
    // SAFETY: the caller's promise. Null first: where making fails, nothing looks like a context.
    unsafe { give(op, "context", out, std::ptr::null_mut()) }?;
    let context = Box::new(EtudeContext { place: make()? });
    // SAFETY: as above.
    unsafe { give(op, "context", out, Box::into_raw(context)) }
}

/// Frees a context; nothing where it is null. What is enqueued on CUDA still runs.
///
/// # Safety
/// `context` is null or was made here, is used by no other thread, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_context_free(context: *mut EtudeContext) {
    if !context.is_null() {
        // Nobody is told of a failure to free.
        entry(|| {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(context) });
            Ok(())
        });
    }
}

/// Waits until everything that was enqueued on the context's stream is done. The CPU has nothing to wait for.
///
/// # Safety
/// `context` is null or one of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_synchronize(context: *const EtudeContext) -> EtudeStatus {
    // SAFETY: the caller's promise.
    entry(|| match &unsafe { some("etude_synchronize", "context", context) }?.place {
        Place::Cpu(_) => Ok(()),
        #[cfg(feature = "cuda")]
        Place::Cuda(cuda) => cuda.synchronize(),
    })
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

/// Defaults; every shape is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_similarity_defaults() -> EtudeSimilarity {
    EtudeSimilarity { n: 0, m: 0, d: 0, kind: ETUDE_DOT, dtype: ETUDE_F32 }
}

/// Defaults; d is 0.
#[unsafe(no_mangle)]
pub extern "C" fn etude_contrastive_defaults() -> EtudeContrastive {
    let ContrastiveOptions { metric, margin, tau, weight, grad_scale } = ContrastiveOptions::default();
    EtudeContrastive { d: 0, dtype: ETUDE_F32, metric: metric as u32, margin, tau, weight, grad_scale }
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
            let conv = some($op, "conv", $conv)?;
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
            let conv = some($op, "conv", $conv)?;
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

/// The convolution of `x` with `weight`, plus `bias` unless that is null, into `y`, which overlaps none of them.
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

/// From `dy`, the gradient by the output, those by input, weight and bias; a null `dx`, `dweight` or `dbias` is not wanted and costs
/// nothing.
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

impl EtudeSimilarity {
    fn embed(&self, op: &'static str) -> Result<(embed::PairwiseSimilarity, Elem)> {
        use Similarity::{Cosine, Dot, Euclidean, SquaredEuclidean};
        let kind = pick(op, "kind", self.kind, &[Dot, Cosine, SquaredEuclidean, Euclidean])?;
        let of = embed::PairwiseSimilarity::new([self.n, self.d], [self.m, self.d], kind)?;
        Ok((of, elem(op, self.dtype)?))
    }
}

/// The matrix `y [n, m]` from `a [n, d]` and `b [m, d]`.
///
/// # Safety
/// Pointers are null or as described, on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_similarity_forward(
    context: *const EtudeContext,
    similarity: *const EtudeSimilarity,
    a: *const c_void,
    b: *const c_void,
    y: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_similarity_forward";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = some(OP, "similarity", similarity)?;
        let (of, elem) = given.embed(OP)?;
        let a = call.buf("a", a, elem, &[given.n, given.d])?;
        let b = call.buf("b", b, elem, &[given.m, given.d])?;
        let y = call.buf("y", y, Elem::Real, &of.output())?;
        of.forward(call.device(), &a, &b, &y)
    })
}

/// From `dy [n, m]`, the gradient by the matrix, those by `a` and `b`: `da [n, d]` and `db [m, d]`, both f32.
///
/// # Safety
/// As etude_similarity_forward().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_similarity_backward(
    context: *const EtudeContext,
    similarity: *const EtudeSimilarity,
    a: *const c_void,
    b: *const c_void,
    dy: *const f32,
    da: *mut f32,
    db: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_similarity_backward";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = some(OP, "similarity", similarity)?;
        let (of, elem) = given.embed(OP)?;
        let (left, right) = ([given.n, given.d], [given.m, given.d]);
        let a = call.buf("a", a, elem, &left)?;
        let b = call.buf("b", b, elem, &right)?;
        let dy = call.buf("dy", dy, Elem::Real, &of.output())?;
        let da = call.buf("da", da, Elem::Real, &left)?;
        let db = call.buf("db", db, Elem::Real, &right)?;
        of.backward(call.device(), [&a, &b, &dy], [&da, &db])
    })
}

impl EtudeContrastive {
    fn options(&self, op: &'static str) -> Result<(ContrastiveOptions, Elem)> {
        let &Self { margin, tau, weight, grad_scale, .. } = self;
        let metric = pick(op, "metric", self.metric, &[Metric::Euclidean, Metric::Cosine])?;
        Ok((ContrastiveOptions { metric, margin, tau, weight, grad_scale }, elem(op, self.dtype)?))
    }
}

/// What messages call a set's memory.
const SAMPLES: [&str; 4] =
    ["samples->embeddings", "samples->labels", "samples->weights", "samples->gradient"];
const OTHERS: [&str; 4] = ["others->embeddings", "others->labels", "others->weights", "others->gradient"];

/// A set's memory as buffers.
struct Set {
    embeddings: Buf,
    labels: Buf,
    weights: Option<Buf>,
    gradient: Buf,
}

impl Set {
    /// # Safety
    /// Pointers are null or as [`EtudeSamples`] says.
    unsafe fn new(
        call: &Call<'_>,
        [embeddings, labels, weights, gradient]: [&'static str; 4],
        given: &EtudeSamples,
        elem: Elem,
        d: usize,
    ) -> Result<Self> {
        let (rows, matrix) = ([given.n], [given.n, d]);
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Self {
                embeddings: call.buf(embeddings, given.embeddings, elem, &matrix)?,
                labels: call.buf(labels, given.labels, Elem::Real, &rows)?,
                weights: call.optional(weights, given.weights, Elem::Real, &rows)?,
                gradient: call.buf(gradient, given.gradient, Elem::Real, &matrix)?,
            })
        }
    }

    fn inputs(&self) -> Buffers<'_> {
        Buffers { embeddings: &self.embeddings, labels: &self.labels, weights: self.weights.as_ref() }
    }
}

/// The loss over all unordered pairs of `samples`, two at least, into `loss`, one float on the context's device, and its gradient
/// into `samples->gradient`. Memory stays O(n·d): no matrix of pairs is stored.
///
/// # Safety
/// Pointers are null or as described, those to floats on the context's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_contrastive(
    context: *const EtudeContext,
    contrastive: *const EtudeContrastive,
    samples: *const EtudeSamples,
    loss: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_contrastive";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = some(OP, "contrastive", contrastive)?;
        let (options, elem) = given.options(OP)?;
        let samples = some(OP, "samples", samples)?;
        let of = embed::Contrastive::all([samples.n, given.d], options)?;
        let set = Set::new(&call, SAMPLES, samples, elem, given.d)?;
        let loss = call.buf("loss", loss, Elem::Real, &[1])?;
        of.run(call.device(), &[set.inputs()], &loss, &[&set.gradient])
    })
}

/// The loss over every one of `samples` with every one of `others`, into `loss`, one float on the context's device, and its
/// gradients into both sets' `gradient`.
///
/// # Safety
/// As etude_contrastive().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_contrastive_cross(
    context: *const EtudeContext,
    contrastive: *const EtudeContrastive,
    samples: *const EtudeSamples,
    others: *const EtudeSamples,
    loss: *mut f32,
) -> EtudeStatus {
    const OP: &str = "etude_contrastive_cross";
    // SAFETY: the caller's promise.
    entry(|| unsafe {
        let call = Call::new(OP, context)?;
        let given = some(OP, "contrastive", contrastive)?;
        let (options, elem) = given.options(OP)?;
        let (samples, others) = (some(OP, "samples", samples)?, some(OP, "others", others)?);
        let of = embed::Contrastive::cross([samples.n, given.d], [others.n, given.d], options)?;
        let set = Set::new(&call, SAMPLES, samples, elem, given.d)?;
        let other = Set::new(&call, OTHERS, others, elem, given.d)?;
        let loss = call.buf("loss", loss, Elem::Real, &[1])?;
        of.run(call.device(), &[set.inputs(), other.inputs()], &loss, &[&set.gradient, &other.gradient])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        assert_eq!(entry(|| panic!("plain\0")), ETUDE_PANICKED);
        assert_eq!(entry(|| panic!("formatted {}", 1)), ETUDE_PANICKED);
        // SAFETY: the library's own string.
        let text = unsafe { CStr::from_ptr(etude_last_error()) };
        assert_eq!(text.to_str(), Ok("a fault in etude, please report it: formatted 1"));
        assert_eq!(entry(|| std::panic::panic_any(7)), ETUDE_PANICKED);
    }
}
