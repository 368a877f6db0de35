//! FBA's auditions: the layout, what is left out and what is refused.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use etude::Error;
use etude::data::{InputKind, InputOptions, Inputs, LoadOptions, Recordings, load};
use tempfile::TempDir;

/// Assessments as the data has them, given (segment, category, value) for those there are, counted from 0.
fn assessments(given: &[(usize, usize, &str)]) -> String {
    let mut text =
        String::from("// assessments: range 0.00 (poor)...1.00 (excellent); -1.0 indicates no assessment.\n");
    for segment in 0..10 {
        let cell =
            |category| given.iter().find(|g| (g.0, g.1) == (segment, category)).map_or("-1.0", |g| g.2);
        let row: Vec<&str> = (0..26).map(cell).collect();
        let _ = writeln!(text, "{}", row.join("\t"));
    }
    text + "\n"
}

const WIND: &[(usize, usize, &str)] = &[
    (0, 1, "0.20"),
    (0, 3, "0.90"),
    (1, 3, "0.80"),
    (1, 4, "0.85"),
    (2, 22, "0.53"),
    (3, 5, "0.40"),
    (4, 3, "0.00"),
];

const SEGMENTS: &str = "// data format: start_time(sec)\tduration(sec)\n\
                        1.000000000\t2.000000000\n4.0\t1.0\n6.0\t1.0\n8.0\t1.0\n9.5\t0.5\n";

/// Ten seconds on the grid of the data: silence but for a pitch a segment, 100 Hz higher each.
fn track() -> String {
    let mut text = String::new();
    for frame in 0..(10.0 * 44100.0 / 256.0) as usize {
        let time = frame as f64 * 256.0 / 44100.0;
        let segments = [(1.0, 3.0), (4.0, 5.0), (6.0, 7.0), (8.0, 9.0), (9.5, 10.0)];
        let at = segments.iter().position(|&(from, to)| (from..to).contains(&time));
        let f0 = at.map_or(0.0, |segment| 100.0 * (segment + 1) as f64);
        let _ = writeln!(text, "{},{f0}", (time * 1000.0).round() / 1000.0);
    }
    text
}

fn student(
    band: &Path,
    id: &str,
    given: &[(usize, usize, &str)],
    segments: Option<&str>,
    track: Option<&str>,
) {
    let dir = band.join(id);
    std::fs::create_dir_all(&dir).unwrap();
    let write = |what: &str, text: &str| std::fs::write(dir.join(format!("{id}_{what}.txt")), text).unwrap();
    write("assessments", &assessments(given));
    segments.into_iter().for_each(|text| write("segment", text));
    track.into_iter().for_each(|text| write("pyin_pitchtrack", text));
}

/// A band of two students, below `FBA2013`.
fn layout() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let band = dir.path().join("FBA2013/middleschoolscores");
    student(&band, "28588", WIND, Some(SEGMENTS), Some(&track()));
    student(&band, "28597", WIND, Some(&SEGMENTS.replace('\t', "  ")), Some(&track()));
    (dir, band)
}

fn read(path: &Path) -> Recordings {
    load(path, &LoadOptions::default()).unwrap()
}

