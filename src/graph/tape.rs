//! The tape: values, the launches that make them, and how gradients flow back.

use crate::device::Buf;
use crate::kernel::{Elem, Kernel, Params, Scratch};
use crate::{Error, Result};
use bytemuck::NoUninit;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A value in a [`Graph`], known to that graph alone: ops, [`Graph::compile`] and [`Graph::backward`] of another refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Var {
    /// Which graph.
    graph: u64,
    pub(super) index: usize,
}

pub(super) struct Node {
    pub(super) shape: Vec<usize>,
    /// The value whose memory this is; itself unless an alias.
    pub(super) root: usize,
    /// Where in that memory it begins, in elements.
    pub(super) offset: usize,
    pub(super) elem: Elem,
    /// Memory that outlives the step; without it the planner finds a place.
    pub(super) home: Option<Buf>,
    /// Where the first gradient of this leaf is to be written.
    pub(super) grad_home: Option<Buf>,
    pub(super) needs_grad: bool,
    /// The kernel that made this of what needs a gradient, where nobody said how one flows back through it.
    pub(super) refuses: Option<&'static str>,
    /// What it needs where it is scratch.
    pub(super) scratch: Option<Scratch>,
}

pub(super) struct Recorded {
    pub(super) kernel: &'static Kernel,
    pub(super) params: Params,
    pub(super) vars: Vec<Var>,
}

pub(super) type Backward = Rc<dyn Fn(&mut Graph, Var) -> Result<()>>;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Values.
    Forward,
    /// Gradients that are differentiated in turn.
    Gradients,
    /// Gradients that are not: the tape is at its end.
    Last,
}

/// Records ops over statically shaped values.
pub struct Graph {
    /// Unlike every other graph's of this process.
    id: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) launches: Vec<Recorded>,
    /// Values in the order they were made, each with what takes its gradient further back.
    pub(super) tape: Vec<(Var, Backward)>,
    pub(super) grads: HashMap<Var, Var>,
    pub(super) pass: Pass,
    /// The gradient of the loss by itself: the constant 1.
    pub(super) unit: Option<Var>,
    /// Stands for index inputs that launches do not read.
    pub(super) no_index: Option<Var>,
}

