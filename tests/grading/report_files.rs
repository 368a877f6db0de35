//! The directory of a run: claimed before work starts, each file whole or absent.

use approx::assert_relative_eq;
use etude::fs::write_atomic;
use etude::report::files::{Earlier, EpochRow, OutDir, PredictionRow};
use etude::report::metrics::Metrics;
use etude::report::run::RunReport;
use etude::report::scores::{accuracy, accuracy_11, best_threshold};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_directory_is_taken_when_it_is_ours_and_left_as_it_was_otherwise() {
    let dir = TempDir::new().unwrap();
    let new = dir.path().join("a/b");
    drop(OutDir::open(&new).unwrap());
    assert!(!new.exists(), "an empty directory it made is removed again");
    let out = OutDir::open(&new).unwrap();
    out.write("metrics.json", b"{}").unwrap();
    out.finish();
    assert_eq!(names(&new), ["metrics.json"]);
    // Leftovers of a killed run and models of folds are ours too.
    fs::write(new.join(".model.safetensors.1-2.tmp"), "half").unwrap();
    fs::write(new.join("fold-3.safetensors"), "model").unwrap();
    drop(OutDir::open(&new).unwrap());
    assert_eq!(names(&new), ["fold-3.safetensors", "metrics.json"]);
    fs::write(new.join("notes.txt"), "mine").unwrap();
    let error = OutDir::open(&new).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
    assert_eq!(fs::read_to_string(new.join("notes.txt")).unwrap(), "mine");
    let error = OutDir::open(new.join("notes.txt")).unwrap_err().to_string();
    assert!(error.contains("is a file"), "{error}");
}

#[test]
fn what_an_earlier_run_left_is_told_and_cleared() {
    let dir = TempDir::new().unwrap();
    let earlier = || OutDir::open(dir.path()).unwrap().earlier().clone();
    assert_eq!(earlier(), Earlier::Nothing);
    fs::write(dir.path().join("metrics.json"), "{}").unwrap();
    fs::write(dir.path().join("fold-12.safetensors"), "").unwrap();
    assert_eq!(earlier(), Earlier::Files(vec!["fold-12.safetensors".into(), "metrics.json".into()]));
    fs::write(dir.path().join("checkpoint.safetensors"), "").unwrap();
    assert_eq!(earlier(), Earlier::Unfinished);
    fs::write(dir.path().join(".DS_Store"), "").unwrap();
    OutDir::open(dir.path()).unwrap().clear().unwrap();
    assert_eq!(names(dir.path()), [".DS_Store"], "what is not ours stays");
    assert_eq!(earlier(), Earlier::Nothing);
}

#[test]
fn what_file_managers_leave_is_overlooked() {
    let dir = TempDir::new().unwrap();
    for name in [".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "._model.safetensors"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let before = names(dir.path());
    assert_eq!(*OutDir::open(dir.path()).unwrap().earlier(), Earlier::Nothing);
    assert_eq!(names(dir.path()), before);
}

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("run");
    let out = OutDir::open(&at).unwrap();
    fs::write(at.join(".model.safetensors.1-2.tmp"), "being written").unwrap();
    let error = OutDir::open(&at).unwrap_err().to_string();
    assert!(error.contains("run: another process") && error.contains("is writing there"), "{error}");
    if cfg!(unix) {
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }
    assert!(at.join(".model.safetensors.1-2.tmp").exists(), "nobody else's business");
    drop(out);
    assert!(OutDir::open(&at).is_ok());
    assert_eq!(names(&at), [""; 0], "neither the lock nor what was half-written");
    // What a killed process leaves: its lock went with it.
    fs::write(at.join(".etude-lock"), "4711\n").unwrap();
    assert!(OutDir::open(&at).is_ok());
}

