//! Metrics against scikit-learn and scipy (values made by `tests/golden/sklearn/make.py`).
use etude::report::metrics::{Metric, Metrics};
use etude::report::run::RunReport;
use etude::report::scores::{accuracy, best_threshold};
use serde_json::Value;

#[test]
fn agrees_with_scikit_learn() {
    let cases: Value = serde_json::from_str(include_str!("../golden/sklearn/metrics.json")).unwrap();
    for c in cases.as_array().unwrap() {
        let f = |k: &str| -> Vec<f32> {
            c[k].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let q: Vec<bool> = c["q"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        let b: Vec<usize> = c["b"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let (y, p, z) = (f("y"), f("p"), f("z"));
        let m = Metrics::new(&p, &y).with_pass(&p, &q, best_threshold(&p, &q)).with_embedding(&z, &b);
        let among = |metric: &&Metric| !metric.on_scale && !metric.name.starts_with("accuracy");
        for metric in Metrics::TABLE.iter().filter(among) {
            let (name, got) = (metric.name, (metric.value)(&m));
            let want = c[name].as_f64().unwrap();
            assert!((got.unwrap() - want).abs() < 1e-9, "{name}: {got:?}, want {want}");
        }
    }
}

#[test]
fn undefined_is_none() {
    let same = [0.3f32; 7];
    let m = Metrics::new(&same, &same).with_pass(&same, &[true; 7], 0.5).with_embedding(&same, &[1; 7]);
    assert_eq!((m.r2, m.pearson, m.spearman, m.auc), (None, None, None, None));
    assert_eq!((m.silhouette, m.davies_bouldin), (None, None));
    assert_eq!(Metrics::new(&[], &[]), Metrics::default());
    assert_eq!(Metrics::new(&[f32::NAN], &[0.5]).mae, None);
}

#[test]
fn a_threshold_is_chosen_between_predictions() {
    // Balanced accuracy is 1 anywhere in (0.2, 0.6): the middle is taken.
    assert!((best_threshold(&[0.6, 0.1, 0.2], &[true, false, false]) - 0.4).abs() < 1e-7);
    // Two thresholds misjudge one recording each: the lower one wins.
    let (p, pass) = ([0.1, 0.2, 0.3, 0.4], [false, true, false, true]);
    assert!((best_threshold(&p, &pass) - 0.15).abs() < 1e-7);
    // Ties cannot be parted: all pass.
    let tied = best_threshold(&[0.5; 4], &[true, false, true, false]);
    assert_eq!(accuracy(&[0.5; 4], &[true; 4], tied), Some(1.0));
    // Neighbouring floats: the lower one must fail, the upper one pass.
    let (lo, hi) = (0.5f32, 0.5f32.next_up());
    let t = best_threshold(&[lo, hi], &[false, true]);
    assert_eq!(accuracy(&[lo, hi], &[false, true], t), Some(1.0));
    // Balanced: of one fail among nine passes, the fail weighs as much as all the passes.
    let p: Vec<f32> = (0..10).map(|i| i as f32 / 10.0).collect();
    let pass: Vec<bool> = (0..10).map(|i| i != 3).collect();
    assert!((best_threshold(&p, &pass) - 0.35).abs() < 1e-6);
    assert_eq!(best_threshold(&[], &[]), 0.5);
    assert_eq!(best_threshold(&[0.1, f32::NAN], &[false, true]), 0.5);
    assert_eq!(best_threshold(&[0.1], &[false, true]), 0.5);
}

#[test]
fn folds_are_averaged_over_those_that_have_a_metric() {
    let fold = |n, r2, auc| Metrics { n, r2, auc, ..Metrics::default() };
    let (mean, sd) = Metrics::mean_sd(&[
        fold(3, Some(0.1), None),
        fold(4, Some(0.3), Some(0.9)),
        fold(6, Some(0.8), None),
    ]);
    assert_eq!((mean.n, sd.n), (4, 2)); // 13/3, and √(7/3) = 1.53 rounded
    assert!((mean.r2.unwrap() - 0.4).abs() < 1e-12);
    assert!((sd.r2.unwrap() - 0.13f64.sqrt()).abs() < 1e-12); // (0.09 + 0.01 + 0.16) / 2
    assert_eq!((mean.auc, sd.auc), (Some(0.9), None));
    assert_eq!((mean.mae, sd.mae), (None, None));
    assert_eq!(Metrics::mean_sd(&[]), (Metrics::default(), Metrics::default()));
}

#[test]
fn the_table_lines_up() {
    let test = Metrics { n: 12, r2: Some(-0.5), auc: Some(0.75), ..Metrics::default() };
    let test_sd = Some(Metrics { r2: Some(0.25), ..Metrics::default() });
    let plain = RunReport { test: test.clone(), ..RunReport::default() }.table();
    let folds = RunReport { test, test_sd, ..RunReport::default() }.table();
    assert!(plain.starts_with("recordings              12\nR²                 -0.5000\n"), "{plain}");
    assert!(folds.contains("\nR²                 -0.5000 ± 0.2500\n"), "{folds}");
    assert!(folds.contains("\nAUC                 0.7500 ± –\n"), "{folds}");
    // Without those of grades on a scale, which nobody gave.
    assert_eq!(plain.lines().count(), 10);
    assert!(plain.lines().all(|l| l.chars().count() == 26), "{plain}");
    // Where nothing was tested there is nothing to tell.
    assert_eq!(RunReport::default().table(), "recordings               0\n");
}

#[test]
fn the_graders_stand_beside_the_network() {
    let test = Metrics { n: 12, r2: Some(-0.5), weighted_f1: Some(0.5), ..Metrics::default() };
    let graders = Some(Metrics { r2: Some(0.75), weighted_f1: Some(0.625), ..Metrics::default() });
    let as_grader = Some(Metrics { r2: Some(0.25), ..Metrics::default() });
    let test_sd = Some(Metrics { r2: Some(0.25), ..Metrics::default() });
    let plain = RunReport { test, graders, as_grader, ..RunReport::default() };
    let folds = RunReport { test_sd, ..plain.clone() };
    let expected = [
        (
            &plain,
            "recordings              12   graders   as grader\nR²                 -0.5000    0.7500      0.2500\n",
        ),
        (&plain, "\nweighted F1         0.5000    0.6250\nsilhouette               –\n"),
        (
            &folds,
            "recordings              12            graders   as grader\n\
             R²                 -0.5000 ± 0.2500    0.7500      0.2500\n",
        ),
    ];
    for (report, lines) in expected {
        let table = report.table();
        assert!(table.contains(lines), "{lines}{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{table}");
    }
    // What earlier versions wrote has neither.
    let mut json = serde_json::to_value(&plain).unwrap();
    json.as_object_mut().unwrap().retain(|key, _| !["graders", "as_grader"].contains(&key.as_str()));
    json["test"].as_object_mut().unwrap().retain(|key, _| ["n", "r2"].contains(&key.as_str()));
    let old: RunReport = serde_json::from_value(json).unwrap();
    assert_eq!((old.test.r2, old.test.weighted_f1, old.graders), (Some(-0.5), None, None));
}

#[test]
fn a_report_of_unknown_duration_survives_json() {
    let report = RunReport { seconds: f64::NAN, epochs: 7, ..RunReport::default() };
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["seconds"].is_null());
    let back: RunReport = serde_json::from_value(json.clone()).unwrap();
    assert!(back.seconds.is_nan());
    assert_eq!(RunReport { seconds: 0.0, ..back }, RunReport { seconds: 0.0, ..report });
    // What the design of the file promises to its readers.
    for key in ["device", "protocol", "seed", "epochs", "parameters", "launches_per_step", "test"] {
        assert!(!json[key].is_null(), "{key}");
    }
    for key in ["n", "r2", "pearson", "spearman", "mae", "accuracy", "auc", "silhouette", "davies_bouldin"] {
        assert!(json["test"].get(key).is_some(), "{key}");
    }
    assert!(json["test"]["n"].is_u64());
}
