//! MASTmelody's layout, each of its quirks in a few small files.

use std::path::{Path, PathBuf};

use etude::Error;
use etude::data::{InputKind, InputOptions, Inputs, LoadOptions, load};
use tempfile::TempDir;

const HEADER: &str = "index,file,1Asli,5Ozan,2Asli,3Cihan,4Cihan,fullAgree,fullAgree_score,majority_score";

/// A data set of these annotation rows (without header) and these f0 files, each of one held note.
fn layout(rows: &[&str], f0_files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("annotations")).unwrap();
    std::fs::create_dir(dir.path().join("f0data")).unwrap();
    let csv = format!("{HEADER}\n{}\n", rows.join("\n"));
    std::fs::write(annotations(&dir), csv).unwrap();
    for name in f0_files {
        let rows: String = (0..200).map(|i| format!("{}\t{}\n", f64::from(i) * 0.0029025, 220.0)).collect();
        std::fs::write(f0(&dir, name), rows).unwrap();
    }
    dir
}

fn annotations(dir: &TempDir) -> PathBuf {
    dir.path().join("annotations/annotations.csv")
}

fn f0(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join("f0data").join(format!("{name}.f0s.txt"))
}

/// The path, line and text of a data error.
fn fault(path: &Path) -> (PathBuf, Option<u64>, String) {
    match load(path, &LoadOptions::default()).unwrap_err() {
        Error::Data { path, line, message } => (path, line, message),
        other => panic!("{other}"),
    }
}

const PLAIN: &[&str] = &[
    "0,510_mel1_per101.wav,1.0,2.0,,4.0,2.0,False,,",
    "1,510_mel1_ref101.wav,4.0,4.0,4.0,4.0,4.0,True,4.0,4.0",
];
const PLAIN_F0: &[&str] = &["510_mel1_per101_fail", "510_mel1_ref101"];

#[test]
fn names_say_melody_singer_and_pass() {
    let rows = [
        "0,510_mel1_per101.wav,4.0,4.0,4.0,4.0,4.0,True,4.0,4.0",
        "1,52_mel2_per101.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0",
        "2,52_mel2_per7.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0",
        "3,52_mel2_ref7.wav,4.0,4.0,4.0,4.0,4.0,True,4.0,4.0",
    ];
    let files = ["510_mel1_per101_pass", "52_mel2_per101_fail", "52_mel2_per7", "52_mel2_ref7"];
    let recordings = load(layout(&rows, &files).path(), &LoadOptions::default()).unwrap();
    let takes: Vec<_> = recordings
        .takes
        .iter()
        .map(|take| {
            (&*take.id, &*take.performer, take.melody.as_deref(), take.pass, take.ratings[0].unwrap())
        })
        .collect();
    assert_eq!(
        takes,
        [
            ("510_mel1_per101", "101", Some("510_mel1"), Some(true), 1.0),
            ("52_mel2_per101", "101", Some("52_mel2"), Some(false), 0.0),
            ("52_mel2_per7", "7", Some("52_mel2"), None, 0.0),
        ]
    );
    let reference = &recordings.references[0];
    assert_eq!((&*reference.id, &*reference.melody), ("52_mel2_ref7", "52_mel2"));
    // 200 rows of 2.9 ms are 100 frames of 5.8 ms.
    assert_eq!(reference.contour.len(), 100);
    assert!((reference.contour.pitch()[50] - 57.0).abs() < 1e-5);
    assert_eq!(recordings.criteria, ["overall"]);
    assert_eq!(recordings.notes, ["4 f0 files read as two columns (time, f0)"]);
}

#[test]
fn an_experts_passes_are_averaged_before_the_experts() {
    let recordings = load(layout(PLAIN, PLAIN_F0).path(), &LoadOptions::default()).unwrap();
    // Asli 1 (one pass left empty), Ozan 2, Cihan (4 + 2)/2 = 3: mean 2, not the plain mean 2.25.
    assert_eq!(recordings.takes[0].ratings, [Some((2.0 - 1.0) / 3.0)]);
}

#[test]
fn what_each_expert_gave_is_kept() {
    let recordings = load(layout(PLAIN, PLAIN_F0).path(), &LoadOptions::default()).unwrap();
    let graders = recordings.graders.as_ref().unwrap();
    assert_eq!(graders.experts, ["Asli", "Ozan", "Asli", "Cihan", "Cihan"]);
    assert_eq!((graders.passes(), graders.scale.levels()), (vec![vec![0, 2], vec![1], vec![3, 4]], Some(4)));
    let grades = [Some(0.0), Some(1.0 / 3.0), None, Some(1.0), Some(1.0 / 3.0)];
    assert_eq!(recordings.takes[0].grades, grades);
    let inputs = Inputs::build(&recordings, &InputOptions::default(), &|_, _| {}).unwrap();
    assert_eq!((&inputs.graders, &inputs.examples[0].grades[..]), (&recordings.graders, &grades[..]));
}

