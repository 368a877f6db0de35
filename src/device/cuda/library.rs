//! NVIDIA's libraries: whether they are there, and whole.
//!
//! cudarc loads them when they are first called and panics where a library or one of its symbols is missing, as in a stub, a
//! placeholder of a container or a damaged installation. So everything that this device calls is looked for first.

use super::fault::fault;
use crate::Result;
use std::sync::OnceLock;

/// What the driver's library is asked before its version is known; every driver since CUDA 6 has these.
const DRIVER_FIRST: [&str; 3] = ["cuDriverGetVersion", "cuGetErrorName", "cuInit"];

/// What this device and cudarc under it call in the driver's library, but for what old drivers may lack, which is asked for by
/// name.
const DRIVER: [&str; 49] = [
    "cuCtxDestroy_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetProcAddress_v2",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuLaunchKernel",
    "cuMemAllocFromPoolAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetAddressRange_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemPoolCreate",
    "cuMemPoolDestroy",
    "cuMemPoolSetAttribute",
    "cuMemPoolTrimTo",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoad",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuPointerGetAttributes",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
];

/// What is called in NVRTC.
const NVRTC: [&str; 8] = [
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
    "nvrtcVersion",
];

/// Stand in where another crate has cudarc link the libraries, which are then there and whole: cudarc has no such functions.
mod linked {
    pub(super) struct Linked;

    impl Linked {
        #[allow(dead_code, reason = "called where the libraries are linked")]
        pub(super) unsafe fn get<T>(&self, _: &[u8]) -> Result<(), T> {
            Ok(())
        }
    }
}

#[allow(dead_code, reason = "cudarc's own hides it")]
unsafe fn is_culib_present() -> bool {
    true
}

#[allow(dead_code, reason = "cudarc's own hides it")]
unsafe fn culib() -> linked::Linked {
    linked::Linked
}

/// Whether there is a driver's library, whatever it is worth.
pub fn is_driver_present() -> bool {
    #[allow(unused_imports, reason = "for is_culib_present, if it is there")]
    use cudarc::driver::sys::*;
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: loads and unloads NVIDIA's library, whose initialisers are trusted.
    *PRESENT.get_or_init(|| unsafe { is_culib_present() })
}

/// Whether there is NVRTC's library.
pub(super) fn is_nvrtc_present() -> bool {
    #[allow(unused_imports, reason = "for is_culib_present, if it is there")]
    use cudarc::nvrtc::sys::*;
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: as above.
    *PRESENT.get_or_init(|| unsafe { is_culib_present() })
}

/// Looks for what tells the driver's version and its errors; the library must be there.
pub(super) fn check_driver_first() -> Result<()> {
    check_driver_has(&DRIVER_FIRST)
}

/// Looks for all else that is called in the driver's library.
pub(super) fn check_driver() -> Result<()> {
    check_driver_has(&DRIVER)
}

fn check_driver_has(symbols: &[&'static str]) -> Result<()> {
    #[allow(unused_imports, reason = "for culib, if it is there")]
    use cudarc::driver::sys::*;
    // SAFETY: the library is there; a symbol is looked for, not called.
    whole("libcuda", symbols, |name| unsafe { culib().get::<usize>(name.as_bytes()).is_ok() })
}

/// Looks for all that is called in NVRTC; the library must be there.
pub(super) fn check_nvrtc() -> Result<()> {
    #[allow(unused_imports, reason = "for culib, if it is there")]
    use cudarc::nvrtc::sys::*;
    // SAFETY: as above.
    whole("libnvrtc", &NVRTC, |name| unsafe { culib().get::<usize>(name.as_bytes()).is_ok() })
}

fn whole(library: &str, symbols: &[&'static str], has: impl Fn(&str) -> bool) -> Result<()> {
    match symbols.iter().find(|name| !has(name)) {
        None => Ok(()),
        Some(name) => Err(fault(format!(
            "the {library} found is not NVIDIA's, or is damaged: it has no {name}; take it out of LD_LIBRARY_PATH or install \
             the driver again, or use the WGSL device or the CPU"
        ))),
    }
}
