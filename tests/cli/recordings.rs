//! Recordings and scores: `etude contour`, and training and grading with them.

use crate::eval::etude;
use ::etude::audio::SourceOptions;
use ::etude::data::ContourReader;
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

/// A tune of (MIDI note, seconds) as a WAV file of 16 bits.
pub fn sing(path: &Path, rate: u32, tune: &[(f64, f64)]) {
    let mut samples = Vec::new();
    let mut phase = 0.0;
    for &(note, seconds) in tune {
        let hz = 440.0 * ((note - 69.0) / 12.0).exp2();
        for _ in 0..(seconds * f64::from(rate)) as usize {
            phase += hz / f64::from(rate);
            let x = (1..4).map(|k| (TAU * f64::from(k) * phase).sin() / f64::from(k)).sum::<f64>();
            samples.extend(((8_000.0 * x) as i16).to_le_bytes());
        }
    }
    let mut file = b"RIFF".to_vec();
    file.extend((36 + samples.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend([rate, 2 * rate].map(u32::to_le_bytes).concat());
    file.extend(b"\x02\0\x10\0data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    fs::write(path, file).unwrap();
}

/// The same tune as a MIDI file: 1000 ticks a second.
pub fn score(path: &Path, tune: &[(f64, f64)]) {
    let mut track = b"\0\xff\x51\x03\x07\xa1\x20".to_vec();
    let variable = |ticks: u32| [(ticks >> 7) as u8 | 0x80, (ticks & 0x7f) as u8];
    for &(note, seconds) in tune {
        track.extend([0, 0x90, note as u8, 90]);
        track.extend(variable((1000.0 * seconds) as u32));
        track.extend([0x80, note as u8, 0]);
    }
    track.extend(b"\0\xff\x2f\0");
    let mut file = b"MThd\0\0\0\x06\0\0\0\x01\x01\xf4MTrk".to_vec();
    file.extend((track.len() as u32).to_be_bytes());
    file.extend(track);
    fs::write(path, file).unwrap();
}

pub const TUNE: [(f64, f64); 5] = [(60.0, 0.5), (64.0, 0.3), (67.0, 0.4), (65.0, 0.3), (60.0, 0.5)];

/// With so many notes of it wrong.
pub fn wrong(notes: usize) -> [(f64, f64); 5] {
    let mut tune = TUNE;
    tune.iter_mut().take(notes).for_each(|note| note.0 += 2.0);
    tune
}

#[test]
fn contours_of_recordings_scores_and_f0_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    sing(&dir.path().join("take.wav"), 22_050, &TUNE);
    score(&dir.path().join("melody.mid"), &TUNE);
    fs::write(dir.path().join("broken.wav"), "RIFF____WAVE").unwrap();
    fs::write(dir.path().join("notes.txt"), "not f0\n").unwrap();

    let (code, out, err) = etude(&["contour", &at("take.wav")]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("time,f0,probability\n") && out.lines().count() > 340, "{out}");
    let second: Vec<f64> =
        out.lines().nth(44).unwrap().split(',').map(|cell| cell.parse().unwrap()).collect();
    // Within two cents of C4, a quarter of a second from the start.
    assert!((second[1] - 261.63).abs() < 0.3 && second[2] > 0.7, "{second:?}");

    let (code, out, err) = etude(&[
        "contour",
        "--out",
        &at("out"),
        &at("take.wav"),
        &at("broken.wav"),
        &at("melody.mid"),
        &at("notes.txt"),
    ]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("2 of 4 files could not be read") && err.contains("not read: "), "{err}");
    let written = |name: &str| fs::read_to_string(dir.path().join("out").join(name));
    for name in ["take.csv", "melody.csv"] {
        assert!(written(name).unwrap().starts_with("time,f0,probability\n0,"), "{name}");
    }
    assert!(written("take.svg").unwrap().contains("E4") && written("broken.csv").is_err());

    // The take against its score, and a Tony file of it against itself.
    let (code, out, err) =
        etude(&["contour", "--against", &at("melody.mid"), &at("take.wav"), &at("out/take.csv")]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][0], "voicing recall");
    assert_eq!(lines[1][..5], lines[2][..5]);
    assert!(lines[1][2].parse::<f64>().unwrap() > 0.95, "{out}");
    let (code, tony, _) = etude(&["contour", "--format", "tony", &at("take.wav")]);
    assert!(code == 0 && tony.lines().next().unwrap().starts_with("0."), "{tony}");

    for (args, word) in [
        (vec!["contour", &at("take.wav"), &at("melody.mid")], "--out DIR"),
        (vec!["contour", "--out", &at("out"), &at("take.wav"), &at("out/take.csv")], "the same files"),
        (vec!["contour", &at("none.wav")], "none.wav"),
        (vec!["contour", "--voice", "kazoo", &at("take.wav")], "saxophone"),
    ] {
        let (code, _, err) = etude(&args);
        assert!(code != 0 && err.contains(word) && !err.contains("panicked"), "{args:?}: {err}");
    }
}

#[test]
fn recordings_are_trained_on_heard_once_and_graded_beside_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    score(&dir.path().join("melody.mid"), &TUNE);
    let mut manifest = "path,performer,rating,reference\n".to_string();
    for take in 0..12 {
        let notes = take % 4;
        // Each in a key of its own.
        let tune = wrong(notes).map(|(note, seconds)| (note + f64::from(take as u8) * 0.3, seconds));
        sing(&dir.path().join(format!("{take}.wav")), 22_050, &tune);
        manifest += &format!("{take}.wav,singer {take},{},melody.mid\n", 1.0 - notes as f64 / 4.0);
    }
    fs::write(dir.path().join("set.csv"), manifest).unwrap();
    let train = |out: &str| {
        let args = [
            "train",
            "--device",
            "cpu",
            "--data",
            &at("set.csv"),
            "--epochs",
            "60",
            "--out",
            &at(out),
            "--json",
        ];
        let (code, out, err) = etude(&args);
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        (report["test"].clone(), err)
    };
    let (first, err) = train("a");
    assert!(err.contains("12 recordings read as PCM") && err.contains("1 score read as MIDI"), "{err}");
    assert_eq!(fs::read_dir(dir.path().join("etude-contours")).unwrap().count(), 12);
    // Another run beside it finds what was heard, and has the same bits.
    let (second, err) = train("b");
    assert!(err.contains("12 recordings whose f0 was kept"), "{err}");
    assert_eq!(first, second);

    let model = at("a/model.safetensors");
    let right = ["score", "--device", "cpu", "--model", &model, "--reference", &at("melody.mid"), "--json"];
    let grade = |take: &str| {
        let (code, out, err) = etude(&[&right[..], &[&at(take)]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["grade"].as_f64().unwrap()
    };
    assert!(grade("0.wav") > grade("3.wav") + 0.2, "{} {}", grade("0.wav"), grade("3.wav"));
    // Which notes are wrong, and that they cost more than those that are right.
    let with_notes = |more: &[&str]| {
        let take = at("2.wav");
        let (code, out, err) = etude(&[&right[..right.len() - 1], more, &["--notes", &take]].concat());
        assert_eq!(code, 0, "{err}");
        out
    };
    let take: serde_json::Value = serde_json::from_str(&with_notes(&["--json"])).unwrap();
    assert!(
        (take["key"].as_f64().unwrap() - 0.6).abs() < 0.1
            && (take["tempo"].as_f64().unwrap() - 1.0).abs() < 0.05
    );
    let notes = take["notes"].as_array().unwrap();
    let outcomes: Vec<&str> = notes.iter().map(|note| note["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["wrong", "wrong", "right", "right", "right"]);
    let number = |note: usize, what: &str| notes[note][what].as_f64().unwrap();
    assert!((number(1, "cents") - 200.0).abs() < 10.0 && (number(1, "start") - 0.5).abs() < 0.05);
    assert!(
        (0..2).all(|wrong| (2..5).all(|right| number(wrong, "cost") > number(right, "cost") + 0.01)),
        "{take}"
    );
    let costly = |place: usize| take["spans"][place]["note"].as_u64().unwrap();
    assert_eq!([costly(0).min(costly(1)), costly(0).max(costly(1))], [1, 2]);
    let text = with_notes(&[]);
    assert!(text.contains(" cents above the reference's key, at its tempo"), "{text}");
    assert!(text.contains("costs most: 0.5 to ") && text.matches("wrong").count() == 2, "{text}");
    let csv = with_notes(&["--csv"]);
    assert!(csv.starts_with("id,number,outcome,written,pitch,start,end,cents,late,longer,cost\n"), "{csv}");
    assert!(csv.lines().count() == 6 && csv.lines().nth(2).unwrap().contains(",2,wrong,64.0,"), "{csv}");

    // A batch goes on beside what is broken.
    fs::write(dir.path().join("broken.wav"), "RIFF____WAVEfmt ").unwrap();
    let (code, out, err) = etude(&[&right[..], &[&at("0.wav"), &at("broken.wav"), &at("1.wav")]].concat());
    assert_eq!((code, out.lines().count()), (1, 3), "{err}");
    assert!(err.contains("broken.wav: cannot be decoded"), "{err}");
}

#[test]
fn a_directory_of_scores_stands_for_references() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (code, _, err) = etude(&["synth", "--out", &at("set"), "--takes", "24", "--performers", "12"]);
    assert_eq!(code, 0, "{err}");
    fs::create_dir(dir.path().join("scores")).unwrap();
    let manifest = fs::read_to_string(dir.path().join("set/manifest.csv")).unwrap();
    let column = manifest.lines().next().unwrap().split(',').position(|name| name == "melody").unwrap();
    let melody = manifest.lines().nth(1).unwrap().split(',').nth(column).unwrap().to_string();
    score(&dir.path().join(format!("scores/{melody}.mid")), &TUNE);
    let train = |more: &[&str]| {
        let (set, scores) = (at("set"), at("scores"));
        let args = [
            "train",
            "--device",
            "cpu",
            "--data",
            &set,
            "--scores",
            &scores,
            "--epochs",
            "1",
            "--test-fraction",
            "0",
        ];
        etude(&[&args[..], more].concat())
    };
    let (code, _, err) = train(&[]);
    assert!(code == 0 && err.contains("note: scores of 1 of"), "{err}");
    // One take alone has a melody with a score.
    let (code, _, err) = train(&["--score-only"]);
    assert!(code == 1 && err.contains("leaves 1 take to train on"), "{err}");
    fs::remove_file(dir.path().join(format!("scores/{melody}.mid"))).unwrap();
    let (code, _, err) = train(&[]);
    assert!(code == 1 && err.contains("holds no score of the"), "{err}");
    let (code, _, err) = etude(&["train", "--scores", &at("scores")]);
    assert!(code == 1 && err.contains("the synthetic set has references of its own"), "{err}");
}

/// Where nothing is unvoiced f0 alone does not say what is; the first frame's probability is low.
#[test]
fn a_recording_without_a_pause_is_kept_as_it_was_heard() {
    let dir = tempfile::tempdir().unwrap();
    let (take, keep) = (dir.path().join("take.wav"), dir.path().join("kept"));
    sing(&take, 22_050, &[(69.0, 1.0), (71.0, 1.0)]);
    let options = SourceOptions::default();
    let reader = ContourReader::new(&options, Some(&keep), &|_, _| {});
    let heard = reader.read(&take).unwrap();
    assert!(heard.pitch().iter().all(|&pitch| pitch > 0.0));
    assert_eq!(reader.read(&take).unwrap(), heard);
    assert!(
        reader.lines().iter().any(|line| line == "1 recording whose f0 was kept"),
        "{:?}",
        reader.lines()
    );
}

/// A rendered tune is not one that the built-in model was trained on, nor is its sound.
#[test]
fn the_built_in_model_grades_at_once_and_says_what_it_has_learned_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let long = |tune: [(f64, f64); 5]| [tune, tune].concat();
    score(&dir.path().join("melody.mid"), &long(TUNE));
    let transposed = |tune: Vec<(f64, f64)>, by: f64| -> Vec<(f64, f64)> {
        tune.into_iter().map(|(note, seconds)| (note + by, seconds)).collect()
    };
    let mut held = long(TUNE);
    held[3].1 *= 2.5;
    held[6].1 *= 2.5;
    // The eighth note, which begins at 2.8 s, and what is performed of it.
    let with_eighth = |performed: &[(f64, f64)]| {
        let mut tune = long(TUNE);
        tune.splice(7..8, performed.iter().copied());
        tune
    };
    let silence = f64::NEG_INFINITY;
    let takes = [
        ("right", transposed(long(TUNE), 3.4)),
        ("long", held),
        ("one", transposed([wrong(1), TUNE].concat(), -2.0)),
        ("half", transposed([wrong(3), wrong(2)].concat(), 1.0)),
        ("late", with_eighth(&[(silence, 0.25), (67.0, 0.15)])),
        ("rings", with_eighth(&[(64.0, 0.25), (67.0, 0.15)])),
        ("missing", with_eighth(&[(silence, 0.4)])),
        ("extra", with_eighth(&[(62.0, 0.3), (67.0, 0.4)])),
    ];
    let mut args =
        vec!["score".to_string(), "--device".into(), "cpu".into(), "--json".into(), "--notes".into()];
    args.extend(["--reference".into(), at("melody.mid")]);
    for (name, tune) in &takes {
        sing(&dir.path().join(format!("{name}.wav")), 22_050, tune);
        args.push(at(&format!("{name}.wav")));
    }
    let (code, out, err) = etude(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("built in") && err.contains("not from judges"), "{err}");
    let takes: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let grades: Vec<f64> = takes.iter().map(|take| take["grade"].as_f64().unwrap()).collect();
    let [right, long, one, half, places @ ..] = &grades[..] else { panic!("{out}") };
    assert!(*right > 0.9 && *right > long + 0.05 && *right > one + 0.05, "{grades:?}");
    assert!(*one > half + 0.1 && *half < 0.7, "{grades:?}");
    // What costs most is where the error is.
    for (take, grade) in takes[4..].iter().zip(places) {
        let (id, span) = (take["id"].as_str().unwrap(), &take["spans"][0]);
        let expected = (!id.contains("extra")).then_some(8);
        assert_eq!(span["note"].as_u64(), expected, "{take}");
        assert!((span["start"].as_f64().unwrap() - 2.8).abs() < 0.07 && *grade < right - 0.02, "{take}");
    }
    for take in &takes {
        let [low, high] = [0, 1].map(|end| take["interval"][end].as_f64().unwrap());
        assert!(low < high && high - low < 0.6 && take["pass"].is_null(), "{take}");
    }

    // It compares takes with references, of which there must be some.
    let (code, _, err) = etude(&["score", &at("right.wav")]);
    assert!(code == 1 && err.contains("--reference FILE names one"), "{err}");
}