impl Default for Graph {
    fn default() -> Self {
        static GRAPHS: AtomicU64 = AtomicU64::new(0);
        Self {
            id: GRAPHS.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            launches: Vec::new(),
            tape: Vec::new(),
            grads: HashMap::new(),
            pass: Pass::Forward,
            unit: None,
            no_index: None,
        }
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a value; nothing of another graph's.
    fn known(&self, var: Var) -> Option<&Node> {
        (var.graph == self.id).then(|| &self.nodes[var.index])
    }

    /// Whether these values are this graph's.
    ///
    /// # Errors
    /// When one is not.
    pub(super) fn check_own(&self, op: &'static str, argument: &'static str, vars: &[Var]) -> Result<()> {
        if vars.iter().all(|var| var.graph == self.id) {
            return Ok(());
        }
        Err(Error::shape(op, argument, "is a value of another graph: record everything in one"))
    }

    /// The value at `index`.
    pub(super) fn var(&self, index: usize) -> Var {
        Var { graph: self.id, index }
    }

    fn node(&mut self, shape: &[usize], elem: Elem) -> Var {
        let root = self.nodes.len();
        let (shape, home, grad_home) = (shape.to_vec(), None, None);
        let (needs_grad, refuses, scratch) = (false, None, None);
        let node = Node { shape, root, offset: 0, elem, home, grad_home, needs_grad, refuses, scratch };
        self.nodes.push(node);
        self.var(root)
    }

    /// Binds device memory as a constant of the given shape.
    ///
    /// # Errors
    /// When the shape does not count as many elements as the buffer holds.
    pub fn bind(&mut self, buf: &Buf, shape: &[usize]) -> Result<Var> {
        if elements(shape) != buf.len() {
            return Err(Error::shape(
                "bind",
                "shape",
                format!("{shape:?} does not count the buffer's {} elements", buf.len()),
            ));
        }
        let var = self.node(shape, buf.elem());
        self.nodes[var.index].home = Some(buf.clone());
        Ok(var)
    }

    /// Binds device memory as a leaf that gradients flow to; they are written to `grad` when given.
    ///
    /// # Errors
    /// As [`Graph::bind`], also for `grad`.
    pub fn leaf(&mut self, buf: &Buf, grad: Option<&Buf>, shape: &[usize]) -> Result<Var> {
        let var = self.bind(buf, shape)?;
        if let Some(grad) = grad
            && grad.len() != buf.len()
        {
            return Err(Error::shape(
                "leaf",
                "grad",
                format!("{} elements for the gradient of {}", grad.len(), buf.len()),
            ));
        }
        self.nodes[var.index].needs_grad = true;
        self.nodes[var.index].grad_home = grad.cloned();
        Ok(var)
    }

    /// A new intermediate of floating-point elements; some launch must write it.
    pub fn temp(&mut self, shape: &[usize]) -> Var {
        self.node(shape, Elem::Real)
    }

    /// What a launch keeps between its stages: as much as the device needs that runs it.
    pub fn scratch(&mut self, need: Scratch) -> Var {
        let var = self.temp(&[need.most()]);
        self.nodes[var.index].scratch = Some(need);
        var
    }

    /// A stand-in for an index input that a launch does not read.
    pub(crate) fn no_index(&mut self) -> Var {
        match self.no_index {
            Some(var) => var,
            None => {
                let var = self.node(&[1], Elem::Index);
                *self.no_index.insert(var)
            }
        }
    }

    /// A new intermediate of `u32` elements; some launch must write it.
    pub fn temp_index(&mut self, shape: &[usize]) -> Var {
        self.node(shape, Elem::Index)
    }

    /// A new intermediate with the shape of `var`.
    pub fn temp_like(&mut self, var: Var) -> Var {
        let shape = self.shape(var).to_vec();
        self.node(&shape, Elem::Real)
    }

    /// The shape of a value; `[]` for one of another graph, which the launch that takes it refuses.
    pub fn shape(&self, var: Var) -> &[usize] {
        self.known(var).map_or(&[], |node| &node.shape)
    }

    /// The shape of a value as an array of the rank an op expects.
    ///
    /// # Errors
    /// When the rank differs, naming op, argument and shape.
    pub fn dims<const N: usize>(
        &self,
        op: &'static str,
        argument: &'static str,
        var: Var,
    ) -> Result<[usize; N]> {
        self.check_own(op, argument, &[var])?;
        let shape = self.shape(var);
        shape
            .try_into()
            .map_err(|_| Error::shape(op, argument, format!("needs {N} dimensions, has shape {shape:?}")))
    }

    /// The element type of a value; [`Elem::Real`] for one of another graph.
    pub fn elem(&self, var: Var) -> Elem {
        self.known(var).map_or(Elem::Real, |node| node.elem)
    }

    /// Whether a gradient may flow into this value.
    pub fn needs_grad(&self, var: Var) -> bool {
        self.known(var).is_some_and(|node| node.needs_grad)
    }

    /// The memory of `var` under another shape; see [`crate::ops::reshape`] for one on the tape.
    pub(crate) fn alias(&mut self, var: Var, shape: &[usize]) -> Result<Var> {
        self.check_own("reshape", "x", &[var])?;
        let from = self.shape(var);
        if elements(shape) != elements(from) {
            return Err(Error::shape("reshape", "shape", format!("{from:?} cannot become {shape:?}")));
        }
        self.window(var, 0, shape)
    }

    /// A part of the memory of `var`, from element `first` of it on, under a shape of its own. Nothing goes backward from here.
    pub(crate) fn window(&mut self, var: Var, first: usize, shape: &[usize]) -> Result<Var> {
        self.check_own("window", "x", &[var])?;
        let len = elements(shape);
        if first.checked_add(len).is_none_or(|end| end > self.len(var)) {
            let message = format!("{shape:?} from element {first} on is no part of {:?}", self.shape(var));
            return Err(Error::shape("window", "shape", message));
        }
        let of = &self.nodes[var.index];
        let (root, offset) = (of.root, of.offset + first);
        let refuses = self.nodes[root].refuses;
        let home = of.home.as_ref().map(|home| home.window(first, len)).transpose()?;
        let part = self.node(shape, self.elem(var));
        let node = &mut self.nodes[part.index];
        (node.root, node.offset, node.home) = (root, offset, home);
        (node.refuses, node.needs_grad) = (refuses, refuses.is_some());
        Ok(part)
    }

    /// Appends a launch of `kernel` over `vars` in binding order.
    ///
    /// # Errors
    /// When the count or an element type differs from the kernel's row, or a value is another graph's.
    pub fn launch<P: NoUninit>(&mut self, kernel: &'static Kernel, params: &P, vars: &[Var]) -> Result<()> {
        self.check_own(kernel.name, "bindings", vars)?;
        let rows = kernel.bindings;
        if rows.len() != vars.len() || rows.iter().zip(vars).any(|(r, &v)| r.elem != self.elem(v)) {
            let given: Vec<_> = vars.iter().map(|&v| self.elem(v)).collect();
            return Err(Error::shape(
                kernel.name,
                "bindings",
                format!("takes {rows:?}, was given {given:?}"),
            ));
        }
        self.launches.push(Recorded { kernel, params: Params::new(params), vars: vars.to_vec() });
        let flows = |v: Var| self.nodes[v.index].needs_grad || self.nodes[self.root(v)].needs_grad;
        if self.pass == Pass::Gradients && rows.iter().zip(vars).any(|(r, &v)| r.access.reads() && flows(v)) {
            for (row, &v) in rows.iter().zip(vars) {
                if row.access.writes() {
                    self.refuse(v, kernel.name);
                }
            }
        }
        Ok(())
    }

    /// Where gradients are to be differentiated in turn: `var` is one that `made` wrote beside a value, and nobody says how one
    /// flows back through it.
    pub(crate) fn differentiated_once(&mut self, var: Var, made: &'static str) {
        if self.pass == Pass::Gradients && !self.needs_grad(var) {
            self.refuse(var, made);
        }
    }

    /// A gradient that comes to `var` is an error: it was made by `kernel`, of which no derivative is known. Without the error
    /// the gradient would be lost, and count as 0.
    fn refuse(&mut self, var: Var, kernel: &'static str) {
        for index in [var.index, self.root(var)] {
            let node = &mut self.nodes[index];
            (node.refuses, node.needs_grad) = (Some(kernel), true);
        }
    }

    /// Says how gradients flow through `output`, which was computed from `inputs`.
    ///
    /// `backward` is called with the gradient of `output`, once each time that gradients are recorded, and only when some input
    /// needs one. It appends launches and hands results to [`Graph::give_grad`]; where these are to be differentiated in
    /// turn ([`Graph::gradients`]), it says how with this function again, of each that it hands over. One that a launch wrote
    /// beside the value itself needs the same as soon as it is recorded, or it counts as a constant.
    pub fn on_backward(
        &mut self,
        output: Var,
        inputs: &[Var],
        backward: impl Fn(&mut Self, Var) -> Result<()> + 'static,
    ) {
        if self.pass == Pass::Last || self.known(output).is_none() {
            return;
        }
        let flows = inputs.iter().any(|&v| self.needs_grad(v));
        let node = &mut self.nodes[output.index];
        (node.refuses, node.needs_grad) = (None, flows);
        if flows {
            self.tape.push((output, Rc::new(backward)));
        }
    }

    /// The value whose memory `var` is.
    pub(super) fn root(&self, var: Var) -> usize {
        self.nodes[var.index].root
    }

    /// Elements of a value.
    pub(super) fn len(&self, var: Var) -> usize {
        elements(self.shape(var))
    }
}

/// Elements of a shape; more than can be counted are as many as no device has memory for.
fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}
