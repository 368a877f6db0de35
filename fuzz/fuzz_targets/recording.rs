//! Recordings of every format, decoded and resampled.
#![no_main]

use etude::audio::recording::parse_recording;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    match parse_recording(Path::new("recording"), bytes) {
        Ok(recording) => {
            assert!(!recording.samples.is_empty());
            assert!(recording.samples.iter().all(|sample| sample.is_finite()));
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
});
