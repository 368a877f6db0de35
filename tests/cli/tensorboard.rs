//! Event files of TensorBoard: what they hold, that a run taken up again shows nothing twice, and whose files are replaced.

use crate::eval::{etude, says};
use crate::signals::Run;
use assert_cmd::cargo::cargo_bin;
use prost::Message;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

#[derive(Message)]
struct Event {
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<Status>,
}

#[derive(Message)]
struct Status {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Named>,
}

#[derive(Message)]
struct Named {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    number: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
}

#[derive(Message)]
struct Tensor {
    #[prost(string, repeated, tag = "8")]
    texts: Vec<String>,
}

/// The events of a file, whose checksums are right and whose last record is whole.
fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let checked = |data: &[u8], sum: &[u8]| {
        // TFRecord's mask, turned back.
        let sum = u32::from_le_bytes(sum.try_into().unwrap()).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(crc32c::crc32c(data), sum, "{}", path.display());
    };
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(12);
        checked(&head[..8], &head[8..]);
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        checked(&tail[..length], &tail[length..length + 4]);
        events.push(Event::decode(&tail[..length]).unwrap());
        rest = &tail[length + 4..];
    }
    assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    events
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    files.sort();
    files
}

/// What TensorBoard shows of a directory: tag, step and number, or text. A session that begins, but for the first, ends what
/// earlier ones said of its step and of later ones.
fn shown(dir: &Path) -> Vec<(String, i64, String)> {
    let (mut shown, mut begun) = (Vec::new(), false);
    for event in files(dir).iter().flat_map(|path| events(path)) {
        if event.session_log.is_some_and(|log| log.status == 1) && std::mem::replace(&mut begun, true) {
            shown.retain(|(_, step, _)| *step < event.step);
        }
        for Named { tag, number, tensor } in event.summary.into_iter().flat_map(|summary| summary.value) {
            let text = tensor.map(|tensor| tensor.texts.concat());
            shown.push((tag, event.step, number.map(|n| n.to_string()).or(text).unwrap()));
        }
    }
    shown
}

/// What a run's other files say, as [`shown`] has it.
fn expected(out: &Path, fold: Option<usize>) -> Vec<(String, i64, String)> {
    let number = |text: &str| (text.parse::<f64>().unwrap() as f32).to_string();
    let history = fs::read_to_string(out.join("history.csv")).unwrap();
    let suffix = fold.map_or(String::new(), |i| format!("(fold {i})"));
    let mut list = Vec::new();
    let mut last = 0;
    for line in history.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        if !cells[1].ends_with(&suffix) {
            continue;
        }
        last = cells[0].parse().unwrap();
        let named = [("loss/train", 3), ("loss/validation", 4), ("r2/validation", 5), ("learning_rate", 2)];
        for (tag, at) in named.into_iter().filter(|&(_, at)| !cells[at].is_empty()) {
            list.push((tag.to_string(), last, number(cells[at])));
        }
    }
    let metrics: Value = serde_json::from_slice(&fs::read(out.join("metrics.json")).unwrap()).unwrap();
    let test = fold.map_or(&metrics["test"], |i| &metrics["folds"][i - 1]);
    for (name, value) in test.as_object().unwrap().iter().filter(|(name, _)| *name != "n") {
        if let Some(value) = value.as_f64() {
            list.push((format!("test/{name}"), last, (value as f32).to_string()));
        }
    }
    list
}

fn sorted(mut list: Vec<(String, i64, String)>) -> Vec<(String, i64, String)> {
    list.sort();
    list
}

/// The event files of a run, or fold, say what its other files do, and its settings before.
fn agrees(dir: &Path, out: &Path, fold: Option<usize>) {
    let mut shown = shown(dir);
    let (tag, step, settings) = shown.remove(0);
    assert_eq!((tag.as_str(), step), ("settings", 0));
    says(&settings, &["| option | value |\n|---|---|\n| data |", "\n| seed | 3 |\n", "\n| voice | any |\n"]);
    assert_eq!(sorted(shown), sorted(expected(out, fold)), "{}", dir.display());
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let (code, _, err) =
            etude(&["synth", "--out", &place.at("set"), "--takes", "40", "--performers", "20"]);
        assert_eq!(code, 0, "{err}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn train(&self, more: &[&str]) -> (i32, String) {
        let set = self.at("set");
        let args = ["train", "--device", "cpu", "--seed", "3", "--data", &set];
        let (code, _, err) = etude(&[&args[..], more].concat());
        assert!(!err.contains("panicked"), "{err}");
        (code, err)
    }
}

