//! A model or a checkpoint that is damaged, or says what cannot be, is refused before anything is made of it.

use crate::seal::seal;
use crate::tiny;
use etude::audio::Scale;
use etude::data::InputKind;
use etude::data::known::KnownTakes;
use etude::device::Cpu;
use etude::model::{self, ModelInfo};
use etude::train::{Hooks, Protocol, State, fit};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

/// The bytes of a small model and of a checkpoint after the first epoch of its training.
fn files() -> (Vec<u8>, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let (model, state) = (dir.path().join("model"), dir.path().join("state"));
    let cpu = Cpu::<f32>::new(1).unwrap();
    let ((inputs, split), options) = (tiny::inputs(), tiny::options());
    let mut keep = |_: &etude::train::Epoch, now: &mut etude::train::Snapshot<'_>| {
        now.state()?.save(&state, &"more")?;
        Ok(ControlFlow::Break(()))
    };
    let hooks = Hooks { resume: None, progress: Some(&mut keep) };
    let fitted = fit(&cpu, &inputs, &split, &options, hooks).unwrap();
    let info = ModelInfo {
        version: "0.1.0".into(),
        net: options.net.clone(),
        input: InputKind::Contour,
        scale: Scale::default(),
        hop: 0.01,
        max_references: 6,
        criterion: "a \"checksum\":\"0000000000000000\", é\u{1b}".into(),
        criteria: vec![],
        protocol: Protocol::Mse,
        epochs: 1,
        threshold: Some(0.5),
        calibration: None,
        interval: None,
        bins: 5,
        seed: 1,
        fold: Some((1, 2)),
        trained_on: None,
        takes: KnownTakes::of(&inputs, &split),
    };
    model::save(&model, &cpu, &fitted.net, &info).unwrap();
    (fs::read(model).unwrap(), fs::read(state).unwrap())
}

fn read_model(bytes: &[u8]) -> Result<(), String> {
    model::parse(Path::new("m"), bytes).map(drop).map_err(|e| e.to_string())
}

fn read_state(bytes: &[u8]) -> Result<(), String> {
    State::parse::<String>(Path::new("c"), bytes).map(drop).map_err(|e| e.to_string())
}

/// Name, shape and bytes.
type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

type Read = fn(&[u8]) -> Result<(), String>;

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (model, state) = files();
    for (name, bytes, read) in [("model", model, read_model as Read), ("checkpoint", state, read_state)] {
        read(&bytes).unwrap();
        // Every third bit: all of the header, all places of a byte.
        for bit in (0..8 * bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "{name}: bit {bit} of {}", 8 * bytes.len());
        }
        for len in 0..bytes.len() {
            let error = read(&bytes[..len]).unwrap_err();
            assert!(error.contains("truncated"), "{name}, {len} bytes: {error}");
        }
        for more in [&b"\0"[..], b" ", &bytes] {
            assert!(read(&[&bytes, more].concat()).is_err(), "{name}: bytes at its end");
        }
        // A tensor that is named twice.
        let from = bytes.windows(9).position(|b| b == b"},\"conv1." || b == b"},\"best/c").unwrap() + 1;
        let to = from + bytes[from..].iter().position(|&b| b == b'}').unwrap() + 1;
        let mut twice = [&bytes[..to], &bytes[from..]].concat();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) + (to - from) as u64;
        twice[..8].copy_from_slice(&header.to_le_bytes());
        assert!(read(&twice).unwrap_err().contains("damaged"), "{name}: a tensor twice");
        // What belongs to a text of the record is not taken for the checksum.
        let mut again = bytes.clone();
        seal(&mut again);
        assert!(again == bytes, "{name}");
    }
}

