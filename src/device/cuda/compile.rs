//! From the embedded sources to what the driver loads: the fatbin that the build made, or NVRTC and its cache.

use super::fault::fault;
use super::library;
use crate::fs::write_atomic;
use crate::hash::fnv1a_128;
use crate::kernels::source;
use crate::{Error, Result};
use cudarc::nvrtc::{result, sys};
use rayon::prelude::*;
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));
}

/// The environment variable that, set to `1`, has the kernels compiled by NVRTC even where a fatbin would do.
pub const NVRTC_VARIABLE: &str = "ETUDE_NVRTC";

/// Where a device takes its kernels from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// What nvcc of this version made when the crate was built.
    Fatbin {
        /// Major and minor version of the CUDA toolkit.
        toolkit: (u32, u32),
    },
    /// NVRTC, at first use, for the card that is there; cached on disk.
    Nvrtc,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fatbin { toolkit: (major, minor) } => write!(f, "compiled by nvcc {major}.{minor}"),
            Self::Nvrtc => write!(f, "compiled by NVRTC at first use"),
        }
    }
}

/// The version of the nvcc that compiled the kernels into this crate; none where there was no nvcc.
pub fn toolkit() -> Option<(u32, u32)> {
    embedded::TOOLKIT
}

/// The fatbin of a stem.
pub fn fatbin(stem: &str) -> Option<&'static [u8]> {
    embedded::FATBINS.iter().find(|f| f.0 == stem).map(|f| f.1)
}

/// What a driver for CUDA `driver` gets: the fatbin, unless it is a whole version too new for the driver, or
/// `ETUDE_NVRTC` says otherwise.
pub(super) fn origin(driver: (u32, u32)) -> Origin {
    choose(toolkit(), driver, std::env::var(NVRTC_VARIABLE).is_ok_and(|v| v == "1"))
}

fn choose(toolkit: Option<(u32, u32)>, driver: (u32, u32), nvrtc: bool) -> Origin {
    match toolkit {
        // A driver runs the machine code of every toolkit of its own major version and older.
        Some(toolkit) if !nvrtc && toolkit.0 <= driver.0 => Origin::Fatbin { toolkit },
        _ => Origin::Nvrtc,
    }
}

/// The name of the architecture that a card of this compute capability is compiled for. Hopper's own instructions need the `a`.
pub fn architecture((major, minor): (u32, u32)) -> String {
    if (major, minor) == (9, 0) { "sm_90a".into() } else { format!("sm_{major}{minor}") }
}

/// NVRTC's version.
///
/// # Errors
/// When there is no NVRTC; the text says where to get it.
pub fn nvrtc_version() -> Result<(u32, u32)> {
    if !library::is_nvrtc_present() {
        return Err(fault(
            "this build holds no compiled kernels for the driver, and NVRTC (libnvrtc) is not found: install the CUDA \
             toolkit or `pip install nvidia-cuda-nvrtc` and put its folder in LD_LIBRARY_PATH, or build etude where nvcc is \
             (NVCC=path), or use the CPU",
        ));
    }
    library::check_nvrtc()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and both pointers are valid.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|e| fault(format!("NVRTC does not tell its version: {e}")))?;
    Ok((major as u32, minor as u32))
}

/// An NVRTC program; destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram and destroyed here alone. What could fail is the pointer.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Compiles a stem to machine code for `arch` (`sm_80`, `sm_90a`, ...) with NVRTC. Needs no GPU.
///
/// # Errors
/// When there is no NVRTC, it does not know the architecture, or the source does not compile: the text is the compiler's.
pub fn compile(stem: &str, arch: &str) -> Result<Vec<u8>> {
    nvrtc_version()?;
    let fail = |what: &str| fault(format!("NVRTC: kernels/{stem}.cu for {arch}: {what}"));
    let c = |text: &str| CString::new(text).map_err(|_| fail("a null byte in the source"));
    let (name, text) = (c(&format!("{stem}.cu"))?, c(source_of(stem)?)?);
    let (mut raw, none) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: both strings outlive the program, and there are no headers.
    unsafe { sys::nvrtcCreateProgram(&raw mut raw, text.as_ptr(), name.as_ptr(), 0, none, none) }
        .result()
        .map_err(|e| fail(&e.to_string()))?;
    let program = Program(raw);
    let options = [format!("--gpu-architecture={arch}"), "--std=c++17".into()];
    // SAFETY: the program is alive.
    if let Err(e) = unsafe { result::compile_program(program.0, &options) } {
        // SAFETY: as above; the log ends in a null byte.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        let log: Vec<u8> = log.iter().take_while(|&&b| b != 0).map(|&b| b as u8).collect();
        return Err(fail(&format!("{e}\n{}", String::from_utf8_lossy(&log).trim_end())));
    }
    let mut size = 0;
    // SAFETY: the program is compiled, and the buffer has the size that NVRTC asks for.
    unsafe {
        sys::nvrtcGetCUBINSize(program.0, &raw mut size).result().map_err(|e| fail(&e.to_string()))?;
        let mut code = vec![0u8; size];
        let to = code.as_mut_ptr().cast::<c_char>();
        sys::nvrtcGetCUBIN(program.0, to).result().map_err(|e| fail(&e.to_string()))?;
        Ok(code)
    }
}

