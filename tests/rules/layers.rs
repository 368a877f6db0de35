//! Who may know whom: ARCHITECTURE.md's layers, and no circle among files.

use crate::source::{Texts, code, root, texts, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// The modules of the crate in the order of their layers: `crate::x` is used only by what stands later.
const LAYERS: &[&str] = &[
    "names",
    "error",
    "fs",
    "hash",
    "stems",
    "simd",
    "kernel",
    "kernels",
    "device",
    "graph",
    "ops",
    "optim",
    "tensor_file",
    "contrastive",
    "similarity",
    "embed",
    "cases",
    "ffi",
    "audio",
    "data",
    "report",
    "net",
    "train",
    "model",
];

/// These know no device: of the layers before them only the first four.
const NO_DEVICE: &[&str] = &["audio", "data", "report"];

/// What they may know besides each other.
const GROUND: &[&str] = &["error", "fs", "hash", "names"];

/// Paths that a text names, as lists of words: the trees of its `use` lines, and whatever else begins with `crate::`, `super::`
/// or
/// `self::`.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    let mut out = BTreeSet::new();
    let mut rest = code;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(at) = rest.find("use ") {
        let starts = !rest[..at].ends_with(|c: char| is_word(c));
        rest = &rest[at + 4..];
        if starts && let Some(end) = rest.find(';') {
            tree(&rest[..end], &[], &mut out);
            rest = &rest[end..];
        }
    }
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let names = !code[..at].ends_with(|c: char| is_word(c) || c == ':' || c == '$');
            // `pub(in crate::x)` says who may see it.
            if names && !code[..at].ends_with("(in ") {
                let path: String = code[at..].chars().take_while(|&c| is_word(c) || c == ':').collect();
                // What goes on with a brace is a tree and was read as one; with a `$`, a macro's.
                if !path.ends_with("::") {
                    out.insert(path.split("::").map(String::from).collect());
                }
            }
        }
    }
    out
}

/// The paths of a `use` tree.
fn tree(text: &str, before: &[String], out: &mut BTreeSet<Vec<String>>) {
    let text = text.trim();
    if let Some(open) = text.find('{') {
        let head: Vec<String> =
            text[..open].split("::").map(|w| w.trim().to_string()).filter(|w| !w.is_empty()).collect();
        let before = [before, &head].concat();
        let (mut depth, mut start) = (0, open + 1);
        for (at, c) in text.char_indices().skip(open + 1) {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    tree(&text[start..at], &before, out);
                    start = at + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let text = text.split(" as ").next().unwrap_or_default();
    let words = text.split("::").map(|w| w.trim().to_string()).filter(|w| !w.is_empty());
    let path = [before.to_vec(), words.collect()].concat();
    if !path.is_empty() {
        out.insert(path);
    }
}

/// A file's place in the tree of modules: `src/device/cpu/mod.rs` is `[device, cpu]`.
fn module(file: &str) -> Vec<String> {
    let inner = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    let mut words: Vec<String> = inner.split('/').map(String::from).collect();
    if words.last().is_some_and(|w| ["mod", "lib", "main"].contains(&w.as_str())) {
        words.pop();
    }
    words
}

/// Which files each file takes names from, by its paths.
fn graph(files: &Texts) -> BTreeMap<String, BTreeSet<String>> {
    let of_module: BTreeMap<Vec<String>, &String> = files.keys().map(|f| (module(f), f)).collect();
    let mut out = BTreeMap::new();
    for (file, text) in files {
        let here = module(file);
        let clean = code(text);
        let mut edges = BTreeSet::new();
        for path in paths(without_tests(&clean)) {
            let mut words = path.as_slice();
            let mut at: Vec<String> = match words[0].as_str() {
                "crate" => Vec::new(),
                "super" | "self" => here.clone(),
                word if of_module.contains_key(&[here.clone(), vec![word.to_string()]].concat()) => {
                    here.clone()
                }
                _ => continue,
            };
            while let Some(word) = words.first() {
                match word.as_str() {
                    "crate" | "self" => {}
                    "super" => drop(at.pop()),
                    word => {
                        let deeper = [at.clone(), vec![word.to_string()]].concat();
                        if !of_module.contains_key(&deeper) {
                            break;
                        }
                        at = deeper;
                    }
                }
                words = &words[1..];
            }
            if let Some(&target) = of_module.get(&at)
                && target != file
            {
                edges.insert(target.clone());
            }
        }
        out.insert(file.clone(), edges);
    }
    out
}

/// Circles: sets of files that reach each other.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = next.pop() {
            for to in graph.get(&file).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|f| (f.clone(), reach(f))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, seen) in &reached {
        if seen.contains(file) {
            found.insert(seen.iter().filter(|f| reached[*f].contains(file)).cloned().collect());
        }
    }
    found.into_iter().collect()
}

