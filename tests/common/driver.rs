//! A driver and an NVRTC that play a card: `driver.cpp`, compiled, for processes that are told where it lies.

use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The library, the log of its calls, and a cache for what its NVRTC compiles; all gone with it.
pub struct Driver(TempDir);

impl Driver {
    pub fn new() -> Self {
        let driver = Self(TempDir::new().unwrap());
        let library = driver.path("libcuda.so");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/driver.cpp");
        let made = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(made.unwrap().success());
        // The names that are tried first, so that no other is found.
        std::fs::copy(&library, driver.path("libnvrtc.so")).unwrap();
        driver
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a process that is to find it has in its environment.
    pub fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_LIBRARY_PATH", self.path("")),
            ("FAKE_LOG", self.path("log")),
            ("XDG_CACHE_HOME", self.path("cache")),
            ("ETUDE_NVRTC", "1".into()),
        ]
    }
}
