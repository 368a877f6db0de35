//! Manifests: what they hold, what is refused, and the synthetic set there and back.

use std::path::Path;

use etude::Error;
use etude::data::synth::{self, SynthOptions};
use etude::data::{InputOptions, Inputs, LoadOptions, Recordings, Split, load};
use tempfile::TempDir;

/// A manifest of these lines beside f0 files `a.txt`, `b.csv` and `ref/1.txt`, `ref/2.txt`.
fn layout(lines: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ref")).unwrap();
    std::fs::write(dir.path().join("a.txt"), "0.0 440\n0.006 440\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "time,f0\n0.0,220\n0.006,220\n").unwrap();
    std::fs::write(dir.path().join("ref/1.txt"), "0.0\t440\n").unwrap();
    std::fs::write(dir.path().join("ref/2.txt"), "0.0\t880\n").unwrap();
    std::fs::write(dir.path().join("manifest.csv"), lines.join("\n")).unwrap();
    dir
}

/// The notes but what the f0 files are.
fn notes(recordings: &Recordings) -> Vec<&str> {
    recordings.notes.iter().map(String::as_str).filter(|note| !note.contains(" read as ")).collect()
}

fn read(lines: &[&str]) -> Recordings {
    load(layout(lines).path(), &LoadOptions::default()).unwrap()
}

/// The line and text of the error that these lines give.
fn fault(lines: &[&str]) -> (Option<u64>, String) {
    let dir = layout(lines);
    match load(dir.path().join("manifest.csv"), &LoadOptions::default()).unwrap_err() {
        Error::Data { path, line, message } => {
            assert_eq!(path, dir.path().join("manifest.csv"));
            (line, message)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_fewest_columns() {
    let recordings = read(&["path,performer,rating", "b.csv,x,0.25", "a.txt,y,1"]);
    assert_eq!(recordings.criteria, ["overall"]);
    let ids: Vec<_> = recordings.takes.iter().map(|take| (&*take.id, &*take.performer)).collect();
    assert_eq!(ids, [("a.txt", "y"), ("b.csv", "x")]);
    assert_eq!(recordings.takes[1].ratings, [Some(0.25)]);
    assert!((recordings.takes[1].contour.pitch()[0] - 57.0).abs() < 1e-5);
    assert!(recordings.references.is_empty());
    assert!(recordings.takes.iter().all(|take| take.pass.is_none() && take.split.is_none()));
}

#[test]
fn all_columns_in_any_order() {
    let recordings = read(&[
        "split, rating_pitch ,pass,rating_rhythm,performer,reference,path",
        "train,0.5,PASS,0.75,x,ref/1.txt ; ref/2.txt,a.txt",
        "test,0,0,1,\"y, z\",,b.csv",
    ]);
    assert_eq!(recordings.criteria, ["pitch", "rhythm"]);
    let [a, b] = &recordings.takes[..] else { panic!("two takes") };
    assert_eq!(
        (a.ratings.as_slice(), a.pass, a.split),
        ([Some(0.5), Some(0.75)].as_slice(), Some(true), Some(Split::Train))
    );
    assert_eq!((b.pass, b.split, &*b.performer, &b.melody), (Some(false), Some(Split::Test), "y, z", &None));
    let references: Vec<_> = recordings.references.iter().map(|reference| &*reference.id).collect();
    assert_eq!(references, ["ref/1.txt", "ref/2.txt"]);
    assert!(recordings.references.iter().all(|reference| Some(&reference.melody) == a.melody.as_ref()));
}

#[test]
fn grades_of_several_make_a_rating_where_there_is_none() {
    let header = "path,performer,grade_Ann (1..4),grade-B (1..4),Grade C (1..4)";
    let recordings = read(&[header, "a.txt,x,1,4,NA", "b.csv,y,,-1,"]);
    let graders = recordings.graders.as_ref().unwrap();
    assert_eq!((graders.experts.join(" "), graders.scale.to_string()), ("ann b c".into(), "1..4".into()));
    assert_eq!(recordings.criteria, ["overall"]);
    let [a, b] = &recordings.takes[..] else { panic!("two takes") };
    assert_eq!((&a.grades[..], &a.ratings[..]), (&[Some(0.0), Some(1.0), None][..], &[Some(0.5)][..]));
    assert_eq!((&b.grades[..], &b.ratings[..]), (&[None; 3][..], &[None][..]));

    // A rating of its own stays, and so does one by another criterion; then the mean is the last.
    let rated = read(&["path,performer,rating,grade_a", "a.txt,x,0.25,1"]);
    assert_eq!(
        (&rated.takes[0].ratings[..], &rated.takes[0].grades[..]),
        (&[Some(0.25)][..], &[Some(1.0)][..])
    );
    let rhythm = read(&["path,performer,grade_a,rating_rhythm", "a.txt,x,1,0.25"]);
    assert_eq!(
        (rhythm.criteria.join(" "), &rhythm.takes[0].ratings[..]),
        ("rhythm overall".into(), &[Some(0.25), Some(1.0)][..])
    );
    let by = |criterion: &str| {
        let options = InputOptions { criteria: vec![criterion.into()], ..InputOptions::default() };
        let inputs = Inputs::build(&rhythm, &options, &|_, _| {}).unwrap();
        (inputs.graders.is_some(), inputs.examples[0].grades.len())
    };
    assert_eq!([by("overall"), by("rhythm")], [(true, 1), (false, 0)], "nobody graded the rhythm");
    assert_eq!(read(&["path,performer,rating", "a.txt,x,1"]).graders, None);

    for (lines, words) in [
        (["path,performer,grade_a,grade_b", "a.txt,x,1,4"], "rating for b is \"4\""),
        (["path,performer,grade_a,grade a", "a.txt,x,1,1"], "are the same grader"),
        (
            ["path,performer,grade_a (1..4),grade_b (1..5)", "a.txt,x,1,4"],
            "grade by b is on 1..5, but others are on 1..4",
        ),
    ] {
        assert!(fault(&lines).1.contains(words), "{words}: {}", fault(&lines).1);
    }
}

#[test]
fn takes_of_a_named_melody_share_their_references() {
    let recordings = read(&[
        "path,performer,rating,melody,reference",
        "a.txt,x,0,tune,ref/1.txt",
        "b.csv,y,0,tune,ref/2.txt",
    ]);
    assert_eq!(recordings.references.len(), 2);
    assert!(recordings.references.iter().all(|reference| reference.melody == "tune"));
    assert!(recordings.takes.iter().all(|take| take.melody.as_deref() == Some("tune")));
}

#[test]
fn what_is_malformed_names_its_line() {
    let header = "path,performer,rating,pass,split,reference";
    let good = "a.txt,x,0.5,1,train,";
    for (line, expected) in [
        ("b.csv,x,1.5,1,train,", "rating for overall is \"1.5\""),
        ("b.csv,x,good,1,train,", "rating for overall is \"good\", expected a number"),
        ("b.csv,x,inf,1,train,", "rating for overall is \"inf\", expected a number"),
        ("b.csv,x,-2,1,train,", "rating for overall is \"-2\", outside"),
        ("b.csv,x,0.5,maybe,train,", "pass is \"maybe\""),
        ("b.csv,x,0.5,1,,", "split \"\": expected train, val or test"),
        ("b.csv,,0.5,1,train,", "performer is empty"),
        (",x,0.5,1,train,", "path is empty"),
        ("a.txt,x,0.5,1,train,", "path \"a.txt\" is in line 2 too"),
        ("none.txt,x,0.5,1,train,", "none.txt"),
        ("b.csv,x,0.5,1,train,ref/3.txt", "3.txt"),
        ("b.csv,x", "2 fields, but the header has 6"),
    ] {
        let (number, message) = fault(&[header, good, line]);
        assert_eq!(number, Some(3), "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let message = |header: &str| fault(&[header]).1;
    assert!(message("reference").contains("missing column path, performer;"));
    assert!(message("path;preformer;rating").contains("this header has \"path, preformer, rating\""));
    assert!(message("path,path,performer,rating").contains("\"path\" appears twice"));
    assert!(message("path,performer,rating,rating_overall").contains("the same criterion"));
    assert!(message("path,performer,rating_tone,Rating Tone").contains("the same criterion"));
    assert!(message("path, Path ,performer,rating").contains("\"Path\" appears twice, first as \"path\""));
    assert!(message("path,performer,rating (good..bad)").contains("expected LOW..HIGH"));
    assert!(fault(&["path,performer,rating"]).1.contains("no takes"));
    assert!(fault(&[""]).1.contains("missing column"));
}

/// Ratings and criteria of what a table of this text holds.
fn ratings(text: impl AsRef<[u8]>) -> (Vec<String>, Vec<Vec<Option<f32>>>) {
    let recordings = load_text(text.as_ref(), None).unwrap();
    (recordings.criteria, recordings.takes.into_iter().map(|take| take.ratings).collect())
}

fn load_text(text: &[u8], rating_scale: Option<&str>) -> etude::Result<Recordings> {
    let dir = layout(&[]);
    let manifest = dir.path().join("manifest.csv");
    std::fs::write(&manifest, text).unwrap();
    let rating_scale = rating_scale.map(|scale| scale.parse().unwrap());
    load(manifest, &LoadOptions { rating_scale, ..LoadOptions::default() })
}

#[test]
fn every_way_to_write_the_same_table_is_read_alike() {
    let expected = read(&[
        "path,performer,rating,rating_rhythm,pass,split",
        "a.txt,José,0.5,0.25,1,train",
        "b.csv,y,1,0,0,test",
    ]);
    let rows =
        |lines: &[&str], end: &str| lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
    let semicolons = [
        "Path; Performer ;RATING;Rating Rhythm;Pass;Split",
        "",
        "a.txt;José;0,5;0,25;Yes;Train",
        ";;;;;",
        "b.csv;y;1;0;NO;Test",
    ];
    let wide =
        format!("\u{feff}{}", rows(&semicolons, "\r\n")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let tabs = [
        "\u{feff}path\tperformer\trating\trating-rhythm\tpass\tsplit",
        "a.txt\tJosé\t0,5\t.25\ty\ttraining",
        "b.csv\ty\t1\t0\tn\tTESTING",
    ];
    // With an index, and truth values as numbers.
    let pandas = [
        ",path,performer,rating,rating_rhythm,pass,split",
        "0,a.txt,José,0.5,0.25,1.0,train",
        "1,b.csv,y,1.0,0.0,0.0,test",
    ];
    let r = [
        r#""path","performer","rating","Rating.Rhythm","pass","split""#,
        r#""a.txt","José",0.5,0.25,TRUE,"train""#,
        r#""b.csv","y",1,0,FALSE,"test""#,
    ];
    let excel = [
        "sep=;",
        "path;performer;rating;rating_rhythm;pass;split",
        "a.txt;José;0.5;0.25;passed;train",
        "b.csv;y;1;0;Failed;test",
    ];
    // The performer's name is decomposed, and the last column empty.
    let decomposed = [
        "path,performer,rating,rating_rhythm,pass,split,",
        "a.txt,Jose\u{301},0.5,0.25,pass,train,",
        "b.csv,y,1,0,fail,test,",
    ];
    let scales = [
        "path,performer,rating [0..1],rating_rhythm (0-4),pass,split",
        "",
        "a.txt,José,0.5,1,t,train",
        "b.csv,y,1,0,f,test",
    ];
    let tables: [Vec<u8>; 8] = [
        rows(&semicolons, "\r\n").into(),
        wide,
        rows(&tabs, "\n").into(),
        rows(&pandas, "\n").into(),
        rows(&r, "\n").into(),
        rows(&excel, "\r\n").into(),
        rows(&decomposed, "\n").into(),
        rows(&scales, "\r").into(),
    ];
    for table in tables {
        let shown = String::from_utf8_lossy(&table);
        assert_eq!(load_text(&table, None).unwrap(), expected, "{shown}");
    }
}

#[test]
fn other_columns_are_left_alone_and_named() {
    let recordings = read(&["id,path,performer,rating,Colour,scale", "7,a.txt,x,0.5,red,C major"]);
    assert_eq!(notes(&recordings), ["columns of the manifest left alone: \"id\", \"Colour\", \"scale\""]);
    assert!(notes(&read(&[",path,performer,rating,,", "7,a.txt,x,0.5,,"])).is_empty());
    let ungraded = read(&["path,performer,grade", "a.txt,x,0.5"]);
    assert_eq!((ungraded.criteria.len(), ungraded.takes[0].ratings.len()), (0, 0));
    assert_eq!(notes(&ungraded), ["columns of the manifest left alone: \"grade\""]);
}

#[test]
fn what_was_not_rated_is_none_for_that_criterion_alone() {
    let rows = ["-1", "", "NA", "nan", "-", "-1.0", "null"];
    for cell in rows {
        let text = format!("path,performer,rating_a,rating_b\na.txt,x,{cell},0.5\nb.csv,y,1,{cell}\n");
        assert_eq!(ratings(text).1, [[None, Some(0.5)], [Some(1.0), None]], "{cell}");
    }
    // On a scale that has it −1 is a rating.
    assert_eq!(ratings("path,performer,rating (-1..1)\na.txt,x,-1\n").1, [[Some(0.0)]]);
    let recordings = read(&["path,performer,rating,pass,melody,reference", "a.txt,x,1,NA,NA,NaN"]);
    assert_eq!((recordings.takes[0].pass, &recordings.takes[0].melody), (None, &None));
}

#[test]
fn a_scale_is_said_by_the_header_a_column_or_the_caller() {
    let third = 1.0 / 3.0;
    let (criteria, values) = ratings("path,performer,rating_a (1..4),rating_b[0-100]\na.txt,x,2,50\n");
    assert_eq!((criteria, values), (vec!["a".into(), "b".into()], vec![vec![Some(third), Some(0.5)]]));
    let by_row = "path;performer;rating;rating_scale\na.txt;x;2;1..4\nb.csv;y;0,5;\n";
    assert_eq!(ratings(by_row).1, [[Some(third)], [Some(0.5)]]);
    let given = load_text(b"path,performer,rating\na.txt,x,2\n", Some("1..4")).unwrap();
    assert_eq!(given.takes[0].ratings, [Some(third)]);
    // A criterion that is called so.
    assert_eq!(ratings("path,performer,rating_scale\na.txt,x,0.5\n").0, ["scale"]);

    let message = |text: &str, scale| load_text(text.as_bytes(), scale).unwrap_err().to_string();
    let none = message("path,performer,rating\n\na.txt,x,3\n", None);
    assert!(none.contains(":3: rating for overall is \"3\", outside the rating scale 0..1"), "{none}");
    assert!(none.contains("such as 1..4"), "{none}");
    assert!(
        message("path,performer,rating (1..4)\na.txt,x,5\n", None).contains("outside the rating scale 1..4")
    );
    assert!(message("path,performer,rating (1..4)\na.txt,x,0\n", None).contains("outside"));
    let two = message("path,performer,rating (1..4)\na.txt,x,2\n", Some("1..5"));
    assert!(two.contains("1..4, but 1..5"), "{two}");
    let two = message("path,performer,rating (1..4),scale\na.txt,x,2,1..3\n", None);
    assert!(two.contains("1..4, but 1..3"), "{two}");
}

#[test]
fn one_take_is_one_however_its_file_is_called() {
    let dir = layout(&[]);
    let at = |name: &str| dir.path().join(name);
    std::fs::rename(at("a.txt"), at("Mu\u{308}ller.txt")).unwrap();
    std::fs::copy(at("b.csv"), at("ref/c.txt")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("b.csv"), at("link.csv")).unwrap();
    #[cfg(not(unix))]
    std::fs::hard_link(at("b.csv"), at("link.csv")).unwrap();
    std::fs::hard_link(at("b.csv"), at("hard.csv")).unwrap();
    let read = |rows: &[&str]| {
        std::fs::write(at("manifest.csv"), format!("path,performer,rating\n{}\n", rows.join("\n"))).unwrap();
        load(at("manifest.csv"), &LoadOptions::default())
    };
    let ids = |rows: &[&str]| -> Vec<String> {
        read(rows).unwrap().takes.into_iter().map(|take| take.id).collect()
    };
    // Composed in the manifest, decomposed on disk; what Windows and a shell write.
    assert_eq!(ids(&["M\u{fc}ller.txt,x,1", "ref\\c.txt,y,1"]), ["M\u{fc}ller.txt", "ref/c.txt"]);
    assert_eq!(ids(&["./Mu\u{308}ller.txt,x,1", ".//ref/./c.txt,y,1"]), ["M\u{fc}ller.txt", "ref/c.txt"]);
    let mut twice = vec![
        ("M\u{fc}ller.txt", "Mu\u{308}ller.txt"),
        ("b.csv", "./b.csv"),
        ("ref/../b.csv", "b.csv"),
        ("b.csv", "link.csv"),
        ("ref/c.txt", "ref\\c.txt"),
    ];
    let absolute = at("b.csv").display().to_string();
    twice.push(("b.csv", &absolute));
    if cfg!(unix) {
        twice.push(("link.csv", "hard.csv"));
    }
    for (first, second) in twice {
        let error = read(&[&format!("{first},x,1"), &format!("{second},y,1")]).unwrap_err().to_string();
        let expected = format!("manifest.csv:3: path {second:?} is the take of line 2, {first:?}");
        assert!(error.ends_with(&expected), "{error}\n{expected}");
    }
    // Both forms may be on disk: then they are still one name.
    std::fs::copy(at("b.csv"), at("M\u{fc}ller.txt")).unwrap();
    assert!(read(&["M\u{fc}ller.txt,x,1", "Mu\u{308}ller.txt,y,1"]).is_err());
}

#[test]
fn one_reference_is_one_however_its_file_is_called() {
    let recordings = read(&[
        "path,performer,rating,reference",
        "a.txt,x,0.5,./ref/1.txt;ref/2.txt",
        "b.csv,y,0.5,ref\\2.txt ; ref/../ref/1.txt; ref/1.txt",
    ]);
    let ids: Vec<_> = recordings.references.iter().map(|reference| &*reference.id).collect();
    assert_eq!(ids, ["ref/1.txt", "ref/2.txt"]);
    assert_eq!(recordings.takes[0].melody, recordings.takes[1].melody);
}

#[test]
fn a_windows_path_that_is_not_there_is_named() {
    for path in ["C:\\takes\\a.txt", "d:/takes/a.txt", "\\\\server\\takes\\a.txt"] {
        let (line, message) = fault(&["path,performer,rating", &format!("{path},x,0.5")]);
        assert_eq!(line, Some(2));
        assert!(message.contains("takes") && message.contains("relative to the manifest"), "{message}");
    }
}

#[test]
fn a_manifest_is_known_by_what_it_holds() {
    let dir = layout(&["path,performer,rating", "a.txt,x,0.5"]);
    let at = |name: &str| dir.path().join(name);
    let takes = |path: &Path| load(path, &LoadOptions::default()).map(|recordings| recordings.takes.len());
    for name in ["list.txt", "list", "manifest.tsv"] {
        std::fs::copy(at("manifest.csv"), at(name)).unwrap();
        assert_eq!(takes(&at(name)).unwrap(), 1, "{name}");
    }
    let error = takes(dir.path()).unwrap_err().to_string();
    assert!(error.contains("more than one manifest"), "{error}");
    std::fs::remove_file(at("manifest.csv")).unwrap();
    assert_eq!(takes(dir.path()).unwrap(), 1);
    std::fs::remove_file(at("manifest.tsv")).unwrap();
    let error = takes(dir.path()).unwrap_err().to_string();
    for looked_for in ["manifest.csv", "manifest.tsv", "f0data", "_assessments.txt"] {
        assert!(error.contains(looked_for), "{error}");
    }
    let error = takes(&at("a.txt")).unwrap_err().to_string();
    assert!(error.contains("no manifest") && error.contains("performer"), "{error}");
}

#[test]
fn a_message_quotes_no_more_than_one_can_read() {
    let long = "x\u{1b}[2J".repeat(100_000);
    for lines in [
        ["path,performer,rating", &format!("{long},x,0.5")],
        ["path,performer,rating", &format!("a.txt,x,{long}")],
        [&format!("path,{long},rating"), "a.txt,x,0.5"],
        [&format!("path,performer,rating ({long})"), "a.txt,x,0.5"],
    ] {
        let message = fault(&lines).1;
        assert!(message.len() < 700 && !message.contains('\u{1b}'), "{} bytes", message.len());
    }
    let wide =
        [format!("{},path,performer", vec!["y"; 3000].join(",")), format!("{}a.txt,x", "1,".repeat(3000))];
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    assert!(read(&wide).notes[0].len() < 200);
}

#[test]
fn a_fault_in_an_f0_file_is_that_files() {
    let dir = layout(&["path,performer,rating", "a.txt,x,0.5"]);
    std::fs::write(dir.path().join("a.txt"), "0 440\n0.1 1\n").unwrap();
    let error = load(dir.path(), &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.txt:2: f0 1 Hz"), "{error}");
}

fn small() -> SynthOptions {
    SynthOptions { seed: 3, takes: 8, performers: 4, melodies: 3, references: 2, ..Default::default() }
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_synthetic_set_reads_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/set");
    let written = synth::write(&out, &small()).unwrap();
    assert_eq!(entries(&out), ["manifest.csv", "references", "takes"]);
    assert_eq!(entries(out.parent().unwrap()), ["set"]);

    let read = load(&out, &LoadOptions::default()).unwrap();
    assert_eq!(read.criteria, written.criteria);
    assert_eq!((read.takes.len(), read.references.len()), (8, 6));
    for (a, b) in read.takes.iter().zip(&written.takes) {
        assert_eq!(
            (&a.id, &a.performer, &a.melody, &a.ratings),
            (&b.id, &b.performer, &b.melody, &b.ratings)
        );
        assert_eq!((a.pass, a.split), (b.pass, b.split));
        assert_eq!(a.contour.len(), b.contour.len());
        assert!(a.contour.pitch().iter().zip(b.contour.pitch()).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    for (a, b) in read.references.iter().zip(&written.references) {
        assert_eq!((&a.id, &a.melody, a.contour.len()), (&b.id, &b.melody, b.contour.len()));
    }
}

#[test]
fn writing_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "precious").unwrap();
    assert!(synth::write(&full, &small()).unwrap_err().to_string().contains("not empty"));
    assert_eq!(entries(&full), ["mine"]);
    assert!(synth::write(full.join("mine"), &small()).is_err(), "a file is in the way");
    assert!(synth::write(full.join("mine/below"), &small()).is_err());
    assert!(synth::write(dir.path().join(".."), &small()).is_err());
    assert_eq!(entries(dir.path()), ["full"]);
    // An empty directory will do.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    synth::write(&empty, &small()).unwrap();
    assert_eq!(entries(dir.path()), ["empty", "full"]);
    assert_eq!(entries(&empty), ["manifest.csv", "references", "takes"]);
}
