//! One network for several criteria: what each take lacks counts for nothing, and every command tells each.

use crate::eval::{Run, etude, says};
use serde_json::Value;
use std::fs;

const CRITERIA: [&str; 3] = ["rhythm", "overall", "pitch"];

/// Options that name them.
fn options() -> Vec<&'static str> {
    CRITERIA.into_iter().flat_map(|name| ["--criterion", name]).collect()
}

/// A set in which every third take lacks its pitch rating, and a run in two folds of it.
fn run() -> Run {
    let run = Run::new(&[]);
    let mut rows = run.manifest();
    let place = column(&rows, "rating_pitch");
    rows.iter_mut().skip(1).step_by(3).for_each(|row| row[place].clear());
    run.write(&rows);
    train(&run, "many", &[&options()[..], &["--folds", "2"]].concat());
    run
}

fn column(rows: &[Vec<String>], name: &str) -> usize {
    rows[0].iter().position(|cell| cell == name).unwrap()
}

fn train(run: &Run, out: &str, more: &[&str]) -> Value {
    let (set, to) = (run.at("set"), run.at(out));
    let args = ["train", "--device", "cpu", "--epochs", "2", "--seed", "3", "--data", &set, "--out", &to];
    let (code, _, err) = etude(&[&args[..], more].concat());
    assert_eq!(code, 0, "{err}");
    json(&fs::read_to_string(run.path(&format!("{out}/metrics.json"))).unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The rows of a CSV file that has no quotes.
fn table(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn each_is_measured_on_the_takes_that_were_rated_by_it() {
    let run = run();
    let metrics = json(&fs::read_to_string(run.path("many/metrics.json")).unwrap());
    assert_eq!(
        (&metrics["criterion"], &metrics["protocol"]),
        (&"rhythm, overall, pitch".into(), &"mse".into())
    );
    let listed = table(&fs::read_to_string(run.path("many/predictions.csv")).unwrap());
    let of = |row: &[String], name: &str| row[column(&listed, name)].clone();
    let number = |row: &[String], name: &str| of(row, name).parse::<f64>().unwrap();
    let rows = |criterion: &str| -> Vec<&Vec<String>> {
        listed[1..].iter().filter(|row| of(row, "criterion") == criterion).collect()
    };
    let manifest = run.manifest();
    for (place, name) in CRITERIA.into_iter().enumerate() {
        let (own, told) = (rows(name), &metrics["criteria"][place]);
        assert_eq!((told["name"].as_str(), own.len()), (Some(name), if name == "pitch" { 16 } else { 24 }));
        // The mean over folds of the mean absolute error, as told.
        let of_fold = |fold: &str| {
            let off = own.iter().filter(|row| of(row, "fold") == fold);
            mean(
                &off.map(|row| (number(row, "rating") - number(row, "prediction")).abs()).collect::<Vec<_>>(),
            )
        };
        let mae = told["test"]["mae"].as_f64().unwrap();
        assert!((mae - (of_fold("1") + of_fold("2")) / 2.0).abs() < 1e-6, "{name}: {mae}");
        // What the data says.
        let rated = column(&manifest, &format!("rating_{name}"));
        for row in own {
            let take = manifest.iter().find(|take| take[0] == row[0]).unwrap();
            assert!((take[rated].parse::<f64>().unwrap() - number(row, "rating")).abs() < 1e-6, "{row:?}");
        }
    }
    // As a whole a take is the mean of what it was rated by, and its prediction that of the same.
    for whole in rows("") {
        let parts: Vec<&Vec<String>> =
            listed[1..].iter().filter(|row| row[0] == whole[0] && !of(row, "criterion").is_empty()).collect();
        assert!(parts.len() == 2 || parts.len() == 3);
        for value in ["rating", "prediction"] {
            let parts: Vec<f64> = parts.iter().map(|row| number(row, value)).collect();
            assert!((mean(&parts) - number(whole, value)).abs() < 1e-6, "{whole:?}: {parts:?}");
        }
    }
    let page = fs::read_to_string(run.path("many/report.html")).unwrap();
    crate::page::is_sound(&page);
    assert!(
        page.contains("<table id=\"criteria-table\">")
            && page.contains("the ratings “rhythm, overall, pitch”")
    );
    assert!(page.contains("--criterion=rhythm \\\n  --criterion=overall \\\n  --criterion=pitch"));

    // The model tells the same again, and knows a take of which one rating has changed.
    let eval = |model: &str| {
        let (model, set) = (run.at(model), run.at("set"));
        etude(&["eval", "--device", "cpu", "--model", &model, "--data", &set, "--json"])
    };
    let (code, out, err) = eval("many/fold-1.safetensors");
    assert_eq!(code, 0, "{err}");
    let again = json(out.lines().last().unwrap());
    assert_eq!(again["test"], metrics["folds"][0]);
    assert_eq!(again["criteria"].as_array().unwrap().len(), 3);
    says(&err, &["criterion", "rhythm", "pitch"]);
    let tested = rows("").into_iter().find(|row| of(row, "fold") == "1").unwrap()[0].clone();
    let mut changed = manifest.clone();
    let take = changed.iter().position(|row| row[0] == tested).unwrap();
    changed[take][column(&manifest, "rating_rhythm")] = "0.123".into();
    run.write(&changed);
    let (code, _, err) = eval("many/fold-1.safetensors");
    assert_eq!(code, 1);
    says(&err, &["1 changed", "rating"]);
}

#[test]
fn a_take_gets_a_grade_by_each() {
    let run = run();
    let rows = run.manifest();
    let take = run.at(&format!("set/{}", rows[1][0]));
    let references = &rows[1][column(&rows, "reference")];
    let reference = run.at(&format!("set/{}", references.split(';').next().unwrap()));
    let (model, broken, page) = (run.at("many/fold-2.safetensors"), run.at("broken.txt"), run.at("page"));
    fs::write(&broken, "no f0\n").unwrap();
    let score = |more: &[&str]| {
        let args = ["score", "--device", "cpu", "--model", &model, "--reference", &reference];
        etude(&[&args[..], more, &[&take, &broken]].concat())
    };
    let (code, out, err) = score(&["--json", "--out", &page]);
    assert_eq!(code, 1, "one cannot be read: {err}");
    let told = json(out.lines().next().unwrap());
    let grades: Vec<f64> =
        told["criteria"].as_array().unwrap().iter().map(|by| by["grade"].as_f64().unwrap()).collect();
    assert!((mean(&grades) - told["grade"].as_f64().unwrap()).abs() < 1e-6, "{told}");
    assert_eq!(told["criteria"][2]["name"], "pitch");
    let html = fs::read_to_string(run.path("page/report.html")).unwrap();
    says(&html, &["It is the mean of: rhythm ", "predicts the ratings “rhythm, overall, pitch”"]);

    let (_, out, _) = score(&["--csv"]);
    let csv = table(&out);
    assert!(
        csv[0]
            .join(",")
            .starts_with("id,grade,low,high,pass,mark,error,rhythm,rhythm low,rhythm high,overall,")
    );
    assert_eq!([csv[0].len(), csv[1].len()], [16; 2], "{out}");
    // One that has no grade has the same columns.
    assert!(out.trim_end().ends_with("\",,,,,,,,,"), "{out}");
    assert!((csv[1][13].parse::<f64>().unwrap() - grades[2]).abs() < 1e-6, "{out}");
    let (_, out, _) = score(&[]);
    says(&out, &["\trhythm 0.", "\toverall 0.", "\tpitch 0."]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let run = Run::new(&[]);
    let set = run.at("set");
    let refused = |more: &[&str], words: &[&str]| {
        let (code, _, err) = etude(&[&["train", "--device", "cpu", "--data", &set][..], more].concat());
        assert_eq!(code, 1, "{err}");
        says(&err, words);
    };
    refused(&["--criterion", "pitch", "--criterion", "pitch"], &["\"pitch\" is named twice"]);
    refused(&["--criterion", "pitch", "--criterion", "tone"], &["\"tone\"", "overall, pitch, rhythm"]);
    refused(&[&options()[..], &["--degraded", "1"]].concat(), &["--degraded", "--criterion"]);
    // The contrastive loss is there where it is asked for.
    let joint = train(&run, "joint", &[&options()[..], &["--protocol", "joint"]].concat());
    assert_eq!(joint["protocol"], "joint");
    // A model of one criterion does not change.
    let one = fs::read(run.model()).unwrap();
    assert!(!String::from_utf8_lossy(&one).contains("criteria"));
}