/// A file of the same tensors, but for what `change` makes of the record and of them, with a checksum that is right.
fn changed(bytes: &[u8], change: impl FnOnce(&mut String, &mut Tensors)) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let (key, mut record) = header.metadata().clone().unwrap().into_iter().next().unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Tensors =
        file.tensors().into_iter().map(|(n, t)| (n, t.shape().to_vec(), t.data().to_vec())).collect();
    tensors.sort();
    change(&mut record, &mut tensors);
    let views: Vec<_> =
        tensors.iter().map(|(n, s, d)| (n, TensorView::new(Dtype::F32, s.clone(), d).unwrap())).collect();
    let mut out = safetensors::serialize(views, Some(HashMap::from([(key, record)]))).unwrap();
    seal(&mut out);
    out
}

fn refused(bytes: &[u8], read: Read, words: &[&str]) {
    let error = read(bytes).unwrap_err();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn a_record_that_cannot_be_is_refused() {
    let (model, _) = files();
    read_model(&changed(&model, |_, _| {})).unwrap();
    let with = |from: &str, to: &str, words: &[&str]| {
        let bytes = changed(&model, |record, _| {
            assert_eq!(record.matches(from).count(), 1, "{from} in {record}");
            *record = record.replace(from, to);
        });
        refused(&bytes, read_model, words);
    };
    // Sizes that nothing of this file has are not made first.
    with("\"hidden\":2", "\"hidden\":60000000", &["disagree", "hidden.weight", "[60000000, 3]", "[2, 3]"]);
    with("\"hidden\":2", "\"hidden\":18446744073709551615", &["disagree", "hidden.weight"]);
    with("\"hidden\":2", "\"hidden\":-2", &["metadata"]);
    with("\"taps\":5", "\"taps\":6", &["disagree", "conv1.weight"]);
    with("\"frames\":16", "\"frames\":18446744073709551615", &["frames", "65536"]);
    with("\"frames\":16", "\"frames\":4", &["fewer than its 5 taps"]);
    with("\"stride\":2", "\"stride\":4294967297", &["stride"]);
    with("\"stride\":2", "\"stride\":0", &["stride"]);
    with("\"dropout\":0.0", "\"dropout\":1e30", &["dropout"]);
    with("\"input\":\"contour\"", "\"input\":\"alignment-path\"", &["input channels"]);
    with("\"input\":\"contour\"", "\"input\":\"audio\"", &["metadata", "audio"]);
    with("\"hop\":0.01", "\"hop\":-0.01", &["hop -0.01"]);
    with("\"hop\":0.01", "\"hop\":1e9", &["hop"]);
    with("\"epochs\":1", "\"epochs\":0", &["epochs"]);
    with("\"threshold\":0.5", "\"threshold\":1e30", &["threshold"]);
    let calibrated = |scale: &str, map: &str| {
        format!("\"threshold\":0.5,\"calibration\":{{\"scale\":\"{scale}\",\"map\":{map}}}")
    };
    with("\"threshold\":0.5", &calibrated("1..4", r#"{"x":[0.5],"y":[2.0]}"#), &["knots of a calibration"]);
    let few = r#""threshold":0.5,"interval":{"predictions":[0.5],"errors":[0.0]}"#;
    with("\"threshold\":0.5", few, &["an interval of 1 predictions", "from 9 to 4096"]);
    with("\"threshold\":0.5", &calibrated("0..1", r#"{"x":[0.5],"y":[1.0]}"#), &["without whole steps"]);
    with("\"bins\":5", "\"bins\":1", &["bins"]);
    with("\"fold\":[1,2]", "\"fold\":[3,2]", &["fold 3 of 2"]);
    with("\"seed\":1", "\"seed\":1,\"sead\":2", &["metadata", "sead"]);
    with("\"hidden_relu\":false", "\"hidden_relu\":false,\"width\":2", &["metadata", "width"]);
    with("\"format\":3", "\"format\":2", &["older version"]);
    with("\"format\":3", "\"format\":4", &["newer version"]);
    with("\"checksum\":", "\"check\":", &["metadata", "check"]);
    let long = format!("\"version\":{}", "[".repeat(100_000));
    with("\"version\":\"0.1.0\"", &long, &["metadata"]);
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let (model, state) = files();
    for (bytes, read) in [(&model, read_model as Read), (&state, read_state)] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bytes = changed(bytes, |_, tensors| {
                let last = tensors[2].2.len() - 4;
                tensors[2].2[last..].copy_from_slice(&value.to_le_bytes());
            });
            refused(&bytes, read, &["not finite"]);
        }
    }
    let bytes = changed(&model, |_, tensors| tensors[0].0 = "conv9.weight".into());
    refused(&bytes, read_model, &["disagree", "missing"]);
    let bytes = changed(&model, |_, tensors| drop(tensors.pop()));
    refused(&bytes, read_model, &["disagree", "tensors"]);
    let bytes = changed(&model, |_, tensors| tensors.push(("more".into(), vec![1], vec![0; 4])));
    refused(&bytes, read_model, &["disagree", "tensors"]);
    let bytes = changed(&model, |_, tensors| tensors.push(("none".into(), vec![0, 1 << 40], vec![])));
    refused(&bytes, read_model, &["disagree", "tensors"]);
}

#[test]
fn a_checkpoint_that_cannot_be_is_refused_where_it_is_taken_up() {
    let (_, state) = files();
    let dir = TempDir::new().unwrap();
    let cpu = Cpu::<f32>::new(1).unwrap();
    let ((inputs, split), options) = (tiny::inputs(), tiny::options());
    let resumed = |bytes: &[u8]| {
        let path = dir.path().join("state");
        fs::write(&path, bytes).unwrap();
        let (state, _) = State::read::<String>(&path).map_err(|e| e.to_string())?;
        let hooks = Hooks { resume: Some(state), progress: None };
        fit(&cpu, &inputs, &split, &options, hooks).map(drop).map_err(|e| e.to_string())
    };
    resumed(&changed(&state, |_, _| {})).unwrap();
    let with = |from: &str, to: &str, words: &[&str]| {
        let bytes = changed(&state, |record, _| {
            assert!(record.contains(from), "{from} in {record}");
            *record = record.replacen(from, to, 1);
        });
        let error = resumed(&bytes).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    };
    with("\"phase\":0", "\"phase\":18446744073709551615", &["does not fit", "phase"]);
    with("\"epoch\":1", "\"epoch\":18446744073709551615", &["does not fit", "epoch"]);
    with("\"epoch\":1", "\"epoch\":0", &["does not fit", "counts 1 epochs"]);
    with("\"done\":1", "\"done\":0", &["does not fit", "counts 0 epochs"]);
    with("\"done\":1", "\"done\":2", &["does not fit", "counts 2 epochs"]);
    with("\"since\":0", "\"since\":3", &["does not fit"]);
    with("\"steps\":", "\"steps\":1", &["does not fit", "steps"]);
    with("\"since\":0", "\"since\":0,\"x\":1", &["metadata"]);
    let one_less = changed(&state, |_, tensors| drop(tensors.remove(0)));
    assert!(resumed(&one_less).is_err());
    let wide = changed(&state, |_, tensors| {
        let t = tensors.iter_mut().find(|t| t.0.starts_with("net/")).unwrap();
        (t.1, t.2) = (vec![1_000_000], vec![0; 4_000_000]);
    });
    assert!(resumed(&wide).unwrap_err().contains("shape"));
}

/// The seeds of the fuzz targets, and all that they ever failed on. `ETUDE_SEEDS=write` writes the seeds, for where the format
/// changes.
#[test]
fn the_fuzz_targets_inputs_are_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let (model, state) = files();
    for (name, seed, read) in [("model", model, read_model as Read), ("checkpoint", state, read_state)] {
        let (dir, file) = (corpus.join(name), corpus.join(name).join("small.safetensors"));
        if std::env::var_os("ETUDE_SEEDS").is_some_and(|v| v == "write") {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&file, &seed).unwrap();
        }
        read(&fs::read(&file).unwrap()).unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let mut bytes = fs::read(entry.unwrap().path()).unwrap();
            let _ = read(&bytes);
            seal(&mut bytes);
            let _ = read(&bytes);
        }
    }
}