#[test]
fn a_cell_may_say_that_there_is_no_grade() {
    for none in ["-1", "-1.0", "NaN", "NA", "-"] {
        let row = PLAIN[0].replace(",,4.0", &format!(",{none},4.0"));
        let recordings = load(layout(&[&row, PLAIN[1]], PLAIN_F0).path(), &LoadOptions::default()).unwrap();
        assert_eq!(recordings.takes[0].ratings, [Some((2.0 - 1.0) / 3.0)], "{row}");
    }
}

#[test]
fn the_annotations_may_come_from_a_spreadsheet() {
    let dir = layout(PLAIN, PLAIN_F0);
    let expected = load(dir.path(), &LoadOptions::default()).unwrap();
    let text = std::fs::read_to_string(annotations(&dir)).unwrap().replace(',', ";").replace(".0;", ",0;");
    std::fs::write(annotations(&dir), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(load(dir.path(), &LoadOptions::default()).unwrap(), expected);
}

#[test]
fn what_desktops_leave_behind_is_passed_over() {
    let dir = layout(PLAIN, PLAIN_F0);
    let litter = [".DS_Store", "Thumbs.db", "desktop.ini", "._510_mel1_per101_fail.f0s.txt"];
    for name in litter {
        std::fs::write(dir.path().join("f0data").join(name), b"\0\x05\x16\x07").unwrap();
    }
    let recordings = load(dir.path(), &LoadOptions::default()).unwrap();
    assert_eq!((recordings.takes.len(), recordings.notes.len()), (1, 1), "{:?}", recordings.notes);
}

#[test]
fn its_grades_are_on_one_scale_alone() {
    let dir = layout(PLAIN, PLAIN_F0);
    let with = |scale: &str| {
        load(
            dir.path(),
            &LoadOptions { rating_scale: Some(scale.parse().unwrap()), ..LoadOptions::default() },
        )
    };
    assert!(with("1..4").is_ok());
    assert!(with("1..5").unwrap_err().to_string().contains("MASTmelody's grades are on 1..4"));
}

#[test]
fn rows_of_one_recording_are_merged() {
    let rows = [
        "0,51_mel1_per1.wav,,,,,4.0,False,,",
        "1,51_mel1_per2.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0",
        "2,51_mel1_per1.wav,1.0,1.0,1.0,2.0,,False,,",
    ];
    let recordings =
        load(layout(&rows, &["51_mel1_per1_fail", "51_mel1_per2_fail"]).path(), &LoadOptions::default())
            .unwrap();
    // Asli 1, Ozan 1, Cihan 3.
    assert!((recordings.takes[0].ratings[0].unwrap() - (5.0 / 3.0 - 1.0) / 3.0).abs() < 1e-6);
    assert_eq!(recordings.takes.len(), 2);
    let merged = "1 annotation rows merged into an earlier row of the same recording";
    assert_eq!(recordings.notes, ["2 f0 files read as two columns (time, f0)", merged]);

    let rows = [rows[2], rows[1], "7,51_mel1_per1.wav,3.0,,,,,False,,"];
    let dir = layout(&rows, &["51_mel1_per1_fail"]);
    let (path, line, message) = fault(dir.path());
    assert_eq!((path, line), (annotations(&dir), Some(4)));
    assert!(message.contains("column \"1Asli\": grade 3, but line 2 says 1"), "{message}");
}

#[test]
fn what_does_not_match_is_dropped_and_counted() {
    let rows = [
        PLAIN[0],
        PLAIN[1],
        "2,51_mel1_per1.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0",
        "3,51_mel1_per2.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0",
        "4,51_mel1_ref2.wav,4.0,4.0,4.0,4.0,4.0,True,1.0,1.0",
        "5,51_mel1_per3.wav,,,,,,False,,",
    ];
    let files = [
        PLAIN_F0[0],
        PLAIN_F0[1],
        "51_mel1_per3_fail",
        "51_mel1_per9_pass",
        "51_mel1_ref8",
        "51_mel1_ref9",
        "README",
    ];
    let recordings = load(layout(&rows, &files).path(), &LoadOptions::default()).unwrap();
    assert_eq!((recordings.takes.len(), recordings.references.len()), (1, 1));
    let notes = recordings.notes.join("\n");
    for expected in [
        "2 annotated performances dropped: no f0",
        "1 annotated references dropped: no f0",
        "1 performances dropped: no annotation",
        "2 references dropped: no annotation",
        "1 performances dropped: no grade",
        "1 files in f0data left alone",
    ] {
        assert!(notes.contains(expected), "{expected} in {notes}");
    }
    assert_eq!(recordings.notes.len(), 7);
}

#[test]
fn faults_in_the_annotations_name_the_line() {
    for (row, expected) in [
        ("2,51_mel1_per1.wav,5.0,1.0,1.0,1.0,1.0,True,1.0,1.0", "grade \"5.0\", expected 1 to 4"),
        ("2,51_mel1_per1.wav,1.0,0,1.0,1.0,1.0,True,1.0,1.0", "column \"5Ozan\": grade \"0\""),
        ("2,51_mel1_per1.wav,inf,1.0,1.0,1.0,1.0,True,1.0,1.0", "grade \"inf\""),
        ("2,51_mel1_per1.wav,good,1.0,1.0,1.0,1.0,True,1.0,1.0", "grade \"good\""),
        ("2,51_mel1_per1.wav,1.0,1.0", "4 fields, but the header has 10"),
        ("2,,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0", "no file name"),
    ] {
        let dir = layout(&[PLAIN[0], PLAIN[1], row], PLAIN_F0);
        let (path, line, message) = fault(dir.path());
        assert_eq!((path, line), (annotations(&dir), Some(4)), "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
    let dir = layout(PLAIN, PLAIN_F0);
    std::fs::write(annotations(&dir), "index,name\n0,a\n").unwrap();
    assert!(fault(dir.path()).2.contains("no column `file`"));
    std::fs::write(annotations(&dir), "index,file\n0,a\n").unwrap();
    assert!(fault(dir.path()).2.contains("no grade columns"));
    std::fs::write(annotations(&dir), b"index,file,1A\n0,\xff\xfe,3\n").unwrap();
    assert!(fault(dir.path()).2.contains("not UTF-8"));
    std::fs::remove_file(annotations(&dir)).unwrap();
    let (path, _, message) = fault(dir.path());
    assert_eq!(path, annotations(&dir));
    assert!(message.contains("no such file"));
}

#[test]
fn faults_in_an_f0_file_name_the_line() {
    let dir = layout(PLAIN, PLAIN_F0);
    let file = f0(&dir, PLAIN_F0[0]);
    std::fs::write(&file, "0.0\t220\n0.0029\tC4\n").unwrap();
    let (path, line, message) = fault(dir.path());
    assert_eq!((path, line), (file.clone(), Some(2)));
    assert!(message.contains("expected numbers"), "{message}");
    std::fs::write(&file, "").unwrap();
    assert!(fault(dir.path()).2.contains("no frames"));
}

#[test]
fn a_directory_without_takes_is_refused() {
    let dir = layout(PLAIN, &[]);
    let (path, _, message) = fault(dir.path());
    assert_eq!(path, dir.path().join("f0data"));
    assert!(message.contains("no f0 files"));

    assert!(fault(layout(PLAIN, &["51_mel1_per1_fail"]).path()).2.contains("no graded performance"));

    let empty = tempfile::tempdir().unwrap();
    assert!(fault(empty.path()).2.contains("expected a directory with annotations"));
    assert!(matches!(load(empty.path().join("none"), &LoadOptions::default()), Err(Error::Io { .. })));
    let stray = empty.path().join("a.txt");
    std::fs::write(&stray, "x").unwrap();
    assert!(fault(&stray).2.contains("manifest"));
}

#[test]
fn passed_and_failed_at_once_is_refused() {
    let dir = layout(PLAIN, &["510_mel1_per101_fail", "510_mel1_per101_pass"]);
    assert!(fault(dir.path()).2.contains("same recording"));
}

#[test]
fn takes_meet_the_references_of_their_melody_alone() {
    let rows = [PLAIN[0], PLAIN[1], "2,510_mel2_per101.wav,1.0,1.0,1.0,1.0,1.0,True,1.0,1.0"];
    let files = [PLAIN_F0[0], PLAIN_F0[1], "510_mel2_per101_fail"];
    let recordings = load(layout(&rows, &files).path(), &LoadOptions::default()).unwrap();
    assert_eq!(InputKind::default_for(&recordings), InputKind::AlignmentPathNotes);
    let inputs = Inputs::build(&recordings, &InputOptions::default(), &|_, _| {}).unwrap();
    assert_eq!(inputs.examples.len(), 1);
    assert_eq!(inputs.examples[0].id, "510_mel1_per101");
    assert_eq!(inputs.notes, ["1 takes dropped: no reference of their melody"]);
}
