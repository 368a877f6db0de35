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

/// Whether the test that `command` runs passes.
pub fn passes(command: &mut Command) -> bool {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&out.stdout);
    // A name that is no test's would pass.
    assert!(said.contains("running 1 test\n"), "{command:?}: {said}{}", String::from_utf8_lossy(&out.stderr));
    if !out.status.success() {
        eprintln!("{command:?}: {}\n{said}", out.status);
    }
    out.status.success()
}
