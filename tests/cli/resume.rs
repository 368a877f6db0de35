//! A run that was cut short and taken up again ends with the same bits; what cannot be taken up says why.

use crate::eval::sharpen;
use crate::recordings::{TUNE, score};
use crate::seal::seal;
use assert_cmd::cargo::cargo_bin;
use etude::audio::Scale;
use etude::data::known::KnownTakes;
use etude::data::split::{SplitBy, SplitIndices};
use etude::data::synth::{SynthOptions, generate};
use etude::data::{InputKind, InputOptions, Inputs};
use etude::device::{Cpu, Device};
use etude::model::{ModelInfo, save};
use etude::ops::optim::Sgd;
use etude::optim::{Method, Schedule};
use etude::train::{Epoch, Fit, Hooks, Pairs, Prediction, Protocol, State, TrainOptions, fit};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn small() -> (Inputs, SplitIndices) {
    let options =
        SynthOptions { takes: 40, performers: 20, melodies: 2, references: 2, ..Default::default() };
    let inputs = Inputs::build(&generate(&options).unwrap(), &InputOptions::default(), &|_, _| {}).unwrap();
    let split = inputs.holdout(SplitBy::Performer, 0.2, 0.2, 1).unwrap();
    (inputs, split)
}

fn options(protocol: Protocol) -> TrainOptions {
    let mut options =
        TrainOptions { protocol, ..TrainOptions::for_inputs(InputKind::AlignmentPath, 1.0 / 127.0) };
    (options.epochs, options.encoder_epochs, options.batch, options.seed) = (3, 3, 10, 7);
    options
}

/// Everything that a run is for: the model file's bytes, its history and its predictions.
fn outcome(
    device: &dyn Device,
    (mut fitted, history): (Fit, Vec<Epoch>),
    options: &TrainOptions,
    dir: &Path,
) -> (Vec<u8>, Vec<Epoch>, Vec<Prediction>) {
    let info = ModelInfo {
        version: String::new(),
        net: options.net.clone(),
        input: InputKind::AlignmentPath,
        scale: Scale::default(),
        hop: 0.01,
        max_references: 6,
        criterion: "overall".into(),
        criteria: vec![],
        protocol: options.protocol,
        epochs: fitted.epochs,
        threshold: None,
        calibration: None,
        interval: None,
        bins: 5,
        seed: 1,
        fold: None,
        trained_on: None,
        takes: KnownTakes::default(),
    };
    let path = dir.join("model");
    save(&path, device, &fitted.net, &info).unwrap();
    let predictions = fitted.predict(device, &(0..40).collect::<Vec<_>>()).unwrap();
    (fs::read(path).unwrap(), history, predictions)
}

/// Runs to its end, and tells what each epoch gave.
fn watched(
    device: &dyn Device,
    data: &(Inputs, SplitIndices),
    options: &TrainOptions,
    resume: Option<State>,
) -> (Fit, Vec<Epoch>) {
    let mut history = Vec::new();
    let mut watch = |epoch: &Epoch, _: &mut etude::train::Snapshot<'_>| {
        history.push(epoch.clone());
        Ok(ControlFlow::Continue(()))
    };
    let before = resume.as_ref().map_or(0, State::epochs);
    let fitted =
        fit(device, &data.0, &data.1, options, Hooks { resume, progress: Some(&mut watch) }).unwrap();
    assert!(!fitted.stopped);
    assert_eq!(fitted.epochs, before + history.len());
    (fitted, history)
}

/// Runs until `epochs` are done in all, and leaves the state in a file.
fn leave(
    device: &dyn Device,
    data: &(Inputs, SplitIndices),
    options: &TrainOptions,
    resume: Option<State>,
    epochs: usize,
    path: &Path,
) -> Fit {
    let fitted = fit(
        device,
        &data.0,
        &data.1,
        options,
        Hooks {
            resume,
            progress: Some(&mut |epoch, now| {
                if epoch.epoch < epochs {
                    return Ok(ControlFlow::Continue(()));
                }
                now.state()?.save(path, &"more")?;
                Ok(ControlFlow::Break(()))
            }),
        },
    )
    .unwrap();
    assert!(fitted.stopped);
    assert_eq!(fitted.epochs, epochs);
    fitted
}

