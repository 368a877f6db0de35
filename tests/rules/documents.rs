//! Documents: what they link to is there, and what they say of the code is so.

use crate::source::{root, texts};
use crate::training::small;
use etude::data::InputKind;
use etude::device::Cpu;
use etude::train::{Hooks, Protocol, TrainOptions, fit};

/// The lines of a Markdown text with the language of the block of code they are in, empty for prose.
fn lines(text: &str) -> impl Iterator<Item = (String, &str)> {
    let mut block: Option<String> = None;
    text.lines().filter_map(move |line| match line.trim_start().strip_prefix("```") {
        Some(language) => {
            block = block.is_none().then(|| language.to_string());
            None
        }
        None => Some((block.clone().unwrap_or_default(), line)),
    })
}

fn prose(text: &str) -> String {
    lines(text).filter(|(block, _)| block.is_empty()).map(|(_, line)| line.to_string() + "\n").collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn links_lead_to_files() {
    let mut dead = Vec::new();
    for (file, text) in &texts(&["."], &[".md"]) {
        let folder = root().join(file).parent().unwrap().to_path_buf();
        let text = prose(text);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|t| !t.contains("://")) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !folder.join(path).exists() {
                dead.push(format!("{file}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// The example is compiled and run by a test of the C ABI; what its README shows of it stands in it.
#[test]
fn the_c_that_is_shown_is_the_examples() {
    let (readme, example) = (read("examples/c/README.md"), read("examples/c/contrastive.c"));
    let trimmed = |line: &str| line.trim().to_string();
    let example: Vec<_> = example.lines().map(trimmed).collect();
    let shown: Vec<_> =
        lines(&readme).filter(|(block, _)| block == "c").map(|(_, line)| trimmed(line)).collect();
    let strange: Vec<_> = shown.iter().filter(|line| !example.contains(line)).collect();
    assert!(!shown.is_empty() && strange.is_empty(), "not in examples/c/contrastive.c: {strange:#?}");
}

/// Python runs in `python/tests/test_readme.py`, Rust as a doctest of the crate, which names the page; what is of another
/// language is included from a file that a test runs.
#[test]
fn what_the_sites_pages_show_is_run() {
    let crate_root = read("src/lib.rs");
    let pages = texts(&["docs"], &[".md"]);
    for (page, text) in pages.iter().filter(|(page, _)| !page.starts_with("docs/study")) {
        for (language, line) in lines(text).filter(|(language, _)| !language.is_empty()) {
            let run = match language.as_str() {
                "python" => true,
                "rust" => crate_root.contains(&format!("include_str!(\"../{page}\")")),
                "toml" | "{eval-rst}" => true, // nothing to run
                _ => false,
            };
            assert!(run, "{page}: nothing runs this block of {language}: {line}");
        }
    }
}

/// What `docs/study.md` tells stands in the pages that the studies wrote: whole rows, and each number of three digits or more.
#[test]
fn what_is_told_of_the_studies_is_what_they_wrote() {
    let all = |file: &str| {
        ["loss", "margin", "past", "few", "kept"]
            .map(|study| read(&format!("docs/study/{study}{file}")))
            .concat()
    };
    let (told, wrote, file) = (read("docs/study.md"), all("/study.md"), all(".toml"));
    let rows: Vec<&str> = told.lines().filter(|line| line.starts_with('|')).collect();
    let strange: Vec<_> = rows.iter().filter(|row| !wrote.lines().any(|line| line == **row)).collect();
    assert!(rows.len() > 10 && strange.is_empty(), "no rows of what the studies wrote: {strange:#?}");
    let text = prose(&told);
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.').map(|word| word.trim_end_matches('.'));
    let numbers = words.filter(|word| word.split_once('.').is_some_and(|(_, digits)| digits.len() > 2));
    let strange: Vec<_> = numbers.filter(|number| !wrote.contains(number)).collect();
    assert!(strange.is_empty(), "numbers that no study wrote: {strange:?}");
    let titles: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("title = ")).collect();
    let missing: Vec<_> =
        titles.iter().filter(|title| !wrote.contains(&format!("\n## {}", title.trim_matches('"')))).collect();
    assert!(!titles.is_empty() && missing.is_empty(), "no table of these titles: {missing:?}");
}

#[test]
fn every_example_is_listed() {
    let listed = prose(&read("examples/README.md"));
    let files = texts(&["examples", "integrations"], &[".rs", ".c", ".py"]);
    for file in files.keys().filter(|f| f.contains("examples/")) {
        let name = file.strip_prefix("examples/").unwrap_or(file);
        assert!(listed.contains(name), "examples/README.md says nothing of {file}");
    }
}

/// A version as the manifest `file` has it in a line that begins with `key`: its first two numbers.
fn version(file: &str, key: &str) -> String {
    let text = read(file);
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{file}: no {key}"));
    let digits = line[key.len()..].trim_start_matches(|c: char| !c.is_ascii_digit());
    let numbers = digits.split(|c: char| !c.is_ascii_digit()).take(2);
    numbers.collect::<Vec<_>>().join(".")
}

#[test]
fn versions_are_those_of_the_manifests() {
    for (document, manifest, key, says) in [
        ("README.md", "Cargo.toml", "rust-version", "Rust (VERSION or newer)"),
        ("CITATION.cff", "Cargo.toml", "version", "version: VERSION."),
        ("python/README.md", "python/pyproject.toml", "requires-python", "Python from VERSION on"),
        (
            "integrations/candle/README.md",
            "integrations/candle/Cargo.toml",
            "candle-core",
            "/candle) VERSION",
        ),
        ("integrations/burn/README.md", "integrations/burn/Cargo.toml", "burn =", "burn.dev) VERSION"),
    ] {
        let says = says.replace("VERSION", &version(manifest, key));
        assert!(read(document).contains(&says), "{document} does not say `{says}`, as {manifest} does");
    }
}

#[test]
fn architecture_says_how_many_launches_a_step_takes() {
    let (inputs, split) = small(50, InputKind::AlignmentPath);
    let launches = |protocol| {
        let mut options = TrainOptions { protocol, ..TrainOptions::for_inputs(inputs.kind, 1.0 / 127.0) };
        (options.epochs, options.batch) = (1, 12);
        let device = Cpu::<f32>::new(1).unwrap();
        fit(&device, &inputs, &split, &options, Hooks::default()).unwrap().launches_per_step
    };
    let (mse, joint) = (launches(Protocol::Mse), launches(Protocol::Joint));
    let text = read("ARCHITECTURE.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let said = format!("a training step of PCConvNet is {mse} launches, {joint} with the contrastive loss");
    assert!(text.contains(&said), "ARCHITECTURE.md does not say: {said}");
}
