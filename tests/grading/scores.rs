//! Scores against pretty_midi and music21, and what is refused.

use etude::Error;
use etude::audio::{HOP, Score, ScoreFormat, is_score, parse_score, read_score};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(of)
}

fn parse(bytes: &[u8]) -> Result<Score, String> {
    parse_score(Path::new("a"), bytes).map_err(|error| match error {
        Error::Data { message, .. } => message,
        other => panic!("{other:?}"),
    })
}

/// Pitch, start and end of each note.
fn notes(score: &Score) -> Vec<(f32, f64, f64)> {
    score.notes.iter().map(|note| (note.pitch, note.start, note.end)).collect()
}

#[test]
fn other_programs_read_the_same_notes() {
    let folder = folder("golden/scores");
    let text = std::fs::read_to_string(folder.join("notes.json")).unwrap();
    let golden: BTreeMap<String, Vec<(f32, f64, f64)>> = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.len(), 7);
    for (name, wanted) in golden {
        let score = read_score(folder.join(&name)).unwrap();
        let found = notes(&score);
        assert_eq!(found.len(), wanted.len(), "{name}: {found:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            // music21 rounds a triplet's notes to nanoseconds; a frame is 5.8 ms.
            let off = (found.1 - wanted.1).abs().max((found.2 - wanted.2).abs());
            assert!(found.0 == wanted.0 && off < 1e-6, "{name}: {found:?}, wanted {wanted:?}");
        }
        assert_eq!(score.contour(HOP).unwrap().notes().len(), wanted.len());
    }
}

/// A track's chunk, with its end.
fn track(events: &[u8]) -> Vec<u8> {
    let mut chunk = b"MTrk".to_vec();
    chunk.extend((events.len() as u32 + 4).to_be_bytes());
    chunk.extend(events);
    chunk.extend([0, 0xff, 0x2f, 0]);
    chunk
}

/// A file of tracks at this division: 96 is ticks per quarter note.
fn midi(format: u8, division: [u8; 2], tracks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"MThd\0\0\0\x06\0".to_vec();
    bytes.extend([format, 0, tracks.len() as u8]);
    bytes.extend(division);
    tracks.iter().for_each(|events| bytes.extend(track(events)));
    bytes
}

/// Two notes of half a second, with running status and velocity 0.
const TWO: [u8; 13] = [0, 0x90, 60, 80, 96, 60, 0, 0, 62, 80, 96, 62, 0];

#[test]
fn midi_is_read_as_it_is_played() {
    let read = |bytes: &[u8]| parse(bytes).unwrap();
    let two = read(&midi(0, [0, 96], &[&TWO]));
    assert_eq!(notes(&two), [(60.0, 0.0, 0.5), (62.0, 0.5, 1.0)]);
    assert_eq!(
        (two.format, two.remarks.as_slice()),
        (ScoreFormat::Midi, ["no tempo is given: 120 quarter notes a minute".to_owned()].as_slice())
    );
    // 25 frames a second, of 4 ticks; 30 in 1.001 s.
    assert_eq!(notes(&read(&midi(0, [0xe7, 4], &[&TWO]))), [(60.0, 0.0, 0.96), (62.0, 0.96, 1.92)]);
    let drop = notes(&read(&midi(0, [0xe3, 4], &[&TWO])));
    assert!((drop[1].2 - 1.6016).abs() < 1e-12, "{drop:?}");
    // Legato is cut, a bend left out, a note without an end lasts until the track's.
    let legato = [0, 0x90, 60, 80, 96, 62, 80, 24, 60, 0, 0, 0xe0, 0, 0x50, 96, 0xff, 1, 0];
    let legato = read(&midi(0, [0, 96], &[&legato]));
    assert_eq!(notes(&legato), [(60.0, 0.0, 0.5), (62.0, 0.5, 1.125)]);
    let remarks = legato.remarks.join("; ");
    for remark in [
        "1 note without an end: until the end of the track",
        "pitch bend is left out",
        "1 note cut where the next begins",
    ] {
        assert!(remarks.contains(remark), "{remarks}");
    }
    // The same key legato: what was pressed first is released first.
    let repeated = [0, 0x90, 60, 80, 96, 60, 80, 2, 60, 0, 94, 60, 0];
    assert_eq!(notes(&read(&midi(0, [0, 96], &[&repeated]))), [(60.0, 0.0, 0.5), (60.0, 0.5, 1.0)]);
    // A lone track of format 1 may lie beside tracks of text.
    assert_eq!(notes(&read(&midi(1, [0, 96], &[&[0, 0xff, 3, 1, b'x'], &TWO]))).len(), 2);
}

