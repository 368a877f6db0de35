//! What messages and documents say.

use crate::source::{code, strings, texts};

/// Options of a compiler and words of files, not words to people.
const NOT_MESSAGES: &[(&str, &str)] = &[
    ("src/device/cuda/compile.rs", "--gpu-architecture={arch}"),
    ("src/device/cuda/compile.rs", "--std=c++17"),
    ("src/audio/f0/dialect.rs", "--undefined--"),
    ("src/audio/f0/praat.rs", "--undefined--"),
];

/// Whether a text names a command-line flag.
fn names_a_flag(text: &str) -> bool {
    text.match_indices("--").any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + 2..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '-')
            && after.is_some_and(|c| c.is_ascii_lowercase())
    })
}

/// C and Python callers read the library's errors: the binary adds what concerns a command line.
#[test]
fn messages_of_the_library_name_no_flag() {
    let mut found = Vec::new();
    for (file, text) in texts(&["src"], &[".rs"]).iter().filter(|(f, _)| !f.starts_with("src/bin/")) {
        for (line, literal) in strings(text) {
            let message = !NOT_MESSAGES.iter().any(|(f, l)| f == file && *l == literal);
            if message && names_a_flag(&literal) {
                found.push(format!("{file}:{line}: {literal}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(
        names_a_flag("use --device cpu")
            && names_a_flag("--out")
            && !names_a_flag("a -- b")
            && !names_a_flag("x--y")
    );
}

/// What panics where standard output or error is closed or full.
fn prints(text: &str) -> Option<&'static str> {
    let text = code(text);
    let words = |name: &str| {
        text.match_indices(name)
            .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!(", "stdout(", "stderr("]
        .into_iter()
        .find(|name| words(name))
}

#[test]
fn the_binary_prints_where_it_may_fail() {
    let files = texts(&["src/bin"], &[".rs"]);
    let found: Vec<_> = files
        .iter()
        .filter(|(file, _)| *file != "src/bin/etude/out.rs")
        .filter_map(|(file, text)| Some(format!("{file}: {}", prints(text)?)))
        .collect();
    assert_eq!(found, [""; 0], "src/bin/etude/out.rs has `say!` and `tell!`");
    assert_eq!(prints("fn f() { eprintln!(\"a\"); }"), Some("eprintln!("));
    assert_eq!(prints("// println!(1)\nfn f() { say!(\"println!(\"); use_stderr(); }"), None);
}
