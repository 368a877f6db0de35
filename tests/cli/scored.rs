//! The page of graded takes: what is on it, what is left out, and that nothing foreign becomes part of it.

use crate::eval::{Run, etude, says};
use crate::page::{figures, is_sound};
use crate::recordings::{TUNE, score, sing, wrong};
use std::fs;

/// A name of a file with what HTML, CSV and attributes mind.
#[cfg(unix)]
const FOREIGN: &str = "<script>alert(1)<b> \"x\"\n&'{{ 7 }}.txt";
#[cfg(not(unix))]
const FOREIGN: &str = "&'{{ 7 }}.txt";

fn graded(run: &Run, args: &[&str]) -> (i32, String, String) {
    let model = run.model();
    etude(&[&["score", "--device", "cpu", "--model", &model], args].concat())
}

fn page(run: &Run, out: &str) -> String {
    fs::read_to_string(run.path(&format!("{out}/report.html"))).unwrap()
}

/// A take of the set and a reference of its melody.
fn pair(run: &Run) -> [String; 2] {
    let rows = run.manifest();
    let place = rows[0].iter().position(|column| column == "reference").unwrap();
    [&rows[1][0], rows[1][place].split(';').next().unwrap()].map(|name| run.at(&format!("set/{name}")))
}

/// What stands between two texts, wherever it does.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).map(|rest| rest.split(close).next().unwrap()).collect()
}

#[test]
fn a_page_has_a_section_a_take_and_what_is_foreign_stays_text() {
    let run = Run::new(&[]);
    let [take, reference] = pair(&run);
    let (foreign, nan) = (run.at(FOREIGN), run.at("nan.txt"));
    fs::copy(&take, &foreign).unwrap();
    fs::write(&nan, "0.0 220\n0.01 x\n").unwrap();
    let takes = [&foreign[..], &take, &nan, &take];
    let with = |more: &[&str]| graded(&run, &[&["--reference", &reference], more, &takes].concat());
    let (out, other) = (run.at("page"), run.at("other"));
    let printed = with(&["--json"]);
    let (code, text, err) = with(&["--json", "--out", &out]);
    assert_eq!((code, &text), (1, &printed.1), "what is printed is as without a page: {err}");
    says(&err, &["1 of 4 takes could not be graded", "report.html"]);
    let html = page(&run, "page");
    is_sound(&html);
    assert!(!html.contains("script-src") && !html.contains("<audio"), "there is no sound");
    assert_eq!(figures(&html), ["take-1-figure", "take-2-figure", "take-4-figure"]);
    assert_eq!(between(&html, "<section class=\"take\" aria-labelledby=\"", "\"").len(), 4);
    for table in ["overview-table", "take-1-notes", "take-2-notes", "take-4-notes"] {
        assert_eq!(html.matches(&format!("<table id=\"{table}\">")).count(), 1, "{table}");
    }
    // The name as text, in the overview and over its section.
    let escaped = FOREIGN
        .replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    assert!(html.matches(&escaped).count() >= 1 && !html.contains("<b>"), "{escaped}");
    for word in [
        "<a href=\"#take-3\">",
        "nan.txt:2: ",
        "not graded",
        "predicts the rating “overall” of a take, from 0, the worst, to 1, the best. It is shown how",
        "of which 1 could not be graded",
        "the model “model.safetensors”",
        "There is no sound to listen to",
        "the reference’s key",
        "A grey bar is a note as it is written",
    ] {
        assert!(html.contains(word), "{word}");
    }
    // A row a note, as printed with --notes, and the grade as printed.
    let (_, notes, _) = with(&["--json", "--notes"]);
    let notes: Vec<serde_json::Value> =
        notes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table = between(&html, "<table id=\"take-2-notes\">", "</table>")[0];
    let told = notes[1]["notes"].as_array().unwrap();
    assert_eq!(table.matches("<th scope=\"row\">").count(), told.len());
    let cents = told[0]["cents"].as_f64().unwrap();
    assert!(told.len() > 3 && table.contains(&format!("{:+.0}", cents).replace('-', "−")), "{cents} {table}");
    assert!(html.contains(&format!("Grade {:.2} of 1.", notes[1]["grade"].as_f64().unwrap())));
    let label = between(&html, "role=\"img\" aria-label=\"", "\"")[1];
    says(label, &["The pitch from 0.0 to ", " s, between ", ": note "]);
    // The same takes, the same bytes, in any form and on any number of threads.
    let (code, _, err) = with(&["--csv", "--threads", "1", "--out", &other]);
    assert_eq!(code, 1, "{err}");
    assert!(page(&run, "other") == html);
}

