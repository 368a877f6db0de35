//! Gradients: the way back along the tape, and the sums and multiples that they are made of.
//!
//! A tape needs a vector space for its gradients, whatever ops there are (as in HIPS autograd): it launches these rows
//! itself. What they make is no part of the tape; `add`, `scale` and `fill` of [`crate::ops`] put it there.

use super::tape::{Backward, Graph, Pass, Var};
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
        if self.pass != Pass::Gradients && !self.grads.contains_key(&var) {
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
        if let Some(kernel) = self.nodes[var.index].refuses {
            let message = format!(
                "would come to what `{kernel}` made, which is differentiated once only: Graph::gradients says what is more often"
            );
            return Err(Error::shape("backward", "gradient", message));
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
            Some(sum) if self.writes_home(var) => self.accumulate(sum, grad)?,
            Some(sum) => {
                let total = self.sum(sum, grad)?;
                self.on_backward(total, &[sum, grad], move |g, upstream| {
                    g.give_grad(sum, upstream)?;
                    g.give_grad(grad, upstream)
                });
                self.grads.insert(var, total);
            }
        }
        Ok(())
    }

    /// Whether the gradient of `var` lies in memory that was named for it.
    fn writes_home(&self, var: Var) -> bool {
        self.pass != Pass::Gradients && self.nodes[var.index].grad_home.is_some()
    }

    /// The first gradient of `var`: one that was handed over as it is may lie elsewhere, and is copied to the leaf's own memory.
    fn at_home(&mut self, var: Var, grad: Var) -> Result<Var> {
        let home = match &self.nodes[var.index].grad_home {
            Some(home)
                if self.writes_home(var)
                    && self.nodes[grad.index].home.as_ref().is_none_or(|h| !h.overlaps(home)) =>
            {
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
        let unit = self.unit_of(loss)?;
        self.backward_from(loss, unit)
    }

    /// As [`Graph::backward`], from any value with its gradient given: the vector-Jacobian product.
    ///
    /// # Errors
    /// When the shapes differ, no gradient can flow, or the graph went backward before.
    pub fn backward_from(&mut self, output: Var, upstream: Var) -> Result<()> {
        self.check_before(output, upstream)?;
        self.pass = Pass::Last;
        let tape = std::mem::take(&mut self.tape);
        self.go_back(tape, output, upstream)
    }

    /// The gradients of `output` by each of `by`, as values of the graph: of what is made of them [`Graph::backward`], or this
    /// again, gives second derivatives, such as the Hessian times a vector or the gradient of a penalty on gradients.
    ///
    /// `upstream` is the gradient by `output` itself; a scalar needs none. What can be differentiated so, any number of times:
    /// convolutions, dot products, [`mse`](crate::ops::loss::mse), sums, multiples, shapes, rectifiers, dropout and means over
    /// time. Twice: the other similarities, and the contrastive loss over all pairs of one set or across two. Once: all else, and
    /// whatever is stored in 16 bits. A gradient that would come to what no derivative is known of is an error there.
    ///
    /// # Errors
    /// When a shape does not fit, `output` depends not on one of `by`, or the graph went backward before.
    ///
    /// ```
    /// use etude::device::{Cpu, Device};
    /// use etude::graph::Graph;
    /// use etude::ops::similarity::{Similarity, similarity};
    ///
    /// let cpu = Cpu::<f32>::new(1)?;
    /// let device: &dyn Device = &cpu;
    /// let (x, w) = (device.upload(&[1.0, 2.0])?, device.upload(&[3.0, -1.0])?);
    /// let mut g = Graph::new();
    /// let (x, w) = (g.leaf(&x, None, &[1, 2])?, g.bind(&w, &[1, 2])?);
    /// let y = similarity(&mut g, x, x, Similarity::Dot)?; // |x|²
    /// let by_x = g.gradients(y, None, &[x])?[0]; // 2x
    /// let along = similarity(&mut g, by_x, w, Similarity::Dot)?; // 2x·w
    /// g.backward(along)?;
    /// let second = g.grad(x).ok_or_else(|| etude::Error::config("x has no part in it"))?; // 2w
    /// let mut step = g.compile(device, &[by_x, second])?;
    /// step.run()?;
    /// assert_eq!(device.download_f64(step.buf(by_x)?)?, [2.0, 4.0]);
    /// assert_eq!(device.download_f64(step.buf(second)?)?, [6.0, -2.0]);
    /// # Ok::<_, etude::Error>(())
    /// ```
    pub fn gradients(&mut self, output: Var, upstream: Option<Var>, by: &[Var]) -> Result<Vec<Var>> {
        self.check_own("gradients", "by", by)?;
        let upstream = match upstream {
            Some(upstream) => upstream,
            None => self.unit_of(output)?,
        };
        self.check_before(output, upstream)?;
        let pass = std::mem::replace(&mut self.pass, Pass::Gradients);
        let went = self.go_back(self.tape.clone(), output, upstream);
        let grads = std::mem::take(&mut self.grads);
        self.pass = pass;
        went?;
        let found = |(i, var)| {
            grads.get(var).copied().ok_or_else(|| {
                let message = format!("output depends not on value {i}, or that takes no gradient");
                Error::shape("gradients", "by", message)
            })
        };
        by.iter().enumerate().map(found).collect()
    }

    /// The constant 1, as the gradient of a scalar.
    fn unit_of(&mut self, loss: Var) -> Result<Var> {
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
        Ok(unit)
    }

    /// Whether gradients can flow from here.
    fn check_before(&self, output: Var, upstream: Var) -> Result<()> {
        self.check_own("backward", "output", &[output])?;
        self.check_own("backward", "upstream", &[upstream])?;
        if !self.needs_grad(output) {
            return Err(Error::shape("backward", "loss", "depends on no leaf that takes a gradient"));
        }
        if self.pass == Pass::Last {
            return Err(Error::shape(
                "backward",
                "loss",
                "this graph went backward before: record a new one",
            ));
        }
        Ok(())
    }

    /// The way back along a tape.
    fn go_back(&mut self, tape: Vec<(Var, Backward)>, output: Var, upstream: Var) -> Result<()> {
        self.give_grad(output, upstream)?;
        for (var, backward) in tape.into_iter().rev() {
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
