//! f0 values as a caller may hand them over.
#![no_main]

use etude::audio::{Contour, HOP};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|rows: Vec<(f64, f64)>| {
    let (times, f0): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
    let _ = Contour::from_f0(&times, &f0, HOP);
});
