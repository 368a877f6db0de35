//! `etude compare`: numbers that are the runs' own, the page, and what is refused.

use crate::eval::{Run, etude, says};
use crate::page::{figures, is_sound};
use serde_json::Value;
use std::fs;

/// Two runs in two folds, `run` and `other`, and what they left in `metrics.json`.
fn runs() -> (Run, [Value; 2]) {
    let run = Run::new(&["--folds", "2"]);
    let metrics =
        [run.metrics("run"), train(&run, "other", &["--folds", "2", "--protocol", "mse", "--epochs", "4"])];
    (run, metrics)
}

fn train(run: &Run, out: &str, more: &[&str]) -> Value {
    let (set, to) = (run.at("set"), run.at(out));
    let args = ["train", "--device", "cpu", "--seed", "3", "--data", &set, "--out", &to];
    let (code, _, err) = etude(&[&args[..], more].concat());
    assert_eq!(code, 0, "{err}");
    run.metrics(out)
}

fn compare(run: &Run, names: &[&str], more: &[&str]) -> (i32, String, String) {
    let paths: Vec<String> = names.iter().map(|name| run.at(name)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    etude(&[&["compare"], more, &paths].concat())
}

fn json(run: &Run, names: &[&str], more: &[&str]) -> Value {
    let (code, out, err) = compare(run, names, &[&["--json"], more].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

impl Run {
    fn metrics(&self, out: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(&format!("{out}/metrics.json"))).unwrap()).unwrap()
    }

    /// Changes the text of a file of a run.
    fn edit(&self, file: &str, of: impl Fn(&str) -> String) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        fs::write(self.path(file), of(&text)).unwrap();
    }
}

#[test]
fn folds_and_differences_are_the_runs_own() {
    let (run, metrics) = runs();
    let compared = json(&run, &["run", "other"], &[]);
    assert_eq!(compared["names"], serde_json::json!(["run", "other"]));
    assert_eq!((&compared["takes"], &compared["groups"]), (&24.into(), &12.into()));
    // What each run measured of itself, fold by fold, pass and fail too.
    for measure in ["r2", "pearson", "mae", "auc", "accuracy"] {
        let mut folds = [vec![], vec![]];
        for (r, metrics) in metrics.iter().enumerate() {
            for fold in 0..2 {
                let own = metrics["folds"][fold][measure].as_f64().unwrap();
                let told = compared["folds"][r][measure]["values"][fold].as_f64().unwrap();
                assert!((own - told).abs() < 1e-9, "{measure} of run {r}, fold {fold}: {told}, not {own}");
                folds[r].push(own);
            }
        }
        let difference = &compared["folds"][1][measure]["difference"];
        let of: Vec<f64> = (0..2).map(|fold| folds[1][fold] - folds[0][fold]).collect();
        let (mean, sd) = ((of[0] + of[1]) / 2.0, (of[0] - of[1]).abs() / 2f64.sqrt());
        let better = of.iter().filter(|d| if measure == "mae" { **d < 0.0 } else { **d > 0.0 }).count();
        assert!((difference["mean"].as_f64().unwrap() - mean).abs() < 1e-9, "{measure}");
        assert!((difference["sd"].as_f64().unwrap() - sd).abs() < 1e-9, "{measure}");
        assert_eq!(difference["better"], better, "{measure}");
        assert!(compared["folds"][0][measure]["difference"].is_null(), "{measure}");
    }
    // All folds together, and an interval around their difference.
    let value = |r: usize| compared["runs"][r]["r2"]["mean"].as_f64().unwrap();
    let interval =
        ["low", "mean", "high"].map(|key| compared["runs"][1]["r2"]["difference"][key].as_f64().unwrap());
    assert!((interval[1] - (value(1) - value(0))).abs() < 1e-12, "{interval:?}");
    assert!(
        interval[0] <= interval[1] && interval[1] <= interval[2] && interval[0] < interval[2],
        "{interval:?}"
    );
    assert!(
        compared["runs"][0]["r2"]["difference"].is_null()
            && compared["runs"][0]["neighbours"]["mean"].is_null()
    );
    // Takes in the order of how much nearer one run is, with what both predicted.
    let spread = |take: &Value| {
        let off =
            |r: usize| (take["predictions"][r].as_f64().unwrap() - take["rating"].as_f64().unwrap()).abs();
        (off(0) - off(1)).abs()
    };
    let moved: Vec<f64> = compared["moved"].as_array().unwrap().iter().map(spread).collect();
    assert!(moved.len() == 20 && moved.windows(2).all(|pair| pair[0] >= pair[1] - 1e-6), "{moved:?}");
    // Melodies are drawn likewise; the other way round, differences turn.
    assert!(json(&run, &["run", "other"], &["--by", "melody"])["groups"].as_u64().unwrap() > 1);
    let turned = json(&run, &["other", "run"], &[]);
    let back = turned["runs"][1]["r2"]["difference"]["low"].as_f64().unwrap();
    assert!((back + interval[2]).abs() < 1e-12);
}

