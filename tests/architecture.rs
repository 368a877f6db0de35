//! Who may know whom: ARCHITECTURE.md's layers, held by a search through the sources.

use std::path::{Path, PathBuf};

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}

/// Lines of `src/<within>` that hold any of `words`, but for files under `except`.
fn mentions(within: &str, words: &[&str], except: &[&str]) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = src.join(within);
    let files = if root.is_dir() { sources(&root) } else { vec![root.with_extension("rs")] };
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        if except.iter().any(|e| name.starts_with(e)) {
            continue;
        }
        for (i, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            // Our own module `device::wgpu` is not the library.
            let code = line.split("//").next().unwrap_or_default();
            let code = code.replace("self::wgpu::", "self::wgpu ").replace("device::wgpu::", "device::wgpu ");
            if words.iter().any(|w| code.contains(w)) {
                found.push(format!("src/{name}:{}: {line}", i + 1));
            }
        }
    }
    found
}

#[test]
fn the_search_finds_what_is_there() {
    assert!(!mentions("device", &["rayon::"], &[]).is_empty());
    assert!(mentions("device", &["rayon::"], &["device/"]).is_empty());
}

#[test]
fn gpu_libraries_stay_inside_their_devices() {
    assert_eq!(mentions("", &["cudarc::"], &["device/cuda"]), [""; 0]);
    assert_eq!(mentions("", &["wgpu::"], &["device/wgpu"]), [""; 0]);
}

#[test]
fn devices_and_kernels_know_neither_graphs_nor_ops() {
    for layer in ["device", "kernels"] {
        assert_eq!(
            mentions(layer, &["crate::graph", "crate::ops", "crate::nn", "crate::optim"], &[]),
            [""; 0]
        );
    }
}

#[test]
fn the_graph_and_ops_know_no_backend() {
    for layer in ["graph", "ops"] {
        assert_eq!(
            mentions(layer, &["device::cpu", "device::Cpu", "device::wgpu", "Wgpu", "device::cuda"], &[]),
            [""; 0]
        );
    }
}

#[test]
fn data_audio_and_reports_know_no_device() {
    for layer in ["data", "audio", "report"] {
        assert_eq!(
            mentions(layer, &["crate::device", "crate::graph", "crate::ops", "crate::kernels"], &[]),
            [""; 0]
        );
    }
}

#[test]
fn a_stem_has_its_kernels_its_op_and_its_cases() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (stem, kernels) in etude::kernels::REGISTRY {
        for layer in ["kernels", "ops", "cases"] {
            assert!(src.join(layer).join(format!("{stem}.rs")).is_file(), "src/{layer}/{stem}.rs");
        }
        assert!(!kernels.is_empty(), "{stem} has no kernels");
    }
}
