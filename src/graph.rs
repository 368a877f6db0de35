//! Record once, replay every step: the tape, the recorder and the buffer planner.
//!
//! A [`Graph`] is recorded by calling ops. Each op appends launches and, where a
//! gradient may flow, pushes a closure that appends the backward launches.
//! [`Graph::backward`] runs the closures in reverse, once, at record time, so
//! that forward, backward and update are one flat list of launches.
//! [`Graph::compile`] drops what nothing reads, places intermediates in memory
//! that is reused within the step, and hands the list to a device as one
//! [`Step`] to replay.

use crate::device::{Buf, Device, Launch, Plan};
use crate::kernel::{Cost, Elem, Kernel, Params};
use crate::{Error, Result};
use bytemuck::NoUninit;
use std::collections::HashMap;

/// A value in a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Var(usize);

struct Node {
    shape: Vec<usize>,
    /// The value whose memory this is; itself unless an alias.
    root: usize,
    elem: Elem,
    /// Memory that outlives the step; without it the planner finds a place.
    home: Option<Buf>,
    /// Where the first gradient of this leaf is to be written.
    grad_home: Option<Buf>,
    needs_grad: bool,
}

struct Recorded {
    kernel: &'static Kernel,
    params: Params,
    vars: Vec<Var>,
}

type Backward = Box<dyn FnOnce(&mut Graph, Var) -> Result<()>>;