fn back(path: &Path) -> State {
    let (state, more): (State, String) = State::read(path).unwrap();
    assert_eq!(more, "more");
    state
}

/// Interrupts a run after each of its epochs, alone and one after the other.
fn interrupted(options: &TrainOptions) -> Vec<Epoch> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let cpu = Cpu::<f32>::new(1).unwrap();
    let data = small();
    let go_on = |state| outcome(&cpu, watched(&cpu, &data, options, state), options, dir.path());
    let whole = go_on(None);
    let epochs = whole.1.len();
    let from = |epoch: usize| (whole.0.clone(), whole.1[epoch..].to_vec(), whole.2.clone());
    for stop in 1..=epochs {
        leave(&cpu, &data, options, None, stop, &path);
        assert!(go_on(Some(back(&path))) == from(stop), "stopped after epoch {stop} of {epochs}");
    }
    let mut state = None;
    for stop in 1..=epochs {
        leave(&cpu, &data, options, state, stop, &path);
        state = Some(back(&path));
    }
    assert_eq!(state.as_ref().map(State::epochs), Some(epochs));
    assert!(go_on(state) == from(epochs), "stopped after every epoch");
    whole.1
}

#[test]
fn mse_goes_on_with_the_same_bits() {
    assert_eq!(interrupted(&options(Protocol::Mse)).len(), 3);
}

#[test]
fn mse_with_momentum_and_no_validation_does_too() {
    let mut options = options(Protocol::Mse);
    options.method = Method::Sgd(Sgd { momentum: 0.9, weight_decay: 1e-5 });
    options.schedule = Schedule::Constant { lr: 0.005, warm_up: 1 };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let cpu = Cpu::<f32>::new(1).unwrap();
    let mut data = small();
    let val = std::mem::take(&mut data.1.val);
    data.1.test.extend(val);
    let go_on = |state| outcome(&cpu, watched(&cpu, &data, &options, state), &options, dir.path());
    let (model, history, predictions) = go_on(None);
    leave(&cpu, &data, &options, None, 2, &path);
    assert!(go_on(Some(back(&path))) == (model, history[2..].to_vec(), predictions));
}

#[test]
fn joint_goes_on_with_the_same_bits() {
    let mut options = options(Protocol::Joint);
    options.contrast.pairs = Pairs::Halves;
    assert_eq!(interrupted(&options).len(), 3);
}

#[test]
fn two_phase_goes_on_with_the_same_bits_in_both_phases() {
    let mut options = options(Protocol::TwoPhase);
    let history = interrupted(&options);
    let phases: Vec<&str> = history.iter().map(|e| e.phase.as_str()).collect();
    assert_eq!(phases, ["encoder", "encoder", "encoder", "head", "head", "head"]);
    options.freeze_encoder = false;
    interrupted(&options);
}

#[test]
fn patience_is_remembered() {
    // A learning rate at which nothing gets better: the first epoch is the best.
    let mut options = options(Protocol::Mse);
    (options.epochs, options.patience) = (12, 3);
    options.schedule = Schedule::Constant { lr: 0.3, warm_up: 0 };
    let history = interrupted(&options);
    assert!(history.len() > 3 && history.len() < 12, "{}", history.len());
    let best = history.iter().map(|e| e.val_loss.unwrap()).fold(f64::INFINITY, f64::min);
    let at = history.iter().position(|e| e.val_loss == Some(best)).unwrap();
    assert_eq!(history.len(), at + 1 + 3);
}

#[test]
fn an_error_of_the_callback_ends_the_run() {
    let (inputs, split) = small();
    let cpu = Cpu::<f32>::new(1).unwrap();
    let mut calls = 0;
    let mut fail = |_: &Epoch, _: &mut etude::train::Snapshot<'_>| {
        calls += 1;
        Err(etude::Error::config("the disk is full"))
    };
    let hooks = Hooks { progress: Some(&mut fail), ..Hooks::default() };
    let error = fit(&cpu, &inputs, &split, &options(Protocol::Mse), hooks).err().unwrap();
    assert_eq!((error.to_string().as_str(), calls), ("the disk is full", 1));
}

