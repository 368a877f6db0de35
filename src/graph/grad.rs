//! Gradients: the way back along the tape, and the sums and multiples that they are made of.
//!
//! A tape needs a vector space for its gradients, whatever ops there are (as in HIPS autograd): it launches these rows
//! itself. What they make is no part of the tape; `add`, `scale` and `fill` of [`crate::ops`] put it there.

use super::tape::{Graph, Var};
use crate::kernels::elementwise::{self as k, ElementwiseParams};
use crate::{Error, Result};

impl Graph {
    /// Where a backward closure writes (with `=`) its share of the gradient of `var`;
    /// `None` when nobody asks for it.
    pub fn grad_target(&mut self, var: Var) -> Option<Var> {
        if !self.needs_grad(var) {
            return None;
        }
        let target = self.temp_like(var);
        if !self.grads.contains_key(&var) {
            self.nodes[target.index].home = self.nodes[var.index].grad_home.clone();
        }
        Some(target)
    }

    /// Adds `grad` to the gradient of `var`. Fan-out goes through one accumulate launch.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn give_grad(&mut self, var: Var, grad: Var) -> Result<()> {
        self.check_own("give_grad", "grad", &[var, grad])?;
        if !self.needs_grad(var) {
            return Ok(());
        }
        let (want, got) = (self.shape(var), self.shape(grad));
        if want != got {
            return Err(Error::shape(
                "give_grad",
                "grad",
                format!("shape {got:?} for a value of shape {want:?}"),
            ));
        }
        match self.grads.get(&var).copied() {
            None => {
                let grad = self.at_home(var, grad)?;
                self.grads.insert(var, grad);
            }
            // In place only in the leaf's own memory: an intermediate gradient may have been handed
            // to several values as it is.
            Some(sum) if self.nodes[var.index].grad_home.is_some() => self.accumulate(sum, grad)?,
            Some(sum) => {
                let total = self.sum(sum, grad)?;
                self.grads.insert(var, total);
            }
        }
        Ok(())
    }

    /// The first gradient of `var`: one that was handed over as it is may lie elsewhere, and is copied to the leaf's own memory.
    fn at_home(&mut self, var: Var, grad: Var) -> Result<Var> {
        let home = match &self.nodes[var.index].grad_home {
            Some(home) if self.nodes[grad.index].home.as_ref().is_none_or(|h| !h.overlaps(home)) => {
                home.clone()
            }
            _ => return Ok(grad),
        };
        let shape = self.shape(var).to_vec();
        let target = self.bind(&home, &shape)?;
        self.launch(&k::COPY, &self.all_of("give_grad", "grad", grad, 1.0)?, &[grad, target])?;
        Ok(target)
    }

    /// The gradient of `var`, once [`Graph::backward`] has run.
    pub fn grad(&self, var: Var) -> Option<Var> {
        self.grads.get(&var).copied()
    }

    /// Whether `upstream` is the constant 1 that [`Graph::backward`] starts from,
    /// so that an op may hand over a gradient it already has.
    pub fn is_unit(&self, upstream: Var) -> bool {
        self.unit == Some(upstream)
    }

    /// Appends the backward launches of every op that `loss`, a scalar, depends on.
    ///
    /// # Errors
    /// When `loss` is no scalar, needs no gradient, or the graph went backward before.
    pub fn backward(&mut self, loss: Var) -> Result<()> {
        self.check_own("backward", "loss", &[loss])?;
        if self.len(loss) != 1 {
            return Err(Error::shape(
                "backward",
                "loss",
                format!("needs a scalar, has shape {:?}", self.shape(loss)),
            ));
        }
        let shape = self.shape(loss).to_vec();
        let unit = self.fill(&shape, 1.0)?;
        self.unit = Some(unit);
        self.backward_from(loss, unit)
    }

    /// As [`Graph::backward`], from any value with its gradient given: the vector-Jacobian product.
    ///
    /// # Errors
    /// When the shapes differ, no gradient can flow, or the graph went backward before.
    pub fn backward_from(&mut self, output: Var, upstream: Var) -> Result<()> {
        self.check_own("backward", "output", &[output])?;
        self.check_own("backward", "upstream", &[upstream])?;
        if !self.needs_grad(output) {
            return Err(Error::shape("backward", "loss", "depends on no leaf that takes a gradient"));
        }
        if !self.grads.is_empty() {
            return Err(Error::shape(
                "backward",
                "loss",
                "this graph went backward before: record a new one",
            ));
        }
        self.give_grad(output, upstream)?;
        for (var, backward) in std::mem::take(&mut self.tape).into_iter().rev() {
            if let Some(upstream) = self.grad(var) {
                backward(self, upstream)?;
            }
        }
        Ok(())
    }
}

/// The vector space.
impl Graph {
    /// A new value, every element `value`.
    pub(crate) fn fill(&mut self, shape: &[usize], value: f32) -> Result<Var> {
        let y = self.temp(shape);
        self.launch(&k::FILL, &self.all_of("fill", "shape", y, value)?, &[y])?;
        Ok(y)
    }

    /// `a + b`, of one shape.
    pub(crate) fn sum(&mut self, a: Var, b: Var) -> Result<Var> {
        let y = self.temp_like(a);
        self.launch(&k::ADD, &self.all_of("add", "a", a, 1.0)?, &[a, b, y])?;
        Ok(y)
    }

    /// `sum += x` in place.
    fn accumulate(&mut self, sum: Var, x: Var) -> Result<()> {
        self.launch(&k::ACCUMULATE, &self.all_of("give_grad", "grad", x, 1.0)?, &[x, sum])
    }

    /// `y = factor·s·x` with a one-element `s`.
    pub(crate) fn scale(&mut self, x: Var, s: Var, factor: f32, y: Var) -> Result<()> {
        self.launch(&k::SCALE, &self.all_of("scale", "x", x, factor)?, &[x, s, y])
    }

    /// Params over all elements of `v`, which these kernels count in 32 bits.
    fn all_of(
        &self,
        op: &'static str,
        argument: &'static str,
        v: Var,
        factor: f32,
    ) -> Result<ElementwiseParams> {
        let n = u32::try_from(self.len(v)).map_err(|_| {
            let message = format!("has shape {:?}, at most 2^32 - 1 elements are taken", self.shape(v));
            Error::shape(op, argument, message)
        })?;
        Ok(ElementwiseParams { n, factor })
    }
}