/// Records ops over statically shaped values.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    launches: Vec<Recorded>,
    tape: Vec<(Var, Backward)>,
    grads: HashMap<Var, Var>,
    /// The gradient of the loss by itself: the constant 1.
    unit: Option<Var>,
    /// Stands for index inputs that launches do not read.
    no_index: Option<Var>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    fn node(&mut self, shape: &[usize], elem: Elem) -> Var {
        let root = self.nodes.len();
        let (shape, home, grad_home) = (shape.to_vec(), None, None);
        self.nodes.push(Node { shape, root, elem, home, grad_home, needs_grad: false });
        Var(root)
    }

    /// Binds device memory as a constant of the given shape.
    ///
    /// # Errors
    /// When the shape does not count as many elements as the buffer holds.
    pub fn bind(&mut self, buf: &Buf, shape: &[usize]) -> Result<Var> {
        if shape.iter().product::<usize>() != buf.len() {
            return Err(Error::shape(
                "bind",
                "shape",
                format!("{shape:?} does not count the buffer's {} elements", buf.len()),
            ));
        }
        let var = self.node(shape, buf.elem());
        self.nodes[var.0].home = Some(buf.clone());
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
        self.nodes[var.0].needs_grad = true;
        self.nodes[var.0].grad_home = grad.cloned();
        Ok(var)
    }

    /// A new intermediate of floating-point elements; some launch must write it.
    pub fn temp(&mut self, shape: &[usize]) -> Var {
        self.node(shape, Elem::Real)
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
        let shape = self.nodes[var.0].shape.clone();
        self.node(&shape, Elem::Real)
    }

    /// The shape of a value.
    pub fn shape(&self, var: Var) -> &[usize] {
        &self.nodes[var.0].shape
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
        let shape = self.shape(var);
        shape
            .try_into()
            .map_err(|_| Error::shape(op, argument, format!("needs {N} dimensions, has shape {shape:?}")))
    }

    /// The element type of a value.
    pub fn elem(&self, var: Var) -> Elem {
        self.nodes[var.0].elem
    }

    /// Whether a gradient may flow into this value.
    pub fn needs_grad(&self, var: Var) -> bool {
        self.nodes[var.0].needs_grad
    }

    /// The memory of `var` under another shape; see [`crate::ops::reshape`] for one on the tape.
    pub(crate) fn alias(&mut self, var: Var, shape: &[usize]) -> Result<Var> {
        let from = self.shape(var);
        if shape.iter().product::<usize>() != from.iter().product::<usize>() {
            return Err(Error::shape("reshape", "shape", format!("{from:?} cannot become {shape:?}")));
        }
        let alias = self.node(shape, self.elem(var));
        self.nodes[alias.0].root = self.nodes[var.0].root;
        self.nodes[alias.0].home = self.nodes[var.0].home.clone();
        Ok(alias)
    }

    /// Appends a launch of `kernel` over `vars` in binding order.
    ///
    /// # Errors
    /// When the count or an element type differs from the kernel's row.
    pub fn launch<P: NoUninit>(&mut self, kernel: &'static Kernel, params: &P, vars: &[Var]) -> Result<()> {
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
        Ok(())
    }

    /// Says how gradients flow through `output`, which was computed from `inputs`.
    ///
    /// `backward` is called at most once with the gradient of `output`, and only
    /// when some input needs one. It appends launches and hands results to
    /// [`Graph::give_grad`].
    pub fn on_backward(
        &mut self,
        output: Var,
        inputs: &[Var],
        backward: impl FnOnce(&mut Self, Var) -> Result<()> + 'static,
    ) {
        if inputs.iter().any(|&v| self.needs_grad(v)) {
            self.nodes[output.0].needs_grad = true;
            self.tape.push((output, Box::new(backward)));
        }
    }

    /// Where a backward closure writes (with `=`) its share of the gradient of `var`;
    /// `None` when nobody asks for it.
    pub fn grad_target(&mut self, var: Var) -> Option<Var> {
        if !self.needs_grad(var) {
            return None;
        }
        let target = self.temp_like(var);
        if !self.grads.contains_key(&var) {
            self.nodes[target.0].home = self.nodes[var.0].grad_home.clone();
        }
        Some(target)
    }

    /// Adds `grad` to the gradient of `var`. Fan-out goes through one accumulate launch.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn give_grad(&mut self, var: Var, grad: Var) -> Result<()> {
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
                // A gradient handed over as it is may have another home: copy it to the leaf's.
                let home = self.nodes[var.0].grad_home.clone();
                let grad = match home {
                    Some(home) if self.nodes[grad.0].home.as_ref().is_none_or(|h| !h.overlaps(&home)) => {
                        let target = self.bind(&home, &self.nodes[var.0].shape.clone())?;
                        crate::ops::copy(self, grad, target)?;
                        target
                    }
                    _ => grad,
                };
                self.grads.insert(var, grad);
                Ok(())
            }
            // In place only in the leaf's own memory: an intermediate gradient may have been handed
            // to several values as it is.
            Some(sum) if self.nodes[var.0].grad_home.is_some() => crate::ops::accumulate(self, sum, grad),
            Some(sum) => {
                let total = crate::ops::add(self, sum, grad)?;
                self.grads.insert(var, total);
                Ok(())
            }
        }
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
        if self.shape(loss).iter().product::<usize>() != 1 {
            return Err(Error::shape(
                "backward",
                "loss",
                format!("needs a scalar, has shape {:?}", self.shape(loss)),
            ));
        }
        let shape = self.shape(loss).to_vec();
        let unit = crate::ops::fill(self, &shape, 1.0)?;
        self.unit = Some(unit);
        self.backward_from(loss, unit)
    }

    /// As [`Graph::backward`], from any value with its gradient given: the vector-Jacobian product.
    ///
    /// # Errors
    /// When the shapes differ, no gradient can flow, or the graph went backward before.
    pub fn backward_from(&mut self, output: Var, upstream: Var) -> Result<()> {
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

    /// Plans memory and compiles the recorded launches on `device`.
    ///
    /// What neither reaches persistent memory nor a value in `keep` is dropped;
    /// values in `keep` can be read after a run with [`Step::buf`].
    ///
    /// # Errors
    /// When a launch reads what none has written, or the device refuses.
    pub fn compile(&self, device: &dyn Device, keep: &[Var]) -> Result<Step> {
        let live = self.live_launches(keep);
        let mut homes: Vec<Option<Buf>> = self.nodes.iter().map(|n| n.home.clone()).collect();
        for &var in keep {
            let root = self.nodes[var.0].root;
            if homes[root].is_none() {
                homes[root] = Some(device.alloc(self.elem(var), self.len(var))?);
            }
        }
        if let Some(var) = self.no_index {
            homes[var.0] = Some(device.alloc(Elem::Index, 1)?);
        }
        let planned = self.plan(&live, &homes)?;
        let slots =
            planned.slots.iter().map(|&(elem, len)| device.alloc(elem, len)).collect::<Result<Vec<_>>>()?;
        for (var, slot) in planned.places {
            homes[var] = Some(slots[slot].window(0, self.len(Var(var)))?);
        }
        let mut launches = Vec::with_capacity(live.len());
        for &i in &live {
            let Recorded { kernel, params, vars } = &self.launches[i];
            let bufs = vars
                .iter()
                .map(|&v| homes[self.root(v)].clone().expect("every live value has a place"))
                .collect();
            launches.push(Launch { kernel, bufs, params: *params });
        }
        Ok(Step {
            plan: device.compile(launches.clone())?,
            launches,
            kept: keep.iter().filter_map(|&v| Some((v, homes[self.root(v)].clone()?))).collect(),
            scratch_len: planned.slots.iter().map(|s| s.1).sum(),
        })
    }

    fn root(&self, var: Var) -> usize {
        self.nodes[var.0].root
    }

    fn len(&self, var: Var) -> usize {
        self.shape(var).iter().product()
    }

    /// Launches, in order, whose results somebody reads.
    fn live_launches(&self, keep: &[Var]) -> Vec<usize> {
        let mut wanted = vec![false; self.nodes.len()];
        keep.iter().for_each(|&v| wanted[self.root(v)] = true);
        let mut live = Vec::new();
        for (i, launch) in self.launches.iter().enumerate().rev() {
            let bound = || launch.kernel.bindings.iter().zip(launch.vars.iter().copied());
            if bound()
                .any(|(b, v)| b.access.writes() && (wanted[self.root(v)] || self.nodes[v.0].home.is_some()))
            {
                bound().filter(|(b, _)| b.access.reads()).for_each(|(_, v)| wanted[self.root(v)] = true);
                live.push(i);
            }
        }
        live.reverse();
        live
    }

    /// Gives each intermediate of the live launches a slot, reused once its value is dead.
    fn plan(&self, live: &[usize], homes: &[Option<Buf>]) -> Result<Planned> {
        let mut last_use = HashMap::new();
        for (at, &i) in live.iter().enumerate() {
            self.launches[i].vars.iter().for_each(|&v| {
                last_use.insert(self.root(v), at);
            });
        }
        let mut planned = Planned { slots: Vec::new(), places: HashMap::new() };
        let mut free: Vec<usize> = Vec::new();
        for (at, &i) in live.iter().enumerate() {
            let Recorded { kernel, vars, .. } = &self.launches[i];
            for (row, var) in kernel.bindings.iter().zip(vars) {
                let root = self.root(*var);
                if homes[root].is_some() || planned.places.contains_key(&root) {
                    continue;
                }
                if row.access.reads() {
                    return Err(Error::shape(kernel.name, row.name, "read before any launch has written it"));
                }
                let (elem, len) = (self.elem(*var), self.len(*var));
                // The free slot that fits tightest, or else the largest, grown.
                let best = free
                    .iter()
                    .enumerate()
                    .filter(|&(_, &s)| planned.slots[s].0 == elem)
                    .min_by_key(|&(_, &s)| (planned.slots[s].1 < len, planned.slots[s].1.abs_diff(len)))
                    .map(|(at, _)| at);
                let slot = match best {
                    Some(at) => free.swap_remove(at),
                    None => {
                        planned.slots.push((elem, 0));
                        planned.slots.len() - 1
                    }
                };
                planned.slots[slot].1 = planned.slots[slot].1.max(len);
                planned.places.insert(root, slot);
            }
            let mut done: Vec<usize> =
                vars.iter().map(|&v| self.root(v)).filter(|v| last_use[v] == at).collect();
            done.sort_unstable();
            done.dedup();
            free.extend(done.iter().filter_map(|v| planned.places.get(v)));
        }
        Ok(planned)
    }
}

