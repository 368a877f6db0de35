//! The command line as a user meets it: what works, what is refused, and what is left behind.

use assert_cmd::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn etude(args: &[&str]) -> (i32, String, String) {
    let out = Command::cargo_bin("etude").unwrap().args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// A small synthetic set on disk.
fn set(dir: &TempDir) -> String {
    let path = dir.path().join("set");
    let path = path.to_str().unwrap().to_string();
    let (code, _, err) = etude(&["synth", "--out", &path, "--takes", "48", "--performers", "16"]);
    assert_eq!(code, 0, "{err}");
    path
}

/// Fails with exit 1 and every one of `words` in the message.
fn refused(args: &[&str], words: &[&str]) {
    let (code, out, err) = etude(args);
    assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{args:?}: {word:?} is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn train_leaves_a_model_that_eval_reads_back() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let runs: Vec<_> = ["1", "2"]
        .iter()
        .map(|threads| {
            let out = dir.path().join(format!("run{threads}"));
            let args =
                ["train", "--data", &data, "--epochs", "2", "--seed", "3", "--threads", threads, "--json"];
            let (code, stdout, err) = etude(&[&args[..], &["--out", out.to_str().unwrap()]].concat());
            assert_eq!(code, 0, "{err}");
            let report: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
            (out, report)
        })
        .collect();
    let (out, report) = &runs[0];
    for key in ["device", "protocol", "seed", "epochs", "seconds", "parameters", "launches_per_step", "test"]
    {
        assert!(!report[key].is_null(), "{key} is missing from {report}");
    }
    assert_eq!(
        files(out),
        [
            "embedding.svg",
            "history.csv",
            "history.svg",
            "metrics.json",
            "model.safetensors",
            "predictions.csv",
            "report.html",
            "scatter.svg"
        ]
    );
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(&written, report);
    let model = |out: &Path| fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(model(out), model(&runs[1].0), "one seed, one model, on one thread or two");

    let file = out.join("model.safetensors");
    let file = file.to_str().unwrap();
    let (code, stdout, err) = etude(&["eval", "--model", file, "--data", &data, "--json"]);
    assert_eq!(code, 0, "{err}");
    let again: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(again["test"], report["test"], "eval sees the same test takes");
    let (code, stdout, _) = etude(&["eval", "--model", file, "--data", &data, "--split", "all"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("48 takes"), "{stdout}");
}

#[test]
fn data_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    refused(&["train", "--data", &at("nothing")], &["nothing", "open"]);
    fs::create_dir(at("empty")).unwrap();
    refused(&["train", "--data", &at("empty")], &["empty"]);
    fs::create_dir_all(at("mast/f0data")).unwrap();
    refused(&["train", "--data", &at("mast")], &["annotations.csv"]);
    let manifest = |name: &str, text: &str| {
        fs::write(at(name), text).unwrap();
        at(name)
    };
    fs::write(at("good.txt"), "0.0 220\n0.01 220\n0.02 221\n").unwrap();
    fs::write(at("word.txt"), "0.0 220\n0.01 C4\n").unwrap();
    fs::write(at("none.txt"), "").unwrap();
    fs::write(at("unvoiced.txt"), "0.0 0\n0.01 0\n").unwrap();
    let head = "path,performer,rating\n";
    refused(
        &["train", "--data", &manifest("a.csv", &format!("{head}good.txt,ann,1.5\n"))],
        &["a.csv:2", "1.5"],
    );
    refused(&["train", "--data", &manifest("b.csv", &format!("{head}good.txt,ann\n"))], &["b.csv:2"]);
    refused(&["train", "--data", &manifest("c.csv", &format!("{head}word.txt,ann,0.5\n"))], &["word.txt:2"]);
    refused(&["train", "--data", &manifest("d.csv", &format!("{head}none.txt,ann,0.5\n"))], &["none.txt"]);
    refused(
        &["train", "--data", &manifest("e.csv", &format!("{head}unvoiced.txt,ann,0.5\n"))],
        &["unvoiced"],
    );
    refused(&["train", "--data", &manifest("f.csv", "path,rating\ngood.txt,0.5\n")], &["performer"]);
}

/// A manifest of these takes, each `performer,rating` and more, of one held note.
fn manifest(dir: &TempDir, header: &str, takes: &[&str]) -> String {
    let rows: String = (0..200).map(|i| format!("{},220\n", f64::from(i) * 0.01)).collect();
    let mut text = format!("path,performer,{header}\n");
    for (i, take) in takes.iter().enumerate() {
        fs::write(dir.path().join(format!("{i}.txt")), &rows).unwrap();
        text += &format!("{i}.txt,{take}\n");
    }
    let path = dir.path().join("manifest.csv");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn either_network_sees_any_rows() {
    let dir = TempDir::new().unwrap();
    let set = set(&dir);
    // Weights of convolutions, scale and shift of each channel, two linear layers with a bias.
    for (input, net, parameters) in [
        (
            "alignment-path",
            "paper",
            7 * (14 * 4 + 4 * 8 + 8 * 16) + 2 * (4 + 8 + 16) + (16 * 8 + 8) + (8 + 1),
        ),
        ("contour", "alignment", 7 * 32 + 5 * 32 * 64 + 3 * 64 * 64 + 2 * 160 + (64 * 32 + 32) + (32 + 1)),
    ] {
        let args = ["train", "--device", "cpu", "--data", &set, "--epochs", "1", "--json"];
        let (code, out, err) = etude(&[&args[..], &["--input", input, "--net", net]].concat());
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(report["parameters"], parameters, "{input} {net}");
    }
    refused(&["train", "--input", "notes", "--net", "paper"], &["--net: input notes has a note head alone"]);
}

#[test]
fn melodies_can_be_what_is_never_heard() {
    let dir = TempDir::new().unwrap();
    let (data, out) = (set(&dir), dir.path().join("run"));
    let train = ["train", "--data", &data, "--epochs", "1", "--folds", "2", "--split-by", "melody"];
    let more = ["--input", "notes", "--out", out.to_str().unwrap()];
    let (code, said, err) = etude(&[&train[..], &more].concat());
    assert_eq!(code, 0, "{err}");
    assert!(said.contains("melodies never heard") && err.contains("notes (59 features)"), "{said}{err}");
    // The fold that each melody is tested in.
    let cells = |path: &Path, names: [&str; 2]| -> Vec<[String; 2]> {
        let mut csv = csv::Reader::from_path(path).unwrap();
        let header = csv.headers().unwrap().clone();
        let at = names.map(|name| header.iter().position(|known| known == name).unwrap());
        csv.records().map(|row| at.map(|i| row.as_ref().unwrap()[i].to_string())).collect()
    };
    let melodies: BTreeMap<String, String> =
        cells(&Path::new(&data).join("manifest.csv"), ["path", "melody"])
            .into_iter()
            .map(|[a, b]| (a, b))
            .collect();
    let mut folds: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for [id, fold] in cells(&out.join("predictions.csv"), ["id", "fold"]) {
        folds.entry(&melodies[&id]).or_default().insert(fold);
    }
    assert!(folds.len() > 4 && folds.values().all(|of| of.len() == 1), "{folds:?}");
    let alone = manifest(&dir, "rating", &["a,0.1", "b,0.5", "c,0.9"]);
    let words = ["split by melody", "has none", "column melody"];
    refused(&["train", "--data", &alone, "--split-by", "melody"], &words);
}

#[test]
fn a_small_group_is_told_what_helps_before_anything_is_aligned() {
    let dir = TempDir::new().unwrap();
    // The seventh take has no reference, which is told when the others have been aligned.
    let takes =
        ["a,0.1,0.txt", "a,0.3,0.txt", "b,0.5,0.txt", "b,0.7,0.txt", "c,0.9,0.txt", "c,1,0.txt", "c,1,"];
    let data = manifest(&dir, "rating,reference", &takes);
    let two = ["train", "--data", &data, "--epochs", "1", "--folds", "2", "--val-fraction", "0.1"];
    refused(&two, &["2 folds of 3 performers", "3 folds", "hint: --val-fraction 0"]);
    for more in [&["--folds", "3"][..], &["--folds", "2", "--val-fraction", "0"]] {
        let (code, _, err) = etude(&[&["train", "--data", &data, "--epochs", "1"], more].concat());
        assert_eq!(code, 0, "{more:?}: {err}");
        assert!(err.contains("takes dropped"), "{err}");
    }
    // Numbers come before the work.
    for wrong in
        [["--val-fraction", "1"], ["--val-fraction", "-0.1"], ["--test-fraction", "nan"], ["--folds", "4"]]
    {
        let (code, out, err) = etude(&[&["train", "--data", &data][..], &[&wrong.join("=")]].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{wrong:?}: {err}");
        assert!(!err.contains("takes dropped"), "{err}");
    }
    let few = manifest(&dir, "rating", &["a,0.1", "b,0.5", "c,0.9"]);
    refused(&["train", "--data", &few], &["leaves 1 take to train on", "hint: --val-fraction 0"]);
    let one = manifest(&dir, "rating", &["a,0.1", "a,0.5"]);
    let (_, _, err) = etude(&["train", "--data", &one]);
    assert!(err.contains("only 1 performer") && !err.contains("hint"), "{err}");
}

#[test]
fn ratings_on_another_scale_are_read_with_it_and_unrated_takes_dropped() {
    let dir = TempDir::new().unwrap();
    let takes = ["a,1,-1", "a,2,3", "b,3,", "b,4,1", "c,-1,2", "c,1,4", "d,2.5,2", "d,4,1"];
    let data = manifest(&dir, "Rating,rating_rhythm", &takes);
    refused(
        &["train", "--data", &data],
        &["manifest.csv:3", "rating for overall is \"2\"", "hint: --rating-scale 1..4"],
    );
    let out = dir.path().join("run");
    let args = ["train", "--data", &data, "--rating-scale", "1..4", "--epochs", "1"];
    let (code, _, err) = etude(&[&args[..], &["--out", out.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("note: 1 takes dropped: not rated by overall"), "{err}");
    let listed = fs::read_to_string(out.join("predictions.csv")).unwrap();
    assert_eq!(listed.lines().count(), 1 + 7, "{listed}");
    let model = out.join("model.safetensors");
    let eval = ["eval", "--model", model.to_str().unwrap(), "--data", &data, "--split", "all"];
    let (code, _, err) = etude(&[&eval[..], &["--rating-scale", "1..4"]].concat());
    assert_eq!(code, 0, "{err}");
    refused(&eval, &["hint: --rating-scale"]);

    let (code, _, err) = etude(&[&args[..], &["--criterion", "Rhythm"]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("note: 2 takes dropped: not rated by rhythm"), "{err}");
    let (code, _, err) = etude(&["train", "--data", &data, "--rating-scale", "4..1"]);
    assert!(code == 2 && err.contains("the lowest rating, then a higher one"), "{err}");
}

#[test]
fn folds_need_performers_and_out_must_be_writable() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    refused(&["train", "--data", &data, "--folds", "17"], &["17 folds", "16 performers"]);
    refused(&["train", "--data", &data, "--criterion", "charm"], &["charm", "overall"]);
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    refused(&["train", "--data", &data, "--out", file.to_str().unwrap()], &["file"]);
    refused(&["train", "--data", &data, "--out", "/proc/etude"], &["/proc/etude"]);
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("thesis.tex"), "x").unwrap();
    refused(&["train", "--data", &data, "--out", full.to_str().unwrap()], &["thesis.tex"]);
    assert_eq!(files(&full), ["thesis.tex"]);
    // A run that fails leaves no directory behind.
    let out = dir.path().join("out");
    refused(&["train", "--data", "nowhere", "--out", out.to_str().unwrap()], &["nowhere"]);
    assert!(!out.exists());
}

#[test]
fn numbers_are_checked_before_anything_is_read() {
    // Nothing is there to be read: what is refused is the number.
    let number = |option: &str, value: &str, words: &[&str]| {
        let option = format!("--{option}");
        let joint = ["train", "--data", "/nowhere", "--protocol", "joint", &option, value];
        refused(&joint, words);
        let (_, _, err) = etude(&joint);
        assert!(!err.contains("nowhere"), "{option}: {err}");
    };
    for value in ["0", "-0.01", "NaN", "inf", "1e39", "1e-50"] {
        number("lr", value, &["learning rate", "above 0"]);
    }
    for value in ["0", "-1", "NaN", "inf"] {
        number("margin", value, &["margin", value, "above 0"]);
    }
    for (option, name) in
        [("lambda", "weight of the contrastive loss"), ("tau", "tau"), ("weight-decay", "decay")]
    {
        for value in ["-0.5", "NaN", "inf"] {
            number(option, value, &[name, value, "0 or more"]);
        }
    }
    for value in ["-1", "NaN", "inf", "1e9"] {
        number("degraded", value, &["degraded takes for each training take", "0 to 1000"]);
    }
    for option in ["val-fraction", "test-fraction"] {
        for value in ["-0.1", "1", "NaN", "inf", "7"] {
            number(option, value, &["fraction", value, "expected 0"]);
        }
    }
    number("val-fraction", "0.85", &["0.85", "0.2", "nothing to train on"]);
    number("patience", "0", &["patience 0", "1 or more"]);
    number("epochs", "4294967295", &["epochs 4294967295", "1000000"]);
    number("encoder-epochs", "1000001", &["epochs of the encoder 1000001"]);
    for value in ["0", "1", "16777217"] {
        number("bins", value, &["bins", value]);
    }
    number("references", "0", &["--references 0", "--input contour"]);
    // Of folds it takes the performers to tell, but no alignment.
    let start = std::time::Instant::now();
    refused(&["train", "--folds", "201"], &["201 folds", "200 performers"]);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn a_loss_that_is_no_number_is_blamed_on_what_made_it() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let train = ["train", "--data", &data, "--device", "cpu", "--epochs", "3", "--protocol", "joint"];
    refused(&[&train[..], &["--lr", "1e30"]].concat(), &["after update", "lower", "rate"]);
    refused(
        &[&train[..], &["--lr", "1e-6", "--weight-decay", "1e38"]].concat(),
        &["after update", "weight decay"],
    );
    // No learning rate helps with what was out of range from the start.
    let huge = [&train[..], &["--margin", "1e38"]].concat();
    refused(&huge, &["epoch 1", "before the first update", "an option of the loss"]);
    assert!(!etude(&huge).2.contains("lower"));
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let out = dir.path().join("run");
    let args = ["train", "--data", &data, "--epochs", "1", "--out", out.to_str().unwrap()];
    assert_eq!(etude(&args).0, 0);
    let good = fs::read(out.join("model.safetensors")).unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let eval = |path: &str, words: &[&str]| refused(&["eval", "--model", path, "--data", &data], words);
    eval("nowhere.safetensors", &["nowhere.safetensors", "read"]);
    eval(&at("cut", &good[..good.len() / 2]), &["cut", "truncated"]);
    eval(&at("text", b"no model at all, only text"), &["text", "no model file"]);
    let foreign =
        safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(), None).unwrap();
    eval(&at("foreign", &foreign), &["foreign", "etude train"]);
}

#[test]
fn bad_usage_exits_with_2() {
    assert_eq!(etude(&["train", "--protocol", "magic"]).0, 2);
    assert_eq!(etude(&["train", "--batch", "0"]).0, 2);
    assert_eq!(etude(&["train", "--device", "abacus"]).0, 2);
    assert_eq!(etude(&[]).0, 2);
}

#[cfg(feature = "cuda")]
#[test]
fn cards_are_listed_or_their_absence_is_explained() {
    let (code, out, err) = etude(&["devices"]);
    assert_eq!(code, 0, "{err}");
    match etude::device::cuda::cards() {
        Ok(cards) => assert!(cards.iter().all(|c| out.contains(&c.name)), "{out}"),
        Err(why) => {
            assert!(out.contains(&why.to_string()), "{out}");
            refused(&["train", "--device", "cuda", "--epochs", "1"], &["cuda", "driver", "--device cpu"]);
        }
    }
}

#[test]
fn bench_writes_a_page_and_lines_of_json() {
    let dir = TempDir::new().unwrap();
    let page = dir.path().join("page.md");
    let args =
        ["bench", "--device", "cpu", "--quick", "--only", "ceilings,kernels", "--filter", "conv1d B=2 1->4"];
    let (code, out, err) = etude(&[&args[..], &["--out", page.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{err}");
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(out, page);
    for words in ["multiply-adds", "computes on the processor", "| conv1d_fwd", "| conv1d_bwd_w", "floor µs"]
    {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    let (code, out, err) = etude(&[&args[..], &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kernels: Vec<_> = lines.iter().filter_map(|line| line["kernel"].as_str()).collect();
    assert_eq!(kernels, ["conv1d_fwd", "conv1d_bwd_x", "conv1d_bwd_w"]);
    refused(&["bench", "--device", "cpu", "--out", "/nowhere/at/all.md"], &["/nowhere/at", "no such folder"]);
    refused(&["bench", "--device", "cpu", "--out", dir.path().to_str().unwrap()], &["is a folder"]);
    refused(&["bench", "--device", "cpu", "--only", "once", "--filter", "xyz"], &["xyz"]);
    refused(&["bench", "--device", "cpu", "--quick", "--only", "kernels", "--filter", "xyz"], &["xyz"]);
    let (code, out, err) = etude(&["bench", "--device", "cpu", "--only", "info"]);
    assert!(code == 0 && out.starts_with('{'), "{out}{err}");
}

/// A software adapter is a device like another, and said to be none.
#[test]
#[cfg(feature = "wgpu")]
fn bench_checks_a_software_adapter() {
    let mut bench = Command::cargo_bin("etude").unwrap();
    let adapter = std::env::var("ETUDE_ADAPTER").unwrap_or_else(|_| {
        let software = etude::device::wgpu::adapters().into_iter().find(|a| a.is_software());
        software.expect("a software adapter: install Mesa's").index.to_string()
    });
    bench.env("ETUDE_ADAPTER", adapter).args(["bench", "--device", "wgpu", "--quick", "--only", "ceilings"]);
    let out = bench.output().unwrap();
    let (page, err) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{err}");
    assert!(page.contains("GB/s") && page.contains("GFLOP/s in f32"), "{page}");
}

#[test]
fn degraded_takes_are_learned_from_where_asked_for_and_offered_where_takes_are_few() {
    let dir = TempDir::new().unwrap();
    let set = set(&dir);
    let train = |more: &[&str]| {
        let (code, out, err) =
            etude(&[&["train", "--device", "cpu", "--data", &set, "--epochs", "2", "--json"], more].concat());
        assert_eq!(code, 0, "{more:?}: {err}");
        let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        (report["test"]["r2"].as_f64().unwrap(), err)
    };
    let (without, told) = train(&[]);
    assert!(told.contains("takes to learn from are few: --degraded 1"), "{told}");
    let (with, told) = train(&["--degraded", "1"]);
    assert!(told.contains("reference takes with planted errors, 1 for each training take"), "{told}");
    assert!(!told.contains("are few"), "{told}");
    assert_ne!(with, without);
    let (_, told) = train(&["--input", "contour"]);
    assert!(!told.contains("are few"), "nothing to make them of: {told}");
    refused(&["train", "--data", &set, "--input", "contour", "--degraded", "1"], &["made of references"]);
}
