//! Inputs of every command that are no regular files, far too large, or speak to the terminal.
#![cfg(unix)]

use assert_cmd::Command;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What is no regular file: a pipe that nobody writes to, devices without an end, a terminal's or pipe's other name, a socket.
fn irregular(dir: &Path) -> Vec<PathBuf> {
    let pipe = dir.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = dir.join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let devices = ["/dev/zero", "/dev/urandom", "/dev/stdin"].map(PathBuf::from);
    [vec![pipe, socket], devices.to_vec()].concat()
}

/// Runs the command, which must fail within seconds, and gives what it says: little, and nothing unseen.
fn refused<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let mut command = Command::cargo_bin("etude").unwrap();
    // A pipe for standard input, which ends only with the command.
    let out = command
        .args(args)
        .timeout(Duration::from_secs(60))
        .write_stdin("path,performer,rating\n")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text.get(..2000).unwrap_or(&text));
    assert!(text.len() < 3000, "{} bytes: {}", text.len(), &text[..500]);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    text
}

fn train(data: &Path) -> String {
    refused(&["train".as_ref(), "--data".as_ref(), data.as_os_str()])
}

/// A manifest beside one f0 file.
fn layout() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), "0 440\n0.01 440\n").unwrap();
    fs::write(dir.path().join("manifest.csv"), "path,performer,rating\na.txt,x,1\n").unwrap();
    dir
}

#[test]
fn only_regular_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (i, odd) in irregular(dir.path()).iter().enumerate() {
        // As the data itself, and under each name that is looked for.
        let place = |name: &str| {
            let set = dir.path().join(format!("{i}-{}", name.replace('/', "-")));
            let path = set.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(odd, &path).unwrap();
            (set, path)
        };
        let said = "is no regular file but a pipe, a socket or a device";
        assert!(train(odd).contains(said), "{}", odd.display());
        for name in ["x.csv", "manifest.csv", "annotations/annotations.csv"] {
            let (set, path) = place(name);
            let message = train(if name == "x.csv" { &path } else { &set });
            assert!(message.contains(said), "{}: {message}", path.display());
        }
        let (set, _) = place("f0.txt");
        fs::write(set.join("manifest.csv"), "path,performer,rating\nf0.txt,x,1\n").unwrap();
        assert!(train(&set).contains(said));

        let model = refused(&["eval".as_ref(), "--model".as_ref(), odd.as_os_str()]);
        assert!(model.contains(said), "{model}");
        let (run, _) = place("checkpoint.safetensors");
        let resumed = refused(&["train".as_ref(), "--resume".as_ref(), run.as_os_str()]);
        assert!(resumed.contains(said), "{resumed}");
        refused(&["train".as_ref(), "--resume".as_ref(), odd.as_os_str()]);
    }
    let here = dir.path().as_os_str();
    assert!(refused(&["eval".as_ref(), "--model".as_ref(), here]).contains("is a directory"));
    let set = layout();
    fs::remove_file(set.path().join("a.txt")).unwrap();
    fs::create_dir(set.path().join("a.txt")).unwrap();
    assert!(train(set.path()).contains("is a directory"));
}

#[test]
fn a_file_has_at_most_the_size_of_its_kind() {
    let set = layout();
    let sparse = |name: &str, size: u64| {
        let path = set.path().join(name);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    };
    sparse("a.txt", 1 << 40);
    assert!(train(set.path()).contains("a file of this kind has at most 268435456"));
    let model = sparse("model.safetensors", 1 << 40);
    assert!(
        refused(&["eval".as_ref(), "--model".as_ref(), model.as_os_str()]).contains("at most 1073741824")
    );
    sparse("manifest.csv", 1 << 40);
    assert!(train(set.path()).contains("at most 33554432"));
}

/// Long lines, control sequences and bytes that are no UTF-8, in every file that is read, come back short and harmless.
#[test]
fn what_files_say_is_quoted() {
    let long = "x".repeat(2_000_000);
    let clear = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}".to_string();
    for text in [&long, &clear] {
        let header = "path,performer,rating,pass,split,melody,reference";
        for manifest in [
            format!("{text}\n"),
            format!("path,performer,rating,{text},{text}\na.txt,x,1,1,1\n"),
            format!("path,performer,rating,{text}\na.txt,x\n"),
            format!("{header}\n{text},x,1,,train,,\n"),
            format!("{header}\na.txt,x,{text},,train,,\n"),
            format!("{header}\na.txt,x,1,{text},train,,\n"),
            format!("{header}\na.txt,x,1,,{text},,\n"),
            format!("{header}\na.txt,x,1,,train,m,{text}\n"),
            format!("{header}\n\"a.txt,x,1,,train,m,{text}\n"),
        ] {
            let set = layout();
            fs::write(set.path().join("manifest.csv"), &manifest).unwrap();
            train(set.path());
        }
        let set = layout();
        for f0 in [format!("0 440\n{text}\n"), format!("{text}\n"), format!("0 440\n0.1 {text}\n")] {
            fs::write(set.path().join("a.txt"), &f0).unwrap();
            train(set.path());
        }
        fs::remove_file(set.path().join("manifest.csv")).unwrap();
        for path in ["annotations", "f0data"] {
            fs::create_dir(set.path().join(path)).unwrap();
        }
        fs::write(set.path().join("f0data/51_mel1_per1_pass.f0s.txt"), "0 440\n").unwrap();
        for annotations in [
            format!("file,1Ann\n51_mel1_per1.wav,{text}\n"),
            format!("file,1{text}\n51_mel1_per1.wav,9\n"),
            format!("{text}\n51_mel1_per1.wav,9\n"),
        ] {
            fs::write(set.path().join("annotations/annotations.csv"), &annotations).unwrap();
            train(set.path());
        }
    }
    let set = layout();
    refused(&["train", "--data", set.path().to_str().unwrap(), "--criterion", &clear]);
    refused(&["train", "--data", &format!("/no/{clear}/file.csv")]);
    let bytes = std::ffi::OsStr::from_bytes(b"/no/\xff\x1b[2J/file.csv");
    refused(&["train".as_ref(), "--data".as_ref(), bytes]);
    fs::write(set.path().join("manifest.csv"), b"path,performer,rating\na.txt,x\xff,1\n").unwrap();
    train(set.path());
}

#[test]
fn how_f0_files_are_read_can_be_said() {
    let set = layout();
    let eval = |option: &[&str]| {
        let args = [&["train", "--epochs", "1", "--data", set.path().to_str().unwrap()][..], option].concat();
        refused(&args)
    };
    fs::write(set.path().join("a.txt"), "440\n441\n").unwrap();
    let told = eval(&[]);
    assert!(
        told.contains("say how many seconds apart its rows are") && told.contains("hint: --f0-hop"),
        "{told}"
    );
    // Read; one take cannot be split.
    assert!(eval(&["--f0-hop", "0.01"]).contains("note: 1 f0 file read as one column (f0)\n"));
    assert!(eval(&["--f0-hop", "0.01", "--f0-unit", "midi"]).contains("f0 440 is no MIDI note number"));
    assert!(eval(&["--f0-hop", "0"]).contains("hop 0: expected seconds above 0"));
    assert!(eval(&["--min-confidence", "1.5"]).contains("least confidence 1.5: expected 0 to 1"));
    fs::write(set.path().join("a.txt"), "time,frequency,confidence\n0,440,0.4\n0.01,440,0.3\n").unwrap();
    assert!(eval(&[]).contains("no voiced frame"));
    assert!(eval(&["--min-confidence", "0.35"]).contains("read as CREPE (time, frequency, confidence)\n"));
}