#[test]
fn a_take_is_a_segment_and_a_criterion_a_category_of_it() {
    let (dir, band) = layout();
    let recordings = read(dir.path());
    assert_eq!(
        recordings.criteria,
        [
            "lyricalEtude.artistry",
            "lyricalEtude.noteAccuracy",
            "technicalEtude.noteAccuracy",
            "technicalEtude.rhythmicAccuracy",
            "scalesChromatic.chromatic",
            "scalesMajor.toneQuality",
            "sightReading.noteAccuracy"
        ]
    );
    assert_eq!(recordings.notes, ["2 f0 files read as two columns (time, f0)"]);
    assert!(recordings.references.is_empty());
    assert_eq!(recordings.takes.len(), 10);
    let ids: Vec<&str> =
        recordings.takes[..5].iter().map(|take| take.id.rsplit_once('/').unwrap().1).collect();
    assert_eq!(ids, ["lyricalEtude", "scalesChromatic", "scalesMajor", "sightReading", "technicalEtude"]);
    let technical = &recordings.takes[4];
    assert_eq!(technical.id, "FBA2013/middleschoolscores/28588/technicalEtude");
    assert_eq!((technical.performer.as_str(), technical.pass), ("28588", None));
    assert_eq!(technical.ratings, [None, None, Some(0.8), Some(0.85), None, None, None]);
    assert_eq!(recordings.takes[3].ratings.last(), Some(&Some(0.0)));

    // Each take has its own pitch, from end to end: a second of frames of 5.8 ms.
    let midi = |hz: f64| (69.0 + 12.0 * (hz / 440.0).log2()) as f32;
    for (take, hz) in recordings.takes.iter().zip([100.0, 300.0, 400.0, 500.0, 200.0]) {
        let voiced = take.contour.pitch().iter().filter(|pitch| (**pitch - midi(hz)).abs() < 1e-3).count();
        assert!(voiced + 2 >= take.contour.len(), "{}: {voiced} of {}", take.id, take.contour.len());
    }
    assert_eq!(technical.contour.len(), 172);

    // A band's directory, or a year's, gives the same takes by shorter names.
    let short = read(&band);
    assert_eq!(short.takes[4].id, "28588/technicalEtude");
    assert!(
        short
            .takes
            .iter()
            .zip(&recordings.takes)
            .all(|(a, b)| a.contour == b.contour && a.ratings == b.ratings)
    );
    assert_eq!(read(&dir.path().join("FBA2013")).takes[4].id, "middleschoolscores/28588/technicalEtude");

    let options = InputOptions { criteria: vec!["technicalEtude.noteAccuracy".into()], ..Default::default() };
    let inputs = Inputs::build(&recordings, &options, &|_, _| {}).unwrap();
    assert_eq!((inputs.kind, inputs.examples.len()), (InputKind::Contour, 2));
    assert_eq!(inputs.notes, ["8 takes dropped: not rated by technicalEtude.noteAccuracy"]);

    // All categories of a segment at once; a take as a whole is the mean of what it has.
    let of_segment = recordings.criteria.iter().filter(|name| name.starts_with("technicalEtude."));
    let options = InputOptions { criteria: of_segment.cloned().collect(), ..Default::default() };
    let inputs = Inputs::build(&recordings, &options, &|_, _| {}).unwrap();
    assert_eq!((inputs.criteria.len(), inputs.examples.len()), (2, 2));
    for example in &inputs.examples {
        let known: Vec<f32> = example.ratings.iter().copied().flatten().collect();
        assert!(example.ratings.len() == inputs.criteria.len() && !known.is_empty());
        assert!((example.rating - known.iter().sum::<f32>() / known.len() as f32).abs() < 1e-6);
    }
}

#[test]
fn a_track_of_five_digits_is_read_past_a_hundred_seconds() {
    // From 100 s on, the data's times have two places: two rows in a row may have the same.
    let (dir, band) = layout();
    let mut text = String::new();
    for frame in 0..(110.0 * 44100.0 / 256.0) as usize {
        let time = frame as f64 * 256.0 / 44100.0;
        let places = if time < 100.0 { 1000.0 } else { 100.0 };
        let f0 = if (104.0..106.0).contains(&time) { 220.0 } else { 110.0 };
        let _ = writeln!(text, "{},{f0}", (time * places).round() / places);
    }
    assert!(text.contains("\n100.01,110\n100.01,110\n"), "no equal times in this test");
    let segments = "1\t1\n104\t2\n106.5\t1\n108\t1\n109\t0.5\n";
    student(&band, "28588", WIND, Some(segments), Some(&text));
    let recordings = read(dir.path());
    let technical = recordings.takes.iter().find(|take| take.id.ends_with("28588/technicalEtude")).unwrap();
    let (a3, frames) = (57.0, technical.contour.len());
    let voiced = technical.contour.pitch().iter().filter(|pitch| (**pitch - a3).abs() < 1e-3).count();
    // The times are right to 5 ms, a frame.
    assert!(frames == 344 && voiced + 2 >= frames, "{voiced} of {frames}");
}

