//! What the tests share: data, and what etude's f64 oracle makes of it.

use candle_core::{DType, Device, Result, Tensor, Var};
use etude::graph::{self, Graph};

/// Numbers that f32 holds exactly, so that both precisions get the same.
pub fn normal(seed: u64, n: usize) -> Vec<f64> {
    etude::cases::normal(seed, n).into_iter().map(|v| f64::from(v as f32)).collect()
}

/// Where tensors are, and in what numbers.
pub type Place = (Device, DType);

/// Every place that the ops take. With the feature `cuda` a card must be there.
pub fn places() -> Result<Vec<Place>> {
    let cpu = [DType::F32, DType::F64].map(|dtype| (Device::Cpu, dtype));
    let card = if cfg!(feature = "cuda") { Some((Device::new_cuda(0)?, DType::F32)) } else { None };
    Ok(cpu.into_iter().chain(card).collect())
}

/// A tensor on the CPU, f64.
pub fn tensor(values: &[f64], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(values, shape, &Device::Cpu)
}

/// The same in a place.
pub fn tensor_at(place: &Place, values: &[f64], shape: &[usize]) -> Result<Tensor> {
    tensor(values, shape)?.to_device(&place.0)?.to_dtype(place.1)
}

/// The elements, in f64.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()
}

/// The gradient of `loss` by `var`.
pub fn gradient(loss: &Tensor, var: &Var) -> Result<Vec<f64>> {
    let gradients = loss.backward()?;
    let gradient = gradients.get(var).expect("the loss depends on the variable");
    assert_eq!((gradient.dims(), gradient.dtype()), (var.dims(), var.dtype()));
    values(gradient)
}

/// `‖a − b‖ / ‖b‖`.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    etude::cases::relative(a, b)
}

/// Asserts that two vectors are within `tolerance`.
#[track_caller]
pub fn close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    let error = relative(a, b);
    assert!(error <= tolerance, "{what}: relative error {error:e} beyond {tolerance:e}");
}

/// Records a graph over leaves on the f64 oracle: the output's elements, then the gradient of `Σ output·upstream` by each leaf
/// of `leaves`. Without an upstream the output is a loss.
pub fn oracle(
    leaves: &[(&[f64], &[usize])],
    constants: &[(&[f64], &[usize])],
    upstream: Option<&[f64]>,
    record: impl FnOnce(&mut Graph, &[graph::Var], &[graph::Var]) -> etude::Result<graph::Var>,
) -> etude::Result<Vec<Vec<f64>>> {
    let cpu = etude::device::Cpu::<f64>::new(1)?;
    let device: &dyn etude::device::Device = &cpu;
    let mut g = Graph::new();
    let mut leaf = |values: &[f64], shape: &[usize]| g.leaf(&device.upload(values)?, None, shape);
    let leaves = leaves.iter().map(|(v, s)| leaf(v, s)).collect::<etude::Result<Vec<_>>>()?;
    let mut bind = |values: &[f64], shape: &[usize]| g.bind(&device.upload(values)?, shape);
    let constants = constants.iter().map(|(v, s)| bind(v, s)).collect::<etude::Result<Vec<_>>>()?;
    let output = record(&mut g, &leaves, &constants)?;
    match upstream {
        None => g.backward(output)?,
        Some(values) => {
            let shape = g.shape(output).to_vec();
            let upstream = g.bind(&device.upload(values)?, &shape)?;
            g.backward_from(output, upstream)?;
        }
    }
    let gradients = leaves.iter().map(|&leaf| g.grad(leaf).expect("the output depends on every leaf"));
    let keep: Vec<_> = [output].into_iter().chain(gradients).collect();
    let mut step = g.compile(device, &keep)?;
    step.run()?;
    keep.iter().map(|&var| device.download_f64(step.buf(var)?)).collect()
}
