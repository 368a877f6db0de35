//! Where nvcc is found, the kernels are compiled into the crate: one fatbin a stem.
//!
//! nvcc is `NVCC` (a path; empty means none), else in `CUDA_PATH` or `CUDA_HOME`, else in `PATH`. Without one nothing is
//! embedded, and NVRTC compiles the sources at run time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Machine code, oldest card first: compute capability and the oldest nvcc that knows it.
const CODE: &[(&str, (u32, u32))] = &[("80", (11, 0)), ("90a", (12, 0)), ("100", (12, 8))];

/// What newer cards compile when they load it.
const PTX: &str = "80";

/// Writes `fatbins.rs`, what `etude::device::cuda` embeds.
pub fn build(sources: &[PathBuf], out: &Path) {
    for name in ["NVCC", "CUDA_PATH", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let mut rust = String::new();
    match find() {
        None => rust.push_str(
            "pub static FATBINS: &[(&str, &[u8])] = &[];\npub const TOOLKIT: Option<(u32, u32)> = None;\n",
        ),
        Some(nvcc) => {
            let version = version(&nvcc);
            let _ = writeln!(rust, "pub const TOOLKIT: Option<(u32, u32)> = Some({version:?});");
            rust.push_str("pub static FATBINS: &[(&str, &[u8])] = &[\n");
            for (stem, file) in compile(&nvcc, version, sources, out) {
                let _ = writeln!(rust, "    ({stem:?}, include_bytes!({file:?})),");
            }
            rust.push_str("];\n");
        }
    }
    let file = out.join("fatbins.rs");
    std::fs::write(&file, rust).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

fn find() -> Option<PathBuf> {
    let exe = format!("nvcc{}", std::env::consts::EXE_SUFFIX);
    if let Some(given) = std::env::var_os("NVCC") {
        return (!given.is_empty()).then(|| PathBuf::from(given));
    }
    let toolkits =
        ["CUDA_PATH", "CUDA_HOME"].map(|name| std::env::var_os(name).map(|d| PathBuf::from(d).join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    toolkits
        .into_iter()
        .flatten()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(&exe))
        .find(|f| f.is_file())
}

/// What a command printed.
fn run(command: &mut Command) -> String {
    let advice = "set NVCC to another nvcc, or to nothing to build without one";
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}\n{advice}"));
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?} failed:\n{text}\n{advice}");
    text.into_owned()
}

fn version(nvcc: &Path) -> (u32, u32) {
    let text = run(Command::new(nvcc).arg("--version"));
    let numbers = text.split("release ").nth(1).and_then(|t| t.split([',', ' ']).next()?.split_once('.'));
    let parsed = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("{} does not tell its version:\n{text}", nvcc.display()))
}

/// Compiles every source, several at a time; stems and files.
fn compile(nvcc: &Path, version: (u32, u32), sources: &[PathBuf], out: &Path) -> Vec<(String, PathBuf)> {
    let mut flags: Vec<String> =
        ["-std=c++17", "-O3", "-lineinfo", "-fatbin", "-Xfatbin=-compress-all", "-Xptxas=-v", "--threads=0"]
            .map(String::from)
            .into();
    for (arch, since) in CODE {
        if version >= *since {
            flags.push(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
        }
    }
    flags.push(format!("-gencode=arch=compute_{PTX},code=compute_{PTX}"));
    let todo = Mutex::new(sources.iter());
    let made = Mutex::new(Vec::new());
    let workers = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(sources.len()) {
            scope.spawn(|| {
                loop {
                    let Some(source) = todo.lock().unwrap().next() else { return };
                    let stem = source.file_stem().unwrap().to_string_lossy().into_owned();
                    let file = out.join(format!("{stem}.fatbin"));
                    let said = run(Command::new(nvcc).args(&flags).arg("-o").arg(&file).arg(source));
                    // Registers and spills, for scripts/cuda-check.
                    let report = out.join(format!("{stem}.ptxas"));
                    std::fs::write(&report, said).unwrap_or_else(|e| panic!("{}: {e}", report.display()));
                    made.lock().unwrap().push((stem, file));
                }
            });
        }
    });
    made.into_inner().unwrap()
}
