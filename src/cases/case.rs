//! A case: how it is run, and held against the oracle and finite differences.

use crate::device::{Buf, Cpu, Device};
use crate::graph::{Graph, Step, Var};
use crate::hash::Fnv1a;
use crate::kernel::Elem;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What an input is to its op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Differentiable: its gradient is checked.
    Grad,
    /// Not differentiable: labels, lengths, indices.
    Constant,
    /// Updated in place; compared after the run.
    State,
}

/// An input's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Floating point.
    Real(Vec<f64>),
    /// `u32`.
    Index(Vec<u32>),
    /// Floating point stored in 16 bits.
    Half(Elem, Vec<f64>),
}

/// One input of a case.
#[derive(Debug, Clone)]
pub struct Input {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Data,
    /// Role.
    pub role: Role,
}

/// Standard normal values, rounded to f32 so that every device starts from the same ones.
pub fn normal(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || rng.random::<f64>();
    (0..n)
        .map(|_| {
            // Box and Muller (1958).
            let (u, v) = (1.0 - uniform(), uniform());
            f64::from(((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32)
        })
        .collect()
}

/// Values uniform in [0, 1), rounded to f32.
pub fn uniform(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| f64::from(rng.random::<f32>())).collect()
}

impl Input {
    /// A differentiable input of standard normal values.
    pub fn normal(seed: u64, shape: &[usize]) -> Self {
        Self::real(shape, normal(seed, shape.iter().product()), Role::Grad)
    }

    /// Given values, rounded to f32.
    pub fn real(shape: &[usize], values: Vec<f64>, role: Role) -> Self {
        let data = Data::Real(values.into_iter().map(|v| f64::from(v as f32)).collect());
        Self { shape: shape.to_vec(), data, role }
    }

    /// The same values rounded to `elem`, [`Elem::F16`] or [`Elem::Bf16`], and stored so; other inputs stay as they are.
    #[must_use]
    pub fn stored(self, elem: Elem) -> Self {
        let data = match (self.data, elem) {
            (Data::Real(v), Elem::F16 | Elem::Bf16) => Data::Half(elem, v),
            (data, _) => data,
        };
        Self { data, ..self }
    }

    /// The same values as a constant, whose element `at` is `value`, of which no gradient is asked.
    #[must_use]
    pub fn but(mut self, at: usize, value: f64) -> Self {
        if let Data::Real(v) | Data::Half(_, v) = &mut self.data {
            v[at] = value;
        }
        Self { role: Role::Constant, ..self }
    }

    /// Constant `u32` values.
    pub fn index(shape: &[usize], values: Vec<u32>) -> Self {
        Self { shape: shape.to_vec(), data: Data::Index(values), role: Role::Constant }
    }
}

type Build = Box<dyn Fn(&mut Graph, &[Var]) -> Result<Var> + Send + Sync>;

/// One row of the table.
pub struct Case {
    /// Stem of the kernels under test.
    pub stem: &'static str,
    /// Shapes and options, for people.
    pub name: String,
    /// Inputs in the op's order.
    pub inputs: Vec<Input>,
    /// Records the op; returns its output.
    pub build: Build,
    /// Largest `‖out − oracle‖/‖oracle‖` of an f32 device, on values and on gradients.
    pub tolerance: f64,
    /// Why that much.
    pub reason: &'static str,
    /// Whether the benchmarks time it.
    pub bench: bool,
    /// Whether gradients go to memory that was named for them, as those of parameters do.
    pub homes: bool,
}

/// Why most f32 cases may differ by a few parts in a million.
pub const F32_SUMS: &str =
    "f32 sums of up to a few thousand terms, rounded once a term, in another order than the oracle's";

/// What factors in tf32 cost a sum of products, and why.
pub(super) const TF32: f64 = 5e-4;
pub(super) const TF32_FACTORS: &str = "both factors of a product rounded to ten bits: 2e-4 of each, in the root of the mean \
                                       square, independent of the others'; f32 devices are far below";

impl Case {
    /// A case with the tolerance of ordinary f32 sums.
    pub fn new(
        stem: &'static str,
        name: impl Into<String>,
        inputs: Vec<Input>,
        build: impl Fn(&mut Graph, &[Var]) -> Result<Var> + Send + Sync + 'static,
    ) -> Self {
        let (name, build) = (name.into(), Box::new(build));
        Self { stem, name, inputs, build, tolerance: 5e-6, reason: F32_SUMS, bench: false, homes: false }
    }

    /// The same with another tolerance, and why.
    #[must_use]
    pub fn within(mut self, tolerance: f64, reason: &'static str) -> Self {
        (self.tolerance, self.reason) = (tolerance, reason);
        self
    }

    /// Whether an input is stored as `elem`.
    pub fn stores(&self, elem: Elem) -> bool {
        self.inputs.iter().any(|i| matches!(i.data, Data::Half(e, _) if e == elem))
    }

    /// The same, its gradients in memory named for them.
    #[must_use]
    pub fn with_homes(mut self) -> Self {
        self.homes = true;
        self
    }

    /// The same, timed by the benchmarks too.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.bench = true;
        self
    }
}

