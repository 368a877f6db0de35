//! The CUDA sources of `kernels/`, each as one text.

use std::path::{Path, PathBuf};

/// One `kernels/<stem>.cu`.
pub struct Source {
    pub stem: String,
    /// The text with `#include "x.cuh"` replaced by that file, and `#line` directives that keep messages right.
    pub text: String,
}

/// The files of `kernels/` with an extension, in order.
pub fn files(extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir("kernels")
        .expect("kernels/ is part of the package")
        .map(|entry| entry.expect("kernels/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
}

/// Every source, by stem.
pub fn read() -> Vec<Source> {
    files("cu").iter().map(|path| one(path)).collect()
}

/// One source.
pub fn one(path: &Path) -> Source {
    let stem = path.file_stem().expect("a .cu file has a name").to_string_lossy().into_owned();
    Source { stem, text: inlined(path, &mut Vec::new()) }
}

/// A file with its own `#include "..."` replaced, each file once.
fn inlined(path: &Path, seen: &mut Vec<PathBuf>) -> String {
    let name = path.display();
    let source = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"));
    seen.push(path.to_path_buf());
    let mut out = format!("#line 1 \"{name}\"\n");
    for (i, line) in source.lines().enumerate() {
        match line.strip_prefix("#include \"").and_then(|rest| rest.split('"').next()) {
            Some(include) => {
                let include = path.with_file_name(include);
                if !seen.contains(&include) {
                    out += &inlined(&include, seen);
                }
                out += &format!("#line {} \"{name}\"\n", i + 2);
            }
            None if line == "#pragma once" => out += "\n",
            None => {
                out += line;
                out += "\n";
            }
        }
    }
    out
}

/// Writes `cuda_sources.rs`, what `etude::kernels::source` embeds.
pub fn embed(sources: &[Source], out: &Path) {
    let write = |path: &Path, text: &str| std::fs::write(path, text).expect("OUT_DIR can be written");
    let mut rows = String::new();
    for source in sources {
        let file = out.join(format!("{}.cu", source.stem));
        write(&file, &source.text);
        rows += &format!("    ({:?}, include_str!({file:?})),\n", source.stem);
    }
    let list =
        format!("/// Every CUDA source: stem and text.\npub static CUDA: &[(&str, &str)] = &[\n{rows}];\n");
    write(&out.join("cuda_sources.rs"), &list);
}
