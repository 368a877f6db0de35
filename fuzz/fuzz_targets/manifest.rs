//! Manifests, and the scales in them.
#![no_main]

use etude::data::{LoadOptions, RatingScale, manifest};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("manifest.csv");
    let read = manifest::parse(path, bytes, &LoadOptions::default());
    let scale = RatingScale::new(1.0, 4.0).ok();
    let scaled = manifest::parse(path, bytes, &LoadOptions { rating_scale: scale, ..LoadOptions::default() });
    for error in [read.err(), scaled.err()].into_iter().flatten() {
        assert!(error.to_string().len() < 2000, "a message quotes too much");
    }
    if let Ok(scale) = String::from_utf8_lossy(bytes).parse::<RatingScale>() {
        assert_eq!(scale.to_string().parse::<RatingScale>().ok(), Some(scale));
    }
});
