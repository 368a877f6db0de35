//! What a device does, whatever it is.

use super::buf::Buf;
use super::host::{Host, HostMut};
use super::launch::Launch;
use super::pending::{Pending, at_once, block_on};
use super::traffic::Traffic;
use crate::Result;
use crate::kernel::{Elem, Scratch};

/// Where buffers live and launches run.
pub trait Device: Send + Sync {
    /// Name as messages and reports have it: `cpu`, `cuda`, `wgpu`.
    fn name(&self) -> String;

    /// Whether its buffers are the host's memory, which costs little to look at.
    fn on_host(&self) -> bool {
        false
    }

    /// A zeroed buffer.
    ///
    /// # Errors
    /// When the memory cannot be had.
    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf>;

    /// How many elements a binding that is [scratch](crate::kernel::Access::Scratch) must have here.
    fn scratch(&self, need: Scratch) -> usize {
        need.most()
    }

    /// Copies host memory into a whole buffer.
    ///
    /// # Errors
    /// When lengths or element types differ, or the buffer is another device's.
    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()>;

    /// Copies a whole buffer into host memory, after all launches before it.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()>;

    /// [`Device::read`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    fn read_async<'a>(&'a self, src: &'a Buf, dst: HostMut<'a>) -> Pending<'a, ()> {
        at_once(self.read(src, dst))
    }

    /// Prepares a list of launches to be run again and again as one submission.
    ///
    /// # Errors
    /// When a launch breaks its kernel's row, or the device cannot build it.
    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>>;

    /// Runs launches that nobody will want again, and waits no longer than [`Plan::run`] does.
    ///
    /// # Errors
    /// As [`Device::compile`] and [`Plan::run`].
    fn run_once(&self, launches: Vec<Launch>) -> Result<()> {
        self.compile(launches)?.run()
    }

    /// As [`Device::run_once`], in any order and several at a time.
    ///
    /// # Safety
    /// No launch writes what another reads or writes.
    ///
    /// # Errors
    /// As [`Device::run_once`].
    unsafe fn run_each(&self, launches: Vec<Launch>) -> Result<()> {
        self.run_once(launches)
    }

    /// What it has been asked for since it was made; nothing where there is no such traffic to count.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// A compiled list of launches.
pub trait Plan: Send {
    /// Runs every launch in order, as one submission.
    ///
    /// # Errors
    /// When the device fails.
    fn run(&mut self) -> Result<()>;

    /// [`Plan::run`] for code that runs in browsers too: done when it is submitted, which waits while too many runs are under
    /// way.
    ///
    /// # Errors
    /// As there.
    fn run_async(&mut self) -> Pending<'_, ()> {
        at_once(self.run())
    }

    /// Runs launch `index` alone and waits for it: for debugging and profiles.
    ///
    /// # Errors
    /// When the device fails or there is no such launch.
    fn run_one(&mut self, index: usize) -> Result<()>;

    /// [`Plan::run_one`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    fn run_one_async(&mut self, index: usize) -> Pending<'_, ()> {
        at_once(self.run_one(index))
    }

    /// As [`Plan::run_one`], and how many seconds it took: by the device's clock where it has one, else by
    /// the host's, which counts submission and waiting too.
    ///
    /// # Errors
    /// As [`Plan::run_one`].
    fn time_one(&mut self, index: usize) -> Result<f64> {
        let start = std::time::Instant::now();
        self.run_one(index)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl dyn Device + '_ {
    /// A new buffer holding `src`.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn upload<'a>(&self, src: impl Into<Host<'a>>) -> Result<Buf> {
        let src = src.into();
        let buf = self.alloc(src.elem(), src.len())?;
        self.write(&buf, src)?;
        Ok(buf)
    }

    /// A buffer's contents as f32.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn download(&self, buf: &Buf) -> Result<Vec<f32>> {
        block_on(self.download_async(buf))
    }

    /// `download` for code that runs in browsers too.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn download_async(&self, buf: &Buf) -> Result<Vec<f32>> {
        let mut out = vec![0f32; buf.len()];
        self.read_async(buf, HostMut::F32(&mut out)).await?;
        Ok(out)
    }

    /// A buffer's contents as f64.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn download_f64(&self, buf: &Buf) -> Result<Vec<f64>> {
        block_on(self.download_f64_async(buf))
    }

    /// `download_f64` for code that runs in browsers too.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn download_f64_async(&self, buf: &Buf) -> Result<Vec<f64>> {
        let mut out = vec![0f64; buf.len()];
        self.read_async(buf, HostMut::F64(&mut out)).await?;
        Ok(out)
    }
}
