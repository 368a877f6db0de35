//! Studies: what is trained, that nothing is trained twice, and what is refused.

use crate::eval::{Run, etude, says};
use crate::graders::grade;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Three arms in one table, and two of them, written otherwise, in another.
const STUDY: &str = r#"
seeds = [3, 5]
folds = 2
with = { epochs = 2, input = "contour" }

[[table]]
title = "Loss"
arms = [
  { protocol = "mse" },
  { protocol = "joint", lambda = [0.5, 2] },
]

[[table]]
title = "Again"
with = { batch = [64, 8] }
arms = [
  { protocol = "mse", lambda = [0.1, 7] },
  { protocol = "joint", lambda = 2.0, bins = 5 },
]
"#;

/// A study of the set in `run`, with more arguments.
fn study(run: &Run, out: &str, more: &[&str]) -> (i32, String, String) {
    let (file, set, out) = (run.at("study.toml"), run.at("set"), run.at(out));
    etude(&[&["study", &file, "--data", &set, "--out", &out], more].concat())
}

fn new(text: &str) -> Run {
    let run = Run::new(&[]);
    fs::write(run.path("study.toml"), text).unwrap();
    run
}

/// The lines of a file of records.
fn records(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tables, as they were written.
fn tables(run: &Run, out: &str) -> [Vec<u8>; 4] {
    ["study.md", "study.csv", "table-1.svg", "table-2.svg"]
        .map(|name| fs::read(run.path(out).join(name)).unwrap())
}

#[test]
fn every_arm_is_trained_once_as_train_trains_it() {
    let run = new(STUDY);
    let (code, text, err) = study(&run, "study", &[]);
    assert_eq!(code, 0, "{err}");
    // With batches of 64: the three of the first table, of which the second has two. With batches of 8: two more.
    says(&err, &["5 arms, 2 seeds, 2 folds; 24 takes", "wrote ", "study.md"]);
    says(&text, &["Loss\n", "Again: batch 64\n", "Again: batch 8\n", "joint, lambda 0.5", "R²  "]);
    let lines = records(&run.path("study/runs.jsonl"));
    assert_eq!(lines.len(), 1 + 5 * 2 * 2);
    let mse = |line: &&Value| line["arm"] == r#"epochs 2, input "contour", protocol "mse""#;
    let mut studied = BTreeMap::new();
    for line in lines.iter().skip(1).filter(mse).filter(|line| line["seed"] == 5) {
        for (take, made) in
            line["takes"].as_array().unwrap().iter().zip(line["predictions"].as_array().unwrap())
        {
            studied.insert(take.as_u64().unwrap(), made.as_f64().unwrap() as f32);
        }
    }
    let (set, out) = (run.at("set"), run.at("trained"));
    let args =
        ["train", "--device", "cpu", "--epochs", "2", "--input", "contour", "--folds", "2", "--seed", "5"];
    let (code, _, err) = etude(&[&args[..], &["--data", &set, "--out", &out]].concat());
    assert_eq!(code, 0, "{err}");
    let text = fs::read_to_string(run.path("trained/predictions.csv")).unwrap();
    let trained: BTreeMap<String, f32> = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|cells| (cells[0].to_string(), cells[4].parse().unwrap()))
        .collect();
    // By id, as the takes of a manifest are.
    assert_eq!(trained.len(), 24);
    assert_eq!(studied.into_values().collect::<Vec<_>>(), trained.into_values().collect::<Vec<_>>());
}

