//! The seeds of the fuzz targets, and what fuzzing found, as ordinary input.

use std::path::{Path, PathBuf};

use etude::data::fba::{Assessments, Segment};
use etude::data::mastmelody::Annotations;
use etude::data::{LoadOptions, manifest};

/// The files of a target's corpus, with what they hold.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Names of the seeds that are read without an error.
fn read(target: &str, parse: impl Fn(&Path, &[u8]) -> bool) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    corpus(target).iter().filter(|(path, bytes)| parse(path, bytes)).map(|(path, _)| name(path)).collect()
}

#[test]
fn the_corpora_replay() {
    let options = LoadOptions::default();
    assert_eq!(
        read("manifest", |path, bytes| manifest::parse(path, bytes, &options).is_ok()),
        ["commas.csv", "excel.csv", "grades.csv", "returns.csv", "semicolons.csv", "tabs.tsv", "wide.csv"]
    );
    assert_eq!(
        read("annotations", |path, bytes| Annotations::parse(path, bytes).is_ok()),
        ["passes.csv", "semicolons.csv"]
    );
    assert_eq!(read("fba", |path, bytes| Assessments::parse(path, bytes).is_ok()), ["assessments.txt"]);
    assert_eq!(read("fba", |path, bytes| Segment::parse_all(path, bytes).is_ok()), ["segments.txt"]);
}

/// Every prefix of every seed, and every seed with a byte put out, is read or refused.
#[test]
fn damaged_seeds_are_refused_in_few_words() {
    let mut refused = 0;
    let mut told = |error: Option<etude::Error>| {
        let length = error.map_or(0, |error| error.to_string().len());
        assert!(length < 2000);
        refused += usize::from(length > 0);
    };
    for target in ["manifest", "annotations", "fba"] {
        for (path, bytes) in corpus(target) {
            let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
            let hit = (0..bytes.len()).map(|at| {
                let mut hit = bytes.clone();
                hit[at] = b"\0\",;\n-9\xff"[at % 8];
                hit
            });
            for bytes in cut.chain(hit) {
                told(manifest::parse(&path, &bytes, &LoadOptions::default()).err());
                told(Annotations::parse(&path, &bytes).err());
                told(Assessments::parse(&path, &bytes).err());
                told(Segment::parse_all(&path, &bytes).err());
            }
        }
    }
    assert!(refused > 1000);
}
