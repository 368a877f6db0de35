//! A compiled graph and its replay.

use super::tape::{Graph, Recorded, Var};
use crate::device::{Buf, Device, Launch, Plan, block_on};
use crate::kernel::{Cost, Elem, Kernel};
use crate::{Error, Result};
use std::collections::HashMap;

impl Graph {
    /// Plans memory and compiles the recorded launches on `device`.
    ///
    /// What neither reaches persistent memory nor a value in `keep` is dropped;
    /// values in `keep` can be read after a run with [`Step::buf`].
    ///
    /// # Errors
    /// When a launch reads what none has written, a value in `keep` is another graph's, or the device refuses.
    pub fn compile(&self, device: &dyn Device, keep: &[Var]) -> Result<Step> {
        self.check_own("compile", "keep", keep)?;
        let live = self.live_launches(keep);
        let mut homes: Vec<Option<Buf>> = self.nodes.iter().map(|n| n.home.clone()).collect();
        for &var in keep {
            let root = self.nodes[var.index].root;
            if homes[root].is_none() {
                homes[root] = Some(device.alloc(self.elem(var), self.len(self.var(root)))?);
            }
        }
        if let Some(var) = self.no_index {
            homes[var.index] = Some(device.alloc(Elem::Index, 1)?);
        }
        let place = |var: usize| match self.nodes[var].scratch {
            Some(need) => device.scratch(need),
            None => self.len(self.var(var)),
        };
        let planned = self.plan(&live, &homes, &place)?;
        let slots =
            planned.slots.iter().map(|&(elem, len)| device.alloc(elem, len)).collect::<Result<Vec<_>>>()?;
        for (var, slot) in planned.places {
            homes[var] = Some(slots[slot].window(0, place(var))?);
        }
        let buf = |v: Var| {
            let home = homes[self.root(v)].as_ref().expect("every live value has a place");
            match self.nodes[v.index].root {
                root if root == v.index => Ok(home.clone()),
                _ => home.window(self.nodes[v.index].offset, self.len(v)),
            }
        };
        let mut launches = Vec::with_capacity(live.len());
        for &i in &live {
            let Recorded { kernel, params, vars } = &self.launches[i];
            let bufs = vars.iter().map(|&v| buf(v)).collect::<Result<_>>()?;
            launches.push(Launch { kernel, bufs, params: *params });
        }
        Ok(Step {
            plan: device.compile(launches.clone())?,
            launches,
            kept: keep.iter().map(|&v| Ok((v, buf(v)?))).collect::<Result<_>>()?,
            scratch_len: planned.slots.iter().map(|s| s.1).sum(),
        })
    }
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

    /// [`Step::run`] for code that runs in browsers too: done when it is submitted, which waits while too many runs are under
    /// way.
    ///
    /// # Errors
    /// As there.
    pub async fn run_async(&mut self) -> Result<()> {
        self.plan.run_async().await
    }

    /// Runs launch by launch and stops at the first kernel that makes a NaN or an infinity.
    ///
    /// # Errors
    /// Naming the kernel, the output and the element at fault; or when the device fails.
    pub fn run_checked(&mut self, device: &dyn Device) -> Result<()> {
        block_on(self.run_checked_async(device))
    }

    /// [`Step::run_checked`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn run_checked_async(&mut self, device: &dyn Device) -> Result<()> {
        for (i, launch) in self.launches.iter().enumerate() {
            self.plan.run_one_async(i).await?;
            for (row, buf) in launch.kernel.bindings.iter().zip(&launch.bufs) {
                if row.access.writes() && row.elem == Elem::Real {
                    let values = device.download_f64_async(buf).await?;
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
