//! Every CUDA source compared with its rows, without a compiler: entry points, arguments and their order, block sizes, tickets,
//! and params structs against the Rust ones. `kernels/README.md` has the conventions.

use etude::kernel::{Access, Elem, Kernel, Scalar};
use etude::kernels::{REGISTRY, source};
use std::collections::HashMap;
use std::path::Path;

/// Members of a struct in order: name and type.
type Members = Vec<(String, Scalar)>;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What an entry point declares.
#[derive(Debug)]
struct Entry {
    name: String,
    /// In `__launch_bounds__`.
    bounds: String,
    /// Type and name of each argument.
    arguments: Vec<(String, String)>,
}

/// A source without comments, runs of white space as one blank.
fn plain(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        code += &rest[..at];
        rest = rest[at..].split_once("*/").expect("an open comment").1;
    }
    code += rest;
    let code: Vec<&str> = code.lines().map(|l| l.split("//").next().unwrap()).collect();
    code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands in the brackets that `text` begins with, and what comes after.
fn bracketed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            assert!(i > 0, "no brackets at `{text}`");
            return (text[1..i].trim(), text[i + 1..].trim_start());
        }
    }
    panic!("open brackets at `{text}`")
}

fn entries(code: &str) -> Vec<Entry> {
    let entry = |part: &str| {
        let part = part.trim_start().strip_prefix("void ").expect("`void` after __global__").trim_start();
        let (bounds, part) = bracketed(part.strip_prefix("__launch_bounds__").expect("__launch_bounds__"));
        let (name, part) = part.split_at(part.find('(').unwrap());
        let arguments = bracketed(part).0.split(',').map(|argument| {
            let argument = argument.replace("__restrict__", " ").replace('*', "* ");
            let words: Vec<&str> = argument.split_whitespace().collect();
            let (name, ty) = words.split_last().unwrap();
            (ty.join(" "), (*name).to_string())
        });
        Entry { name: name.trim().to_string(), bounds: bounds.to_string(), arguments: arguments.collect() }
    };
    code.split("extern \"C\" __global__").skip(1).map(entry).collect()
}

/// The structs whose members are all `unsigned` or `float`, by name, in the row's types.
fn params(code: &str) -> HashMap<String, Members> {
    let mut structs = HashMap::new();
    for part in code.split("struct ").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else { continue };
        let body = rest.split_once('}').unwrap().0;
        let mut members = Members::new();
        for declaration in body.split(';').map(str::trim).filter(|d| !d.is_empty()) {
            let (ty, names) = declaration.split_once(' ').unwrap_or_default();
            let ty = match ty {
                "unsigned" => Scalar::U32,
                "float" => Scalar::F32,
                _ => continue,
            };
            members.extend(names.split(',').map(|n| (n.trim().to_string(), ty)));
        }
        structs.insert(name.to_string(), members);
    }
    structs
}

/// What a `constexpr unsigned` of the file is declared to be.
fn constant<'a>(code: &'a str, name: &str) -> Option<&'a str> {
    let declarations = code.split("constexpr unsigned ").skip(1).filter_map(|part| part.split(';').next());
    let mut pairs = declarations.flat_map(|d| d.split(',')).filter_map(|d| d.split_once('='));
    pairs.find(|(n, _)| n.trim() == name).map(|(_, expression)| expression.trim())
}

/// The value of a number, a constant of the file, or a product or quotient of them.
fn value(code: &str, expression: &str) -> Option<u32> {
    if let Some((a, b)) = expression.rsplit_once('/') {
        return value(code, a.trim())?.checked_div(value(code, b.trim())?);
    }
    if let Some((a, b)) = expression.split_once('*') {
        return Some(value(code, a.trim())? * value(code, b.trim())?);
    }
    let number = expression.trim_end_matches('u').parse().ok();
    number.or_else(|| value(code, constant(code, expression)?))
}