#[test]
fn what_a_run_gives_is_shown() {
    let place = Place::new();
    let [out, board] = ["run", "board"].map(|name| place.at(name));
    let phases =
        ["--protocol", "two-phase", "--epochs", "3", "--encoder-epochs", "2", "--val-fraction", "0.3"];
    let (code, err) = place.train(&[&phases[..], &["--out", &out, "--tensorboard", &board]].concat());
    assert_eq!(code, 0, "{err}");
    let (out, board) = (place.path("run"), place.path("board"));
    agrees(&board, &out, None);
    assert_eq!(fs::read_dir(&board).unwrap().count(), 1, "a file and nothing else");
    let steps = |tag: &str| {
        shown(&board).into_iter().filter(|value| value.0 == tag).map(|value| value.1).collect::<Vec<_>>()
    };
    assert_eq!(steps("loss/train"), [1, 2, 3, 4, 5]);
    assert_eq!(steps("loss/validation"), [1, 2, 3, 4, 5]);
    // There is none where no rating is trained.
    assert_eq!(steps("r2/validation"), [3, 4, 5]);
    assert_eq!(steps("test/mae"), [5]);
    // Beside --out it changes nothing of what a run comes to.
    let (code, err) = place.train(&[&phases[..], &["--out", &place.at("plain")]].concat());
    assert_eq!(code, 0, "{err}");
    for name in ["model.safetensors", "history.csv", "predictions.csv", "report.html"] {
        let read = |run: &str| fs::read(place.path(run).join(name)).unwrap();
        assert!(read("run") == read("plain"), "{name}");
    }
}

#[test]
fn a_run_that_goes_on_shows_nothing_twice() {
    let place = Place::new();
    let begin = |out: &str, board: &str| {
        let mut command = Command::new(cargo_bin("etude"));
        // A directory that is found from elsewhere, too.
        command
            .current_dir(place.0.path())
            .args(["train", "--device", "cpu", "--seed", "3", "--data", "set"]);
        command.args([
            "--epochs",
            "12",
            "--folds",
            "2",
            "--val-fraction",
            "0.3",
            "--checkpoint-every",
            "3600",
        ]);
        command.args(["--out", out, "--tensorboard", board]);
        Run::spawn(command)
    };
    let go_on = |out: &str| {
        let mut command = Command::new(cargo_bin("etude"));
        command.args(["train", "--resume", &place.at(out)]);
        Run::spawn(command)
    };
    let (code, said) = begin("whole", "all").end();
    assert_eq!(code, Some(0), "{said}");
    for i in [1, 2] {
        agrees(&place.path(&format!("all/fold-{i}")), &place.path("whole"), Some(i));
    }
    let mut run = begin("cut", "parts");
    run.until("takes by");
    run.signal("INT");
    assert_eq!(run.end().0, Some(130));
    let epochs = |fold: &str| {
        shown(&place.path(fold)).iter().filter(|value| value.0 == "loss/train").map(|value| value.1).max()
    };
    assert!(epochs("parts/fold-1") < Some(12), "it was done before it was stopped");
    let mut run = go_on("cut");
    run.until("fold 1 of 2:");
    run.signal("INT");
    assert_eq!(run.end().0, Some(130));
    assert!(epochs("parts/fold-2") < Some(12), "it was done before it was stopped");
    // One that was killed may have come to its end since the checkpoint.
    let [far] = &files(&place.path("all/fold-2"))[..] else { panic!("one file a run") };
    fs::copy(far, place.path("parts/fold-2/events.out.tfevents.8888888888.other.1.0")).unwrap();
    assert_eq!(epochs("parts/fold-2"), Some(12));
    let (code, said) = go_on("cut").end();
    assert_eq!(code, Some(0), "{said}");
    for (i, parts) in [(1, 2), (2, 3)] {
        let fold = place.path(&format!("parts/fold-{i}"));
        assert_eq!(files(&fold).len(), parts);
        agrees(&fold, &place.path("cut"), Some(i));
        assert_eq!(sorted(shown(&fold)), sorted(shown(&place.path(&format!("all/fold-{i}")))));
    }
}