#[test]
fn of_many_one_at_a_time_gets_it() {
    let dir = TempDir::new().unwrap();
    let (at, inside) = (dir.path().join("run"), std::sync::atomic::AtomicUsize::new(0));
    fs::create_dir(&at).unwrap();
    let work = || {
        let mut got = 0;
        for _ in 0..300 {
            // The error is that another has it.
            if let Ok(out) = OutDir::open(&at) {
                use std::sync::atomic::Ordering::SeqCst;
                assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at a time");
                got += 1;
                std::thread::yield_now();
                inside.fetch_sub(1, SeqCst);
                drop(out);
            }
        }
        got
    };
    let got: usize = std::thread::scope(|s| {
        let workers: Vec<_> = (0..6).map(|_| s.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(got >= 6, "{got}");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x");
    write_atomic(&file, b"one").unwrap();
    write_atomic(&file, b"two").unwrap();
    assert_eq!((names(dir.path()), fs::read(&file).unwrap()), (vec!["x".to_string()], b"two".to_vec()));
    // The target cannot be replaced: nothing is left beside it.
    let taken = dir.path().join("taken");
    fs::create_dir_all(taken.join("full")).unwrap();
    assert!(write_atomic(&taken, b"three").unwrap_err().to_string().contains("taken"));
    assert_eq!(names(dir.path()), ["taken", "x"]);
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    // Below a file no directory can be, whoever asks.
    let error = OutDir::open(dir.path().join("file/run")).unwrap_err().to_string();
    assert!(error.contains("file/run") && error.contains("create"), "{error}");
    assert!(write_atomic(Path::new("/"), b"").unwrap_err().to_string().contains("not a file name"));
    assert!(write_atomic(&dir.path().join("absent/x"), b"").unwrap_err().to_string().contains("absent/x"));
    let out = OutDir::open(dir.path().join("run")).unwrap();
    out.remove("metrics.json").unwrap();
    fs::create_dir(out.path().join("metrics.json")).unwrap();
    assert!(out.remove("metrics.json").unwrap_err().to_string().contains("metrics.json"));
    // Names that only resemble a run's are somebody's.
    for name in ["fold-.safetensors", "fold-x.safetensors", ".notes.1-2.tmp", "Model.safetensors"] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(name), "").unwrap();
        assert!(OutDir::open(dir.path()).unwrap_err().to_string().contains(name), "{name}");
        assert_eq!(names(dir.path()), [name]);
    }
}

#[test]
fn a_run_that_fails_with_files_written_keeps_them() {
    let dir = TempDir::new().unwrap();
    let out = OutDir::open(dir.path().join("run")).unwrap();
    out.write("history.csv", b"x").unwrap();
    drop(out);
    assert_eq!(names(&dir.path().join("run")), ["history.csv"]);
    // One that was there before stays, empty or not.
    let out = OutDir::open(dir.path()).unwrap_err().to_string();
    assert!(out.contains("run"), "{out}");
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    drop(OutDir::open(dir.path()).unwrap());
    assert!(dir.path().is_dir());
}

#[test]
fn tables_have_headers_even_without_rows() {
    let dir = TempDir::new().unwrap();
    let out = OutDir::open(dir.path().join("run")).unwrap();
    let history = || fs::read_to_string(out.path().join("history.csv")).unwrap();
    let mut file = out.history().unwrap();
    assert_eq!(file.flush().unwrap(), history().len() as u64);
    assert_eq!(history(), "epoch,phase,lr,train_loss,val_loss,val_r2\n");
    assert_eq!(out.read_history().unwrap(), []);
    let epoch = EpochRow {
        epoch: 1,
        phase: "mse".into(),
        lr: 0.5,
        train_loss: 0.25,
        val_loss: None,
        val_r2: Some(0.5),
    };
    file.add(&epoch).unwrap();
    let bytes = file.flush().unwrap();
    let text = "epoch,phase,lr,train_loss,val_loss,val_r2\n1,mse,0.5,0.25,,0.5\n";
    assert_eq!((history().as_str(), bytes), (text, text.len() as u64));
    assert_eq!(out.read_history().unwrap(), std::slice::from_ref(&epoch));
    // Rows behind those that a checkpoint knows of are made once more.
    let next = EpochRow { epoch: 2, ..epoch.clone() };
    for _ in 0..2 {
        drop(file);
        file = out.history_from(bytes).unwrap();
        file.add(&next).unwrap();
        file.flush().unwrap();
        assert_eq!(out.read_history().unwrap(), [epoch.clone(), next.clone()]);
    }
    let error = out.history_from(1000).unwrap_err().to_string();
    assert!(error.contains("history.csv") && error.contains("1000"), "{error}");
    drop(out.history().unwrap());
    assert_eq!(out.read_history().unwrap(), [], "a new one begins anew");
    fs::remove_file(out.path().join("history.csv")).unwrap();
    assert!(out.history_from(0).unwrap_err().to_string().contains("history.csv"));
    out.predictions(&[]).unwrap();
    let text = fs::read_to_string(out.path().join("predictions.csv")).unwrap();
    assert_eq!(text, "id,performer,split,rating,prediction,pass,fold,passed,melody,criterion\n");
    out.predictions(&[PredictionRow { id: "a,b".into(), pass: Some(true), ..Default::default() }]).unwrap();
    assert!(
        fs::read_to_string(out.path().join("predictions.csv")).unwrap().contains("\"a,b\",,,0.0,0.0,true,")
    );
    out.finish();
}

#[test]
fn a_report_survives_json_and_reads_well() {
    let folds: Vec<Metrics> = [0.5f32, 0.7]
        .iter()
        .map(|&v| {
            Metrics::new(&[0.0, v, 1.0], &[0.0, 0.5, 1.0]).with_pass(
                &[0.0, v, 1.0],
                &[false, true, true],
                0.5,
            )
        })
        .collect();
    let (test, sd) = Metrics::mean_sd(&folds);
    assert_eq!(test.n, 3);
    assert_relative_eq!(test.mae.unwrap(), (folds[0].mae.unwrap() + folds[1].mae.unwrap()) / 2.0);
    let half = (folds[1].mae.unwrap() - folds[0].mae.unwrap()) / 2.0;
    assert_relative_eq!(sd.mae.unwrap(), half * std::f64::consts::SQRT_2, epsilon = 1e-12);
    let report = RunReport { seconds: 1.5, test, test_sd: Some(sd), folds, ..RunReport::default() };
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains("\"n\":3,") && json.contains("\"silhouette\":null"), "{json}");
    assert_eq!(serde_json::from_str::<RunReport>(&json).unwrap(), report);
    let table = report.table();
    assert!(table.contains("R²") && table.contains(" ± ") && table.contains("–"), "{table}");
}

