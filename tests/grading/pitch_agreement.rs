//! mir_eval's measures of melodies, and f0 written and read back.

use etude::audio::{Contour, F0Options, HOP, MelodyAgreement, Track, TrackFormat, parse_f0};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    reference: [Vec<f64>; 2],
    estimate: [Vec<f64>; 2],
    scores: BTreeMap<String, f64>,
}

fn track([times, f0]: [Vec<f64>; 2]) -> Track {
    Track { times, f0, probability: Vec::new() }
}

#[test]
fn the_measures_are_those_of_mir_eval() {
    let golden = include_str!("../golden/mir_eval/melody.json");
    let cases: BTreeMap<String, Case> = serde_json::from_str(golden).unwrap();
    assert_eq!(cases.len(), 9);
    for (name, case) in cases {
        let ours = MelodyAgreement::of(&track(case.reference), &track(case.estimate)).unwrap();
        for (score, ours) in [
            ("voicing_recall", ours.voicing_recall),
            ("voicing_false_alarm", ours.voicing_false_alarm),
            ("raw_pitch_accuracy", ours.raw_pitch_accuracy),
            ("raw_chroma_accuracy", ours.raw_chroma_accuracy),
            ("overall_accuracy", ours.overall_accuracy),
        ] {
            assert!(
                (ours - case.scores[score]).abs() < 1e-9,
                "{name}: {score} {ours}, {}",
                case.scores[score]
            );
        }
    }
}

#[test]
fn what_is_no_series_is_refused() {
    let good = track([vec![0.0, 0.1], vec![220.0, 0.0]]);
    for bad in [
        track([vec![], vec![]]),
        track([vec![0.0], vec![1.0, 2.0]]),
        track([vec![0.0, 0.0], vec![1.0, 2.0]]),
        track([vec![-0.1, 0.0], vec![1.0, 2.0]]),
        track([vec![f64::NAN, 0.0], vec![1.0, 2.0]]),
        track([vec![0.0, f64::INFINITY], vec![1.0, 2.0]]),
        track([vec![0.0, 0.1], vec![1.0, f64::NAN]]),
    ] {
        assert!(MelodyAgreement::of(&good, &bad).is_err(), "{bad:?}");
        assert!(MelodyAgreement::of(&bad, &good).is_err(), "{bad:?}");
    }
}

#[test]
fn f0_that_is_written_is_read_back() {
    let pitch: Vec<f32> = (0..400).map(|i| if i % 50 < 40 { 60.0 + 0.013 * i as f32 } else { 0.0 }).collect();
    let contour = Contour::from_pitch(pitch, HOP).unwrap();
    let track = Track::of(&contour);
    let read = |track: &Track, format| {
        parse_f0(Path::new("a.csv"), track.csv(format).as_bytes(), &F0Options::default()).unwrap()
    };
    for format in TrackFormat::ALL {
        let read = read(&track, format).contour;
        // Tony's files end with the last voiced frame.
        assert_eq!(read.len(), if format == TrackFormat::Tony { 390 } else { 400 }, "{format}");
        for (a, b) in read.pitch().iter().zip(contour.pitch()) {
            // A thousandth of a Hz.
            assert!((a - b).abs() < 1e-4, "{format}: {a} {b}");
        }
    }
    // In our own format every bit stays.
    let f0 =
        (0..300).map(|i| if i % 7 == 0 { 0.0 } else { 100.0 + f64::from(i).sqrt() }).collect::<Vec<f64>>();
    let times = (0..300).map(|i| f64::from(i) * HOP).collect();
    let probability = f0.iter().map(|f0| (f0 * 0.0017).fract()).collect();
    let track = Track { times, f0, probability };
    let file = read(&track, TrackFormat::Etude);
    assert_eq!((&file.track.times, &file.track.f0), (&track.times, &track.f0));
    assert_eq!(file.contour, Contour::from_f0(&track.times, &track.f0, HOP).unwrap());
}