#[test]
fn a_page_is_not_overwritten_unless_that_is_said_and_a_run_never() {
    let run = Run::new(&[]);
    let [take, reference] = pair(&run);
    let args = |out: &str, more: &[&str]| {
        let out = run.at(out);
        graded(&run, &[&["--reference", &reference, "--out", &out], more, &[&take]].concat())
    };
    assert_eq!(args("page", &[]).0, 0);
    let html = page(&run, "page");
    fs::write(run.path("page/report.html"), "mine").unwrap();
    // Before anything is graded.
    let (code, out, err) = args("page", &[]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    says(&err, &["page: holds a page: report.html", "--overwrite"]);
    assert_eq!(page(&run, "page"), "mine");
    assert_eq!(args("page", &["--overwrite"]).0, 0);
    assert!(page(&run, "page") == html);
    let left: Vec<_> = fs::read_dir(run.path("page")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["report.html"], "nothing else is left");
    for (out, word) in
        [("run", "holds a run of training"), ("set", "no file of an earlier run"), ("nan", "is a file")]
    {
        fs::write(run.path("nan"), "").unwrap();
        let (code, printed, err) = args(out, &["--overwrite"]);
        assert_eq!((code, printed.as_str()), (1, ""), "{err}");
        says(&err, &[word]);
    }
    assert_eq!(graded(&run, &["--overwrite", &take]).0, 2);
    // One take needs no overview.
    assert!(!html.contains("overview") && html.contains("<h2 id=\"take-1\">"));
}

#[test]
fn a_model_that_hears_takes_alone_has_a_page_without_notes() {
    let run = Run::new(&["--input", "contour"]);
    let [take, _] = pair(&run);
    let (code, out, err) = graded(&run, &["--out", &run.at("page"), &take]);
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    let html = page(&run, "page");
    is_sound(&html);
    assert_eq!(figures(&html), ["take-1-figure"]);
    says(&html, &["hears a take alone", "It is shown the pitch contour of a take.", "as performed"]);
    for word in ["as written", "-notes\"", "What costs most", "Performed ", "grey bar"] {
        assert!(!html.contains(word), "{word}");
    }
    // One that is shown contours knows notes, and not what they cost.
    let run = Run::new(&["--input", "contour-reference"]);
    let [take, reference] = pair(&run);
    assert_eq!(graded(&run, &["--out", &run.at("page"), "--reference", &reference, &take]).0, 0);
    let html = page(&run, "page");
    is_sound(&html);
    says(&html, &["What each note costs is not known", "take-1-notes", "as written"]);
    assert!(!html.contains(">cost<") && !html.contains("What costs most"));
}

#[test]
fn a_recording_is_heard_from_where_its_analysis_begins() {
    let run = Run::new(&[]);
    score(&run.path("melody.mid"), &TUNE);
    sing(&run.path("take.wav"), 44_100, &wrong(2));
    let melody = run.at("melody.mid");
    let (code, _, err) =
        graded(&run, &["--reference", &melody, "--out", &run.at("page"), &run.at("take.wav")]);
    assert_eq!(code, 0, "{err}");
    let html = page(&run, "page");
    let uri = between(
        &html,
        "<audio controls preload=\"metadata\" aria-label=\"What was graded, to listen to\" src=\"",
        "\"",
    );
    let [uri] = uri[..] else { panic!("{} players", uri.len()) };
    let base64 = uri.strip_prefix("data:audio/wav;base64,").unwrap();
    // 2 s at 16 kHz, 16 bits each, behind a header of 44 bytes.
    assert_eq!(base64.len(), (44 + 2 * 2 * 16_000_usize).div_ceil(3) * 4);
    assert!(base64.starts_with("UklGR"), "RIFF");
    // The one script is the one that the policy names, and the rest is a page as others are.
    let script = between(&html, "<script>", "</script>");
    let [script] = script[..] else { panic!("{} scripts", script.len()) };
    let hash = between(&html, "script-src 'sha256-", "'")[0];
    assert_eq!(hash, base64_of(&sha256(script.as_bytes())), "src/report/page/scored.rs has another");
    is_sound(
        &html.replace(&format!("<script>{script}</script>"), "").replace(&format!(" src=\"{uri}\""), ""),
    );
    // The times of notes lead to where they are heard.
    let table = between(&html, "<table id=\"take-1-notes\">", "</table>")[0];
    assert_eq!(table.matches("<a href=\"#take-1-figure\" data-at=\"").count(), 5);
    assert!(
        table.contains("<td class=\"text\">wrong</td>") && html.contains("A cross marks a note"),
        "{table}"
    );
    assert!(between(&html, "role=\"img\" aria-label=\"", "\"")[0].contains(" Wrong: note 1, 2. "));
    let row = between(&html, "<svg ", ">")[0];
    says(row, &["data-from=\"0.000\" data-to=\"2.00", "data-left=\"76\" data-right=\"984\""]);
    let (_, grade, _) = graded(&run, &["--json", "--reference", &melody, &run.at("take.wav")]);
    assert!(!grade.contains("\"notes\""), "what is printed has notes only with --notes");
}

/// SHA-256 (FIPS 180-4).
fn sha256(bytes: &[u8]) -> Vec<u8> {
    let primes = (2_u32..).filter(|n| (2..*n).all(|d| n % d != 0));
    // The first 32 bits of the fractions of roots of primes.
    let fraction = |root: f64| ((root - root.floor()) * 2_f64.powi(32)) as u32;
    let k: Vec<u32> = primes.clone().take(64).map(|p| fraction(f64::from(p).cbrt())).collect();
    let mut h: Vec<u32> = primes.take(8).map(|p| fraction(f64::from(p).sqrt())).collect();
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 } - 8, 0);
    padded.extend((8 * bytes.len() as u64).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let [a, b] = [w[i - 15], w[i - 2]];
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = [v[7], s1, choice, k[i], w[i]].into_iter().fold(0, u32::wrapping_add);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(one);
            v[0] = one.wrapping_add(s0).wrapping_add(majority);
        }
        h.iter_mut().zip(v).for_each(|(h, v)| *h = h.wrapping_add(v));
    }
    h.into_iter().flat_map(u32::to_be_bytes).collect()
}

fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let digit = |six: &[u8]| {
        let six = format!("{:0<6}", std::str::from_utf8(six).unwrap());
        char::from(DIGITS[usize::from_str_radix(&six, 2).unwrap()])
    };
    let text: String = bits.as_bytes().chunks(6).map(digit).collect();
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}

#[test]
fn the_hash_is_that_of_the_standard() {
    let hex = |bytes: &[u8]| sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(hex(long), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_eq!(base64_of(b"foob"), "Zm9vYg==");
}
