//! Tests that take a process of their own, for its environment or for what they do to it: `#[ignore]`d, and run by another test.

use std::process::Command;

/// The command that runs one test of this program, named with its module.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments(test));
    command
}

/// What follows the program's name.
pub fn arguments(test: &str) -> [&str; 3] {
    [test, "--exact", "--include-ignored"]
}

/// Runs the test of `command`; what it printed, where it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [said, error] = [&out.stdout, &out.stderr].map(|text| String::from_utf8_lossy(text));
    let text = format!("{command:?}: {}\n{said}{error}", out.status);
    // A name that is no test's would pass.
    assert!(said.contains("running 1 test\n"), "{text}");
    if out.status.success() { Ok(()) } else { Err(text) }
}