/// Why an entry point does not serve its row.
fn mismatch(kernel: &Kernel, entry: &Entry, code: &str) -> Option<String> {
    let cuda = &kernel.cuda;
    let mut arguments = entry.arguments.iter();
    for binding in kernel.bindings {
        let Some((ty, name)) = arguments.next() else {
            return Some(format!("ends before `{}`", binding.name));
        };
        let element = match binding.elem {
            Elem::Real => "float",
            Elem::Index => "unsigned",
            Elem::F16 => "__half",
            Elem::Bf16 => "__nv_bfloat16",
        };
        let wanted = match binding.access {
            Access::In => format!("const {element}*"),
            Access::Out | Access::InOut | Access::Scratch => format!("{element}*"),
        };
        if name != binding.name || *ty != wanted {
            return Some(format!("`{ty} {name}`, the row has `{wanted} {}` here", binding.name));
        }
    }
    let mut rest: Vec<_> = arguments.collect();
    if cuda.tickets.is_some() {
        match rest.pop() {
            Some((ty, name)) if (ty.as_str(), name.as_str()) == ("unsigned*", "ticket") => {}
            other => return Some(format!("the row draws tickets, the last argument is {other:?}")),
        }
    }
    match rest[..] {
        [] => {}
        [(ty, _)] => {
            let cuda = params(code).remove(ty).unwrap_or_default();
            let row = kernel.params;
            let members: Members = row.members.iter().map(|&(n, s)| (n.to_string(), s)).collect();
            if ty != row.name || cuda != members {
                return Some(format!("params `{ty}` are {cuda:?}, in the row `{}` of {members:?}", row.name));
            }
        }
        _ => return Some(format!("{} arguments too many", rest.len() - 1)),
    }
    // Threads; how many blocks an SM is to hold may follow.
    let threads = entry.bounds.split_once(',').map_or(&*entry.bounds, |(threads, _)| threads);
    match value(code, threads) {
        Some(block) if block == cuda.block => None,
        other => {
            Some(format!("blocks of `{}` = {other:?} threads, the row has {}", entry.bounds, cuda.block))
        }
    }
}

#[test]
fn every_row_has_a_source_and_every_source_a_row() {
    for (stem, _) in REGISTRY {
        assert!(root().join(format!("kernels/{stem}.cu")).exists(), "no kernels/{stem}.cu");
    }
    for file in std::fs::read_dir(root().join("kernels")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "cu") {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            // tests/devices/instructions.rs has the rows of the other.
            let known = REGISTRY.iter().any(|r| r.0 == stem) || stem == "instructions";
            assert!(known, "{stem} is no stem of the registry");
        }
    }
}

#[test]
fn sources_match_their_rows() {
    for (stem, kernels) in REGISTRY {
        let code = plain(source::cuda(stem).unwrap_or_else(|| panic!("no kernels/{stem}.cu")));
        let entries = entries(&code);
        for kernel in *kernels {
            let entry = entries.iter().find(|e| e.name == kernel.name);
            let entry = entry.unwrap_or_else(|| panic!("kernels/{stem}.cu has no {}", kernel.name));
            if let Some(why) = mismatch(kernel, entry, &code) {
                panic!("kernels/{stem}.cu, {}: {why}", kernel.name);
            }
        }
        for entry in &entries {
            assert!(kernels.iter().any(|k| k.name == entry.name), "{} serves no row", entry.name);
        }
    }
}

#[test]
fn what_differs_is_found() {
    let kernel = etude::kernels::by_name("feed_next").unwrap();
    let text = std::fs::read_to_string(root().join("kernels/feed.cu")).unwrap();
    let fault = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let code = plain(&text.replacen(from, to, 1));
        let entries = entries(&code);
        mismatch(kernel, &entries[0], &code)
    };
    assert_eq!(fault("BLOCK = 1024", "BLOCK = 512 * 2"), None);
    for (from, to, word) in [
        (
            "float* __restrict__ losses, float* __restrict__ reals",
            "float* __restrict__ reals, float* __restrict__ losses",
            "losses",
        ),
        (
            "const unsigned* __restrict__ word_table",
            "const float* __restrict__ word_table",
            "const unsigned*",
        ),
        ("unsigned* step", "const unsigned* step", "unsigned*"),
        ("unsigned steps;", "", "params `FeedParams`"),
        ("unsigned reals;", "float reals;", "params `FeedParams`"),
        ("BLOCK = 1024", "BLOCK = 512", "512"),
        (", FeedParams p)", ", FeedParams p, unsigned* ticket)", "too many"),
    ] {
        let why = fault(from, to).unwrap_or_else(|| panic!("{to} passed"));
        assert!(why.contains(word), "{why}");
    }
}