fn source_of(stem: &str) -> Result<&'static str> {
    source::cuda(stem).ok_or_else(|| fault(format!("`{stem}` has no CUDA source: use the CPU")))
}

/// Largest file of the cache that is read: none has been over two megabytes.
const MAX_BYTES: u64 = 1 << 28;

/// Machine code of each stem for a card of `arch`. NVRTC compiles what neither the build nor the cache holds, side by side on all
/// cores: `begin` hears of it first. NVRTC 13.0 takes a core of a Xeon 8 s for `conv1d` and for `conv_block`, 11 s for `conv2d`,
/// 18 s for `contrastive` and 23 s and 380 MiB for `similarity`; less than a second for each of the others.
///
/// # Errors
/// As [`compile`]; when the build left a stem out.
pub(super) fn binaries(
    stems: &[&'static str],
    arch: &str,
    origin: Origin,
    begin: impl FnOnce(&[&str]),
) -> Result<Vec<Vec<u8>>> {
    let kept = stems.iter().map(|stem| kept(stem, arch, origin)).collect::<Result<Vec<_>>>()?;
    let missing = stems.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
    let missing: Vec<&str> = missing.map(|(stem, _)| *stem).collect();
    if !missing.is_empty() {
        begin(&missing);
    }
    stems
        .par_iter()
        .zip(kept)
        .map(|(stem, kept)| match kept {
            Some(code) => Ok(code),
            None => compile_and_keep(stem, arch),
        })
        .collect()
}

/// What the build or the cache holds of a stem; nothing where it is to be compiled.
fn kept(stem: &str, arch: &str, origin: Origin) -> Result<Option<Vec<u8>>> {
    source_of(stem)?;
    if let Origin::Fatbin { .. } = origin {
        return fatbin(stem).map(|code| Some(code.to_vec())).ok_or_else(|| {
            fault(format!("the build left kernels/{stem}.cu out: build again, or set {NVRTC_VARIABLE}=1"))
        });
    }
    let code = cache_file(stem, arch)?.and_then(|file| crate::fs::read(&file, MAX_BYTES).ok());
    Ok(code.filter(|code| code.starts_with(b"\x7fELF")))
}

fn compile_and_keep(stem: &str, arch: &str) -> Result<Vec<u8>> {
    let code = compile(stem, arch)?;
    if let Some(file) = cache_file(stem, arch)? {
        // A cache that cannot be written costs each process its time again, no more.
        let _ = store(&file, &code);
    }
    Ok(code)
}

fn cache_file(stem: &str, arch: &str) -> Result<Option<PathBuf>> {
    cache_dir().map(|dir| Ok(dir.join(cache_name(stem, arch, nvrtc_version()?)?))).transpose()
}

/// Where NVRTC's results are kept: `etude/cuda` in `XDG_CACHE_HOME`, else in the user's cache directory.
pub fn cache_dir() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = of("XDG_CACHE_HOME").or_else(|| of("LOCALAPPDATA"));
    Some(base.or_else(|| Some(of("HOME")?.join(".cache")))?.join("etude").join("cuda"))
}

/// What a cached file is called: everything that its contents depend on goes into the name.
fn cache_name(stem: &str, arch: &str, (major, minor): (u32, u32)) -> Result<String> {
    let hash = fnv1a_128(source_of(stem)?.bytes());
    Ok(format!("{stem}-{arch}-nvrtc{major}.{minor}-{hash:032x}.cubin"))
}

/// Writes a file of the cache, and the folders that it needs.
fn store(file: &Path, code: &[u8]) -> Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    write_atomic(file, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatbin_is_taken_where_the_driver_can_run_it() {
        let made = Some((13, 0));
        assert_eq!(choose(made, (13, 0), false), Origin::Fatbin { toolkit: (13, 0) });
        assert_eq!(choose(made, (14, 1), false), Origin::Fatbin { toolkit: (13, 0) });
        // Within a major version a driver runs newer machine code.
        assert_eq!(choose(Some((13, 4)), (13, 0), false), Origin::Fatbin { toolkit: (13, 4) });
        assert_eq!(choose(made, (12, 8), false), Origin::Nvrtc);
        assert_eq!(choose(made, (13, 0), true), Origin::Nvrtc);
        assert_eq!(choose(None, (13, 0), false), Origin::Nvrtc);
    }

    #[test]
    fn architectures_are_those_of_the_card() {
        let names: Vec<_> = [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)].map(architecture).into();
        assert_eq!(names, ["sm_80", "sm_89", "sm_90a", "sm_100", "sm_120"]);
    }

    #[test]
    fn the_cache_knows_what_it_holds() {
        let stem = "elementwise";
        let name = cache_name(stem, "sm_80", (13, 0)).unwrap();
        assert!(name.starts_with(stem) && name.ends_with(".cubin"), "{name}");
        assert_eq!(name, cache_name(stem, "sm_80", (13, 0)).unwrap());
        for other in [cache_name(stem, "sm_90a", (13, 0)), cache_name(stem, "sm_80", (13, 1))] {
            assert_ne!(name, other.unwrap());
        }
        assert!(cache_name("no such stem", "sm_80", (13, 0)).is_err());
    }

    #[test]
    fn a_cached_file_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a").join("b.cubin");
        store(&file, b"\x7fELF....").unwrap();
        store(&file, b"\x7fELF....").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"\x7fELF....");
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert!(store(Path::new("/proc/none/b.cubin"), b"").is_err());
    }
}
