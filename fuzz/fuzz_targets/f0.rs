//! f0 files of every format, in every way to read them.
#![no_main]

use etude::audio::{F0Options, F0Unit, parse_f0};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let unit = F0Unit::ALL[bytes.len() % 2];
    for row_hop in [None, Some(0.01)] {
        let options = F0Options { row_hop, unit, ..F0Options::default() };
        match parse_f0(Path::new("f0"), bytes, &options) {
            Ok(file) => {
                let contour = file.contour;
                assert!(contour.pitch().iter().all(|p| (0.0..=128.0).contains(p)));
                assert!(contour.pitch().iter().any(|p| *p > 0.0));
                // Five minutes, and twenty times the rows, of which there is one in two bytes at most.
                assert!(contour.seconds() < 301.0 + 10.0 * bytes.len() as f64);
            }
            Err(error) => assert!(error.to_string().len() < 4000),
        }
    }
});
