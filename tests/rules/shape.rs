//! How large a file and a function may be, what a `mod.rs` is, and what shared parts are called.

use crate::source::{Texts, code, texts};

/// Lines of a file, lines of a function, columns of a line.
const FILE: usize = 700;
const FUNCTION: usize = 100;
const COLUMNS: usize = 130;

/// Functions that are longer, and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// The parts that several stems share, by their one name in Rust, CUDA and WGSL.
const PARTS: &[(&str, &str)] = &[
    ("conv", "src/kernels/conv/mod.rs"),
    ("pairs", "src/kernels/pairs/mod.rs"),
    ("sweep", "src/kernels/contrastive/sweep.rs"),
];

/// What each language needs of its own before anything else; in Rust that is src/kernel and src/simd. And what tries the
/// prelude's wrappers of instructions on a card, whose rows are in tests/devices/instructions.rs.
const OF_LANGUAGES: [&str; 2] = ["prelude", "instructions"];

fn sources() -> Texts {
    let folders =
        ["src", "kernels", "shaders", "tests", "benches", "examples", "integrations", "python", "build"];
    texts(&folders, &[".rs", ".cu", ".cuh", ".wgsl", ".cpp", ".h"])
}

/// Name, first line from 1 and length in lines of each function.
fn functions(text: &str, rust: bool) -> Vec<(String, usize, usize)> {
    let clean = code(text);
    let mut out = Vec::new();
    // Of each open block: the function that it is, and its first line.
    let mut open: Vec<Option<(String, usize)>> = Vec::new();
    let (mut start, mut line) = (0, 1);
    for (at, c) in clean.char_indices() {
        match c {
            '\n' => line += 1,
            '{' => {
                let head = &clean[start..at];
                let first = line - head.trim_start().matches('\n').count();
                open.push(name_of(head, rust).map(|name| (name, first)));
                start = at + 1;
            }
            '}' => {
                if let Some(Some((name, first))) = open.pop() {
                    out.push((name, first, line + 1 - first));
                }
                start = at + 1;
            }
            ';' => start = at + 1,
            _ => {}
        }
    }
    out
}

/// The function whose head this is. In C++ a head has an argument list and no keyword of another block; in Rust and WGSL it says
/// `fn`.
fn name_of(head: &str, rust: bool) -> Option<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = || head.split(|c: char| !is_word(c)).filter(|w| !w.is_empty());
    if rust {
        return words().skip_while(|w| *w != "fn").nth(1).map(String::from);
    }
    // A template's parameters are no part of the head: they say `class`.
    let head = match head.trim_start().strip_prefix("template") {
        Some(rest) => rest.split_once('>').map_or(rest, |(_, head)| head),
        None => head,
    };
    let words = || head.split(|c: char| !is_word(c)).filter(|w| !w.is_empty());
    let blocks = "if for while switch else do namespace struct class enum union return";
    if !head.contains('(') || head.contains('=') || words().any(|w| blocks.split(' ').any(|b| b == w)) {
        return None;
    }
    let before =
        head.split('(').map(|part| part.trim_end().rsplit(|c: char| !is_word(c)).next().unwrap_or_default());
    before.filter(|w| !w.is_empty() && *w != "__launch_bounds__").map(String::from).next()
}

fn long_functions(files: &Texts) -> Vec<(String, String, usize)> {
    let mut out = Vec::new();
    for (file, text) in files {
        let rust = file.ends_with(".rs") || file.ends_with(".wgsl");
        for (name, _, lines) in functions(text, rust).into_iter().filter(|f| f.2 > FUNCTION) {
            out.push((file.clone(), name, lines));
        }
    }
    out
}

#[test]
fn files_and_functions_have_a_size_that_one_can_read() {
    let files = sources();
    let long: Vec<_> = files.iter().filter(|(_, t)| t.lines().count() > FILE).map(|(f, _)| f).collect();
    assert!(long.is_empty(), "over {FILE} lines: {long:?}");
    let found = long_functions(&files);
    for (file, name, lines) in &found {
        let known = LONG_FUNCTIONS.iter().any(|(f, n, _)| f == file && n == name);
        assert!(known, "{file}: `{name}` has {lines} lines, over {FUNCTION}: split it, or say here why not");
    }
    for (file, name, why) in LONG_FUNCTIONS {
        assert!(
            !why.is_empty() && found.iter().any(|(f, n, _)| f == file && n == name),
            "{file}: `{name}` is not long"
        );
    }
}

