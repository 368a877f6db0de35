//! The update of a parameter set, and the state it keeps.

use super::params::{Leaves, ParamSet};
use crate::device::{Buf, Device};
use crate::graph::Graph;
use crate::kernel::Elem;
use crate::kernels::optim::HYPER;
use crate::ops::optim::{Adam, Sgd, adam, sgd};
use crate::{Error, Result};

/// How parameters are updated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam or AdamW.
    Adam(Adam),
}

/// The state of an optimizer over one [`ParamSet`].
pub struct Optimizer {
    method: Method,
    hyper: Buf,
    /// Velocity, or both moments, laid out as the parameters.
    states: Vec<(&'static str, Buf)>,
    theta: Buf,
    grad: Buf,
    steps: u32,
}

impl Optimizer {
    /// An optimizer with its state at zero.
    ///
    /// # Errors
    /// When an option is out of range or the device has no memory.
    pub fn new(device: &dyn Device, params: &ParamSet, method: Method) -> Result<Self> {
        let names: &[&'static str] = match method {
            Method::Sgd(o) => {
                o.check()?;
                &["velocity"]
            }
            Method::Adam(o) => {
                o.check()?;
                &["m", "v"]
            }
        };
        let state = |&name: &&'static str| Ok((name, device.alloc(Elem::Real, params.theta().len())?));
        Ok(Self {
            method,
            hyper: device.alloc(Elem::Real, HYPER)?,
            states: names.iter().map(state).collect::<Result<_>>()?,
            theta: params.theta().clone(),
            grad: params.gradient().clone(),
            steps: 0,
        })
    }

    /// The same, reading what changes from step to step from `hyper`, which others write: see [`Optimizer::next_hyper`].
    ///
    /// # Errors
    /// When that is not room for [`HYPER`] floating-point numbers.
    pub fn with_hyper(self, hyper: &Buf) -> Result<Self> {
        if (hyper.len(), hyper.elem()) != (HYPER, Elem::Real) {
            return Err(Error::shape(
                "optimizer",
                "hyper",
                format!("needs {HYPER} real numbers, is {hyper:?}"),
            ));
        }
        Ok(Self { hyper: hyper.clone(), ..self })
    }

    /// Appends the one launch that updates every parameter, after [`Graph::backward`].
    ///
    /// # Errors
    /// When `leaves` are another set's, or a parameter received no gradient in this graph.
    pub fn record(&self, g: &mut Graph, params: &ParamSet, leaves: &Leaves) -> Result<()> {
        let same = params.theta().overlaps(&self.theta) && params.theta().len() == self.theta.len();
        if !same || !params.names().eq(leaves.iter().map(|l| l.0)) {
            return Err(Error::config("the optimizer was made for another parameter set"));
        }
        if let Some((name, _)) = leaves.iter().find(|&(_, leaf)| g.grad(leaf).is_none()) {
            return Err(Error::config(format!(
                "parameter `{name}` received no gradient: the loss does not depend on it, \
                 or the graph has not gone backward"
            )));
        }
        let n = self.theta.len();
        let hyper = g.bind(&self.hyper, &[HYPER])?;
        let (theta, grad) = (g.bind(&self.theta, &[n])?, g.bind(&self.grad, &[n])?);
        let states = self.states.iter().map(|(_, buf)| g.bind(buf, &[n])).collect::<Result<Vec<_>>>()?;
        match self.method {
            Method::Sgd(o) => sgd(g, theta, grad, states[0], hyper, o),
            Method::Adam(o) => adam(g, theta, grad, [states[0], states[1]], hyper, o),
        }
    }

    /// Counts a step and writes what it needs; call it before each run of the compiled graph.
    ///
    /// # Errors
    /// When `lr` is negative or not finite, or the device fails.
    pub fn before_step(&mut self, device: &dyn Device, lr: f64) -> Result<()> {
        let hyper = self.next_hyper(lr)?;
        device.write(&self.hyper, (&hyper).into())
    }

    /// Counts a step and gives what the update reads in it, for whoever writes it to the device.
    ///
    /// # Errors
    /// When `lr` is negative or not finite.
    pub fn next_hyper(&mut self, lr: f64) -> Result<[f64; HYPER]> {
        if !(lr.is_finite() && lr >= 0.0) {
            return Err(Error::config(format!("a learning rate of {lr} is out of range")));
        }
        self.steps = self.steps.saturating_add(1);
        let t = f64::from(self.steps);
        Ok(match self.method {
            Method::Sgd(_) => [lr, 1.0, 1.0],
            Method::Adam(o) => {
                // 1 − βᵗ, from the f32 of 1 − β that the kernel uses, so that the correction is exactly its own.
                let [bias1, bias2] = o.rates().map(|rate| -(t * (-f64::from(rate)).ln_1p()).exp_m1());
                [lr, bias1, bias2]
            }
        })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The state by name, laid out as [`ParamSet::theta`]: to save, and to go on from.
    pub fn states(&self) -> &[(&'static str, Buf)] {
        &self.states
    }

    /// Sets the count of steps taken, when the state is restored.
    pub fn set_steps(&mut self, steps: u32) {
        self.steps = steps;
    }
}
