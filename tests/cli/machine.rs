//! What the machine brings: a driver that is none, more threads than can be of use.

#[cfg(all(feature = "cuda", target_os = "linux"))]
use crate::driver::Driver;
use assert_cmd::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Exit code and both outputs of `etude` with these variables set.
fn etude(args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("etude").unwrap();
    let out = command.args(args).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// A small set to train on.
fn set(dir: &TempDir) -> String {
    let path = dir.path().join("set").to_str().unwrap().to_string();
    let (code, _, err) = etude(&["synth", "--out", &path, "--takes", "24", "--performers", "12"], &[]);
    assert_eq!(code, 0, "{err}");
    path
}

/// A `libcuda.so.1` made of `source`, in a folder for LD_LIBRARY_PATH.
#[cfg(all(feature = "cuda", target_os = "linux"))]
fn hollow_driver(source: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let (c, library) = (dir.path().join("libcuda.c"), dir.path().join("libcuda.so.1"));
    std::fs::write(&c, source).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let made =
        std::process::Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(library).arg(c).status();
    assert!(made.unwrap().success());
    dir
}

#[cfg(all(feature = "cuda", target_os = "linux"))]
#[test]
fn a_driver_without_its_symbols_is_an_error_for_cuda_and_a_note_for_auto() {
    let version = "extern \"C\" int cuDriverGetVersion(int *v) { *v = 13000; return 0; }\n\
                   extern \"C\" int cuInit(unsigned) { return 0; }\n\
                   extern \"C\" int cuGetErrorName(int, const char **n) { *n = \"none\"; return 0; }\n";
    let data = TempDir::new().unwrap();
    let data = set(&data);
    let old = version.replace("13000", "11040");
    for (source, word) in
        [("", "cuDriverGetVersion"), (version, "cuCtxDestroy_v2"), (&old, "update the driver")]
    {
        let dir = hollow_driver(source);
        let here = [("LD_LIBRARY_PATH", dir.path().to_str().unwrap())];
        let (code, out, err) = etude(&["devices"], &here);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(word) && out.contains("cpu "), "{out}");
        let (code, _, err) = etude(&["train", "--epochs", "1", "--device", "cuda"], &here);
        assert!(code == 1 && err.contains(word) && err.contains("--device cpu"), "{err}");
        let (code, _, err) = etude(&["train", "--epochs", "1", "--data", &data], &here);
        assert!(code == 0 && err.contains("CUDA is passed over") && err.contains(word), "{err}");
        assert!(!err.contains("panicked"), "{err}");
    }
}

/// Compiling takes up to a minute, with nothing else to see.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[test]
fn that_kernels_are_being_compiled_is_said_once_by_the_program_alone() {
    let data = TempDir::new().unwrap();
    let data = set(&data);
    let note = "note: compiling kernels for this card with NVRTC";
    // The driver computes nothing, so that what else is said is of no interest.
    let played = |driver: &Driver, args: &[&str]| {
        let variables = driver.variables();
        let (_, out, err) =
            etude(args, &variables.each_ref().map(|(name, value)| (*name, value.to_str().unwrap())));
        // A line for each plan that lacks kernels: to predict, and to train.
        assert!(!out.contains(note) && err.matches(note).count() < 3, "{out}{err}");
        err
    };
    let train = |device| ["train", "--device", device, "--epochs", "1", "--data", &data];
    let driver = Driver::new();
    let err = played(&driver, &train("cuda"));
    assert!(err.contains(note) && err.contains("conv_block"), "{err}");
    // What was compiled lies in the cache.
    let err = played(&driver, &train("auto"));
    assert!(err.contains("computing on Fake") && !err.contains(note), "{err}");
    let err = played(&Driver::new(), &["bench", "--device", "cuda", "--quick", "--only", "kernels"]);
    assert!(err.contains(note) && err.contains("elementwise"), "{err}");
}

#[test]
fn more_threads_than_are_of_use_are_not_started() {
    let data = TempDir::new().unwrap();
    let data = set(&data);
    let train = ["train", "--device", "cpu", "--epochs", "1", "--data", &data];
    let start = Instant::now();
    for (flags, variables) in
        [(&["--threads", "100000"][..], &[][..]), (&[][..], &[("RAYON_NUM_THREADS", "100000")][..])]
    {
        let (code, _, err) = etude(&[&train[..], flags].concat(), variables);
        assert!(code == 0 && err.contains("100000 threads are more than are of use"), "{err}");
    }
    // Thousands of threads took 13 s to start; a debug build trains an epoch in 2.
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// The most threads that a command had while it ran.
#[cfg(target_os = "linux")]
fn most_threads(args: &[&str]) -> usize {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("etude"))
        .args(args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id()));
        most = most.max(tasks.map_or(0, |tasks| tasks.count()));
        std::thread::sleep(Duration::from_millis(2));
    }
    most
}

#[cfg(target_os = "linux")]
#[test]
fn one_thread_is_one() {
    let data = TempDir::new().unwrap();
    let data = set(&data);
    let with = |threads| {
        most_threads(&["train", "--device", "cpu", "--epochs", "9", "--data", &data, "--threads", threads])
    };
    // One that reads, aligns and computes; another has it do so, and the main thread waits for signals.
    let (one, seven) = (with("1"), with("7"));
    assert!(one <= 3 && seven > 7, "{one} {seven}");
}
