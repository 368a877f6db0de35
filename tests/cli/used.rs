//! Directories that a run uses, and those that one has used.

use assert_cmd::cargo::cargo_bin;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn etude(args: &[&str]) -> (i32, String) {
    let out = Command::new(cargo_bin("etude")).args(args).output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    (out.status.code().unwrap(), err)
}

/// A small set on disk, and a place for runs.
fn set() -> (TempDir, String, String) {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (at("set"), at("run"));
    assert_eq!(etude(&["synth", "--out", &data, "--takes", "40", "--performers", "20"]).0, 0);
    (dir, data, out)
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn spawn(args: &[&str]) -> Child {
    let mut command = Command::new(cargo_bin("etude"));
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn refused(args: &[&str], words: &[&str]) {
    let (code, err) = etude(args);
    assert_eq!(code, 1, "{args:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{args:?}: {word:?} is not in: {err}");
    }
}

#[test]
fn a_used_directory_takes_a_word_to_be_used_again() {
    let (_dir, data, out) = set();
    let new = ["train", "--data", &data, "--device", "cpu", "--epochs", "1", "--out", &out];
    let with = |more: &[&'static str]| [&new[..], more].concat();
    assert_eq!(etude(&with(&["--folds", "3"])).0, 0);
    let three = names(&out);
    assert!(three.contains(&"fold-3.safetensors".to_string()));
    let finished = ["holds a finished run", "metrics.json", "fold-3.safetensors", "--overwrite"];
    refused(&new, &finished);
    refused(&with(&["--folds", "2"]), &finished);
    assert_eq!(names(&out), three);
    // A mistake in the new run leaves the old one as it is.
    refused(&["train", "--data", "/nowhere", "--out", &out, "--overwrite"], &["/nowhere"]);
    refused(&with(&["--overwrite", "--criterion", "charm"]), &["charm"]);
    assert_eq!(names(&out), three);
    // Fewer folds, then none: only their own files are there.
    assert_eq!(etude(&with(&["--folds", "2", "--val-fraction", "0.3", "--overwrite"])).0, 0);
    let two: Vec<_> = three.iter().filter(|name| *name != "fold-3.safetensors").cloned().collect();
    assert_eq!(names(&out), two);
    fs::write(format!("{out}/.DS_Store"), "").unwrap();
    assert_eq!(etude(&with(&["--overwrite"])).0, 0);
    let one = names(&out);
    assert!(one.contains(&"model.safetensors".into()) && one.contains(&".DS_Store".into()), "{one:?}");
    assert!(!one.iter().any(|name| name.starts_with("fold-")), "{one:?}");
    // Killed before its first checkpoint it leaves nothing that could be taken for its result.
    let long = ["--data", &data, "--epochs", "100000", "--patience", "100000", "--checkpoint-every", "3600"];
    let mut child = spawn(&[&["train", "--device", "cpu", "--out", &out, "--overwrite"][..], &long].concat());
    let begun = [".DS_Store", ".etude-lock", "history.csv"];
    wait_until("it clears the directory", || names(&out) == begun);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(names(&out), begun);
    refused(&["train", "--resume", &out], &["stopped before its first", "--overwrite"]);
    assert_eq!(etude(&["train", "--overwrite"]).0, 2, "of what?");
}

#[test]
fn one_process_at_a_time_writes_to_a_directory() {
    let (_dir, data, out) = set();
    let args = ["train", "--data", &data, "--device", "cpu", "--out", &out, "--checkpoint-every", "0"];
    let long = [&args[..], &["--epochs", "100000", "--patience", "100000"]].concat();
    let mut child = spawn(&long);
    let holder = format!("(process {})", child.id());
    let held = ["another process", holder.as_str(), "is writing there", out.as_str()];
    wait_until("the first has it", || {
        fs::read(format!("{out}/.etude-lock")).is_ok_and(|text| !text.is_empty())
    });
    refused(&args, &held);
    refused(&["train", "--resume", &out], &["another process", &holder]);
    let checkpoint = Path::new(&out).join("checkpoint.safetensors");
    wait_until("a checkpoint", || checkpoint.exists());
    // What looks left over may be what the first is about to write.
    let tmp = format!("{out}/.checkpoint.safetensors.{}-0.tmp", child.id() + 1);
    fs::write(&tmp, "half").unwrap();
    refused(&args, &held);
    refused(&[&args[..], &["--overwrite"]].concat(), &held);
    refused(&["train", "--resume", &out], &held);
    assert!(Path::new(&tmp).exists() && checkpoint.exists());
    assert!(child.try_wait().unwrap().is_none(), "the first goes on");
    // The system lets go of a killed process's lock, whatever file it left.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(names(&out).contains(&".etude-lock".to_string()));
    refused(&args, &["holds a run that was cut short", "--resume", "--overwrite"]);
    assert_eq!(etude(&[&args[..], &["--overwrite", "--epochs", "1"]].concat()).0, 0);
    let left = names(&out);
    assert!(
        left.contains(&"metrics.json".into()) && !left.iter().any(|name| name.starts_with('.')),
        "{left:?}"
    );
}

#[test]
fn of_many_that_begin_together_one_result_is_there() {
    let (_dir, data, out) = set();
    let args = |seed: &'static str, out: &str| {
        let args =
            ["train", "--data", &data, "--device", "cpu", "--epochs", "2", "--seed", seed, "--out", out];
        args.map(String::from)
    };
    for round in 0..3 {
        let out = format!("{out}{round}");
        let seeds = ["1", "2", "3", "4"];
        let children: Vec<Child> = seeds
            .iter()
            .map(|seed| {
                let mut command = Command::new(cargo_bin("etude"));
                command.args(args(seed, &out)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut winner = None;
        for (seed, child) in seeds.iter().zip(children) {
            let done = child.wait_with_output().unwrap();
            let err = String::from_utf8(done.stderr).unwrap();
            match done.status.code() {
                Some(0) => assert_eq!(winner.replace(seed), None, "two were first"),
                Some(1) => assert!(err.contains("another process") || err.contains("holds a"), "{err}"),
                _ => panic!("{err}"),
            }
        }
        let winner = winner.expect("one of them");
        let alone = format!("{out}-alone");
        let alone_args = args(winner, &alone);
        assert_eq!(etude(&alone_args.each_ref().map(String::as_str)).0, 0);
        assert_eq!(names(&out), names(&alone));
        for name in ["model.safetensors", "history.csv", "predictions.csv"] {
            let read = |dir: &str| fs::read(Path::new(dir).join(name)).unwrap();
            assert!(read(&out) == read(&alone), "{name}");
        }
    }
}

#[test]
fn what_file_managers_leave_stops_nothing() {
    let (dir, data, out) = set();
    let strays = [".DS_Store", "Thumbs.db", "desktop.ini", "._notes"];
    let litter = |at: &str| {
        fs::create_dir_all(at).unwrap();
        strays.iter().for_each(|name| fs::write(Path::new(at).join(name), "x").unwrap());
    };
    litter(&out);
    litter(&data);
    let args = ["train", "--data", &data, "--device", "cpu", "--out", &out, "--checkpoint-every", "0"];
    refused(&["train", "--resume", &out], &["is empty"]);
    let mut child = spawn(&[&args[..], &["--epochs", "100000", "--patience", "100000"]].concat());
    wait_until("a checkpoint", || Path::new(&out).join("checkpoint.safetensors").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    // It would take too long to its end: that it goes on is what is asked.
    let mut child = Command::new(cargo_bin("etude"))
        .args(["train", "--resume", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("going on after epoch") {
        assert!(std::io::BufRead::read_line(&mut says, &mut said).unwrap() > 0, "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(etude(&[&args[..], &["--epochs", "1", "--overwrite"]].concat()).0, 0);
    assert!(strays.iter().all(|name| Path::new(&out).join(name).exists()));
    // A folder that was only looked at is empty.
    let seen = dir.path().join("seen").to_str().unwrap().to_string();
    litter(&seen);
    assert_eq!(etude(&["synth", "--out", &seen, "--takes", "4", "--performers", "2"]).0, 0);
    assert!(Path::new(&seen).join("manifest.csv").exists());
}

#[test]
fn what_a_killed_synth_left_is_cleared_and_a_live_ones_is_not() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("set").to_str().unwrap().to_string();
    let partial = || names(dir.path()).into_iter().find(|name| name.starts_with(".set.partial-"));
    let large = ["synth", "--out", &out, "--takes", "20000", "--performers", "50"];
    let mut child = spawn(&large);
    let holder = format!("(process {})", child.id());
    wait_until("it begins", || fs::read(dir.path().join(".set.lock")).is_ok_and(|text| !text.is_empty()));
    let small = ["synth", "--out", &out, "--takes", "4", "--performers", "2"];
    refused(&small, &["set", "another process", &holder]);
    wait_until("it writes", || partial().is_some());
    let live = partial();
    refused(&small, &["another process", &holder]);
    assert_eq!(partial(), live);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(partial(), live, "it was killed before it was done");
    // Not of this set.
    fs::create_dir(dir.path().join(".set.partial-mine")).unwrap();
    fs::create_dir(dir.path().join(".sets.partial-12")).unwrap();
    assert_eq!(etude(&small).0, 0);
    assert_eq!(names(dir.path()), [".set.partial-mine", ".sets.partial-12", "set"]);
}
