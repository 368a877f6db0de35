//! What becomes of standard output and error ends no run: closed pipes, full disks, no terminal.

use assert_cmd::cargo::cargo_bin;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Where standard output or error goes.
#[derive(Clone, Copy, PartialEq)]
enum To {
    /// A pipe that is read to its end.
    Reader,
    /// A pipe whose reader has gone already.
    Nobody,
    /// A disk without any space left.
    Full,
}

impl To {
    fn stdio(self) -> Stdio {
        match self {
            Self::Reader => Stdio::piped(),
            Self::Nobody => std::io::pipe().unwrap().1.into(),
            Self::Full => File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// What a command does with these as its standard output and error.
fn etude(args: &[&str], out: To, err: To) -> (i32, String, String) {
    let mut command = Command::new(cargo_bin("etude"));
    // Spawned, so that the ends that nobody reads are closed in time.
    let child = command.args(args).stdin(Stdio::null()).stdout(out.stdio()).stderr(err.stdio()).spawn();
    drop(command);
    let Output { status, stdout, stderr } = child.unwrap().wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    (status.code().unwrap_or_else(|| panic!("{args:?}: {status}")), stdout, stderr)
}

fn set(dir: &TempDir) -> String {
    let path = dir.path().join("set").to_str().unwrap().to_string();
    let args = ["synth", "--out", &path, "--takes", "40", "--performers", "20"];
    assert_eq!(etude(&args, To::Reader, To::Reader).0, 0);
    path
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let mut files: Vec<_> = entries
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .filter(|(name, _)| name != "metrics.json" || !dir.join(name).metadata().unwrap().is_file())
        .collect();
    files.sort();
    assert!(dir.join("metrics.json").exists());
    files
}

const FULL: &str = "error: standard output: write failed: No space left on device";

#[test]
fn what_prints_ends_quietly_when_nobody_reads() {
    for args in [&["devices"][..], &["--help"], &["--version"], &["train", "--help"]] {
        assert_eq!(etude(args, To::Reader, To::Reader).0, 0, "{args:?}");
        let (code, _, err) = etude(args, To::Nobody, To::Reader);
        assert_eq!(code, 141, "{args:?}: {err}");
        assert!(!err.contains("error: standard output"), "{args:?}: {err}");
        let (code, _, err) = etude(args, To::Full, To::Reader);
        assert!(code == 1 && err.contains(FULL), "{args:?}: {code} {err}");
        // What is wrong cannot be said, and is not forgotten.
        assert_eq!(etude(args, To::Full, To::Full).0, 1, "{args:?}");
        assert_eq!(etude(args, To::Nobody, To::Nobody).0, 141, "{args:?}");
        assert_eq!(etude(args, To::Reader, To::Full).0, 0, "{args:?}");
    }
    assert_eq!(etude(&["--abacus"], To::Reader, To::Full).0, 2);
    assert_eq!(etude(&["eval", "--model", "/nowhere"], To::Nobody, To::Nobody).0, 1);
}

#[test]
fn a_benchmark_ends_with_its_reader_unless_a_page_is_wanted() {
    let dir = TempDir::new().unwrap();
    let page = dir.path().join("page.md");
    let lines = ["bench", "--device", "cpu", "--quick", "--json", "--filter", "conv1d B=2 1->4", "--only"];
    // The cases take a minute; after the first line they are of no use.
    let start = std::time::Instant::now();
    let (code, _, err) = etude(&[&lines[..], &["info,cases"]].concat(), To::Nobody, To::Reader);
    assert_eq!(code, 141, "{err}");
    assert!(start.elapsed().as_secs() < 20);
    let (code, _, err) = etude(
        &[&lines[..], &["info,kernels", "--out", page.to_str().unwrap()]].concat(),
        To::Nobody,
        To::Nobody,
    );
    assert_eq!(code, 141, "{err}");
    assert!(page.exists());
}

#[test]
fn training_goes_on_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let train = |name: &str, out: To, err: To, more: &[&str]| {
        let at = dir.path().join(name);
        let args = ["train", "--data", &data, "--epochs", "2", "--device", "cpu", "--checkpoint-every", "0"];
        let (code, _, err) = etude(&[&args[..], &["--out", at.to_str().unwrap()], more].concat(), out, err);
        (code, err, files(&at))
    };
    let (code, err, whole) = train("whole", To::Reader, To::Reader, &[]);
    assert_eq!((code, whole.len()), (0, 7), "{err}");
    let cases = [
        (To::Reader, To::Nobody, 0),
        (To::Reader, To::Full, 0),
        (To::Nobody, To::Reader, 141),
        (To::Nobody, To::Nobody, 141),
        (To::Full, To::Reader, 1),
        (To::Full, To::Full, 1),
    ];
    for (i, (out, err, expected)) in cases.into_iter().enumerate() {
        for more in [&[][..], &["--json"]] {
            let (code, said, left) = train(&format!("run-{i}-{}", more.len()), out, err, more);
            assert_eq!(code, expected, "{i} {more:?}: {said}");
            assert!(left == whole, "{i} {more:?}");
            assert_eq!(said.contains(FULL), out == To::Full && err == To::Reader, "{said}");
        }
    }
}

/// A closed descriptor is nothing to write to, and no error.
#[test]
fn a_page_of_grades_is_wanted_though_nobody_reads() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let train = ["train", "--device", "cpu", "--data", &data, "--epochs", "1", "--input", "contour", "--out"];
    assert_eq!(etude(&[&train[..], &[&at("run")]].concat(), To::Reader, To::Reader).0, 0);
    let score = ["score", "--device", "cpu", "--model", &at("run/model.safetensors"), &data, &data];
    let page = |out: &str| fs::read_to_string(dir.path().join(out).join("report.html")).unwrap();
    // More takes than are graded at a time.
    let mut pages = Vec::new();
    for (i, (to, code)) in [(To::Reader, 0), (To::Nobody, 141), (To::Full, 1)].into_iter().enumerate() {
        let out = at(&i.to_string());
        let done = etude(&[&score[..], &["--out", &out]].concat(), to, To::Reader);
        assert_eq!(done.0, code, "{}", done.2);
        pages.push(page(&out));
    }
    assert!(
        pages[0].matches("<section class=\"take\"").count() == 80 && pages.iter().all(|p| *p == pages[0])
    );
}

#[test]
fn closed_descriptors_are_no_error() {
    let dir = TempDir::new().unwrap();
    let data = set(&dir);
    let etude = cargo_bin("etude");
    for closed in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let out = dir.path().join(format!("run{closed}"));
        let script = format!("\"$0\" train --device cpu --epochs 1 --data \"$1\" --out \"$2\" {closed}");
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", &script]).arg(&etude).arg(&data).arg(&out).status().unwrap();
        assert_eq!(status.code(), Some(0), "{closed}");
        assert_eq!(files(&out).len(), 7, "{closed}");
    }
}
