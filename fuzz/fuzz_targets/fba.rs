//! Assessments and segments of FBA's auditions.
#![no_main]

use etude::data::fba::{Assessments, Segment};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("1_assessments.txt");
    let errors = [Assessments::parse(path, bytes).err(), Segment::parse_all(path, bytes).err()];
    for error in errors.into_iter().flatten() {
        assert!(error.to_string().len() < 2000, "a message quotes too much");
    }
});
