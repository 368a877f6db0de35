//! Notes what a binary was built with and for, so that bug reports and benchmarks can say so, and compiles the CUDA
//! kernels where there is a compiler for them.

#[path = "build/nvcc.rs"]
mod nvcc;

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = Command::new(env("RUSTC")).arg("--version").output().ok();
    let rustc = rustc.and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    println!("cargo::rustc-env=ETUDE_BUILD={}, {}, {}", env("PROFILE"), env("TARGET"), rustc.trim());
    nvcc::build(&PathBuf::from(env("OUT_DIR")));
}
