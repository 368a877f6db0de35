//! Builds the CUDA sources for the CPU (feature `cuda-on-cpu`): `kernels/on_cpu/cuda_on_cpu.h` says how they run.

use crate::sources::Source;
use std::path::Path;

/// Compiles every source and the runtime into the crate.
pub fn build(sources: &[Source], out: &Path) {
    println!("cargo::rerun-if-env-changed=CXX");
    println!("cargo::rerun-if-env-changed=CXXFLAGS");
    assert!(
        std::env::var("CARGO_CFG_UNIX").is_ok(),
        "the feature `cuda-on-cpu` builds on Unix alone: leave it out"
    );
    let dir = out.join("on_cpu");
    std::fs::create_dir_all(&dir).expect("OUT_DIR can be written");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .include("kernels/on_cpu")
        .extra_warnings(false)
        // `#pragma unroll`, and helpers of the prelude that a source does not use.
        .flag("-Wno-unknown-pragmas")
        .flag("-Wno-unused-function")
        // Sources reinterpret floats as wider vectors.
        .flag("-fno-strict-aliasing")
        // Every compiler and level of optimisation then gives the same bits; sources fuse with fmaf.
        .flag("-ffp-contract=off")
        .flag("-fno-exceptions")
        .file("kernels/on_cpu/runtime.cpp");
    if has_fma() {
        // Without the instruction, `fmaf` would be a slow function.
        build.flag("-march=x86-64-v3");
    }
    for (name, text) in translated(sources) {
        let path = dir.join(name);
        // Untouched files keep their time stamps for people's own builds of this folder.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            std::fs::write(&path, text).expect("OUT_DIR can be written");
        }
        build.file(path);
    }
    if let Err(e) = build.try_compile("etude_cuda_on_cpu") {
        panic!(
            "the feature `cuda-on-cpu` compiles kernels/*.cu with a C++17 compiler (g++ 12 or newer, or clang++): install \
             one, name another in CXX, or correct the source:\n{e}"
        );
    }
    println!("cargo::rustc-env=ETUDE_ON_CPU_SOURCES={}", dir.display());
}

fn has_fma() -> bool {
    let of = |name| std::env::var(name).unwrap_or_default();
    #[cfg(target_arch = "x86_64")]
    let here = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let here = false;
    here && of("HOST") == of("TARGET")
}

/// The C++ files: one for each source, and the table of their entry points.
fn translated(sources: &[Source]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let (mut declarations, mut tables) = (String::new(), String::new());
    for source in sources {
        let stem = &source.stem;
        files.push((format!("{stem}.cpp"), translate(source)));
        declarations += &format!("extern const Entry {stem}_entries[];\n");
        tables += &format!("{stem}_entries, ");
    }
    let registry = format!(
        "#include \"cuda_on_cpu.h\"\nnamespace etude_on_cpu {{\n{declarations}\
         extern const Entry* const registry[];\nconst Entry* const registry[] = {{{tables}nullptr}};\n}}\n"
    );
    files.push(("registry.cpp".into(), registry));
    files
}

/// One source as C++; panics with the line at fault where it breaks the conventions of `kernels/README.md`.
fn translate(source: &Source) -> String {
    let text = &source.text;
    let code = without_comments(text);
    let mut out = String::from("#include \"cuda_on_cpu.h\"\n");
    let mut done = 0;
    for (at, _) in code.match_indices("__shared__") {
        let fault = |what: &str| -> ! {
            let line = text[..at].rsplit("#line ").next().unwrap_or_default();
            panic!("kernels/{}.cu: {what}, in what follows line {line}", source.stem);
        };
        let end = at + code[at..].find(';').unwrap_or_else(|| fault("`__shared__` without a `;`"));
        let declaration = &code[at + "__shared__".len()..end];
        let (head, dimensions) = declaration.split_once('[').unwrap_or((declaration, ""));
        let name = head.trim_end().rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        // Of the type's own commas there may be some.
        let named_there = head.rsplit('>').next().unwrap_or(head);
        if name.is_empty() || named_there.contains(',') || dimensions.contains(',') {
            fault("one variable to a `__shared__` declaration");
        }
        let before = code[..at].trim_end();
        if let Some(start) = before.strip_suffix("extern") {
            let ty = head.trim_end().strip_suffix(name).unwrap_or_default().trim();
            out += &text[done..start.len()];
            out += &format!("{ty}* const {name} = etude_on_cpu::dynamic_shared<{ty}>();");
        } else {
            // One for each set of blocks: `T name_of[SETS][..]`.
            let named = at + "__shared__".len() + head.rfind(name).unwrap_or_default() + name.len();
            out += &format!(
                "{}_of[etude_on_cpu::SETS]{} auto& {name} = {name}_of[etude_on_cpu::set]; ETUDE_ON_CPU_POISON({name})",
                &text[done..named],
                &text[named..=end]
            );
        }
        done = end + 1;
    }
    out += &text[done..];
    let stem = &source.stem;
    out += &format!(
        "namespace etude_on_cpu {{\nextern const Entry {stem}_entries[];\nconst Entry {stem}_entries[] = {{\n"
    );
    for name in entry_points(&code) {
        out += &format!("    entry<&::{name}>(\"{name}\"),\n");
    }
    out += "    {}};\n}\n";
    out
}

/// The names of all `extern "C" __global__ void [__launch_bounds__(..)] name(`.
fn entry_points(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, marker) in code.match_indices("extern \"C\" __global__") {
        let mut rest = code[at + marker.len()..].trim_start();
        rest = rest.strip_prefix("void").unwrap_or(rest).trim_start();
        if let Some(bounds) = rest.strip_prefix("__launch_bounds__") {
            let close = bounds.find(')').map_or(bounds.len(), |i| i + 1);
            rest = bounds[close..].trim_start();
            rest = rest.strip_prefix("void").unwrap_or(rest).trim_start();
        }
        names.push(rest.split('(').next().unwrap_or_default().trim());
    }
    names
}

/// The text with comments blanked, every other byte where it was.
fn without_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut i = 0;
    while i < out.len() {
        let end = match &out[i..] {
            [b'/', b'/', ..] => text[i..].find('\n').map_or(out.len(), |n| i + n),
            [b'/', b'*', ..] => text[i..].find("*/").map_or(out.len(), |n| i + n + 2),
            _ => {
                i += 1;
                continue;
            }
        };
        out[i..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        i = end;
    }
    String::from_utf8(out).expect("only whole comments were blanked")
}
