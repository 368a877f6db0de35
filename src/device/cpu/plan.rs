//! Compiled lists of launches: each twin called in turn.

use super::memory::Storage;
use crate::device::buf::Buf;
use crate::device::interface::Plan;
use crate::device::launch::Launch;
use crate::kernel::{Args, Memory, Real, Team, Work};
use crate::{Error, Result};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What this device calls itself in messages.
pub(super) const NAME: &str = "cpu";

/// What a device and its plans share.
pub(super) struct Shared {
    pub(super) work: Work,
    /// Where there is more than one thread, those, and what keeps them together while a plan runs.
    pub(super) pool: Option<(rayon::ThreadPool, Team)>,
    /// Held while a plan runs and while host code copies: buffers are shared by clones.
    pub(super) lock: Mutex<()>,
}

/// The memory of a buffer of a device of `F`.
pub(super) fn storage<F: Real>(buf: &Buf) -> Result<&Storage<F>> {
    buf.storage::<Storage<F>>().ok_or_else(|| {
        Error::device(NAME, "the buffer belongs to another device: copy it through host memory")
    })
}

pub(super) struct CpuPlan<F: Real> {
    shared: Arc<Shared>,
    /// Keep their buffers alive.
    launches: Vec<Launch>,
    /// Where the buffers of each lie.
    memory: Vec<Box<[Memory]>>,
    float: PhantomData<fn() -> F>,
}

impl<F: Real> CpuPlan<F> {
    pub(super) fn new(shared: Arc<Shared>, launches: Vec<Launch>) -> Result<Self> {
        let mut memory = Vec::with_capacity(launches.len());
        for launch in &launches {
            launch.check()?;
            launch.check_ranges(|buf| Ok(storage::<F>(buf)?.range(buf)))?;
            let place = |buf: &Buf| Ok(Memory::new(storage::<F>(buf)?.start(buf), buf.len()));
            memory.push(launch.bufs.iter().map(place).collect::<Result<_>>()?);
        }
        Ok(Self { shared, launches, memory, float: PhantomData })
    }

    fn each(&self, which: std::ops::Range<usize>) {
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let go = || {
            for i in which.clone() {
                // SAFETY: the lock keeps everybody else away.
                unsafe { self.one(i, self.shared.work) }
            }
        };
        match &self.shared.pool {
            Some((pool, team)) => {
                team.begin();
                pool.broadcast(|thread| match thread.index() {
                    0 => team.lead(go),
                    own => team.help(own),
                });
            }
            None => go(),
        }
    }
}

impl<F: Real> CpuPlan<F> {
    /// Launch `i`, spread by `work`.
    ///
    /// # Safety
    /// Meanwhile nobody else writes what it reads, nor uses what it writes.
    unsafe fn one(&self, i: usize, work: Work) {
        let Launch { kernel, params, .. } = &self.launches[i];
        // SAFETY: the plan keeps the buffers, `Launch::check` and `check_ranges` saw that each is what its binding takes and
        // that nothing written overlaps anything, and the caller keeps everybody else away.
        let args = unsafe { Args::new(params, kernel.bindings, &self.memory[i], work) };
        (F::twin(&kernel.cpu))(args);
    }

    /// Every launch, where there are enough of them each on one thread: they wait for no other.
    ///
    /// # Safety
    /// No launch writes what another reads or writes.
    pub(super) unsafe fn run_each(&mut self) {
        let (len, work) = (self.launches.len(), self.shared.work);
        let Some((pool, _)) = &self.shared.pool else { return self.each(0..len) };
        // The last of them keep one thread while others wait.
        if len < 2 * work.threads {
            return self.each(0..len);
        }
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let next = AtomicUsize::new(0);
        pool.broadcast(|_| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= len {
                    break;
                }
                // SAFETY: the lock keeps everybody else away, and the others are no concern of it.
                unsafe { self.one(i, Work { threads: 1, ..work }) }
            }
        });
    }
}

impl<F: Real> Plan for CpuPlan<F> {
    fn run(&mut self) -> Result<()> {
        self.each(0..self.launches.len());
        Ok(())
    }

    fn run_one(&mut self, index: usize) -> Result<()> {
        let n = self.launches.len();
        if index >= n {
            return Err(Error::device(NAME, format!("the plan has {n} launches, asked for {index}")));
        }
        self.each(index..index + 1);
        Ok(())
    }
}
