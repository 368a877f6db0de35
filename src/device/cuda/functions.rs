//! The functions of a card: loaded at first use, kept by the device.

use super::compile;
use super::fault::{fault, lock};
use super::launch::Ready;
use super::shared::{Functions, Loaded, Shared};
use crate::Result;
use crate::kernel::Kernel;
use cudarc::driver::CudaFunction;
use cudarc::driver::sys::CUfunction_attribute as Attribute;
use cudarc::nvrtc::Ptx;
use std::collections::hash_map::Entry;

/// Dynamic shared memory that a launch gets unasked.
const SHARED_UNASKED: u32 = 48 << 10;

fn stem(kernel: &Kernel) -> Result<&'static str> {
    kernel.stem().ok_or_else(|| fault(format!("{} is not registered", kernel.name)))
}

impl Functions {
    /// Loads what `launches` need and is not loaded yet.
    pub(super) fn load(&mut self, shared: &Shared, launches: &[Ready]) -> Result<()> {
        let mut missing = Vec::new();
        for launch in launches {
            let stem = stem(launch.kernel)?;
            if !self.modules.contains_key(stem) && !missing.contains(&stem) {
                missing.push(stem);
            }
        }
        let arch = compile::architecture(shared.card.capability);
        let code = compile::binaries(&missing, &arch, shared.card.origin, |stems| {
            if let Some(tell) = &*lock(&shared.compiling) {
                tell(stems);
            }
        })?;
        for (stem, code) in missing.into_iter().zip(code) {
            let loaded = shared.stream.context().load_module(Ptx::from_binary(code));
            let module = shared.check(&format!("loading kernels/{stem}.cu"), loaded)?;
            self.modules.insert(stem, module);
        }
        Ok(())
    }

    /// The function of a launch, ready for its block and its dynamic shared memory.
    pub(super) fn get(&mut self, shared: &Shared, launch: &Ready) -> Result<CudaFunction> {
        let (kernel, block, dynamic) = (launch.kernel, launch.block, launch.shared);
        let stem = stem(kernel)?;
        let what = format!("loading {}", kernel.name);
        let loaded = match self.functions.entry(kernel.name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let module = self.modules.get(stem).ok_or_else(|| fault(format!("{stem} is not loaded")))?;
                let function = shared.check(&what, module.load_function(kernel.name))?;
                // Asking also loads what the driver loads lazily, which a graph's capture forbids.
                let ask =
                    |attribute| shared.check(&what, function.get_attribute(attribute)).map(|v| v as u32);
                let threads = ask(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
                let fixed = ask(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
                new.insert(Loaded { function, threads, fixed, opened: false })
            }
        };
        let (threads, fixed) = (loaded.threads, loaded.fixed);
        if block > threads {
            return Err(fault(format!(
                "{} takes blocks of at most {threads} threads, its row says {block}",
                kernel.name
            )));
        }
        if fixed.saturating_add(dynamic) > shared.shared_memory {
            return Err(fault(format!(
                "{} needs {} bytes of shared memory, {} has {} for a block",
                kernel.name,
                u64::from(fixed) + u64::from(dynamic),
                shared.card.name,
                shared.shared_memory
            )));
        }
        if fixed + dynamic > SHARED_UNASKED && !loaded.opened {
            // For all launches of the function alike, so: the most that it can have.
            let most = (shared.shared_memory - fixed) as i32;
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            shared.check(&what, loaded.function.set_attribute(attribute, most))?;
            loaded.opened = true;
            // The share of a multiprocessor's L1 that becomes shared memory (the preferred carve-out) stays the driver's
            // choice. By default it chooses for each kernel so that shared memory keeps out no block that registers and threads
            // would let in (CUDA C++ Programming Guide, shared memory of compute capability 7.x, which later ones refer to).
            // The attribute is one share for all launches of a function, whose dynamic sizes differ by shape: too large, it
            // takes L1 from the kernels that read their rows through it; other than that of the kernel before, it may keep the
            // two from overlapping.
        }
        Ok(loaded.function.clone())
    }
}
