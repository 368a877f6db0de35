//! Scores of every format.
#![no_main]

use etude::audio::{HOP, is_score, parse_score};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| match parse_score(Path::new("score"), bytes) {
    Ok(score) => {
        assert!(is_score(bytes) && !score.notes.is_empty());
        assert!(score.notes.iter().all(|note| (0.0..=128.0).contains(&note.pitch)));
        assert!(
            score.notes.iter().all(|note| 0.0 <= note.start && note.start < note.end && note.end.is_finite())
        );
        assert!(score.notes.windows(2).all(|pair| pair[0].end <= pair[1].start));
        // A file of some bytes may last for a day; as many frames as that are not made here.
        if score.notes.last().is_some_and(|last| last.end < 60.0) {
            assert_eq!(score.contour(HOP).unwrap().notes().len(), score.notes.len());
        }
    }
    Err(error) => assert!(error.to_string().len() < 4000),
});
