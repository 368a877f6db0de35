//! Manifests: what they hold, what is refused, and the synthetic set there and back.

use std::path::Path;

use etude::Error;
use etude::data::synth::{self, SynthOptions};
use etude::data::{LoadOptions, Recordings, Split, load};
use tempfile::TempDir;

/// A manifest of these lines beside f0 files `a.txt`, `b.csv` and `ref/1.txt`, `ref/2.txt`.
fn layout(lines: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ref")).unwrap();
    std::fs::write(dir.path().join("a.txt"), "0.0 440\n0.006 440\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "time,f0\n0.0,220\n0.006,220\n").unwrap();
    std::fs::write(dir.path().join("ref/1.txt"), "0.0\t440\n").unwrap();
    std::fs::write(dir.path().join("ref/2.txt"), "0.0\t880\n").unwrap();
    std::fs::write(dir.path().join("manifest.csv"), lines.join("\n")).unwrap();
    dir
}

fn read(lines: &[&str]) -> Recordings {
    load(layout(lines).path(), &LoadOptions::default()).unwrap()
}

/// The line and text of the error that these lines give.
fn fault(lines: &[&str]) -> (Option<u64>, String) {
    let dir = layout(lines);
    match load(dir.path().join("manifest.csv"), &LoadOptions::default()).unwrap_err() {
        Error::Data { path, line, message } => {
            assert_eq!(path, dir.path().join("manifest.csv"));
            (line, message)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_fewest_columns() {
    let recordings = read(&["path,performer,rating", "b.csv,x,0.25", "a.txt,y,1"]);
    assert_eq!(recordings.criteria, ["overall"]);
    let ids: Vec<_> = recordings.takes.iter().map(|take| (&*take.id, &*take.performer)).collect();
    assert_eq!(ids, [("a.txt", "y"), ("b.csv", "x")]);
    assert_eq!(recordings.takes[1].ratings, [0.25]);
    assert!((recordings.takes[1].contour.pitch()[0] - 57.0).abs() < 1e-5);
    assert!(recordings.references.is_empty());
    assert!(recordings.takes.iter().all(|take| take.pass.is_none() && take.split.is_none()));
}

#[test]
fn all_columns_in_any_order() {
    let recordings = read(&[
        "split, rating_pitch ,pass,rating_rhythm,performer,reference,path",
        "train,0.5,PASS,0.75,x,ref/1.txt ; ref/2.txt,a.txt",
        "test,0,0,1,\"y, z\",,b.csv",
    ]);
    assert_eq!(recordings.criteria, ["pitch", "rhythm"]);
    let [a, b] = &recordings.takes[..] else { panic!("two takes") };
    assert_eq!(
        (a.ratings.as_slice(), a.pass, a.split),
        ([0.5, 0.75].as_slice(), Some(true), Some(Split::Train))
    );
    assert_eq!((b.pass, b.split, &*b.performer, &b.melody), (Some(false), Some(Split::Test), "y, z", &None));
    let references: Vec<_> = recordings.references.iter().map(|reference| &*reference.id).collect();
    assert_eq!(references, ["ref/1.txt", "ref/2.txt"]);
    assert!(recordings.references.iter().all(|reference| Some(&reference.melody) == a.melody.as_ref()));
}

#[test]
fn takes_of_a_named_melody_share_their_references() {
    let recordings = read(&[
        "path,performer,rating,melody,reference",
        "a.txt,x,0,tune,ref/1.txt",
        "b.csv,y,0,tune,ref/2.txt",
    ]);
    assert_eq!(recordings.references.len(), 2);
    assert!(recordings.references.iter().all(|reference| reference.melody == "tune"));
    assert!(recordings.takes.iter().all(|take| take.melody.as_deref() == Some("tune")));
}

#[test]
fn what_is_malformed_names_its_line() {
    let header = "path,performer,rating,pass,split,reference";
    let good = "a.txt,x,0.5,1,train,";
    for (line, expected) in [
        ("b.csv,x,1.5,1,train,", "rating for overall is \"1.5\""),
        ("b.csv,x,NaN,1,train,", "rating for overall is \"NaN\""),
        ("b.csv,x,,1,train,", "rating for overall is \"\""),
        ("b.csv,x,0.5,maybe,train,", "pass is \"maybe\""),
        ("b.csv,x,0.5,1,,", "split \"\": expected train, val or test"),
        ("b.csv,,0.5,1,train,", "performer is empty"),
        (",x,0.5,1,train,", "path is empty"),
        ("a.txt,x,0.5,1,train,", "path \"a.txt\" is in line 2 too"),
        ("none.txt,x,0.5,1,train,", "none.txt"),
        ("b.csv,x,0.5,1,train,ref/3.txt", "3.txt"),
        ("b.csv,x", "2 fields, but the header has 6"),
    ] {
        let (number, message) = fault(&[header, good, line]);
        assert_eq!(number, Some(3), "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let message = |header: &str| fault(&[header, "a.txt"]).1;
    assert!(message("path,performer,rating,grade,colour").contains("unknown column \"grade\", \"colour\""));
    assert!(message("path,performer,rating_").contains("unknown column \"rating_\""));
    assert!(message("reference").contains("missing column path, performer, rating"));
    assert!(message("path,performer,pass").contains("missing column rating"));
    assert!(message("path,path,performer,rating").contains("\"path\" appears twice"));
    assert!(message("path,performer,rating,rating_overall").contains("the same criterion"));
    assert!(fault(&["path,performer,rating"]).1.contains("no takes"));
    assert!(fault(&[""]).1.contains("missing column"));
}

#[test]
fn a_fault_in_an_f0_file_is_that_files() {
    let dir = layout(&["path,performer,rating", "a.txt,x,0.5"]);
    std::fs::write(dir.path().join("a.txt"), "0 440\n0.1 1\n").unwrap();
    let error = load(dir.path(), &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.txt:2: f0 1 Hz"), "{error}");
}

fn small() -> SynthOptions {
    SynthOptions { seed: 3, takes: 8, performers: 4, melodies: 3, references: 2, ..Default::default() }
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_synthetic_set_reads_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/set");
    let written = synth::write(&out, &small()).unwrap();
    assert_eq!(entries(&out), ["manifest.csv", "references", "takes"]);
    assert_eq!(entries(out.parent().unwrap()), ["set"]);

    let read = load(&out, &LoadOptions::default()).unwrap();
    assert_eq!(read.criteria, written.criteria);
    assert_eq!((read.takes.len(), read.references.len()), (8, 6));
    for (a, b) in read.takes.iter().zip(&written.takes) {
        assert_eq!(
            (&a.id, &a.performer, &a.melody, &a.ratings),
            (&b.id, &b.performer, &b.melody, &b.ratings)
        );
        assert_eq!((a.pass, a.split), (b.pass, b.split));
        assert_eq!(a.contour.len(), b.contour.len());
        assert!(a.contour.pitch().iter().zip(b.contour.pitch()).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    for (a, b) in read.references.iter().zip(&written.references) {
        assert_eq!((&a.id, &a.melody, a.contour.len()), (&b.id, &b.melody, b.contour.len()));
    }
}

#[test]
fn writing_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "precious").unwrap();
    assert!(synth::write(&full, &small()).unwrap_err().to_string().contains("not empty"));
    assert_eq!(entries(&full), ["mine"]);
    assert!(synth::write(full.join("mine"), &small()).is_err(), "a file is in the way");
    assert!(synth::write(full.join("mine/below"), &small()).is_err());
    assert!(synth::write(dir.path().join(".."), &small()).is_err());
    assert_eq!(entries(dir.path()), ["full"]);
    // An empty directory will do.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    synth::write(&empty, &small()).unwrap();
    assert_eq!(entries(dir.path()), ["empty", "full"]);
    assert_eq!(entries(&empty), ["manifest.csv", "references", "takes"]);
}