#[test]
fn lines_fit_a_window() {
    let mut files = sources();
    files.extend(texts(&["."], &[".md"]));
    let mut wide = Vec::new();
    for (file, text) in &files {
        for (i, line) in text.lines().enumerate() {
            let prose = file.ends_with(".md");
            let table = prose && (line.trim_start().starts_with('|') || line.contains("]("));
            if line.chars().count() > COLUMNS && !table {
                wide.push(format!("{file}:{}: {}", i + 1, line.chars().count()));
            }
        }
    }
    assert!(wide.is_empty(), "over {COLUMNS} columns:\n{}", wide.join("\n"));
}

/// What a `mod.rs` does beside listing modules and what is taken from them.
fn defines(text: &str) -> Option<String> {
    let clean = code(text);
    let lists = clean.lines().any(|l| l.contains("mod ") && l.trim_end().ends_with(';'));
    let words = ["fn ", "struct ", "enum ", "trait ", "impl ", "const ", "static ", "type ", "macro_rules!"];
    let defined = clean.lines().map(str::trim).find(|line| {
        let line = line
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("pub ");
        words.iter().any(|w| line.starts_with(w))
    });
    defined.filter(|_| lists || clean.contains("stems!(")).map(String::from)
}

#[test]
fn a_mod_rs_lists_or_defines() {
    let files = texts(&["src"], &["mod.rs", "lib.rs"]);
    for (file, text) in &files {
        // The crate's root holds the doctests of documents.
        let text = text.split("#[cfg(doctest)]").next().unwrap_or_default();
        assert_eq!(
            defines(text),
            None,
            "{file} lists modules, and defines this: move it to a file of its own"
        );
    }
    assert!(defines("mod a;\npub use a::A;\n/// B.\npub struct B;").is_some());
    assert!(defines("//! struct\nmod a;\npub use a::A;").is_none());
}

#[test]
fn a_shared_part_has_one_name_in_every_language() {
    let files = texts(&["kernels", "shaders"], &[".cu", ".cuh", ".wgsl"]);
    for (_, file) in PARTS {
        assert!(crate::source::root().join(file).exists(), "{file}");
    }
    let stems = etude::kernels::REGISTRY.iter().map(|r| r.0);
    let names: Vec<&str> = stems.chain(PARTS.iter().map(|p| p.0)).chain(OF_LANGUAGES).collect();
    for file in files.keys().filter(|f| !f.contains("on_cpu/")) {
        let stem = file.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        let known = names
            .iter()
            .any(|n| stem == *n || stem.strip_prefix(n).is_some_and(|rest| rest.starts_with('_')));
        assert!(known, "{file}: neither a stem nor a piece of one, nor of {PARTS:?}");
    }
}

#[test]
fn lengths_are_counted_as_people_do() {
    let rust = [
        "impl A {",
        "    fn short() {}",
        "",
        "    pub fn long(",
        "        x: u32,",
        "    ) -> u32 {",
        "        if x > 0 { 1 } else { 2 }",
        "    }",
        "}",
    ];
    assert_eq!(functions(&rust.join("\n"), true), [("short".into(), 2, 1), ("long".into(), 4, 5)]);
    let cuda = [
        "namespace n {",
        "struct S { int a; };",
        "template <class T>",
        "__device__ inline int f(int x) {",
        "  for (int i = 0; i < x; ++i) { g(); }",
        "  return x;",
        "}",
        "extern \"C\" __global__ void __launch_bounds__(BLOCK)",
        "    k(float* y, P p) {",
        "  f(1);",
        "}",
        "}",
    ];
    assert_eq!(functions(&cuda.join("\n"), false), [("f".into(), 3, 5), ("k".into(), 8, 4)]);
    let text = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION));
    assert_eq!(long_functions(&[("a.rs".to_string(), text)].into()).len(), 1);
}