#[test]
fn shares_make_one_study_and_what_is_there_is_not_made_again() {
    let run = new(STUDY);
    assert_eq!(study(&run, "whole", &["--threads", "1"]).0, 0);
    for share in ["1/3", "2/3", "3/3"] {
        let (code, out, err) = study(&run, share.split('/').next().unwrap(), &["--shard", share]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        says(&err, &[&format!("share {share} is done"), "without --shard makes the tables"]);
    }
    fs::create_dir(run.path("merged")).unwrap();
    for i in ["1", "2"] {
        let name = format!("runs-{i}-of-3.jsonl");
        fs::copy(run.path(i).join(&name), run.path("merged").join(&name)).unwrap();
    }
    // One was cut short in the middle of a line, the third is not there at all.
    let cut = run.path("merged/runs-2-of-3.jsonl");
    let text = fs::read(&cut).unwrap();
    fs::write(&cut, &text[..text.len() - 40]).unwrap();
    let (code, _, err) = study(&run, "merged", &[]);
    assert_eq!(code, 0, "{err}");
    says(&err, &["13 of 20 runs were made before"]);
    assert_eq!(tables(&run, "merged"), tables(&run, "whole"));
    let (code, out, err) = study(&run, "merged", &["--json"]);
    assert_eq!(code, 0, "{err}");
    says(&err, &["20 of 20 runs were made before"]);
    let json: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(json["tables"].as_array().unwrap().len(), 3);
    let row = &json["tables"][0]["rows"][1];
    assert_eq!(row["arm"], "joint, lambda 0.5");
    assert!(row["measures"]["r2"]["difference"]["low"].is_f64(), "{row}");
    // There may be more shares than runs.
    let (code, _, err) = study(&run, "spare", &["--shard", "21/21"]);
    assert_eq!(code, 0, "{err}");
    says(&err, &["share 21/21 is done, 0 runs"]);
    // A share goes on behind its last whole line.
    fs::write(run.path("2/runs-2-of-3.jsonl"), &text[..text.len() - 40]).unwrap();
    let (code, _, err) = study(&run, "2", &["--shard", "2/3"]);
    assert_eq!(code, 0, "{err}");
    says(&err, &["6 of 7 runs were made before"]);
    assert_eq!(records(&run.path("2/runs-2-of-3.jsonl")).len(), 8);
}

#[test]
fn a_run_that_fails_is_named_and_the_others_go_on() {
    let run = new(&STUDY.replace("lambda = [0.5, 2]", "lr = [0.001, 1e30], optimizer = \"sgd\""));
    let (code, _, err) = study(&run, "study", &[]);
    assert_eq!(code, 1, "{err}");
    says(
        &err,
        &[
            "error: 4 of 24 runs failed",
            "failed: Loss: joint, lr 1e30, sgd: 4 runs, the first seed 3, fold 1: the",
            "the same command goes on",
        ],
    );
    assert_eq!(records(&run.path("study/runs.jsonl")).len(), 1 + 20);
    assert!(!run.path("study/study.md").exists());
}

#[test]
fn files_say_where_they_are_wrong() {
    let run = new("");
    for (from, to, words) in [
        (
            "\"joint\"",
            "\"joit\"",
            "study.toml:10: invalid value 'joit' for '--protocol <PROTOCOL>' [possible values: mse, two-phase",
        ),
        (
            "lambda = [",
            "lamda = [",
            "study.toml:10: unexpected argument '--lamda' found; tip: a similar argument exists: '--lambda'",
        ),
        ("lambda = [0.5, 2]", "lambda = []", "study.toml:10: lambda: an empty list"),
        (
            "lambda = [0.5, 2]",
            "margin = MANY, lambda = MANY",
            "study.toml:10: lambda: makes more than 1000 combinations",
        ),
        ("lambda = [0.5, 2]", "lambda = [[1]]", "study.toml:10: \"lambda\": expected text, a number"),
        (
            "lambda = [0.5, 2]",
            "lambda = -1",
            "study.toml:10: weight of the contrastive loss -1: expected a number 0 or more",
        ),
        ("lambda = [0.5, 2]", "split-by = \"melody\"", "study.toml:10: split-by and criterion are the same"),
        ("lambda = [0.5, 2]", "criterion = \"pitch\"", "study.toml:10: split-by and criterion are the same"),
        (
            "lambda = [0.5, 2]",
            "net = \"paper\", input = \"notes\"",
            "study.toml:10: --net: input notes has a note head",
        ),
        ("lambda = [0.5, 2]", "seed = 1", "study.toml:10: seed: is no setting of an arm"),
        ("lambda = [0.5, 2]", "labels = 1", "study.toml:10: invalid value '1' for '--labels"),
        ("seeds = [3, 5]", "", "missing field `seeds`"),
        ("seeds = [3, 5]", "seeds = []", "study.toml: 0 seeds: expected 1 to 100"),
        ("seeds = [3, 5]", "seeds = [3, 3]", "a seed stands there twice"),
        ("seeds = [3, 5]", "seeds = [-1]", "study.toml:2: invalid value"),
        ("folds = 2", "folds = 1", "study.toml:3: folds: expected 2 or more"),
        ("folds = 2", "fold = 2", "study.toml:3: unknown field `fold`"),
        ("title = \"Again\"\n", "", "study.toml:13: missing field `title`"),
        ("[[table]]\ntitle = \"Loss\"", "[table]\ntitle = \"Loss\"", "study.toml:"),
    ] {
        assert!(STUDY.contains(from), "{from}");
        let text =
            STUDY.replacen(from, to, 1).replace("MANY", &format!("{:?}", (1..=32).collect::<Vec<_>>()));
        fs::write(run.path("study.toml"), text).unwrap();
        let (code, _, err) = study(&run, "study", &[]);
        assert_eq!(code, 1, "{to}: {err}");
        says(&err, &[words]);
        assert!(!run.path("study").exists(), "{to}");
    }
    // What the data does not have.
    for (from, to, words, arm) in [
        (
            "lambda = [0.5, 2]",
            "one-pass = true",
            "the data does not say what each grading pass gave a take",
            "joint",
        ),
        ("epochs = 2", "criterion = \"poise\"", "criterion \"poise\": the data has", "mse"),
    ] {
        fs::write(run.path("study.toml"), STUDY.replacen(from, to, 1)).unwrap();
        let (code, _, err) = study(&run, "refused", &[]);
        assert_eq!(code, 1, "{to}: {err}");
        assert!(!run.path("refused").exists(), "{to}: nothing was begun");
        says(&err, &[words, &format!("hint: that is the arm \"Loss: {arm}")]);
    }
    // What is in the way.
    fs::write(run.path("study.toml"), STUDY).unwrap();
    for (out, words) in [
        ("set", "and no records of a study; name a new or empty directory"),
        ("study.toml", "is a file; name"),
    ] {
        let (code, _, err) = study(&run, out, &[]);
        assert_eq!(code, 1, "{err}");
        says(&err, &[words]);
    }
    for share in ["0/3", "4/3", "3", "a/b", "1/0"] {
        let (code, _, err) = study(&run, "study", &["--shard", share]);
        assert_eq!(code, 2, "{err}");
        says(&err, &["such as 1/4 for the first of four shares"]);
    }
}

#[test]
fn few_labels_and_those_of_one_pass_are_what_is_learned_from() {
    let arms = "{ epochs = 2 }, { labels = [6, 11, 99] }, { one-pass = true }";
    let run = new(&format!(
        "seeds = [1]\nfolds = 2\n[[table]]\ntitle = \"Labels\"\nwith = {{ epochs = 2 }}\narms = [{arms}]"
    ));
    grade(&run);
    let (code, text, err) = study(&run, "study", &[]);
    assert_eq!(code, 0, "{err}");
    says(&text, &["epochs 2", "labels 6", "labels 99", "one-pass"]);
    let mut made: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in records(&run.path("study/runs.jsonl")).into_iter().skip(1) {
        // All are tested on the same takes.
        assert_eq!(line["takes"].as_array().unwrap().len(), 12, "{line}");
        made.entry(line["arm"].to_string()).or_default().push(line["predictions"].clone());
    }
    assert_eq!(made.len(), 5);
    let usual = &made[r#""epochs 2""#];
    for (arm, predictions) in &made {
        // More labels than there are take them all.
        let same = arm.as_str() == r#""epochs 2""# || arm.contains("labels 99");
        assert_eq!(predictions == usual, same, "{arm}");
    }
}

#[test]
fn records_of_other_data_are_refused() {
    let run = new(STUDY);
    assert_eq!(study(&run, "study", &["--shard", "1/20"]).0, 0);
    let path = run.path("study/runs-1-of-20.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let refused = |words: &str| {
        let (code, _, err) = study(&run, "study", &["--shard", "2/20"]);
        assert_eq!(code, 1, "{err}");
        says(&err, &["runs-1-of-20.jsonl", words]);
    };
    for (from, to, words) in [
        ("\"folds\":2", "\"folds\":3", "holds runs of 3 folds, the study has 2; name another directory"),
        ("\"format\":1", "\"format\":9", "holds runs of format 9"),
        ("\"usual\":\"", "\"usual\":\"x", "holds runs of an etude whose usual options are others"),
        ("\"version\":\"", "\"version\":\"9", "holds runs of etude 9"),
        ("\"takes\":[", "\"takes\":[24,", ":2: a run that does not fit the data: remove the line"),
        ("\"predictions\":[", "\"predictions\":[null,", ":2: "),
        ("\"seconds\":", "\"second\":", ":2: missing field `seconds`"),
        ("\"fold\":1", "\"fold\":\"x\"", ":2: invalid type"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        refused(words);
    }
    let mut line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    line["neighbours"][3] = 1e39.into();
    fs::write(&path, text.lines().next().unwrap().to_string() + "\n" + &line.to_string() + "\n").unwrap();
    refused(":2: ");
    fs::write(&path, &text).unwrap();
    let mut rows = run.manifest();
    let rating = rows[0].iter().position(|cell| cell == "rating_overall").unwrap();
    rows[1][rating] = "0.123".into();
    run.write(&rows);
    refused("holds runs of other data, or data that has changed");
}