#[test]
fn only_event_files_are_replaced_and_only_when_asked() {
    let place = Place::new();
    let board = place.at("board");
    let epoch =
        |more: &[&str]| place.train(&[&["--epochs", "1", "--tensorboard", &board][..], more].concat());
    let refused = |(code, err): (i32, String), words: &[&str]| {
        assert_eq!(code, 1, "{err}");
        says(&err, words);
    };
    let (code, err) = epoch(&["--folds", "2"]);
    assert_eq!(code, 0, "{err}");
    let folds = ["fold-1", "fold-2"].map(|name| place.path("board").join(name));
    let first = folds.each_ref().map(|fold| files(fold));
    // Of folds too where there are none now.
    let used =
        ["board: holds event files of an earlier run: fold-1/events", "another directory", "--overwrite"];
    refused(epoch(&[]), &used);
    refused(epoch(&["--folds", "3"]), &used);
    // A mistake in the new run leaves the old one as it is.
    refused(epoch(&["--overwrite", "--criterion", "charm"]), &["charm"]);
    assert_eq!(folds.each_ref().map(|fold| files(fold)), first);
    let others = [place.path("board/notes.txt"), folds[0].join("figure.png")];
    others.iter().for_each(|other| fs::write(other, "x").unwrap());
    let (code, err) = epoch(&["--overwrite"]);
    assert_eq!(code, 0, "{err}");
    assert!(others.iter().all(|other| other.exists()));
    assert!(folds.iter().all(|fold| files(fold).is_empty()));
    assert_eq!(files(&place.path("board")).len(), 1);
    let (code, err) = epoch(&["--overwrite", "--folds", "2"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(folds.each_ref().map(|fold| files(fold).len()), [1, 1]);
    assert!(files(&place.path("board")).is_empty());
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_before_anything_is_read() {
    let place = Place::new();
    let train = |board: &str, more: &[&str]| {
        let (code, _, err) =
            etude(&[&["train", "--data", "/nowhere", "--tensorboard", board], more].concat());
        assert_eq!(code, 1, "{err}");
        err
    };
    let manifest = place.at("set/manifest.csv");
    says(&train(&manifest, &[]), &["manifest.csv: is a file"]);
    says(&train(&format!("{manifest}/board"), &[]), &["manifest.csv/board: create failed"]);
    // In the run's own directory, by a link too, it would be taken for a stranger's.
    let out = place.at("run");
    for inside in ["run", "run/board/a", "link/board"] {
        let _ = std::os::unix::fs::symlink(place.path("run"), place.path("link"));
        let err = train(&place.at(inside), &["--out", &out]);
        says(&err, &[inside, "is inside the directory of --out", "hint: name one beside it"]);
        assert!(!place.path("run").exists());
    }
    // What was made for a run that did not come so far is removed.
    says(&train(&place.at("board"), &[]), &["/nowhere"]);
    assert!(!place.path("board").exists());
    let lock = etude::fs::Lock::take(&place.path("set/.etude-lock"), &place.path("set")).unwrap();
    says(&train(&place.at("set"), &[]), &["another process", "is writing there"]);
    drop(lock);
}

#[test]
fn a_full_disk_ends_the_run_and_is_told() {
    let place = Place::new();
    // Files of eight blocks at most, which is no more than 8 kB; the signal that would end the process is left out.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" train --device cpu --epochs 400 --data \"$1\" --tensorboard \"$2\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(cargo_bin("etude")).args([place.at("set"), place.at("board")]);
    let done = shell.output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{err}");
    says(&err, &["board/events.out.tfevents.", "write failed: File too large"]);
}