/// A case recorded and compiled, forward and backward.
pub struct Prepared {
    /// The replayable step.
    pub step: Step,
    inputs: Vec<(Var, Buf)>,
    upstream: Buf,
    output: Var,
    grads: Vec<(usize, Var)>,
}

/// What a run gave, by name: the output `y`, gradients `d0`, `d1`, ... and states `s2`, ...
pub type Outcome = Vec<(String, Vec<f64>)>;

impl Case {
    /// Records and compiles forward and backward on `device` and uploads the inputs; the upstream
    /// gradient is standard normal.
    ///
    /// # Errors
    /// When the op or the device refuses, or a differentiable input receives no gradient.
    pub fn prepare(&self, device: &dyn Device) -> Result<Prepared> {
        let mut g = Graph::new();
        let mut inputs = Vec::new();
        for input in &self.inputs {
            let buf = match &input.data {
                Data::Real(v) => device.upload(v)?,
                Data::Index(v) => device.upload(v)?,
                Data::Half(elem, v) => {
                    let buf = device.alloc(*elem, v.len())?;
                    device.write(&buf, v.into())?;
                    buf
                }
            };
            let var = match input.role {
                Role::Grad if self.homes => {
                    let home = device.alloc(Elem::Real, buf.len())?;
                    g.leaf(&buf, Some(&home), &input.shape)?
                }
                Role::Grad => g.leaf(&buf, None, &input.shape)?,
                _ => g.bind(&buf, &input.shape)?,
            };
            inputs.push((var, buf));
        }
        let vars: Vec<Var> = inputs.iter().map(|i| i.0).collect();
        let output = (self.build)(&mut g, &vars)?;
        let shape = g.shape(output).to_vec();
        let upstream = device.upload(&normal(self.seed() ^ 0x5eed, shape.iter().product()))?;
        let mut grads = Vec::new();
        if self.inputs.iter().any(|i| i.role == Role::Grad) {
            let up = g.bind(&upstream, &shape)?;
            g.backward_from(output, up)?;
            for (i, input) in self.inputs.iter().enumerate() {
                if input.role == Role::Grad {
                    let grad = g.grad(vars[i]).ok_or_else(|| {
                        Error::config(format!("{}: input {i} received no gradient", self.name))
                    })?;
                    grads.push((i, grad));
                }
            }
        }
        let keep: Vec<Var> = std::iter::once(output).chain(grads.iter().map(|g| g.1)).collect();
        let step = g.compile(device, &keep)?;
        Ok(Prepared { step, inputs, upstream, output, grads })
    }

    /// A seed of the case's own.
    fn seed(&self) -> u64 {
        let mut hash = Fnv1a::default();
        hash.add(self.name.as_bytes());
        hash.get()
    }

    /// Runs once, every output poisoned with NaN before.
    ///
    /// # Errors
    /// As [`Case::prepare`].
    pub fn run(&self, device: &dyn Device) -> Result<Outcome> {
        let mut p = self.prepare(device)?;
        p.step.poison(device)?;
        p.step.run()?;
        p.outcome(self, device)
    }

