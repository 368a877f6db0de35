//! What of a graph is run, and where its intermediates lie.

use super::tape::{Graph, Recorded, Var};
use crate::device::Buf;
use crate::kernel::Elem;
use crate::{Error, Result};
use std::collections::HashMap;

pub(super) struct Planned {
    /// Element type and length of each slot.
    pub(super) slots: Vec<(Elem, usize)>,
    /// Value to slot.
    pub(super) places: HashMap<usize, usize>,
}

impl Graph {
    /// Launches, in order, whose results somebody reads.
    pub(super) fn live_launches(&self, keep: &[Var]) -> Vec<usize> {
        let mut wanted = vec![false; self.nodes.len()];
        keep.iter().for_each(|&v| wanted[self.root(v)] = true);
        let mut live = Vec::new();
        for (i, launch) in self.launches.iter().enumerate().rev() {
            let bound = || launch.kernel.bindings.iter().zip(launch.vars.iter().copied());
            if bound().any(|(b, v)| {
                b.access.writes() && (wanted[self.root(v)] || self.nodes[v.index].home.is_some())
            }) {
                bound().filter(|(b, _)| b.access.reads()).for_each(|(_, v)| wanted[self.root(v)] = true);
                live.push(i);
            }
        }
        live.reverse();
        live
    }

    /// Gives each intermediate of the live launches a slot, reused once its value is dead; `place` says how many elements one
    /// takes.
    pub(super) fn plan(
        &self,
        live: &[usize],
        homes: &[Option<Buf>],
        place: &dyn Fn(usize) -> usize,
    ) -> Result<Planned> {
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
                let (elem, len) = (self.elem(*var), place(root));
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