/// What breaks the order of layers.
fn breaches(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let top = |file: &str| module(file).first().cloned();
    let place = |layer: &str| LAYERS.iter().position(|l| *l == layer);
    let mut out = BTreeSet::new();
    for (file, edges) in graph {
        let Some(from) = top(file) else { continue };
        let Some(at) = place(&from) else {
            out.insert(format!("{file}: `{from}` has no layer"));
            continue;
        };
        for to in edges.iter().filter_map(|f| top(f)).filter(|to| *to != from) {
            let quiet = NO_DEVICE.contains(&from.as_str());
            let allowed = !quiet || GROUND.contains(&to.as_str()) || NO_DEVICE.contains(&to.as_str());
            if !allowed || place(&to).is_none_or(|p| p > at) {
                out.insert(format!("{file}: `{from}` may not know `{to}`"));
            }
        }
    }
    out.into_iter().collect()
}

fn library() -> Texts {
    let mut files = texts(&["src"], &[".rs"]);
    files.retain(|f, _| !f.starts_with("src/bin/"));
    files
}

/// The binary is a crate of its own, with a tree of its own.
fn binary() -> Texts {
    let files = texts(&["src/bin/etude"], &[".rs"]);
    files.into_iter().map(|(f, t)| (f.replace("src/bin/etude/", "src/"), t)).collect()
}

fn planted(files: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
    graph(&files.iter().map(|(f, t)| (f.to_string(), t.to_string())).collect())
}

#[test]
fn a_module_knows_only_what_stands_before_it() {
    let found = breaches(&graph(&library()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_files_go_round_in_a_circle() {
    for files in [library(), binary()] {
        let found = circles(&graph(&files));
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn planted_circles_and_breaches_are_found() {
    let both = planted(&[
        ("src/lib.rs", "pub use error::Error;"),
        ("src/error.rs", "// use crate::graph::Graph;"),
        ("src/graph.rs", "use crate::{ops::{add, copy}, Error};"),
        ("src/ops/mod.rs", "mod add;\npub use add::add;"),
        ("src/ops/add.rs", "fn add(g: &mut crate::graph::Graph) {}"),
        ("src/data.rs", "use crate::kernel::Elem;"),
        ("src/kernel.rs", "pub enum Elem {}"),
    ]);
    assert_eq!(circles(&both), [["src/graph.rs", "src/ops/add.rs", "src/ops/mod.rs"]]);
    let found = breaches(&both);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("`data` may not know `kernel`") && found[1].contains("`graph` may not know `ops`")
    );
    // A child that imports from the parent that lists it; tests are left out.
    let child = planted(&[
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;"),
        ("src/a/b.rs", "pub struct B;"),
        ("src/a/c.rs", "use super::B;\n#[cfg(test)]\nmod tests { use crate::z::Z; }"),
    ]);
    assert!(circles(&child).is_empty());
    assert_eq!(child["src/a/c.rs"].iter().collect::<Vec<_>>(), ["src/a/mod.rs"]);
    let child =
        planted(&[("src/a/mod.rs", "mod b;\npub use b::B;"), ("src/a/b.rs", "pub struct B;\nuse super::C;")]);
    assert_eq!(circles(&child), [["src/a/b.rs", "src/a/mod.rs"]]);
}

/// Lines of code under `src/` that hold any of `words`, but for files whose path begins with `except`.
fn mentions(words: &[&str], except: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in library().iter().filter(|(f, _)| except.is_empty() || !f.starts_with(except)) {
        for (i, line) in code(text).lines().enumerate() {
            // Our own modules `device::wgpu` and `self::wgpu` are not the library.
            let line = line.replace("self::wgpu::", "").replace("device::wgpu::", "");
            if words.iter().any(|w| line.contains(w)) {
                found.push(format!("{file}:{}: {line}", i + 1));
            }
        }
    }
    found
}

#[test]
fn gpu_libraries_stay_inside_their_devices() {
    assert_eq!(mentions(&["cudarc::"], "src/device/cuda/"), [""; 0]);
    assert_eq!(mentions(&["wgpu::"], "src/device/wgpu/"), [""; 0]);
    assert!(!mentions(&["cudarc::"], "").is_empty());
}

#[test]
fn the_graph_and_ops_know_no_backend() {
    let files = library();
    let knows =
        |f: &str| f.starts_with("src/graph") || f.starts_with("src/ops/") || f.starts_with("src/kernel");
    for (file, edges) in graph(&files).iter().filter(|(f, _)| knows(f)) {
        for backend in ["cpu", "cuda", "wgpu"] {
            let of = format!("src/device/{backend}/");
            assert!(!edges.iter().any(|e| e.starts_with(&of)), "{file} knows {of}");
        }
    }
}

#[test]
fn a_stem_has_its_kernels_its_op_its_cases_and_its_sources() {
    let has = |path: &str| root().join(path).exists();
    for (stem, kernels) in etude::kernels::REGISTRY {
        for layer in ["kernels", "ops", "cases"] {
            let file = format!("src/{layer}/{stem}");
            assert!(has(&format!("{file}.rs")) || has(&format!("{file}/mod.rs")), "{file}.rs");
        }
        for file in [format!("kernels/{stem}.cu"), format!("shaders/{stem}.wgsl")] {
            assert!(has(&file), "{file}");
        }
        assert!(!kernels.is_empty(), "{stem} has no kernels");
    }
}
