//! Notes what a binary was built with and for, so that bug reports and benchmarks can say so, and embeds the CUDA sources.

#[cfg(feature = "cuda")]
#[path = "build/nvcc.rs"]
mod nvcc;
#[cfg(feature = "cuda-on-cpu")]
#[path = "build/on_cpu.rs"]
mod on_cpu;
#[path = "build/sources.rs"]
mod sources;

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    note_build();
    println!("cargo::rerun-if-changed=kernels");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let sources = sources::read();
    sources::embed(&sources, &out);
    #[cfg(feature = "cuda")]
    nvcc::build(&sources::files("cu"), &out);
    #[cfg(feature = "cuda-on-cpu")]
    {
        let planted = sources::one("kernels/on_cpu/planted.cu".as_ref());
        on_cpu::build(&sources.into_iter().chain([planted]).collect::<Vec<_>>(), &out);
    }
}

fn note_build() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = Command::new(env("RUSTC")).arg("--version").output().ok();
    let rustc = rustc.and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    println!("cargo::rustc-env=ETUDE_BUILD={}, {}, {}", env("PROFILE"), env("TARGET"), rustc.trim());
}