#[test]
fn midi_that_is_no_melody_is_refused() {
    let refused = |bytes: &[u8]| parse(bytes).expect_err(&format!("{bytes:?}"));
    assert_eq!(
        refused(&midi(0, [0, 96], &[&[]])),
        "holds no note (no tempo is given: 120 quarter notes a minute): export the melody again"
    );
    let drums = [0, 0x99, 38, 80, 96, 38, 0];
    assert!(refused(&midi(0, [0, 96], &[&drums])).contains("1 note of channel 10 (percussion) left out"));
    // In bar 3, after a bar of 4/4 and one of 3/4.
    let chord = [
        &[0x83, 0, 0xff, 0x58, 4, 3, 2, 24, 8][..],
        &[0x82, 0x30, 0x90, 60, 80, 0, 64, 80, 96, 60, 0, 0, 64, 0],
    ]
    .concat();
    assert_eq!(
        refused(&midi(0, [0, 96], &[&chord])),
        "two notes sound at once at 3.58 s (bar 3, tick 16), pitches 60 and 64; a melody has one at a time: keep the melody's \
         track alone, without chords"
    );
    let named = [&[0, 0xff, 3, 5][..], b"Flute", &TWO].concat();
    assert_eq!(
        refused(&midi(1, [0, 96], &[&named, &TWO])),
        "has notes in 2 places: track 1 channel 1 \"Flute\" (2 notes), track 2 channel 1 (2 notes); which is the melody? \
         Export it alone"
    );
    assert!(refused(&midi(2, [0, 96], &[&TWO])).contains("format 2"));
    assert!(refused(&midi(0, [0, 0], &[&TWO])).contains("0 ticks per quarter note"));
    assert!(refused(&midi(0, [0xe7, 0], &[&TWO])).contains("0 ticks per SMPTE frame"));
    let odd = midi(0, [0x80, 4], &[&TWO]);
    assert!(refused(&odd).contains("-128 frames a second"));
    assert!(refused(&[midi(0, [0, 96], &[&TWO]), odd].concat()).contains("-128 frames a second"));
    assert!(refused(&midi(0, [0, 96], &[&[0, 0xff, 0x51, 3, 0, 0, 0]])).contains("the tempo at tick 0 is 0"));
    let whole = midi(1, [0, 96], &[&TWO, &[]]);
    assert!(refused(&whole[..whole.len() - 12]).contains("says that it has 2 tracks and has 1"));
    assert!(refused(&whole[..whole.len() - 2]).contains("track 2 cannot be read beyond tick 0"));
    assert!(refused(&whole[..30]).contains("track 1 cannot be read beyond tick"));
    // Longer than any contour: 31 of the longest pauses, at the slowest tempo.
    let pause = [0xff, 0xff, 0xff, 0x7f, 0xff, 1, 0];
    let long =
        [&[0, 0xff, 0x51, 3, 0xff, 0xff, 0xff, 0, 0x90, 60, 80][..], &pause.repeat(31), &[0, 0x80, 60, 0]]
            .concat();
    let error = parse(&midi(0, [0, 1], &[&long])).unwrap().contour(HOP).unwrap_err().to_string();
    assert!(error.contains("beyond 16777216 frames"), "{error}");
    assert!(refused(b"RIFF\0\0\0\0RMIDdata\xff\0\0\0MThd").contains("cut short"));
    assert!(refused(b"not a score").contains("is no score"));
}