#[test]
fn who_watches_can_ask_for_predictions_and_for_the_bytes_of_a_checkpoint() {
    let (inputs, mut split) = small();
    split.val.clear(); // the weights that are kept are the last epoch's
    let (cpu, dir) = (Cpu::<f32>::new(1).unwrap(), TempDir::new().unwrap());
    let path = dir.path().join("state");
    let mut seen = Vec::new();
    let mut watch = |_: &Epoch, now: &mut etude::train::Snapshot<'_>| {
        let made = now.predict(&split.test)?;
        assert!(now.predict(&[inputs.examples.len() + inputs.degraded.len()]).is_err());
        let state = now.state()?;
        state.save(&path, &"more")?;
        assert!(state.to_bytes(&path, &"more")? == fs::read(&path).unwrap());
        seen.push(made);
        Ok(ControlFlow::Continue(()))
    };
    let hooks = Hooks { resume: None, progress: Some(&mut watch) };
    let mut fitted = fit(&cpu, &inputs, &split, &options(Protocol::Joint), hooks).unwrap();
    let made = fitted.predict(&cpu, &split.test).unwrap();
    assert!(seen.len() == 3 && seen[2] == made && seen[1] != made);
}

#[test]
fn a_profile_leaves_the_network_as_it_is() {
    let (inputs, split) = small();
    let cpu = Cpu::<f32>::new(1).unwrap();
    let mut options = options(Protocol::Mse);
    options.epochs = 1;
    let mut fitted = fit(&cpu, &inputs, &split, &options, Hooks::default()).unwrap();
    let before = fitted.net.tensors(&cpu).unwrap();
    let rows = fitted.profile(&cpu).unwrap();
    assert_eq!(rows.len(), fitted.launches_per_step);
    assert!(rows.iter().any(|r| r.0.name == "optim_adam"), "the whole step, update included");
    assert!(rows.iter().all(|r| r.2 >= 0.0) && rows.iter().any(|r| r.2 > 0.0));
    assert!(fitted.net.tensors(&cpu).unwrap() == before);
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let cpu = Cpu::<f32>::new(1).unwrap();
    let data = small();
    leave(&cpu, &data, &options(Protocol::TwoPhase), None, 4, &path);
    let refused = |inputs: &Inputs, options: &TrainOptions, words: &[&str]| {
        let hooks = Hooks { resume: Some(back(&path)), ..Hooks::default() };
        let error = fit(&cpu, inputs, &data.1, options, hooks).err().unwrap().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    };
    refused(&data.0, &options(Protocol::Mse), &["does not fit", "phase 2 of 1"]);
    let mut other = options(Protocol::TwoPhase);
    other.freeze_encoder = false;
    refused(&data.0, &other, &["lacks", "optimizer/"]);
    other = options(Protocol::TwoPhase);
    other.method = Method::Sgd(Sgd::default());
    refused(&data.0, &other, &["lacks", "velocity"]);
    other = options(Protocol::TwoPhase);
    other.net.hidden = 9;
    refused(&data.0, &other, &["optimizer/m"]);
    let same = options(Protocol::TwoPhase);
    let mut inputs = data.0.clone();
    inputs.examples.pop();
    refused(&inputs, &same, &["changed", "40 takes", "now 39"]);
    inputs = data.0.clone();
    inputs.examples[3].rating += 0.1;
    refused(&inputs, &same, &["changed", "ratings"]);
    inputs = data.0.clone();
    inputs.examples[3].performer.push('x');
    refused(&inputs, &same, &["changed", "performers"]);
}

#[test]
fn a_split_of_other_data_is_refused() {
    let (mut inputs, split) = small();
    let cpu = Cpu::<f32>::new(1).unwrap();
    let run = |inputs: &Inputs| fit(&cpu, inputs, &split, &options(Protocol::Mse), Hooks::default());
    let error = run(&inputs).unwrap().predict(&cpu, &[0, 40]).err().unwrap().to_string();
    assert!(error.contains("example 40 of 40"), "{error}");
    inputs.examples.truncate(10);
    let error = run(&inputs).err().unwrap().to_string();
    assert!(error.contains("of 10"), "{error}");
}