#[test]
fn a_page_and_a_table_lie_in_a_directory_of_their_own() {
    let (run, _) = runs();
    train(&run, "a <b> & c", &["--folds", "3", "--epochs", "1"]);
    let out = run.at("beside");
    let names = ["run", "other", "a <b> & c"];
    let (code, text, err) = compare(&run, &names, &["--out", &out]);
    assert_eq!(code, 0, "{err}");
    says(&err, &["wrote", "report.html"]);
    says(
        &text,
        &["24 takes that every run tested, 12 performers", "R² fold by fold", "better in", "2000 draws"],
    );
    // The third has other folds: it has no row there.
    assert_eq!(text.matches("a <b> & c").count(), 1, "{text}");
    let html = fs::read_to_string(run.path("beside/report.html")).unwrap();
    is_sound(&html);
    assert_eq!(figures(&html), ["all-runs", "run-2", "run-3"]);
    assert!(html.contains("<th scope=\"col\" class=\"number\">a &#60;b&#62; &#38; c</th>"));
    for table in ["measures-table", "folds-r2", "folds-mae", "takes-table", "runs-table"] {
        assert_eq!(html.matches(&format!("<table id=\"{table}\">")).count(), 1, "{table}");
    }
    let csv = fs::read_to_string(run.path("beside/comparison.csv")).unwrap();
    // R², r, MAE, AUC, pass/fail, order, calibration of three runs.
    assert_eq!(csv.lines().count(), 1 + 3 * 7, "{csv}");

    let (code, _, err) = compare(&run, &names, &["--out", &out]);
    assert_eq!(code, 1);
    says(&err, &["holds a page: comparison.csv, report.html", "--overwrite"]);
    assert_eq!(compare(&run, &names[..2], &["--out", &out, "--overwrite"]).0, 0);
    let (code, _, err) = compare(&run, &names, &["--out", &run.at("run"), "--overwrite"]);
    assert_eq!(code, 1);
    says(&err, &["holds a run of training"]);
}

#[test]
fn runs_that_cannot_be_compared_are_named() {
    let (run, _) = runs();
    let refused = |names: &[&str], more: &[&str], words: &[&str]| {
        let (code, out, err) = compare(&run, names, more);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(!err.contains("panicked"), "{err}");
        says(&err, words);
    };
    let (code, _, err) = compare(&run, &["run"], &[]);
    assert_eq!(code, 2, "{err}");
    refused(&["run", "run"], &[], &["named twice"]);
    refused(&["run", "none"], &[], &["none", "is not there", "hint: RUN is what `etude train --out` left"]);
    refused(&["run", "set/manifest.csv"], &[], &["manifest.csv", "is a file"]);
    refused(&["run", "set"], &[], &["set", "metrics.json is missing"]);
    fs::create_dir(run.path("cut")).unwrap();
    fs::write(run.path("cut/checkpoint.safetensors"), "").unwrap();
    refused(&["run", "cut"], &[], &["cut short", "--resume"]);

    // Takes in common: some, or none.
    let held_out = train(&run, "held-out", &["--epochs", "1"]);
    let tested = held_out["test"]["n"].as_u64().unwrap();
    let (_, text, err) = compare(&run, &["run", "held-out"], &[]);
    says(&text, &[&format!("{tested} takes that every run tested")]);
    says(&err, &[&format!("note: run tested 24 takes, {tested} of which every run tested")]);
    assert!(!text.contains("fold by fold"), "{text}");
    run.synth("new", "9");
    let path = run.at("new");
    let renamed =
        ["train", "--device", "cpu", "--epochs", "1", "--data", &path, "--out", &run.at("elsewhere")];
    assert_eq!(etude(&renamed).0, 0);
    run.edit("elsewhere/predictions.csv", |text| text.replace("take", "other"));
    refused(&["run", "elsewhere"], &[], &["elsewhere", "none of the takes"]);

    // Rows that say what no run says.
    let whole = fs::read_to_string(run.path("other/predictions.csv")).unwrap();
    let second = whole.lines().nth(2).unwrap();
    let damaged = |with: String, words: &[&str]| {
        run.edit("other/predictions.csv", |_| with.clone());
        refused(&["run", "other"], &[], words);
        run.edit("other/predictions.csv", |_| whole.clone());
    };
    let cells: Vec<&str> = second.split(',').collect();
    let row = |place: usize, cell: &str| {
        let mut cells = cells.clone();
        cells[place] = cell;
        whole.replacen(second, &cells.join(","), 1)
    };
    damaged(row(3, "0.12345"), &["is rated 0.12345 here", "overall"]);
    damaged(row(4, "NaN"), &["predictions.csv:3", "no number"]);
    damaged(row(4, "high"), &["predictions.csv:3", "no table of predictions"]);
    damaged(format!("{whole}{second}\n"), &["predictions.csv:26", "was tested twice"]);
    damaged(whole.replace(",test,", ",train,"), &["no take that was tested"]);
    damaged("id,rating\na,1\n".into(), &["predictions.csv:2", "no table of predictions"]);
    run.edit("other/metrics.json", |text| text.replacen("{", "{\n!", 1));
    refused(&["run", "other"], &[], &["metrics.json:2", "no report of a run"]);
}

#[test]
fn a_run_of_before_is_compared_in_what_it_tells() {
    let (run, _) = runs();
    // Without the columns that came later.
    run.edit("other/predictions.csv", |text| {
        text.lines().map(|line| line.split(',').take(7).collect::<Vec<_>>().join(",") + "\n").collect()
    });
    let compared = json(&run, &["run", "other"], &[]);
    let of = |r: usize, measure: &str| compared["runs"][r][measure]["mean"].clone();
    assert!(of(0, "accuracy").is_f64() && of(1, "accuracy").is_null() && of(1, "r2").is_f64());
    let (code, _, err) = compare(&run, &["other", "run"], &["--by", "melody"]);
    assert_eq!(code, 1);
    says(&err, &["do not name the melody", "performers"]);
}