/// A partwise score of one part: the contents of its measures.
fn xml(measures: &[&str]) -> String {
    let measure = |(i, inside): (usize, &&str)| format!("<measure number=\"{}\">{inside}</measure>", i + 1);
    let measures: String = measures.iter().enumerate().map(measure).collect();
    format!(
        "<!DOCTYPE score-partwise PUBLIC \"-//Recordare//DTD MusicXML 4.0 Partwise//EN\" \"x.dtd\"><score-partwise><part-list>\
         <score-part id=\"P\"><part-name>Voice</part-name></score-part></part-list>\
         <part id=\"P\">{measures}</part></score-partwise>"
    )
}

/// A note of one quarter at `divisions` 2, with more in it.
fn note(step: &str, more: &str) -> String {
    format!("<note><pitch><step>{step}</step><octave>4</octave></pitch><duration>2</duration>{more}</note>")
}

const TWO_DIVISIONS: &str = "<attributes><divisions>2</divisions></attributes><sound tempo=\"60\"/>";

fn read(measures: &[&str]) -> Score {
    parse(xml(measures).as_bytes()).unwrap()
}

#[test]
fn musicxml_is_read_as_it_is_played() {
    let (c, d, e) = (note("C", ""), note("D", ""), note("E", ""));
    let first = |more: &str| format!("{TWO_DIVISIONS}{more}");
    // Divisions change; a chord of equal notes is one; grace and cue notes are left out.
    let grace = "<note><grace/><pitch><step>B</step><octave>4</octave></pitch></note>";
    let cue = note("G", "<cue/>");
    let odd = first(&format!("{c}{}{grace}{cue}", note("C", "<chord/>")));
    let score = read(&[&odd, &format!("<attributes><divisions>4</divisions></attributes>{d}")]);
    assert_eq!(notes(&score), [(60.0, 0.0, 1.0), (62.0, 2.0, 2.5)]);
    assert_eq!(
        score.remarks,
        ["1 grace note left out", "1 cue note left out", "1 note left out that double another"]
    );
    // Back and forth in one voice; a metronome mark with a dotted beat; alterations in parts of a semitone.
    let mark = "<direction><direction-type><metronome><beat-unit>eighth</beat-unit><beat-unit-dot/>\
                <per-minute>c. 160</per-minute>\
                </metronome></direction-type></direction>";
    let quarter = "<note><pitch><step>E</step><alter>-0.5</alter><octave>4</octave></pitch><duration>2</duration></note>";
    let back = first(&format!(
        "<forward><duration>2</duration></forward>{mark}{quarter}<backup><duration>4</duration></backup>{c}"
    ));
    assert_eq!(notes(&read(&[&back])), [(60.0, 0.0, 1.0), (63.5, 1.0, 1.5)]);
    // An octave lower than it is written; an empty measure lasts as its signature says.
    let low = "<attributes><time><beats>3</beats><beat-type>8</beat-type></time><transpose><chromatic>0</chromatic>\
               <octave-change>-1</octave-change></transpose></attributes>";
    assert_eq!(notes(&read(&[&first(low), &c])), [(48.0, 1.5, 2.5)]);
    // A tie is one note, two notes of one pitch are two, and a tie over a bar line counts.
    let tie = |kind: &str| note("C", &format!("<tie type=\"{kind}\"/>"));
    let tied = first(&format!("{c}{}", tie("start")));
    assert_eq!(
        notes(&read(&[&tied, &format!("{}{c}", tie("stop"))])),
        [(60.0, 0.0, 1.0), (60.0, 1.0, 3.0), (60.0, 3.0, 4.0)]
    );
    // Each measure keeps its tempo when it is repeated.
    let slow = format!("<sound tempo=\"30\"/>{d}<barline><repeat direction=\"backward\"/></barline>");
    let score = read(&[&first(&c), &slow, &e]);
    let starts: Vec<f64> = score.notes.iter().map(|note| note.start).collect();
    assert_eq!(
        (starts, score.remarks),
        (vec![0.0, 1.0, 3.0, 4.0, 6.0], vec!["3 measures played as 5".to_owned()])
    );
    // No tempo.
    let score = read(&[&format!("<attributes><divisions>2</divisions></attributes>{c}")]);
    assert_eq!((notes(&score)[0].2, score.remarks.len()), (0.5, 1));
}

