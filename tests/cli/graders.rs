//! Data that several graded: what is printed of them, and a network that is calibrated to their scale.

use crate::eval::{Run, etude};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// What three graders gave a take of this rating, on 1..4: a step up or down now and then, and no grade at times.
fn grades(row: usize, rating: f32) -> [Option<i32>; 3] {
    let grade = (1.0 + 3.0 * rating).round() as i32;
    [0, 1, 2].map(|grader| match (3 * row + grader) % 7 {
        0 => Some((grade + 1).min(4)),
        1 => Some((grade - 1).max(1)),
        2 if grader == 2 => None,
        _ => Some(grade),
    })
}

/// Adds the columns of three graders to the manifest; what two of them or more gave each take, by path.
pub fn grade(run: &Run) -> BTreeMap<String, i32> {
    let mut rows = run.manifest();
    let column = |name: &str| rows[0].iter().position(|cell| cell == name).unwrap();
    let (path, rating) = (column("path"), column("rating_overall"));
    rows[0].extend(["a", "b", "c"].map(|grader| format!("grade_{grader} (1..4)")));
    let mut labels = BTreeMap::new();
    for (i, row) in rows.iter_mut().enumerate().skip(1) {
        let given = grades(i, row[rating].parse().unwrap());
        row.extend(given.map(|grade| grade.map_or(String::new(), |grade| grade.to_string())));
        let most = given
            .into_iter()
            .flatten()
            .find(|grade| given.iter().filter(|g| **g == Some(*grade)).count() > 1);
        labels.extend(most.map(|grade| (row[path].clone(), grade)));
    }
    run.write(&rows);
    labels
}

fn report(out: &str) -> Value {
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

fn train(run: &Run, out: &str, more: &[&str]) -> (String, Value) {
    let (set, out) = (run.at("set"), run.at(out));
    let args = ["train", "--device", "cpu", "--epochs", "3", "--seed", "3", "--test-fraction", "0.5"];
    let args = [&args[..], &["--data", &set, "--out", &out, "--json"], more].concat();
    let (code, printed, err) = etude(&args);
    assert_eq!(code, 0, "{err}");
    (err, report(&printed))
}

#[test]
fn a_calibrated_network_gives_grades_on_the_graders_scale() {
    let run = Run::new(&[]);
    let labels = grade(&run);
    let (table, plain) = train(&run, "plain", &[]);
    for words in ["   graders   as grader\n", "\ngrade exact ", "\nKrippendorff α "] {
        assert!(table.contains(words), "{words:?} is not in {table}");
    }
    let note = format!("note: {} of 24 takes have a grade that most of their graders gave", labels.len());
    assert!(labels.len() < 24 && table.contains(&note), "{note:?} is not in {table}");
    assert!(run.path("plain/agreement.svg").exists());
    let (_, calibrated) = train(&run, "fit", &["--calibrate"]);
    // Ratings, and pass or fail, stay as they are.
    for key in ["n", "r2", "mae", "accuracy", "auc"] {
        assert_eq!(plain["test"][key], calibrated["test"][key], "{key}");
        assert!(!plain["test"][key].is_null(), "{key}");
    }
    assert_eq!(plain["graders"], calibrated["graders"]);
    assert_ne!(plain["test"]["grade_mae"], calibrated["test"]["grade_mae"]);
    let [a, b] = ["plain", "fit"].map(|out| fs::read(run.path(&format!("{out}/predictions.csv"))).unwrap());
    assert_eq!(a, b);

    // The record of the model is what eval and score go by.
    let model = run.at("fit/model.safetensors");
    let set = run.at("set");
    let (code, out, err) = etude(&["eval", "--device", "cpu", "--model", &model, "--data", &set, "--json"]);
    assert_eq!(code, 0, "{err}");
    let again = report(&out);
    assert_eq!([&again["test"], &again["as_grader"]], [&calibrated["test"], &calibrated["as_grader"]]);
    let marks = |form: &str, model: &str| {
        let (code, out, err) = etude(&["score", "--device", "cpu", form, "--model", model, &set]);
        assert_eq!(code, 0, "{err}");
        out
    };
    let predictions = fs::read_to_string(run.path("fit/predictions.csv")).unwrap();
    let tested: Vec<&str> =
        predictions.lines().filter(|l| l.contains(",test,")).map(|l| l.split(',').next().unwrap()).collect();
    let scored: BTreeMap<String, i64> = marks("--json", &model)
        .lines()
        .map(report)
        .map(|score| (score["id"].as_str().unwrap().into(), score["mark"].as_f64().unwrap() as i64))
        .collect();
    assert!(scored.values().all(|mark| (1..=4).contains(mark)), "{scored:?}");
    let labelled: Vec<&str> = tested.iter().copied().filter(|id| labels.contains_key(*id)).collect();
    let right = labelled.iter().filter(|id| scored[**id] == i64::from(labels[**id])).count();
    let share = right as f64 / labelled.len() as f64;
    assert!((calibrated["test"]["grade_accuracy"].as_f64().unwrap() - share).abs() < 1e-12, "{right}");
    let csv = marks("--csv", &model);
    let mark = scored.values().next().unwrap();
    assert!(csv.lines().nth(1).unwrap().ends_with(&format!(",{mark},")), "{csv}");
    let plain = run.at("plain/model.safetensors");
    assert!(!marks("--json", &plain).contains("mark"));
    assert!(marks("--csv", &plain).lines().skip(1).all(|row| row.ends_with(",,")));

    // Whatever was said of the takes that it is tested on, the network and its map are the same.
    let mut rows = run.manifest();
    for row in rows.iter_mut().filter(|row| tested.contains(&&*row[0])) {
        let grades = row.len() - 3..;
        row[grades].fill("4".into());
    }
    run.write(&rows);
    let (_, other) = train(&run, "other", &["--calibrate"]);
    assert_ne!(other["test"]["grade_mae"], calibrated["test"]["grade_mae"]);
    let [a, b] = ["fit", "other"].map(|out| fs::read(run.path(&format!("{out}/model.safetensors"))).unwrap());
    assert!(a == b, "the models differ");
}

#[test]
fn without_graders_there_is_nothing_to_calibrate_by() {
    let (code, out, err) = etude(&["train", "--epochs", "1", "--calibrate"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for words in ["does not say what each grader gave", "hint: --calibrate needs that"] {
        assert!(err.contains(words), "{words:?} is not in {err}");
    }
}