    /// Largest relative difference of `device` from the f64 oracle over the output, gradients and
    /// states, and where it is.
    ///
    /// # Errors
    /// As [`Case::prepare`].
    pub fn parity(&self, device: &dyn Device) -> Result<(f64, String)> {
        let oracle = self.run(&Cpu::<f64>::new(1)?)?;
        Ok(farthest(&self.run(device)?, &oracle))
    }

    /// The directional gradient check on the oracle: relative difference of `⟨v, vjp(u)⟩` from the
    /// central difference of `⟨u, f⟩` along `v`, one random direction over all inputs at once.
    ///
    /// Inputs of 16 bits cannot be moved by so little, and are left out.
    ///
    /// # Errors
    /// As [`Case::prepare`].
    pub fn gradient_error(&self) -> Result<f64> {
        let oracle = Cpu::<f64>::new(1)?;
        let device: &dyn Device = &oracle;
        let mut p = self.prepare(device)?;
        p.step.run()?;
        let upstream = device.download_f64(&p.upstream)?;
        let outcome = p.outcome(self, device)?;
        let directions: Vec<Vec<f64>> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| normal(self.seed().wrapping_add(1 + i as u64), input.shape.iter().product()))
            .collect();
        let mut exact = 0.0;
        let mut size = 0.0;
        for (slot, &(i, _)) in p.grads.iter().enumerate() {
            if matches!(self.inputs[i].data, Data::Half(..)) {
                continue;
            }
            for (d, v) in outcome[1 + slot].1.iter().zip(&directions[i]) {
                exact += d * v;
                size += (d * v).abs();
            }
        }
        let mut at = |h: f64| -> Result<f64> {
            for (i, input) in self.inputs.iter().enumerate() {
                match &input.data {
                    Data::Real(x) if input.role == Role::Grad => {
                        let moved: Vec<f64> = x.iter().zip(&directions[i]).map(|(x, v)| x + h * v).collect();
                        device.write(&p.inputs[i].1, (&moved).into())?;
                    }
                    Data::Real(x) => device.write(&p.inputs[i].1, x.into())?,
                    Data::Index(_) | Data::Half(..) => {}
                }
            }
            p.step.run()?;
            let y = device.download_f64(p.step.buf(p.output)?)?;
            Ok(y.iter().zip(&upstream).map(|(y, u)| y * u).sum())
        };
        let h = 1e-6;
        let numeric = (at(h)? - at(-h)?) / (2.0 * h);
        Ok((exact - numeric).abs() / size.max(1e-3))
    }
}

impl Prepared {
    fn outcome(&self, case: &Case, device: &dyn Device) -> Result<Outcome> {
        let mut out = vec![("y".to_string(), device.download_f64(self.step.buf(self.output)?)?)];
        for &(i, grad) in &self.grads {
            out.push((format!("d{i}"), device.download_f64(self.step.buf(grad)?)?));
        }
        for (i, input) in case.inputs.iter().enumerate() {
            let buf = &self.inputs[i].1;
            if input.role == Role::State {
                let values = if buf.elem() == Elem::Index {
                    let mut words = vec![0u32; buf.len()];
                    device.read(buf, (&mut words).into())?;
                    words.into_iter().map(f64::from).collect()
                } else {
                    device.download_f64(buf)?
                };
                out.push((format!("s{i}"), values));
            }
        }
        Ok(out)
    }
}

/// Largest relative difference of an outcome from the oracle's, and where it is.
pub fn farthest(ours: &Outcome, oracle: &Outcome) -> (f64, String) {
    let mut worst = (0.0, String::from("nowhere"));
    for ((name, want), (_, got)) in oracle.iter().zip(ours) {
        let error = relative(got, want);
        // A NaN is a poisoned element nobody wrote: the worst there is.
        if error > worst.0 || error.is_nan() {
            worst = (error, name.clone());
        }
    }
    worst
}

/// `‖a − b‖ / ‖b‖`; the norm of `a` where `b` is zero. Where both are NaN they are alike, where one is the result is.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    let pairs = || a.iter().zip(b).filter(|(a, b)| !(a.is_nan() && b.is_nan()));
    let norm = pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
    let diff = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    if norm > 0.0 { diff / norm } else { diff }
}
