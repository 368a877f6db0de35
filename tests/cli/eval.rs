//! `etude eval` grades the takes that the model was tested on, whatever has become of the data, or says why not.

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A model that was trained for an epoch on the data beside it.
pub struct Run {
    dir: TempDir,
}

impl Run {
    pub fn new(more: &[&str]) -> Self {
        let run = Self { dir: TempDir::new().unwrap() };
        run.synth("set", "0");
        let (set, out) = (run.at("set"), run.at("run"));
        let args = ["train", "--device", "cpu", "--epochs", "1", "--seed", "3", "--val-fraction", "0.1"];
        let (code, _, err) = etude(&[&args[..], &["--data", &set, "--out", &out], more].concat());
        assert_eq!(code, 0, "{err}");
        run
    }

    pub fn synth(&self, name: &str, seed: &str) {
        let args = ["--takes", "24", "--performers", "12", "--seed", seed];
        let (code, _, err) = etude(&[&["synth", "--out", &self.at(name)], &args[..]].concat());
        assert_eq!(code, 0, "{err}");
    }

    pub fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn model(&self) -> String {
        self.at("run/model.safetensors")
    }

    /// The header and the rows of a manifest, in cells.
    pub fn manifest(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.path("set/manifest.csv")).unwrap();
        text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
    }

    pub fn write(&self, rows: &[Vec<String>]) {
        let text: String = rows.iter().map(|row| row.join(",") + "\n").collect();
        fs::write(self.path("set/manifest.csv"), text).unwrap();
    }

    /// Id, part and prediction of each take, as the run left them.
    pub fn predictions(&self) -> Vec<[String; 3]> {
        let text = fs::read_to_string(self.path("run/predictions.csv")).unwrap();
        let row = |line: &str| {
            let cells: Vec<String> = line.split(',').map(String::from).collect();
            [cells[0].clone(), cells[2].clone(), cells[4].clone()]
        };
        text.lines().skip(1).map(row).collect()
    }

    fn of(&self, part: &str) -> Vec<String> {
        self.predictions().into_iter().filter(|[_, p, _]| p == part).map(|[id, ..]| id).collect()
    }

    fn eval(&self, data: &str, split: &str) -> (i32, Option<Value>, String) {
        let (model, data) = (self.model(), self.at(data));
        let args =
            ["eval", "--device", "cpu", "--model", &model, "--data", &data, "--split", split, "--json"];
        let (code, out, err) = etude(&args);
        assert!(!err.contains("panicked"), "{err}");
        (code, out.lines().last().map(|line| serde_json::from_str(line).unwrap()), err)
    }

    /// Is graded as the run's own test was, and `words` are said.
    fn grades_the_test(&self, data: &str, words: &[&str]) {
        let (code, report, err) = self.eval(data, "test");
        assert_eq!(code, 0, "{err}");
        let then: Value = serde_json::from_slice(&fs::read(self.path("run/metrics.json")).unwrap()).unwrap();
        assert_eq!(report.unwrap()["test"], then["test"]);
        says(&err, words);
    }

    fn refuses(&self, data: &str, split: &str, words: &[&str]) {
        let (code, report, err) = self.eval(data, split);
        assert_eq!((code, report), (1, None), "{err}");
        says(&err, words);
    }

    fn grades(&self, data: &str, split: &str, takes: u64, words: &[&str]) {
        let (code, report, err) = self.eval(data, split);
        assert_eq!(code, 0, "{err}");
        assert_eq!(report.unwrap()["test"]["n"], takes, "{err}");
        says(&err, words);
    }
}