#[test]
fn musicxml_jumps_as_far_as_it_tells() {
    let [c, d, e] = ["C", "D", "E"].map(|step| note(step, ""));
    let direction =
        |inside: &str| format!("<direction><direction-type>{inside}</direction-type></direction>");
    let pitches =
        |measures: &[&str]| -> Vec<f32> { read(measures).notes.iter().map(|note| note.pitch).collect() };
    let first = format!("{TWO_DIVISIONS}{c}");
    let ds = format!("{e}{}", direction("<words>D.S. al Fine</words>"));
    let segno = format!("{}{d}{}", direction("<segno/>"), direction("<words>Fine</words>"));
    assert_eq!(pitches(&[&first, &segno, &ds]), [60.0, 62.0, 64.0, 62.0]);
    let coda = format!("{e}{}", direction("<words>D.C. al Coda</words>"));
    let score = read(&[&first, &coda]);
    assert_eq!((score.notes.len(), score.remarks.len()), (2, 1));
    assert!(score.remarks[0].contains("coda"));
    let to = format!("{d}<sound tocoda=\"coda\"/>");
    let dc = format!("{e}<sound dacapo=\"yes\"/>");
    assert_eq!(
        pitches(&[&first, &to, &dc, &format!("<sound coda=\"coda\"/>{e}")]),
        [60.0, 62.0, 64.0, 60.0, 62.0, 64.0]
    );
}

#[test]
fn musicxml_that_is_no_melody_is_refused() {
    let refused =
        |inside: &str| parse(xml(&[&format!("{TWO_DIVISIONS}{inside}")]).as_bytes()).expect_err(inside);
    assert_eq!(refused(""), "holds no note: export the melody again");
    let drum = "<note><unpitched/><duration>2</duration></note>";
    assert_eq!(refused(drum), "holds no note (1 unpitched note left out): export the melody again");
    let [c, e] = ["C", "E"].map(|step| note(step, ""));
    assert_eq!(
        refused(&format!("{c}{}", note("E", "<chord/>"))),
        "two notes sound at once at 0.00 s (measure \"1\"), pitches 60 and 64; a melody has one at a time: keep the melody's \
         track alone, without chords"
    );
    assert_eq!(
        refused(&format!("{c}{}", note("E", "<voice>2</voice>"))),
        "has notes in 2 places: part 1 staff 1 voice 1 \"Voice\" (1 note), part 1 staff 1 voice 2 \"Voice\" (1 note); which is \
         the melody? Export it alone"
    );
    for (inside, message) in [
        (
            "<note><pitch><step>H</step><octave>4</octave></pitch><duration>1</duration></note>",
            "step is \"H\"",
        ),
        ("<note><pitch><step>C</step></pitch><duration>1</duration></note>", "no octave"),
        (
            "<note><pitch><step>C</step><octave>12</octave></pitch><duration>1</duration></note>",
            "MIDI pitch 156",
        ),
        ("<note><pitch><step>C</step><octave>4</octave></pitch></note>", "a note has no duration"),
        ("<note><rest/><duration>1e300</duration></note>", "lasts 5"),
        ("<note><rest/><duration>-1</duration></note>", "lasts -0.5"),
        ("<note><rest/><duration>NaN</duration></note>", "duration \"NaN\": expected a number"),
        ("<backup><duration>5</duration></backup>", "measure \"1\": a backup goes before its beginning"),
        ("<attributes><divisions>0</divisions></attributes>", "divisions 0: expected a number above 0"),
        ("<sound tempo=\"0\"/>", "a tempo of 0 quarter notes a minute: expected 1 to 10000"),
    ] {
        let told = refused(&format!("{c}{e}{inside}"));
        assert!(told.contains(message), "{told}");
    }
    let early = parse(xml(&[&c]).as_bytes()).unwrap_err();
    assert!(early.contains("a note comes before divisions"), "{early}");
    let whole = xml(&[&c]);
    assert!(parse(&whole.as_bytes()[..whole.len() - 9]).unwrap_err().contains("is it damaged?"));
    assert!(parse(&[whole.as_bytes(), b"\xff"].concat()).unwrap_err().contains("is not UTF-8"));
    assert!(parse(b"<html><!-- <score-partwise --></html>").unwrap_err().contains("holds \"html\""));
    // Entities in entities.
    let bomb: String =
        (1..20).map(|i| format!("<!ENTITY e{i} \"{}\">", format!("&e{};", i - 1).repeat(20))).collect();
    let bomb = format!("<!DOCTYPE s [<!ENTITY e0 \"x\">{bomb}]><score-partwise>&e19;</score-partwise>");
    assert!(parse(bomb.as_bytes()).unwrap_err().contains("is it damaged?"));
}

