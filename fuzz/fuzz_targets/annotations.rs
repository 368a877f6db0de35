//! MASTmelody's annotations.
#![no_main]

use etude::data::mastmelody::Annotations;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = Annotations::parse(Path::new("annotations.csv"), bytes) {
        assert!(error.to_string().len() < 2000, "a message quotes too much");
    }
});
