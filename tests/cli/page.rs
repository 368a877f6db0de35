//! The page of a run: what is on it, what is left out, and that nothing foreign becomes part of it.

use crate::eval::{Run, etude};
use crate::graders::grade;
use std::fs;

const FOREIGN: &str = "<script>alert(1)</script>";

/// Figures by id, in their order.
pub fn figures(page: &str) -> Vec<&str> {
    page.split("<figure id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

fn train(run: &Run, out: &str, more: &[&str]) -> String {
    let (set, out_dir) = (run.at("set"), run.at(out));
    let args =
        ["train", "--device", "cpu", "--epochs", "2", "--seed", "3", "--data", &set, "--out", &out_dir];
    let (code, _, err) = etude(&[&args[..], more].concat());
    assert_eq!(code, 0, "{err}");
    fs::read_to_string(run.path(&format!("{out}/report.html"))).unwrap()
}

/// Changes the cells of a column, the header too.
fn change(run: &Run, column: &str, of: impl Fn(&str) -> String) {
    let mut rows = run.manifest();
    let at = rows[0].iter().position(|cell| cell == column).unwrap();
    rows.iter_mut().for_each(|row| row[at] = of(&row[at]));
    run.write(&rows);
}

/// What holds of every page.
pub fn is_sound(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    // Nothing runs, and nothing is fetched.
    for word in ["<script", "://", " src=", "<link", "@import", "url("] {
        let found = page.find(word);
        assert_eq!(
            found,
            None,
            "{word}: {:?}",
            found.map(|at| page[at..].chars().take(80).collect::<String>())
        );
    }
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "an id is there twice: {ids:?}");
    // Every colour of a drawing that is no value is the page's.
    for colour in ["#FFFFFF", "#000000", "#222222", "#5C5C5C", "#9A9A9A", "#E6E6E6", "#0072B2", "#D55E00"] {
        assert!(!page.contains(&format!("=\"{colour}\"")), "{colour}");
    }
    for (open, close) in [("<figure ", "</figure>"), ("<svg ", "</svg>"), ("<table ", "</table>")] {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }
    assert_eq!(page.matches("<svg ").count(), page.matches("role=\"img\" aria-label=\"").count());
    assert_eq!(page.matches("<table ").count(), page.matches("<caption ").count());
}

#[test]
fn a_page_shows_all_of_a_run_and_is_the_same_each_time() {
    let run = Run::new(&[]);
    grade(&run);
    change(&run, "melody", |cell| if cell == "m001" { FOREIGN.into() } else { cell.into() });
    let page = train(&run, "a", &["--folds", "2", "--threads", "1"]);
    is_sound(&page);
    let all = ["agreement", "scatter", "residuals", "confusion-pass", "confusion-grades", "curves"];
    let embeddings = ["pca-before", "pca-after", "tsne-before", "tsne-after"];
    assert_eq!(figures(&page), [&all[..], &embeddings].concat());
    for table in ["measures", "melodies", "folds", "settings", "machine"] {
        assert!(page.contains(&format!("<table id=\"{table}-table\">")), "{table}");
    }
    // As text, in the table of melodies.
    assert!(page.contains("<th scope=\"row\">&#60;script&#62;alert(1)&#60;/script&#62;</th>"));
    // What the command says comes to the same page, whatever the threads.
    let set = run.at("set");
    let options = [format!("--data={set}"), "--seed=3 --epochs=2 --folds=2 --device=cpu --out=again".into()];
    let command = format!("etude train {}", options.join(" ")).replace(" --", " \\\n  --");
    assert!(page.contains(&format!("<code>{command}</code></pre>")), "{command}");
    assert!(page == train(&run, "b", &["--folds", "2", "--threads", "2"]), "the same run, another page");
    // The numbers are those of the run.
    let metrics: serde_json::Value =
        serde_json::from_slice(&fs::read(run.path("a/metrics.json")).unwrap()).unwrap();
    let mae = metrics["test"]["mae"].as_f64().unwrap();
    assert!(page.contains(&format!("are off by {mae:.3} on average")), "{mae}");
    let held = 100.0 * metrics["coverage"]["held"].as_f64().unwrap();
    assert!(
        page.contains(&format!("90 % of the ratings, learned from the other folds, held {held:.0} %")),
        "{held}"
    );
}

#[test]
fn a_run_without_a_test_says_so() {
    let run = Run::new(&["--test-fraction", "0"]);
    is_sound(&fs::read_to_string(run.path("run/report.html")).unwrap());
    let (set, args) = (run.at("set"), ["train", "--device", "cpu", "--epochs", "1", "--test-fraction", "0"]);
    let (code, out, err) = etude(&[&args[..], &["--data", &set]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("Nothing was held out to test on ("), "{out}");
    assert!(out.ends_with("\n\nrecordings               0\n\n"), "{out}");
}

#[test]
fn what_a_run_has_not_got_is_left_out() {
    let run = Run::new(&[]);
    for column in ["melody", "reference", "pass"] {
        change(&run, column, |cell| cell.replace(column, &format!("no {column}")));
    }
    change(&run, "rating_overall", |cell| cell.replace("rating_overall", "rating_<b>&'"));
    let page = train(&run, "a", &["--input", "contour", "--criterion", "<b>&'", "--forget-takes"]);
    is_sound(&page);
    assert!(page.contains("\n  --forget-takes \\\n"), "a flag is typed as one");
    let all = ["scatter", "residuals", "confusion-quarters", "curves"];
    let embeddings = ["pca-before", "pca-after", "tsne-before", "tsne-after"];
    assert_eq!(figures(&page), [&all[..], &embeddings].concat());
    for table in ["melodies", "folds"] {
        assert!(!page.contains(&format!("{table}-table")), "{table}");
        assert!(!page.contains(&format!("#{table}")), "a link to {table}");
    }
    for word in ["graders themselves", "pass from fail", "mean over folds", "of the last of", "other folds"] {
        assert!(!page.contains(word), "{word}");
    }
    // Every option is told, but those that change nothing of what the run comes to.
    let (_, help, _) = etude(&["train", "--help"]);
    let options = help.lines().filter_map(|line| {
        line.trim().trim_start_matches("-h, ").trim_start_matches("-V, ").strip_prefix("--")
    });
    let options = options.map(|option| option.split([' ', '=']).next().unwrap());
    let silent = [
        "checkpoint-every",
        "profile",
        "tensorboard",
        "device",
        "threads",
        "json",
        "out",
        "overwrite",
        "resume",
        "help",
        "version",
    ];
    let mut told = 0;
    for option in options.filter(|option| !silent.contains(option)) {
        assert!(page.contains(&format!("<th scope=\"row\">{option}</th>")), "{option}");
        told += 1;
    }
    assert!(told > 30, "{told} options in the help");
    assert!(page.contains("<h1>Training report: &#60;b&#62;&#38;&#39;</h1>") && !page.contains("<b>"));
    assert!(page.contains("--criterion=&#39;&#60;b&#62;&#38;&#39;\\&#39;&#39;&#39;"));
}