struct Planned {
    /// Element type and length of each slot.
    slots: Vec<(Elem, usize)>,
    /// Value to slot.
    places: HashMap<usize, usize>,
}

/// A compiled graph: one submission, run again and again.
pub struct Step {
    plan: Box<dyn Plan>,
    launches: Vec<Launch>,
    kept: HashMap<Var, Buf>,
    scratch_len: usize,
}

impl Step {
    /// Runs every launch once.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&mut self) -> Result<()> {
        self.plan.run()
    }

    /// Runs launch by launch and stops at the first kernel that makes a NaN or an infinity.
    ///
    /// # Errors
    /// Naming the kernel, the output and the element at fault; or when the device fails.
    pub fn run_checked(&mut self, device: &dyn Device) -> Result<()> {
        for (i, launch) in self.launches.iter().enumerate() {
            self.plan.run_one(i)?;
            for (row, buf) in launch.kernel.bindings.iter().zip(&launch.bufs) {
                if row.access.writes() && row.elem == Elem::Real {
                    let values = device.download_f64(buf)?;
                    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                        return Err(Error::device(
                            device.name(),
                            format!(
                                "launch {i}, {}: `{}`[{at}] is {}: look at its inputs first",
                                launch.kernel.name, row.name, values[at]
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills everything that launches write and none reads first with NaN, so that an element
    /// a kernel forgets shows. For tests.
    ///
    /// # Errors
    /// When the device fails.
    pub fn poison(&self, device: &dyn Device) -> Result<()> {
        for launch in &self.launches {
            for (row, buf) in launch.kernel.bindings.iter().zip(&launch.bufs) {
                if !row.access.reads() && row.elem == Elem::Real {
                    device.write(buf, (&vec![f32::NAN; buf.len()]).into())?;
                }
            }
        }
        Ok(())
    }

    /// Runs launch by launch, timing each: kernel, cost and seconds, in order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile(&mut self) -> Result<Vec<(&'static Kernel, Cost, f64)>> {
        let mut rows = Vec::with_capacity(self.launches.len());
        for (i, launch) in self.launches.iter().enumerate() {
            let seconds = self.plan.time_one(i)?;
            rows.push((launch.kernel, (launch.kernel.cost)(&launch.params), seconds));
        }
        Ok(rows)
    }

    /// The buffer of a value that was kept at [`Graph::compile`].
    ///
    /// # Errors
    /// When it was not.
    pub fn buf(&self, var: Var) -> Result<&Buf> {
        self.kept.get(&var).ok_or_else(|| Error::config("the value was not kept when the graph was compiled"))
    }

    /// How many launches a run makes.
    pub fn launches(&self) -> usize {
        self.launches.len()
    }

    /// The launches of a run, in order: to time them or to run them elsewhere.
    pub fn recorded(&self) -> &[Launch] {
        &self.launches
    }

    /// Roofline cost of a run.
    pub fn cost(&self) -> Cost {
        self.launches.iter().map(|l| (l.kernel.cost)(&l.params)).sum()
    }

    /// Elements of memory that intermediates share.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }
}
