//! `etude score` gives the grades that `etude eval` counts with, and goes on where a file is bad.

use crate::eval::{Run, etude, says, sharpen};
use serde_json::Value;
use std::fs;

fn score(run: &Run, args: &[&str]) -> (i32, String, String) {
    let model = run.model();
    let done = etude(&[&["score", "--device", "cpu", "--model", &model], args].concat());
    assert!(!done.2.contains("panicked"), "{}", done.2);
    done
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn grades_are_those_of_the_run_itself() {
    let run = Run::new(&[]);
    let rows = run.manifest();
    let place = |name: &str| rows[0].iter().position(|column| column == name).unwrap();
    // Without ratings, with the columns in another order, and with semicolons quoted.
    let mut text = "Reference;Melody;Path\n".to_string();
    for row in &rows[1..] {
        text += &format!("\"{}\";{};{}\n", row[place("reference")], row[place("melody")], row[0]);
    }
    fs::write(run.path("set/ungraded.csv"), text).unwrap();
    let manifest = run.at("set/ungraded.csv");
    let (code, out, err) = score(&run, &["--json", &manifest]);
    assert_eq!(code, 0, "{err}");
    let json = objects(&out);
    assert_eq!(json.len(), 24);
    let then = run.predictions();
    let threshold = etude::model::read(run.model().as_ref()).unwrap().0.threshold.unwrap();
    for (object, row) in json.iter().zip(&rows[1..]) {
        assert_eq!(object["id"], row[0].as_str());
        let [_, _, predicted] = then.iter().find(|[id, ..]| *id == row[0]).unwrap();
        let (now, then) = (object["grade"].as_f64().unwrap() as f32, predicted.parse::<f32>().unwrap());
        assert_eq!(now, then, "{}", row[0]);
        assert_eq!(object["pass"], now >= threshold);
        assert!(object["error"].is_null());
    }

    // One take by its file, with the references of its melody, in each form.
    let (row, set) = (&rows[1], |name: &str| run.at(&format!("set/{name}")));
    let mut args: Vec<String> = Vec::new();
    for name in row[place("reference")].split(';') {
        args.extend(["--reference".to_string(), set(name)]);
    }
    let take = set(&row[0]);
    args.push(take.clone());
    let run_with = |form: &[&str]| {
        let args: Vec<&str> = form.iter().copied().chain(args.iter().map(String::as_str)).collect();
        let (code, out, err) = score(&run, &args);
        assert_eq!(code, 0, "{err}");
        out
    };
    let grade = json[0]["grade"].as_f64().unwrap() as f32;
    let verdict = if grade >= threshold { "pass" } else { "fail" };
    // Four takes were tested: too few to say how far off it is.
    assert_eq!(run_with(&[]), format!("{take}\t{grade:.4}\t{verdict}\n"));
    let csv = format!("id,grade,low,high,pass,mark,error\n{take},{grade},,,{verdict},,\n");
    assert_eq!(run_with(&["--csv"]), csv);
    let object = &objects(&run_with(&["--json"]))[0];
    assert_eq!(object["grade"].as_f64().unwrap() as f32, grade);
    assert_eq!(object["id"], take.as_str());
    assert_eq!(run_with(&["--threads", "1"]), run_with(&["--threads", "2"]));
}

#[test]
fn a_bad_file_is_listed_and_the_rest_goes_on() {
    let run = Run::new(&[]);
    let rows = run.manifest();
    let reference = rows[0].iter().position(|column| column == "reference").unwrap();
    let reference = run.at(&format!("set/{}", rows[1][reference].split(';').next().unwrap()));
    let good = run.at(&format!("set/{}", rows[1][0]));
    fs::write(run.path("nan.txt"), "0.0 220\n0.01 x\n").unwrap();
    fs::write(run.path("unvoiced.txt"), "0.0 0\n0.01 0\n").unwrap();
    let (nan, unvoiced, none) = (run.at("nan.txt"), run.at("unvoiced.txt"), run.at("none.txt"));
    let takes = [&nan[..], &good, &unvoiced, &none, &good];
    let with = |form: &[&str]| score(&run, &[form, &["--reference", &reference], &takes].concat());
    let (code, out, err) = with(&[]);
    assert_eq!((code, out.lines().count()), (1, 2), "{out}{err}");
    says(&err, &["nan.txt:2", "unvoiced", "none.txt", "3 of 5 takes could not be graded"]);
    let (code, out, _) = with(&["--json"]);
    let json = objects(&out);
    assert_eq!((code, json.len()), (1, 5));
    assert!(json[0]["grade"].is_null() && json[0]["pass"].is_null());
    assert!(json[0]["error"].as_str().unwrap().contains("nan.txt:2"));
    assert_eq!(json[1], json[4]);
    let (code, out, _) = with(&["--csv"]);
    assert_eq!((code, out.lines().count()), (1, 6));
    says(out.lines().nth(4).unwrap(), &["none.txt,,,"]);

    // A manifest with a bad take, a bad reference and a melody without any.
    let manifest = format!(
        "path,reference\n{},{reference}\n{good},{reference}\n{good},{nan}\n{good},\n",
        run.at("nan.txt")
    );
    fs::write(run.path("some.csv"), manifest).unwrap();
    let (code, out, err) = score(&run, &["--json", &run.at("some.csv")]);
    let json = objects(&out);
    assert_eq!((code, json.len()), (1, 4), "{err}");
    assert!(json[1]["error"].is_null());
    says(json[2]["error"].as_str().unwrap(), &["nan.txt:2"]);
    says(json[3]["error"].as_str().unwrap(), &["no reference of its melody"]);
}

#[test]
fn references_are_asked_for_where_they_are_needed() {
    let run = Run::new(&[]);
    let take = run.at(&format!("set/{}", run.manifest()[1][0]));
    let (code, out, err) = score(&run, &[&take]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    says(&err, &["compares a take with references", "--reference FILE"]);
    let (code, out, err) = score(&run, &["--reference", &run.at("nowhere.txt"), &take]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    says(&err, &["nowhere.txt"]);
    let (code, out, err) = score(&run, &[&run.at("run")]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    says(&err, &["manifest.csv"]);
    assert_eq!(score(&run, &[]).0, 2);
    assert_eq!(score(&run, &["--json", "--csv", &take]).0, 2);

    // A model that is shown contours knows notes, but not what they cost; one that hears takes alone knows none.
    let contours = Run::new(&["--input", "contour-reference"]);
    let reference = run.at(&format!("set/{}", run.manifest()[2][0]));
    let (code, out, err) = score(&contours, &["--notes", "--json", "--reference", &reference, &take]);
    assert_eq!(code, 0, "{err}");
    let notes = &objects(&out)[0];
    assert!(notes["notes"].as_array().unwrap().iter().all(|note| note["cost"].is_null()), "{out}");
    assert_eq!(notes["spans"].as_array().unwrap().len(), 0);
    let alone = Run::new(&["--input", "contour"]);
    let (code, out, err) = score(&alone, &["--notes", &take]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    says(&err, &["hears a take alone", "--notes"]);
    sharpen(take.as_ref(), &alone.path("take.txt"));
    let (code, out, err) = score(&alone, &[&alone.at("take.txt")]);
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    says(&err, &["read as"]);
    let (_, again, err) = score(&alone, &["--reference", &take, &alone.at("take.txt")]);
    assert_eq!(again, out);
    says(&err, &["references are not read"]);
}
