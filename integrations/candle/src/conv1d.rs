//! One-dimensional convolution.

use crate::arguments::{alike, dims, float, refused};
use crate::cpu;
#[cfg(feature = "cuda")]
use crate::cuda;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use etude::device::{Buf, Device};
use etude::embed::{self, ConvGradients};
use etude::ops::conv1d::ConvOptions1d;

/// `y[n,c,o] = b[c] + Σ_i Σ_k w[c,i,k] · x[n, i, o·stride + k·dilation − padding]`, as candle's and PyTorch's:
/// `x` `[batch, cin, time]`, `w` `[cout, cin/groups, taps]`, `b` `[cout]`, and `y`
/// `[batch, cout, (time + 2·padding − dilation·(taps − 1) − 1)/stride + 1]`, rounded down.
///
/// # Errors
/// When shapes, dtypes, devices and options do not fit together, a dimension is empty, or the device fails.
pub fn conv1d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, options: ConvOptions1d) -> Result<Tensor> {
    const OP: &str = "conv1d";
    float(OP, "x", x)?;
    for (name, tensor) in [("weight", Some(w)), ("bias", b)] {
        tensor.map_or(Ok(()), |tensor| alike(OP, name, tensor, ("x", x)))?;
    }
    let x_shape = dims(OP, "x", x, ["batch", "channels", "time"])?;
    let w_shape = dims(OP, "weight", w, ["out channels", "in channels per group", "taps"])?;
    let conv = embed::Conv1d::new(x_shape, w_shape, options).map_err(refused)?;
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let Some(b) = b else {
        return x.apply_op2(&w, Forward { conv });
    };
    let [count] = dims(OP, "bias", b, ["out channels"])?;
    if count != w_shape[0] {
        let message = format!("shape [{count}] instead of [{}], for weight of shape {w_shape:?}", w_shape[0]);
        return Err(refused(etude::Error::shape(OP, "bias", message)));
    }
    x.apply_op3(&w, &b.contiguous()?, Forward { conv })
}

/// The op of `x` and `w`, or of `x`, `w` and `b`.
struct Forward {
    conv: embed::Conv1d,
}

impl Forward {
    const NAME: &str = "etude-conv1d";

    fn len(&self) -> usize {
        self.conv.output().iter().product()
    }

    fn launch(&self, device: &dyn Device, inputs: &[Buf], outputs: &[Buf]) -> etude::Result<()> {
        self.conv.forward(device, &inputs[0], &inputs[1], inputs.get(2), &outputs[0])
    }

    fn cpu(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let [y] = cpu::run(inputs, [self.len()], |d, i, o| self.launch(d, i, o))?;
        Ok((y, Shape::from_dims(&self.conv.output())))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        let [y] = cuda::run(inputs, [self.len()], |d, i, o| self.launch(d, i, o))?;
        Ok((y, Shape::from_dims(&self.conv.output())))
    }
}

impl Forward {
    /// The gradient by `of`, which is `argument`, where anybody asks for it.
    fn gradient(&self, of: Of, argument: &Tensor, [x, w, dy]: [&Tensor; 3]) -> Result<Option<Tensor>> {
        if !argument.track_op() {
            return Ok(None);
        }
        let op = Backward { conv: self.conv, of, shape: argument.shape().clone() };
        x.apply_op3_no_bwd(w, &dy.contiguous()?, &op).map(Some)
    }
}

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(x, xl), (w, wl)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(x, xl), (w, wl)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let all = [x, w, dy];
        Ok((self.gradient(Of::X, x, all)?, self.gradient(Of::W, w, all)?))
    }
}

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(x, xl), (w, wl), (b, bl)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(x, xl), (w, wl), (b, bl)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let all = [x, w, dy];
        Ok((self.gradient(Of::X, x, all)?, self.gradient(Of::W, w, all)?, self.gradient(Of::B, b, all)?))
    }
}

/// By which argument a gradient is.
#[derive(Clone, Copy)]
enum Of {
    X,
    W,
    B,
}

/// The op of `x`, `w` and `dy` that makes one gradient.
struct Backward {
    conv: embed::Conv1d,
    of: Of,
    shape: Shape,
}

impl Backward {
    fn launch(&self, device: &dyn Device, inputs: &[Buf], outputs: &[Buf]) -> etude::Result<()> {
        let gradient = Some(&outputs[0]);
        let gradients = match self.of {
            Of::X => ConvGradients { x: gradient, ..Default::default() },
            Of::W => ConvGradients { weight: gradient, ..Default::default() },
            Of::B => ConvGradients { bias: gradient, ..Default::default() },
        };
        self.conv.backward(device, &inputs[0], &inputs[1], &inputs[2], gradients)
    }
}

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "etude-conv1d-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [(x, xl), (w, wl), (dy, dyl)];
        let [gradient] = cpu::run(&inputs, [self.shape.elem_count()], |d, i, o| self.launch(d, i, o))?;
        Ok((gradient, self.shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        dy: &CudaStorage,
        dyl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(x, xl), (w, wl), (dy, dyl)];
        let [gradient] = cuda::run(&inputs, [self.shape.elem_count()], |d, i, o| self.launch(d, i, o))?;
        Ok((gradient, self.shape.clone()))
    }
}