pub fn etude(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(cargo_bin("etude")).args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

pub fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Another pitch track: every voiced line a little higher.
pub fn sharpen(from: &Path, to: &Path) {
    let line = |line: &str| match line.split_once(',').map(|(time, hz)| (time, hz.parse::<f64>())) {
        Some((time, Ok(hz))) => format!("{time},{}\n", hz * 1.01),
        _ => format!("{line}\n"),
    };
    let text = fs::read_to_string(from).unwrap();
    fs::write(to, text.lines().map(line).collect::<String>()).unwrap();
}

#[test]
fn new_takes_leave_the_test_as_it_was() {
    let run = Run::new(&[]);
    let set = |name: &str| run.path("set").join(name);
    run.grades_the_test("set", &[]);
    run.refuses("set", "new", &["no new takes", "--split all"]);
    let all = ["of 24 takes the model was trained on", "validated on", "tested on"];
    run.grades("set", "all", 24, &all);

    // A take more, by a new performer and by one that the model was trained on.
    let mut rows = run.manifest();
    let (train, test) = (run.of("train"), run.of("test"));
    let row_of = |rows: &[Vec<String>], id: &str| rows.iter().position(|row| row[0] == id).unwrap();
    for (name, performer) in [("aaa.txt", "somebody"), ("zzz.txt", "")] {
        let mut row = rows[row_of(&rows, &train[0])].clone();
        sharpen(&set(&row[0]), &set(name));
        row[0] = name.into();
        if !performer.is_empty() {
            row[1] = performer.into();
        }
        rows.push(row);
    }
    sharpen(&set("aaa.txt"), &set("zzz.txt"));
    run.write(&rows);
    run.grades_the_test("set", &["new: 2 (\"aaa.txt\", \"zzz.txt\")"]);
    run.grades("set", "new", 2, &["new: 2 (", "new takes by performers that the model was trained on: 1"]);

    // What was trained on is no test and nothing new under another name.
    let mut row = rows[row_of(&rows, &train[1])].clone();
    fs::copy(set(&row[0]), set("copy.txt")).unwrap();
    row[0] = "copy.txt".into();
    rows.push(row);
    run.write(&rows);
    run.grades_the_test("set", &["new: 2 (", "copies of others: 1 (\"copy.txt\")"]);
    run.grades("set", "new", 2, &[]);
    let gone = row_of(&rows, &train[1]);
    rows.remove(gone);
    run.write(&rows);
    run.grades("set", "new", 2, &[]);
    assert_eq!(test.len(), 4);
}

#[test]
fn takes_that_are_missing_or_have_changed_are_named() {
    let run = Run::new(&[]);
    let whole = run.manifest();
    let test = run.of("test");
    let row = |id: &str| whole.iter().position(|row| row[0] == id).unwrap();
    let count = format!("of the {} takes that the model was tested on", test.len());

    let mut rows = whole.clone();
    rows.remove(row(&test[1]));
    run.write(&rows);
    run.refuses("set", "test", &[&count, "1 missing", &test[1], "--split all"]);
    run.grades("set", "all", 23, &[]);

    let rating = whole[0].iter().position(|name| name.starts_with("rating")).unwrap();
    let mut rows = whole.clone();
    rows[row(&test[2])][rating] = "0.123".into();
    run.write(&rows);
    run.refuses("set", "test", &[&count, "1 changed", &test[2], "rating"]);
    run.grades("set", "train", run.of("train").len() as u64, &["changed since: 1 (", &test[2]]);
    run.write(&whole);
    run.grades_the_test("set", &[]);

    // A training take's file in the place of a test take's, and a reference that was edited.
    let set = |name: &str| run.path("set").join(name);
    let good = fs::read(set(&test[0])).unwrap();
    fs::copy(set(&run.of("train")[0]), set(&test[0])).unwrap();
    run.refuses("set", "test", &[&count, "1 changed", &test[0], "pitch"]);
    fs::write(set(&test[0]), good).unwrap();
    let reference = whole[0].iter().position(|name| name == "reference").unwrap();
    let first = whole[row(&test[0])][reference].split(';').next().unwrap().to_string();
    sharpen(&set(&first), &run.path("other.txt"));
    fs::copy(run.path("other.txt"), set(&first)).unwrap();
    run.refuses("set", "test", &[&count, "changed", "references"]);
}

#[test]
fn other_data_is_told_from_the_models_own() {
    let run = Run::new(&[]);
    run.synth("other", "8");
    for part in ["train", "val", "test"] {
        run.refuses("other", part, &["none of these 24 takes was seen in training", "--split all"]);
    }
    run.grades("other", "all", 24, &["none of these 24 takes was seen in training"]);

    // The same takes, listed from elsewhere.
    let mut rows = run.manifest();
    let reference = rows[0].iter().position(|name| name == "reference").unwrap();
    for row in &mut rows[1..] {
        row[0] = format!("set/{}", row[0]);
        let names: Vec<String> = row[reference].split(';').map(|name| format!("set/{name}")).collect();
        row[reference] = names.join(";");
    }
    let text: String = rows.iter().map(|row| row.join(",") + "\n").collect();
    fs::write(run.path("above.csv"), text).unwrap();
    run.grades_the_test("above.csv", &[]);
    run.refuses("above.csv", "new", &["no new takes"]);
}

#[test]
fn a_model_that_is_given_away_names_no_take() {
    let run = Run::new(&["--forget-takes"]);
    let model = fs::read(run.model()).unwrap();
    let rows = run.manifest();
    for cell in rows[1..].iter().flat_map(|row| &row[..2]) {
        assert!(!model.windows(cell.len()).any(|bytes| bytes == cell.as_bytes()), "{cell}");
    }
    for part in ["test", "new"] {
        run.refuses("set", part, &["does not tell which takes", "--split all"]);
    }
    run.grades("set", "all", 24, &["these may be among them"]);
    let info = etude::model::read(run.model().as_ref()).unwrap().0;
    let trained_on = info.trained_on.unwrap();
    let seen = rows.len() - 1 - run.of("test").len();
    assert_eq!((trained_on.data.as_str(), trained_on.takes), ("set", seen));
    assert!(trained_on.performers < 12 && trained_on.performers > 0, "{trained_on:?}");
}

#[test]
fn a_fold_has_takes_of_its_own() {
    let run = Run::new(&["--folds", "3"]);
    let tested = fs::read_to_string(run.path("run/predictions.csv")).unwrap();
    let mut rows = run.manifest();
    let mut row = rows[1].clone();
    sharpen(&run.path("set").join(&row[0]), &run.path("set/new.txt"));
    (row[0], row[1]) = ("new.txt".into(), "0".into());
    rows.insert(1, row);
    run.write(&rows);
    let then: Value = serde_json::from_slice(&fs::read(run.path("run/metrics.json")).unwrap()).unwrap();
    let held = then["coverage"]["held"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&held), "{held} of the ratings are in intervals of the other folds");
    for fold in 1..=3 {
        let (model, set) = (run.at(&format!("run/fold-{fold}.safetensors")), run.at("set"));
        let (code, out, err) =
            etude(&["eval", "--device", "cpu", "--model", &model, "--data", &set, "--json"]);
        assert_eq!(code, 0, "{err}");
        let report: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(report["test"], then["folds"][fold - 1], "fold {fold}");
        let fold = fold.to_string();
        let of_fold = tested.lines().filter(|line| line.split(',').nth(6) == Some(&fold));
        assert_eq!(report["test"]["n"], of_fold.count());
    }
}
