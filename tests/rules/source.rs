//! The sources as the rules see them: files and texts without comments, strings and tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Texts by path from the root, `/` between folders.
pub type Texts = BTreeMap<String, String>;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folders` whose name ends with one of `endings`.
pub fn texts(folders: &[&str], endings: &[&str]) -> Texts {
    fn walk(dir: &Path, endings: &[&str], out: &mut Texts) {
        for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "venv", ".venv", "results", "__pycache__"].contains(&name.as_str()) {
                    walk(&path, endings, out);
                }
            } else if endings.iter().any(|e| name.ends_with(e)) {
                let from_root = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                out.insert(from_root, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut out = Texts::new();
    folders.iter().for_each(|folder| walk(&root().join(folder), endings, &mut out));
    assert!(!out.is_empty(), "no files in {folders:?}");
    out
}

/// The text with comments and the contents of literals blanked, every line where it was. Rust, CUDA and WGSL alike: lifetimes are
/// no literals, and raw strings end where they end.
pub fn code(text: &str) -> String {
    scan(text, |_, _| {})
}

/// The string literals of a text: line, from 1, and contents.
pub fn strings(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    scan(text, |line, literal| out.push((line, literal.to_string())));
    out
}

fn scan(text: &str, mut literal: impl FnMut(usize, &str)) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let blank = |out: &mut [u8]| out.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text[i..];
        let before = i.checked_sub(1).map_or(b' ', |b| bytes[b]);
        let word_before = before.is_ascii_alphanumeric() || before == b'_';
        let end = if rest.starts_with("//") {
            rest.find('\n').map_or(bytes.len(), |n| i + n)
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(bytes.len(), |n| i + n + 2)
        } else if !word_before && (rest.starts_with("r\"") || rest.starts_with("r#")) && raw(rest).is_some() {
            let (start, end) = raw(rest).unwrap();
            literal(1 + text[..i].matches('\n').count(), &rest[start..end]);
            blank(&mut out[i + start..i + end]);
            i += end + (start - 1);
            continue;
        } else if rest.starts_with('"') {
            let end = quoted(rest, '"');
            literal(1 + text[..i].matches('\n').count(), &rest[1..end]);
            blank(&mut out[i + 1..i + end]);
            i += end + 1;
            continue;
        } else if rest.starts_with('\'') && is_char(rest) {
            i + quoted(rest, '\'') + 1
        } else {
            i += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        blank(&mut out[i..end]);
        i = end;
    }
    String::from_utf8(out).expect("only whole literals and comments were blanked")
}

/// Where a raw string's contents begin and end.
fn raw(rest: &str) -> Option<(usize, usize)> {
    let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
    let start = 2 + hashes;
    if rest.as_bytes().get(start - 1) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some((start, start + rest[start..].find(&end)?))
}

/// Where the literal that begins `rest` ends.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at,
            _ => {}
        }
    }
    rest.len() - 1
}

/// `'a'` and `'\n'`, but no lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// Rust without its test modules, which stand last in a file.
pub fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests").map_or(code, |at| &code[..at])
}

#[test]
fn comments_and_literals_are_blanked() {
    let text = "fn f<'a>(x: &'a str) { // use crate::x\n let c = '\"'; let s = \"}\\\" use crate::y\"; /* { */ g(r#\"{\"#); }";
    let clean = code(text);
    assert!(
        !clean.contains("crate") && clean.matches('{').count() == 1 && clean.matches('}').count() == 1,
        "{clean}"
    );
    assert!(clean.contains("<'a>") && clean.lines().count() == 2);
    let found: Vec<_> = strings(text).into_iter().map(|s| s.1).collect();
    assert_eq!(found, ["}\\\" use crate::y", "{"]);
}