#[test]
fn an_archive_of_what_is_too_large_is_refused() {
    use std::io::Write;
    let packed = |files: &[(&str, &[u8])]| {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in files {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let container = |names: &str| format!("<container><rootfiles>{names}</rootfiles></container>");
    let one = container("<rootfile full-path=\"a.xml\"/>");
    let refused = |files: &[(&str, &[u8])]| parse(&packed(files)).unwrap_err();
    let name = "META-INF/container.xml";
    let bomb = vec![b' '; (1 << 24) + 1];
    assert!(
        refused(&[(name, one.as_bytes()), ("a.xml", &bomb)])
            .contains("a.xml in the archive is larger than 16777216")
    );
    assert!(refused(&[(name, &bomb)]).contains("larger than 65536"));
    assert!(refused(&[(name, container("").as_bytes())]).contains("names no score"));
    assert!(refused(&[(name, one.as_bytes())]).contains("is the archive damaged?"));
    assert!(refused(&[("b.xml", b"")]).contains("is no score"));
    let inside = xml(&[&format!("{TWO_DIVISIONS}{}", note("C", ""))]);
    assert_eq!(
        parse(&packed(&[(name, one.as_bytes()), ("a.xml", inside.as_bytes())])).unwrap().notes.len(),
        1
    );
}

/// The seeds of the fuzz target, whole, cut short, and with a byte put out.
#[test]
fn damaged_scores_are_refused_in_few_words() {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder("corpus/score")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut refused, mut read) = (0, 0);
    for path in &paths {
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.len() < 1024 && is_score(&bytes), "{path:?}");
        let score = parse_score(path, &bytes).unwrap();
        assert!(score.notes.len() >= 2, "{score:?}");
        let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
        let hit = (0..8 * bytes.len()).map(|at| {
            let mut hit = bytes.clone();
            hit[at / 8] = [0, 0x7f, 0x80, 0xff, b'9', b'<', b'-', hit[at / 8] ^ 1][at % 8];
            hit
        });
        for bytes in cut.chain(hit) {
            match parse_score(path, &bytes) {
                Ok(score) => {
                    read += 1;
                    assert!(score.notes.iter().all(|note| note.start < note.end && note.end.is_finite()));
                    assert!(score.notes.windows(2).all(|pair| pair[0].end <= pair[1].start));
                    if score.notes.last().is_some_and(|last| last.end < 60.0) {
                        assert_eq!(score.contour(HOP).unwrap().notes().len(), score.notes.len());
                    }
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().len() < 2000);
                }
            }
        }
    }
    assert!(paths.len() == 8 && refused > 3000 && read > 3000, "{refused} {read}");
}