#[test]
fn decisions_and_classes() {
    let (p, pass) = ([0.1, 0.4, 0.45, 0.9], [false, true, false, true]);
    let threshold = best_threshold(&p, &pass);
    assert_relative_eq!(accuracy(&p, &pass, threshold).unwrap(), 0.75);
    assert_relative_eq!(best_threshold(&p, &[true; 4]), 0.5);
    assert_relative_eq!(accuracy_11(&[0.04, 0.16, 1.4], &[0.0, 0.1, 1.0]).unwrap(), 2.0 / 3.0);
    assert_eq!(accuracy(&p, &pass[..3], 0.5), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn correlations_keep_their_invariances(
        pairs in prop::collection::vec((-100i32..100, -100i32..100), 3..40),
        scale in 1i32..9,
        shift in -9i32..9,
    ) {
        use etude::report::scores::{auc, pearson, spearman};
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().map(|p| (p.0 as f32, p.1 as f32)).unzip();
        let affine: Vec<f32> = x.iter().map(|v| v * scale as f32 + shift as f32).collect();
        let cubed: Vec<f32> = x.iter().map(|v| v * v * v).collect();
        let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        prop_assert!(same(pearson(&x, &y), pearson(&affine, &y)));
        prop_assert!(same(spearman(&x, &y), spearman(&cubed, &y)));
        let pass: Vec<bool> = y.iter().map(|v| *v > 0.0).collect();
        let fail: Vec<bool> = pass.iter().map(|p| !p).collect();
        prop_assert!(same(auc(&x, &pass), auc(&x, &fail).map(|a| 1.0 - a)));
    }
}