fn etude(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(cargo_bin("etude")).args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn refused(dir: &Path, words: &[&str]) {
    let (code, out, err) = etude(&["train", "--resume", dir.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

/// Begins a run and kills it, without warning, once `file` is there beside the checkpoint.
fn kill_at(dir: &Path, args: &[&str], file: &str) -> PathBuf {
    let out = dir.join(format!("killed-at-{file}"));
    // A relative path to the data: it must be found again from elsewhere.
    let mut child = Command::new(cargo_bin("etude"))
        .current_dir(dir)
        .args(["train", "--data", "set", "--out", out.to_str().unwrap(), "--checkpoint-every", "0"])
        .args(args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let there = |name: &str| out.join(name).exists();
    while !(there("checkpoint.safetensors") && there(file)) {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint and {file}");
        assert!(child.try_wait().unwrap().is_none(), "it was done before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was done before it could be killed");
    assert!(there("checkpoint.safetensors") && !there("metrics.json"));
    out
}

/// Names and bytes of what a finished run leaves, but for times.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_str().unwrap().to_string(), fs::read(p).unwrap()))
        .collect();
    files.sort();
    for (_, bytes) in files.iter_mut().filter(|f| f.0 == "metrics.json") {
        let mut json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        json.as_object_mut().unwrap().remove("seconds").unwrap();
        *bytes = json.to_string().into_bytes();
    }
    files
}

#[test]
fn a_killed_process_is_taken_up_by_another() {
    let dir = TempDir::new().unwrap();
    let set = dir.path().join("set");
    let set = set.to_str().unwrap();
    let (code, _, err) = etude(&["synth", "--out", set, "--takes", "48", "--performers", "16"]);
    assert_eq!(code, 0, "{err}");
    let whole = |name: &str, args: &[&str]| {
        let out = dir.path().join(name);
        let all = [&["train", "--data", set, "--out", out.to_str().unwrap()], args].concat();
        let (code, _, err) = etude(&all);
        assert_eq!(code, 0, "{err}");
        files(&out)
    };
    let resumed = |out: &Path| {
        let (code, stdout, err) = etude(&["train", "--resume", out.to_str().unwrap(), "--json"]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("going on after epoch"), "{err}");
        let report: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        let written = fs::read(out.join("metrics.json")).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), report);
        files(out)
    };
    let same = |a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]| {
        let names = |f: &[(String, Vec<u8>)]| f.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(a), names(b), "the checkpoint goes, nothing is left over");
        for (a, b) in a.iter().zip(b) {
            assert!(a.1 == b.1, "{} differs", a.0);
        }
    };

    // A score of one melody, in a folder that has to be found again too.
    fs::create_dir(dir.path().join("scores")).unwrap();
    score(&dir.path().join("scores/m001.mid"), &TUNE);
    let (here, there) = (dir.path().join("scores"), Path::new("scores"));
    let args = |scores: &Path| {
        let plain = ["--epochs", "40", "--protocol", "joint", "--lambda", "0.3", "--seed", "5"];
        // Of several criteria too.
        let several = ["--criterion", "pitch", "--criterion", "overall", "--scores"];
        plain.into_iter().chain(several).chain(scores.to_str()).map(String::from).collect::<Vec<_>>()
    };
    let [here, there] = [args(&here), args(there)];
    let [here, there] = [&here, &there].map(|args| args.iter().map(String::as_str).collect::<Vec<_>>());
    let one = whole("whole", &here);
    let out = kill_at(dir.path(), &there, "");
    // What a kill in the midst of a write leaves.
    fs::write(out.join(".checkpoint.safetensors.4711-3.tmp"), b"half").unwrap();
    same(&resumed(&out), &one);
    assert!(!out.join("checkpoint.safetensors").exists());
    refused(&out, &["finished run"]);

    // Killed in a later fold: the folds before it are not trained again.
    let args =
        ["--epochs", "25", "--folds", "3", "--protocol", "two-phase", "--degraded", "0.5", "--seed", "2"];
    let folds = whole("folds", &args);
    let out = kill_at(dir.path(), &args, "fold-2.safetensors");
    fs::remove_file(out.join("fold-1.safetensors")).unwrap();
    let again = resumed(&out);
    assert!(!out.join("fold-1.safetensors").exists());
    let rest: Vec<_> = folds.iter().filter(|f| f.0 != "fold-1.safetensors").cloned().collect();
    same(&again, &rest);

    // A new run may replace one with folds, and one that was cut short.
    let out = dir.path().join("killed-at-fold-2.safetensors");
    fs::write(out.join("checkpoint.safetensors"), b"old").unwrap();
    let new = ["train", "--data", set, "--epochs", "1", "--out", out.to_str().unwrap(), "--profile"];
    let (code, _, err) = etude(&new);
    assert!(code == 1 && err.contains("--resume") && err.contains("--overwrite"), "{err}");
    let (code, _, err) = etude(&[&new[..], &["--overwrite"]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(!out.join("checkpoint.safetensors").exists());
    for word in ["GFLOP/s", "share", "adam", "launches"] {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
}

#[test]
fn what_cannot_be_taken_up_says_why() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("run");
    refused(&at, &["run", "read"]);
    fs::write(&at, b"x").unwrap();
    refused(&at, &["is a file"]);
    fs::remove_file(&at).unwrap();
    fs::create_dir(&at).unwrap();
    refused(&at, &["empty", "first checkpoint"]);
    fs::write(at.join("thesis.tex"), b"x").unwrap();
    refused(&at, &["checkpoint.safetensors", "only thesis.tex"]);
    fs::remove_file(at.join("thesis.tex")).unwrap();
    fs::remove_dir(&at).unwrap();

    let set = dir.path().join("set");
    let set = set.to_str().unwrap();
    let synth = |takes| {
        let _ = fs::remove_dir_all(set);
        let (code, _, err) = etude(&["synth", "--out", set, "--takes", takes, "--performers", "12"]);
        assert_eq!(code, 0, "{err}");
    };
    synth("24");
    let out = kill_at(dir.path(), &["--epochs", "200"], "");
    let checkpoint = out.join("checkpoint.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    let with = |bytes: &[u8], words: &[&str]| {
        fs::write(&checkpoint, bytes).unwrap();
        refused(&out, words);
    };
    with(&good[..good.len() / 2], &["checkpoint.safetensors", "truncated"]);
    with(b"only text", &["checkpoint.safetensors", "no checkpoint file"]);
    // The same tensors under another record.
    let file = SafeTensors::deserialize(&good).unwrap();
    let (_, header) = SafeTensors::read_metadata(&good).unwrap();
    let record = header.metadata().as_ref().unwrap()["etude-checkpoint"].clone();
    let under = |key: &str, json: &str| {
        let metadata = HashMap::from([(key.to_string(), json.to_string())]);
        safetensors::serialize(file.tensors(), Some(metadata)).unwrap()
    };
    with(&under("etude", &record), &["not a checkpoint", "etude-checkpoint"]);
    with(&under("etude-checkpoint", "{}"), &["metadata", "format"]);
    for (format, words) in [(3, "older version"), (5, "newer version")] {
        let other = record.replacen("\"format\":4", &format!("\"format\":{format}"), 1);
        assert_ne!(other, record);
        with(&under("etude-checkpoint", &other), &[words]);
    }
    let fewer = safetensors::serialize(
        file.tensors().into_iter().filter(|t| t.0 != "net/conv1.weight"),
        Some(HashMap::from([("etude-checkpoint".to_string(), record.clone())])),
    );
    let mut fewer = fewer.unwrap();
    with(&fewer, &["checkpoint.safetensors", "damaged"]);
    seal(&mut fewer);
    with(&fewer, &["conv1.weight", "given 0 times"]);
    let history = fs::read(out.join("history.csv")).unwrap();
    fs::write(out.join("history.csv"), &history[..60]).unwrap();
    with(&good, &["history.csv", "60 bytes", "fewer"]);
    fs::remove_file(out.join("history.csv")).unwrap();
    with(&good, &["history.csv", "read"]);
    fs::write(out.join("history.csv"), &history).unwrap();
    synth("36");
    with(&good, &["changed", "24 takes", "36"]);
    fs::remove_dir_all(set).unwrap();
    with(&good, &["set", "open"]);
    // A model is no checkpoint, and a checkpoint no model.
    let (code, _, err) = etude(&["eval", "--model", checkpoint.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains("not a model"), "{err}");
}

#[test]
fn data_that_has_changed_is_refused_and_what_of_it_is_named() {
    let dir = TempDir::new().unwrap();
    let set = dir.path().join("set");
    let at = |name: &str| set.join(name);
    let args = ["synth", "--out", set.to_str().unwrap(), "--takes", "12", "--performers", "6"];
    let (code, _, err) = etude(&args);
    assert_eq!(code, 0, "{err}");
    let out = kill_at(dir.path(), &["--epochs", "300"], "");
    let manifest = fs::read_to_string(at("manifest.csv")).unwrap();
    let header = manifest.lines().next().unwrap();
    let (first, references) =
        (&manifest[header.len() + 1..], header.split(',').position(|c| c == "reference"));
    let first: Vec<&str> = first.lines().next().unwrap().split(',').collect();
    let (take, reference) = (first[0], first[references.unwrap()].split(';').next().unwrap());

    for (file, words) in [(take, ["changed", "pitch of takes"]), (reference, ["changed", "references"])] {
        let good = fs::read(at(file)).unwrap();
        sharpen(&at(file), &at("sharper.csv"));
        fs::copy(at("sharper.csv"), at(file)).unwrap();
        refused(&out, &words);
        fs::write(at(file), good).unwrap();
    }
    let with = |text: String, words: &[&str]| {
        assert_ne!(text, manifest);
        fs::write(at("manifest.csv"), text).unwrap();
        refused(&out, &[&["changed"], words].concat());
    };
    with(manifest.replace(&format!("{reference};"), ""), &["references"]);
    with(manifest.replace(",pass,0.", ",,0."), &["which takes passed"]);
    with(manifest.replacen(",p0001,", ",p0002,", 1), &["performers"]);
    with(manifest.replacen("rating_overall", "rating_general", 1), &["criterion", "overall", "general"]);
    let rating = first[header.split(',').position(|c| c == "rating_overall").unwrap()];
    with(manifest.replacen(rating, "0.5", 1), &["ratings"]);
    let part = |(i, line): (usize, &str)| match line.split(',').nth(1).unwrap() {
        _ if i == 0 => format!("{line},split\n"),
        "p0001" => format!("{line},val\n"),
        "p0002" => format!("{line},test\n"),
        _ => format!("{line},train\n"),
    };
    with(manifest.lines().enumerate().map(part).collect(), &["the split that the data prescribes"]);
    let renamed = manifest.replacen(take, "takes/a.csv", 1);
    fs::copy(at(take), at("takes/a.csv")).unwrap();
    with(renamed, &["names"]);

    fs::write(at("manifest.csv"), &manifest).unwrap();
    let (code, _, err) = etude(&["train", "--resume", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn another_split_of_the_same_data_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let cpu = Cpu::<f32>::new(1).unwrap();
    let (data, options) = (small(), options(Protocol::Mse));
    leave(&cpu, &data, &options, None, 1, &path);
    let resumed = |inputs: &Inputs, split: &SplitIndices| {
        let hooks = Hooks { resume: Some(back(&path)), ..Hooks::default() };
        fit(&cpu, inputs, split, &options, hooks).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let other = data.0.holdout(SplitBy::Performer, 0.2, 0.2, 2).unwrap();
    assert!(resumed(&data.0, &other).contains("other parts of the data"));
    // What the network sees of the same files, in another way.
    let mut inputs = data.0.clone();
    inputs.examples[5].rows[1].data[7] += 0.25;
    assert!(resumed(&inputs, &data.1).contains("what the network sees"));
    assert_eq!(resumed(&data.0, &data.1), "");
}

#[test]
fn resume_takes_no_other_options() {
    assert_eq!(etude(&["train", "--resume", "run", "--overwrite"]).0, 2);
    let others = ["--epochs 3", "--f0-hop 1", "--data set", "--out run", "--seed 0", "--tensorboard board"];
    for other in others.map(|other| other.split_once(' ').map(|(name, value)| [name, value]).unwrap()) {
        let (code, _, err) = etude(&[&["train", "--resume", "run"][..], &other].concat());
        assert_eq!(code, 2, "{other:?}: {err}");
        assert!(err.contains("--resume"), "{err}");
    }
    assert_eq!(etude(&["train", "--resume", "run", "--profile"]).0, 2);
    let given = ["train", "--resume", "/nowhere", "--device", "cpu", "--threads", "1", "--json"];
    let (code, _, err) = etude(&given);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("/nowhere"), "{err}");
}
