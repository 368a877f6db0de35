//! f0 files of every format that the reader tells apart, as trackers and editors write them, and what is refused.

use etude::Error;
use etude::audio::Contour;
use etude::audio::contour::midi_to_hz;
use etude::audio::f0::{F0Format::*, *};
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/f0")
}

fn hop(hop: f64) -> F0Options {
    F0Options { hop, ..F0Options::default() }
}

/// f0 in Hz to a tenth, 0 where unvoiced.
fn hz(contour: &Contour) -> Vec<f64> {
    let hz = |&p: &f32| if p > 0.0 { (midi_to_hz(f64::from(p)) * 10.0).round() / 10.0 } else { 0.0 };
    contour.pitch().iter().map(hz).collect()
}

fn parse(bytes: impl AsRef<[u8]>, options: &F0Options) -> etude::Result<F0File> {
    parse_f0(Path::new("a.txt"), bytes.as_ref(), options)
}

/// What a text is read as at a hop of 10 ms.
fn read(text: &str) -> (Vec<f64>, F0Format) {
    let file = parse(text, &hop(0.01)).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    (hz(&file.contour), file.format)
}

/// The line and text of the error that a text gives.
fn fault(text: impl AsRef<[u8]>) -> (Option<u64>, String) {
    match parse(text, &F0Options::default()) {
        Err(Error::Data { line, message, .. }) => (line, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_format_is_told_by_what_it_holds() {
    const MS: &str = "times are milliseconds, as their name says";
    const DOUBT: &str = "rows of little confidence are unvoiced";
    const SPREAD: &str = "times that rounding made equal are spread evenly";
    let midi = "f0 in MIDI note numbers";
    let tune: &[f64] = &[0.0, 440.0, 442.5, 0.0];
    let tier: &[f64] = &[440.0, 442.5, 441.0];
    for (name, step, format, notes, expected) in [
        (
            "two-columns.csv",
            0.01,
            TwoColumns,
            &[][..],
            &[0.0, 440.0, 442.5, 0.0, 220.0, 221.0, 219.5, 0.0][..],
        ),
        ("tabs-crlf-bom.txt", 0.01, TwoColumns, &[], tune),
        ("names-with-blanks.txt", 0.01, TwoColumns, &[], tune),
        ("milliseconds.csv", 0.0058, TwoColumns, &[MS], tune),
        ("crepe.csv", 0.01, Crepe, &[DOUBT], tune),
        ("crepe-no-names.txt", 0.01, Crepe, &[DOUBT], tune),
        ("librosa.csv", 256.0 / 22050.0, Librosa, &[], tune),
        ("librosa-index-nan.csv", 256.0 / 22050.0, Librosa, &[], tune),
        ("sonic-annotator.csv", 256.0 / 44100.0, SonicAnnotator, &[], tune),
        ("sonic-annotator-label.csv", 256.0 / 44100.0, SonicAnnotator, &[], &[187.3, 440.0, 442.5]),
        ("pyin-nan.csv", 256.0 / 44100.0, TwoColumns, &[], tune),
        ("mir-eval.txt", 0.01, TwoColumns, &[], tune),
        ("praat-listing.txt", 0.01, TwoColumns, &[], tune),
        ("long.PitchTier", 0.01, PraatPitchTier, &[], tier),
        ("short-utf16be.PitchTier", 0.01, PraatPitchTier, &[], tier),
        ("utf16le.PitchTier", 0.01, PraatPitchTier, &[], tier),
        ("spreadsheet.PitchTier", 0.01, PraatPitchTier, &[], tier),
        ("long.Pitch", 0.01, PraatPitch, &[], &[0.0, 440.0, 442.5, 0.0, 0.0]),
        ("short.Pitch", 0.01, PraatPitch, &[], &[0.0, 440.0, 442.5, 0.0, 0.0]),
        ("decimal-commas.csv", 0.01, TwoColumns, &[], tune),
        ("decimal-commas-tabs.txt", 0.01, TwoColumns, &[], tune),
        ("midi.csv", 0.01, TwoColumns, &[midi], tune),
        (
            "fba-rounded.txt",
            0.005,
            TwoColumns,
            &[SPREAD],
            &[221.0, 221.0, 221.0, 221.0, 222.0, 222.0, 222.0, 222.0, 0.0, 223.0, 223.0],
        ),
        ("comments.txt", 0.01, TwoColumns, &[MS], &[0.0, 440.0, 442.5]),
        ("trailing.csv", 0.01, TwoColumns, &[], &[0.0, 440.0, 442.5]),
        ("r-row-names.csv", 0.01, TwoColumns, &[], &[0.0, 440.0, 442.5]),
        ("old-mac.txt", 0.01, TwoColumns, &[], &[0.0, 440.0, 442.5]),
    ] {
        let file = read_f0(corpus().join(name), &hop(step)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((file.format, &file.notes[..]), (format, notes), "{name}");
        assert_eq!(
            hz(&file.contour),
            expected.iter().map(|f| (f * 10.0).round() / 10.0).collect::<Vec<_>>(),
            "{name}"
        );
    }
    // Unvoiced rows left out: a tenth of a second between two notes.
    let tony = hz(&read_f0(corpus().join("tony.csv"), &F0Options::default()).unwrap().contour);
    assert_eq!((tony.len(), tony.iter().filter(|f| **f > 0.0).count()), (29, 6), "{tony:?}");
    assert!(tony[..3].iter().chain(&tony[26..]).all(|f| *f > 0.0));
}

#[test]
fn rows_without_times_take_a_hop() {
    let given = F0Options { hop: 0.01, row_hop: Some(0.01), ..F0Options::default() };
    for (name, format, notes) in [
        ("one-column.txt", OneColumn, &[][..]),
        ("one-column-named.csv", OneColumn, &[]),
        ("frame-numbers.csv", TwoColumns, &["times are frame numbers, of the length given"]),
        ("samples.txt", TwoColumns, &["times are frame numbers, of the length given"]),
    ] {
        let path = corpus().join(name);
        let file = read_f0(&path, &given).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((file.format, &file.notes[..]), (format, notes), "{name}");
        assert_eq!(hz(&file.contour)[..3], [0.0, 440.0, 442.5], "{name}");
        let error = read_f0(&path, &F0Options::default()).unwrap_err().to_string();
        assert!(error.contains("say how many seconds apart"), "{name}: {error}");
    }
    // A hop does nothing to times that are times.
    let file = read_f0(corpus().join("two-columns.csv"), &given).unwrap();
    assert_eq!(hz(&file.contour).len(), 8);
}

#[test]
fn options_that_cannot_be_are_refused_first() {
    for options in [
        hop(0.0),
        hop(f64::NAN),
        F0Options { row_hop: Some(0.0), ..F0Options::default() },
        F0Options { row_hop: Some(f64::INFINITY), ..F0Options::default() },
        F0Options { min_confidence: 1.5, ..F0Options::default() },
        F0Options { min_confidence: f64::NAN, ..F0Options::default() },
    ] {
        assert!(matches!(read_f0("/no/such/file", &options), Err(Error::Config(_))), "{options:?}");
    }
    assert!(matches!(read_f0("/no/such/file", &F0Options::default()), Err(Error::Io { .. })));
}

#[test]
fn any_separator_and_any_names() {
    let tune = (vec![440.0, 0.0, 442.5], TwoColumns);
    for text in [
        "0.0\t440\n0.01\t0\n0.02\t442.5\n",
        "0.0 440\r\n\r\n0.01 0\r\n0.02 442.5",
        "  0.0   440  \n  0.01   0  \n  0.02  442.5\n",
        "time,f0\n0.0,440\n0.01,0\n0.02,442.5",
        "# a comment\n0.0; 440\n0.01; 0\n0.02; 442.5\n",
        "0.0, 440\n0.01,\t0\n0.02 , 442.5\n",
        "0,0 440\n0,01 0\n0,02 442,5\n",
        "\"0.0\",\"440\"\n\"0.01\",\"0\"\n\"0.02\",\"442.5\"\n",
        "Onset [s];Fundamental frequency (Hz)\n0;440\n0.01;;\n0.02;442.5\n",
        "Pitch (Hz),Time (s)\n440,0.0\n0,0.01\n442.5,0.02\n",
        "time f0\n[s] [Hz]\n0 440\n0.01 0\n0.02 442.5\n",
        "\"t (ms)\"\t\"f0\"\n0\t440\n10\tNA\n20\t442.5\n",
        "x,y\n0,440\n0.01,N/A\n0.02,442.5\n",
        "f0_midi,time,f0_hz\n69,0,440\n0,0.01,-inf\n69,0.02,442.5\n",
        "file,time,loudness,f0\nt.wav,0,-3,440\n,0.01,-2,NULL\n,0.02,-99,442.5\n",
        "0\t0.0\t440\n1\t0.01\t0\n2\t0.02\t442.5\n",
        "0.0 440 \n0.01 inf\n0.02 442.5\n",
        "0.0 440\n0.01 1.#QNAN\n0.02 442.5 \t \n",
    ] {
        assert_eq!(read(text), tune, "{text:?}");
    }
    assert_eq!(read("5 440\n"), (vec![440.0], TwoColumns), "one row has any time");
}

#[test]
fn what_is_voiced_may_be_said_in_many_ways() {
    let tune = |text: &str| read(text).0;
    // The words decide, not the probability, which is low for many a voiced frame.
    assert_eq!(tune("time,f0,voiced_prob\n0,440,0.1\n0.01,nan,0.01\n"), [440.0, 0.0]);
    // Where nothing else does, it must.
    assert_eq!(tune("time,f0,voiced_prob\n0,440,0.9\n0.01,441,0.01\n"), [440.0, 0.0]);
    assert_eq!(tune("time,f0,voiced\n0,440,1\n0.01,441,0\n"), [440.0, 0.0]);
    let sure = F0Options { min_confidence: 0.95, ..hop(0.01) };
    let crepe = parse("time,frequency,confidence\n0,440,0.9\n0.01,441,0.96\n", &sure).unwrap();
    assert_eq!(hz(&crepe.contour), [0.0, 441.0]);
    let midi = F0Options { unit: F0Unit::Midi, ..hop(0.01) };
    let file = parse("0 69\n0.01 0\n0.02 57.0\n", &midi).unwrap();
    assert_eq!((hz(&file.contour), file.notes), (vec![440.0, 0.0, 220.0], vec!["f0 in MIDI note numbers"]));
    let file = parse("time,f0 [Hz]\n0,440\n", &midi).unwrap();
    assert_eq!((hz(&file.contour), file.notes), (vec![440.0], vec!["f0 in Hz, as its name says"]));
    assert!(parse("0 440\n", &midi).unwrap_err().to_string().contains("a.txt:1: f0 440 is no MIDI note"));
    let file = parse("0 69\n0.01 0\n0.02 57\n", &hop(0.01)).unwrap();
    assert!(file.notes[0].contains("are they MIDI note numbers"), "{:?}", file.notes);
}

#[test]
fn times_in_another_unit_are_refused() {
    for (text, expected) in [
        ("0 440\n1 440\n2 440\n", "frame or sample numbers, 1 from row to row"),
        ("0 440\n256 440\n512 440\n", "frame or sample numbers, 256 from row to row"),
        ("0 440\n10 440\n20 440\n", "name the column time (ms)"),
        (
            "0 440\n5.8 440\n11.6 440\n",
            "rows are 5.8 s apart, by the median; expected 0.0005 to 0.5: if they are ms",
        ),
        ("0.0 440\n0.0001 440\n0.0002 440\n", "rows are 0.0001 s apart"),
        ("time (s),f0\n0,440\n1,440\n2,440\n", "rows are 1 s apart"),
        ("time (ms),f0\n0,440\n0.01,440\n0.02,440\n", "rows are 0.00001 s apart"),
        ("time [µs],f0\n0,440\n", "expected seconds or ms"),
        ("time,f0 (cents)\n0,4400\n", "no column of f0 in Hz or MIDI"),
        ("frame,f0\n1,440\n3,440\n", "frame or sample numbers"),
    ] {
        let message = fault(text).1;
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn a_stray_time_takes_no_hours() {
    let mut text: String = (0..400).map(|row| format!("{:.2} 440\n", f64::from(row) * 0.01)).collect();
    text += "1000000 440\n";
    let (line, message) = fault(&text);
    assert_eq!(line, Some(401));
    assert!(message.contains("is 999996 s after the one before"), "{message}");
    // Many gaps, none of them long: 400 rows of 10 ms over an hour and a half.
    let jumps = |row: u32| f64::from(row) * 0.01 + f64::from(row / 20) * 250.0;
    let text: String = (0..400).map(|row| format!("{:.2} 440\n", jumps(row))).collect();
    let (line, message) = fault(&text);
    assert!(line.is_some_and(|line| line % 20 == 1) && message.contains("400 rows"), "{line:?} {message}");
    assert!(
        Contour::from_f0(&[0.0, 0.01, 400.0], &[440.0; 3], 0.01).unwrap_err().to_string().contains("row 2")
    );
    // A rest of two minutes is a rest.
    assert_eq!(read("0 440\n0.01 440\n120 440\n120.01 440\n").0.len(), 12002);
}

#[test]
fn equal_times_are_of_rounding_or_refused() {
    // Ten seconds of rows 256/44100 s apart from 95 s on, to five digits as MATLAB's `dlmwrite` writes them.
    let digits = |time: f64| if time < 100.0 { format!("{time:.3}") } else { format!("{time:.2}") };
    let time = |row: u32| 95.0 + f64::from(row) * 256.0 / 44100.0;
    let text: String = (0..1723).map(|row| format!("{},{}\n", digits(time(row)), 200 + row / 10)).collect();
    let file = parse(&text, &F0Options::default()).unwrap();
    assert_eq!(file.contour.len(), 1723);
    for (row, f0) in hz(&file.contour).into_iter().enumerate() {
        // A row is at most a digit, 10 ms, off: two rows.
        let expected = (row.saturating_sub(2)..=row + 2).map(|row| 200.0 + (row / 10) as f64);
        assert!({ expected }.any(|e| (e - f0).abs() < 0.11), "row {row}: {f0}");
    }
    assert_eq!(fault("0.001 440\n0.007 440\n0.007 441\n0.013 440\n").0, Some(3));
    assert_eq!(fault("0.1 440\n0.1 440\n").0, Some(2));
    assert_eq!(fault("0.02 440\n0.03 440\n0.01 440\n").0, Some(3));
    // Before a gap, rows stay together.
    assert_eq!(read("0.00 440\n0.01 440\n0.01 441\n0.02 440\n0.02 440\n5.00 220\n").0[6..490], [0.0; 484]);
}

#[test]
fn a_bad_file_names_its_line() {
    for (text, line, expected) in [
        ("0 440\n0.1 x\n", Some(2), "expected numbers"),
        ("0 440 7\n", Some(1), "3 columns without names"),
        ("0 440\n0.1 440 7\n", Some(2), "3 columns, but 2 above"),
        ("0 440\n0.1\n", Some(2), "1 columns, but 2 above"),
        ("0 440\ntime f0\n", Some(2), "expected numbers"),
        ("0 440\n0.1 1\n", Some(2), "f0 1 Hz is outside"),
        ("0 440\n0.1 20000\n", Some(2), "f0 20000 Hz is outside"),
        ("0 440\n0.1 1e999\n", Some(2), "f0 inf"),
        ("0 440\nnan 440\n", Some(2), "time NaN"),
        ("time,frequency,confidence\n0,440,0.5\n0.1,440,87\n", Some(3), "confidence 87"),
        ("a,b,c\n0,440,7\n", None, "no column of f0"),
        ("", None, "empty"),
        ("# only words\n", None, "expected numbers"),
        ("words\n", None, "found \"words\""),
        ("0 0\n0.01 -1\n", None, "no voiced frame"),
        ("0 nan\n0.01 nan\n", None, "no voiced frame"),
        ("File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n", None, "\"TextGrid\""),
        ("\"ooTextFile\"\n\"PitchTier\"\n0 1 3\n0.1 440\n0.2\n", Some(5), "the file ends here"),
        ("\"ooTextFile\"\n\"PitchTier\"\n0 1 1e300\n0.1 440\n", Some(4), "the file ends here"),
        ("\"ooTextFile\"\n\"PitchTier\"\n0 1 -1\n", Some(3), "the number of points is -1"),
        ("\"ooTextFile\"\n\"PitchTier\"\n0 1 2\n0.2 440\n0.1 440\n", Some(5), "goes back"),
        ("\"ooTextFile\"\n\"Pitch 1\"\n0 1 9 0.1 0 600 1\n0 1 1e9", Some(4), "the file ends here"),
        ("ooBinaryFile\u{9}PitchTier", None, "binary Praat file"),
        ("RIFF\0\0\0\0WAVE", None, "is no text file"),
    ] {
        let (at, message) = fault(text);
        assert!(message.contains(expected), "{text:?}: {message}");
        assert_eq!(at, line, "{text:?}: {message}");
    }
    assert_eq!(fault([0xff, 0xfe, b'0', 0, 0, 0xd8]).1, "begins as UTF-16 text but is none, or is cut short");
}

#[test]
fn a_long_line_gives_a_short_message() {
    for long in
        ["x".repeat(5_000_000), "0 ".repeat(2_000_000), "\u{1b}[2J".repeat(1_000_000), "0,".repeat(2_000_000)]
    {
        for text in
            [long.clone(), format!("0 440\n{long}\n"), format!("{long}\n0 440\n"), format!("{long},{long}\n")]
        {
            // Of one, without numbers, the names are what is long.
            let Err(error) = parse(&text, &F0Options::default()) else { continue };
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains('\u{1b}'), "{} bytes", message.len());
        }
    }
}

/// The seeds of the fuzz target, and what it found, cut anywhere: nothing panics, nothing long comes of a short file.
#[test]
fn the_corpus_replays() {
    let mut count = 0;
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for row_hop in [None, Some(0.01)] {
            for unit in F0Unit::ALL {
                let read = |bytes: &[u8]| {
                    if let Ok(file) = parse(bytes, &F0Options { row_hop, unit, ..F0Options::default() }) {
                        assert!(file.contour.seconds() < 3600.0);
                    }
                };
                (0..bytes.len()).for_each(|cut| read(&bytes[..cut]));
                read(&bytes);
            }
        }
        count += 1;
    }
    assert!(count >= 30, "{count}");
}