#[test]
fn what_cannot_be_told_is_left_out_and_counted() {
    let (dir, band) = layout();
    let seven = format!("{SEGMENTS}9.9\t0.01\n9.91\t0.01\n");
    let track = track();
    let percussion = [(5, 2, "0.40"), (6, 2, "0.20")];
    student(&band, "1", WIND, None, Some(&track));
    student(&band, "2", WIND, Some(SEGMENTS), None);
    student(&band, "3", &percussion, Some(&seven), Some("0,0\n"));
    student(&band, "4", WIND, Some(&seven), Some(&track));
    let silent_and_past_the_end = "1\t1\n0\t1\n6\t1\n8\t1\n500\t1\n";
    student(&band, "5", &WIND[..6], Some(silent_and_past_the_end), Some(&track));
    student(&band, "6", &WIND[4..], Some(SEGMENTS), Some(&track));
    for name in [".DS_Store", "._28588", "notes.txt"] {
        std::fs::write(band.join(name), "x").unwrap();
    }
    let recordings = read(dir.path());
    // Of 5 the first, third and fourth, of 6 the last three.
    assert_eq!(recordings.takes.len(), 10 + 3 + 3);
    assert_eq!(
        recordings.notes,
        [
            "4 f0 files read as two columns (time, f0)",
            "1 students dropped: no segment file",
            "1 students dropped: no pitch track",
            "1 students dropped: percussion, whose segments have no order",
            "1 students dropped: other than five segments",
            "3 segments dropped: not assessed",
            "1 segments dropped: no pitch in them"
        ]
    );
    let alone = tempfile::tempdir().unwrap();
    student(alone.path(), "1", WIND, None, None);
    let error = load(alone.path(), &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no assessed take of 1 students: 1 students dropped: no segment"), "{error}");
}

#[test]
fn what_is_malformed_names_its_file_and_line() {
    let (dir, band) = layout();
    let fault = |what: &str, text: &str| {
        let path = band.join(format!("28588/28588_{what}.txt"));
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let error = load(dir.path(), &LoadOptions::default()).unwrap_err();
        std::fs::write(&path, good).unwrap();
        match error {
            Error::Data { path: at, line, message } => {
                assert_eq!(at, path);
                (line, message)
            }
            other => panic!("{other}"),
        }
    };
    for (text, line, expected) in [
        (assessments(&[(1, 3, "1.5")]), Some(3), "assessment \"1.5\""),
        (assessments(&[(1, 3, "good")]), Some(3), "assessment \"good\""),
        (assessments(&[(1, 3, "-0.5")]), Some(3), "assessment \"-0.5\""),
        (assessments(&[(9, 3, "0.5\t0.5")]), Some(11), "27 assessments, expected 26"),
        ("// Student Assessments.\n0.40\t0.40\t0.90\t0.70\t0.20\n".into(), Some(2), "older layout"),
        (String::new(), None, "0 lines of assessments, expected 10"),
    ] {
        let (at, message) = fault("assessments", &text);
        assert_eq!(at, line, "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
    for text in
        ["1\t2\n3\n", "1\t2\n3\t4\t5\n", "1\t2\n-1\t4\n", "1\t2\n1\t0\n", "1\t2\nnan\t1\n", "1\t2\n1\tinf\n"]
    {
        let (line, message) = fault("segment", text);
        assert_eq!(line, Some(2));
        assert!(message.contains("a start and a duration in seconds"), "{message}");
    }
    let scale = LoadOptions { rating_scale: Some("1..4".parse().unwrap()), ..LoadOptions::default() };
    assert!(load(dir.path(), &scale).unwrap_err().to_string().contains("auditions are on 0..1"));
}
