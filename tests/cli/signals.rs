//! Being asked to stop: a run ends where it can be taken up again, says how, and with the signal's exit code.

use assert_cmd::cargo::cargo_bin;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A run, and what it says.
pub struct Run {
    child: Child,
    says: BufReader<ChildStderr>,
}

impl Run {
    fn begin(args: &[&str]) -> Self {
        Self::of(&[&["train", "--device", "cpu"], args].concat())
    }

    fn of(args: &[&str]) -> Self {
        let mut command = Command::new(cargo_bin("etude"));
        command.args(args);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stderr.take().unwrap());
        Self { child, says }
    }

    /// Waits until it has said so.
    pub fn until(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "it ended and did not say {words}");
        }
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Its exit code, and what else it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.says.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("panicked"), "{rest}");
        (self.child.wait().unwrap().code(), rest)
    }
}

fn set(dir: &TempDir) -> String {
    let path = dir.path().join("set").to_str().unwrap().to_string();
    let mut synth = Command::new(cargo_bin("etude"));
    synth.args(["synth", "--out", &path, "--takes", "40", "--performers", "20"]);
    assert!(synth.status().unwrap().success());
    path
}

/// What a run left, but for times.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| !path.ends_with("metrics.json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_run_that_is_asked_to_stop_can_go_on() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let at = |name: &str| dir.path().join(name);
    let args = |out: &PathBuf| {
        let out = out.to_str().unwrap().to_string();
        // No checkpoint but that of the signal.
        let more = ["--epochs", "12", "--folds", "2", "--val-fraction", "0.3", "--checkpoint-every", "3600"];
        [&["--data", &data, "--out", &out][..], &more]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let begin = |out: &PathBuf| Run::begin(&args(out).iter().map(String::as_str).collect::<Vec<_>>());
    let whole = at("whole");
    assert_eq!(begin(&whole).end().0, Some(0));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let out = at(signal);
        let mut run = begin(&out);
        run.until("takes by");
        run.signal(signal);
        let (ended, said) = run.end();
        assert_eq!(ended, Some(code), "{said}");
        for word in [&format!("stopped by SIG{signal}"), "etude train --resume", out.to_str().unwrap()] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        let left: Vec<String> = files(&out).into_iter().map(|file| file.0).collect();
        assert_eq!(left, ["checkpoint.safetensors", "history.csv"]);
        // Stopped once more on its way, in the second fold.
        let mut run = Run::begin(&["--resume", out.to_str().unwrap()]);
        run.until("fold 1 of 2:");
        run.signal(signal);
        assert_eq!(run.end().0, Some(code));
        let mut run = Run::begin(&["--resume", out.to_str().unwrap()]);
        run.until("going on after epoch");
        assert_eq!(run.end().0, Some(0));
        assert!(files(&out) == files(&whole), "{signal}");
    }
}

#[test]
fn without_a_directory_nothing_is_kept_and_that_is_said() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let mut run = Run::begin(&["--data", &data, "--epochs", "100000"]);
    run.until("takes by");
    run.signal("TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM") && said.contains("without --out nothing is kept"), "{said}");
}

#[test]
fn loading_ends_at_once_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    // Nothing is said before the takes of the built-in set are made and aligned, which takes seconds.
    let run = Run::begin(&["--out", out.to_str().unwrap()]);
    let start = Instant::now();
    while !out.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    run.signal("INT");
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.contains("stopped by SIGINT: nothing was trained yet") && !said.contains("takes by"),
        "{said}"
    );
    assert!(!out.exists());
}

#[test]
fn a_page_of_grades_is_written_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let train = ["--data", &data, "--epochs", "1", "--out", &at("run")];
    assert_eq!(Run::begin(&train).end().0, Some(0));
    let out = dir.path().join("page");
    let (model, page) = (at("run/model.safetensors"), at("page"));
    let score = ["score", "--device", "cpu", "--threads", "1", "--model", &model, "--out", &page];
    // Some hundreds of takes, note by note.
    let takes = vec![&data[..]; 20];
    let run = Run::of(&[&score[..], &takes].concat());
    let start = Instant::now();
    while !out.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    run.signal("TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM: no page is written"), "{said}");
    assert!(!out.exists());
}

/// The first signal waits for the end of an epoch, the second for nothing.
#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("set").to_str().unwrap().to_string();
    let mut synth = Command::new(cargo_bin("etude"));
    assert!(synth.args(["synth", "--out", &data, "--takes", "1200"]).status().unwrap().success());
    let out = dir.path().join("run");
    // Epochs of a tenth of a second at least.
    let args = ["--data", &data, "--input", "contour", "--threads", "1", "--out", out.to_str().unwrap()];
    let mut run = Run::begin(&args);
    run.until("takes by");
    // Two kinds, as two of one kind may become one; whichever is taken note of last ends it.
    let script = "kill -s INT $0; kill -s TERM $0";
    let kill = Command::new("sh").args(["-c", script, &run.child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let (code, said) = run.end();
    assert!([Some(130), Some(143)].contains(&code), "{code:?}: {said}");
    assert!(!said.contains("stopped by"), "the epoch was over before the second signal came: {said}");
    assert!(!out.join("checkpoint.safetensors").exists());
}

#[test]
fn a_study_that_is_asked_to_stop_keeps_what_was_made() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let [file, out] = ["study.toml", "out"].map(|name| dir.path().join(name).to_str().unwrap().to_string());
    let args = ["study", &file, "--data", &data, "--out", &out, "--threads", "1"];
    let table = "[[table]]\ntitle = \"Loss\"\narms = [{ protocol = [\"mse\", \"joint\"] }]";
    let study =
        |epochs: u32| format!("seeds = [1, 2, 3]\nfolds = 2\nwith = {{ epochs = {epochs} }}\n{table}");
    let kept = || fs::read_to_string(dir.path().join("out/runs.jsonl")).unwrap().lines().count() - 1;

    // Networks in training are given up.
    fs::write(&file, study(900_000)).unwrap();
    let mut run = Run::of(&args);
    run.until(" runs at once");
    run.signal("TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM: 0 of 12 runs are in "), "{said}");
    assert_eq!(kept(), 0);

    fs::write(&file, study(20)).unwrap();
    let mut run = Run::of(&args);
    run.until(" of 12 runs, about ");
    run.signal("INT");
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    let made = kept();
    assert!((1..12).contains(&made), "{made}");
    assert!(said.contains(&format!("{made} of 12 runs are in {out}; the same command goes on")), "{said}");
    let mut run = Run::of(&args);
    run.until(&format!("{made} of 12 runs were made before"));
    assert_eq!(run.end().0, Some(0));
    assert_eq!(kept(), 12);
}
