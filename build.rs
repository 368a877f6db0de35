//! Notes what a binary was built with and for, so that bug reports and benchmarks can say so, and prepares the CUDA
//! sources for the features that use them.

#[cfg(feature = "cuda-on-cpu")]
#[path = "build/on_cpu.rs"]
mod on_cpu;
#[cfg(feature = "cuda-on-cpu")]
#[path = "build/sources.rs"]
mod sources;

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    note_build();
    #[cfg(feature = "cuda-on-cpu")]
    {
        println!("cargo::rerun-if-changed=kernels");
        let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        sources::embed(&out);
        let planted = sources::one("kernels/on_cpu/planted.cu".as_ref());
        on_cpu::build(&sources::read().into_iter().chain([planted]).collect::<Vec<_>>(), &out);
    }
}

fn note_build() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = Command::new(env("RUSTC")).arg("--version").output().ok();
    let rustc = rustc.and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    println!("cargo::rustc-env=ETUDE_BUILD={}, {}, {}", env("PROFILE"), env("TARGET"), rustc.trim());
}
