//! Optimizer updates as launches; [`crate::optim`] is what a training step uses.

use super::check::{count, expect_shape};
use crate::graph::{Graph, Var};
use crate::kernels::optim as k;
use crate::{Error, Result};

/// Options of [`sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// What of the velocity stays from step to step, in [0, 1).
    pub momentum: f32,
    /// Factor of the parameter that its gradient grows by.
    pub weight_decay: f32,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, weight_decay: 0.0 }
    }
}

/// Options of [`adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// What of the mean of the gradient stays from step to step, in [0, 1).
    pub beta1: f64,
    /// What of the mean of its square stays, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the mean square; positive.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Whether decay shrinks the parameter itself (AdamW) instead of adding to the gradient (Adam).
    pub decoupled: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: true }
    }
}

fn check(op: &'static str, argument: &'static str, value: f32, ok: bool) -> Result<()> {
    if ok && value.is_finite() {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{value} is out of range")))
}

impl Sgd {
    pub(crate) fn check(&self) -> Result<()> {
        check("sgd", "momentum", self.momentum, (0.0..1.0).contains(&self.momentum))?;
        check("sgd", "weight_decay", self.weight_decay, self.weight_decay >= 0.0)
    }
}

impl Adam {
    /// 1 − β₁ and 1 − β₂ as the kernel has them.
    pub(crate) fn rates(&self) -> [f32; 2] {
        [self.beta1, self.beta2].map(|beta| (1.0 - beta) as f32)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let [rate1, rate2] = self.rates();
        check("adam", "beta1", rate1, rate1 > 0.0 && rate1 <= 1.0)?;
        check("adam", "beta2", rate2, rate2 > 0.0 && rate2 <= 1.0)?;
        check("adam", "eps", self.eps, self.eps > 0.0)?;
        check("adam", "weight_decay", self.weight_decay, self.weight_decay >= 0.0)
    }
}

fn check_shapes(
    g: &Graph,
    op: &'static str,
    theta: Var,
    others: [(&'static str, Var); 2],
    third: Option<Var>,
    hyper: Var,
) -> Result<u32> {
    let n = count(op, "theta", g.shape(theta))?;
    let third = third.map(|v| ("v", v));
    for (name, var) in others.into_iter().chain(third) {
        expect_shape(g, op, name, var, g.shape(theta), ("theta", theta))?;
    }
    expect_shape(g, op, "hyper", hyper, &[k::HYPER], ("theta", theta))?;
    Ok(n)
}

/// One step of stochastic gradient descent on `theta` in place; `velocity` starts as zeros.
///
/// `hyper [3]` holds the learning rate first; the rest is not read.
///
/// # Errors
/// When the shapes differ or an option is out of range.
pub fn sgd(g: &mut Graph, theta: Var, grad: Var, velocity: Var, hyper: Var, options: Sgd) -> Result<()> {
    options.check()?;
    let n = check_shapes(g, "sgd", theta, [("grad", grad), ("velocity", velocity)], None, hyper)?;
    let p = k::SgdParams { n, momentum: options.momentum, weight_decay: options.weight_decay };
    g.launch(&k::SGD, &p, &[hyper, grad, theta, velocity])
}

/// One step of Adam or AdamW on `theta` in place; the moments `[m, v]` start as zeros.
///
/// `hyper [3]` holds the learning rate, `1 − β₁ᵗ` and `1 − β₂ᵗ` with t counted from 1.
///
/// # Errors
/// As [`sgd`].
pub fn adam(g: &mut Graph, theta: Var, grad: Var, [m, v]: [Var; 2], hyper: Var, options: Adam) -> Result<()> {
    options.check()?;
    let n = check_shapes(g, "adam", theta, [("grad", grad), ("m", m)], Some(v), hyper)?;
    let [rate1, rate2] = options.rates();
    let p = k::AdamParams {
        n,
        rate1,
        rate2,
        eps: options.eps,
        weight_decay: options.weight_decay,
        decoupled: u32::from(options.decoupled),
    };
    g.launch(&k::ADAM, &p, &[hyper, grad, theta, m, v])
}
