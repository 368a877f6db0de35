//! The notes of a take by themselves, without a melody to compare them with.

use super::super::blocks::median;
use super::note::{Note, SHORTEST};

/// A voiced block this near to the note so far, in semitones, goes on with it.
const SAME: f32 = 0.6;

/// Blocks that tell what the note is so far.
const MEMORY: usize = 8;

/// Transcribes pitches per block, 0.0 where unvoiced, to notes, from left to right.
///
/// A voiced block goes on with a note if it is within 0.6 semitones of the median of the note's last 8 blocks, else it begins
/// one; an unvoiced block ends it. Notes of fewer than 4 blocks are left out; a note's pitch is the median of its blocks.
pub fn transcribe(pitch: &[f32]) -> Vec<Note> {
    let (mut notes, mut start) = (Vec::new(), 0);
    let mut end = |start: usize, end: usize| {
        if end - start >= SHORTEST {
            notes.push(Note { pitch: median(&mut pitch[start..end].to_vec()), start, end });
        }
    };
    for (i, &now) in pitch.iter().enumerate() {
        let memory = &pitch[start.max(i.saturating_sub(MEMORY))..i];
        let goes_on = memory.is_empty() || (now - median(&mut memory.to_vec())).abs() <= SAME;
        if now == 0.0 || !goes_on {
            end(start, i);
            start = if now == 0.0 { i + 1 } else { i };
        }
    }
    end(start.min(pitch.len()), pitch.len());
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_end_at_jumps_and_rests_and_follow_a_glide() {
        let mut pitch = vec![60.0; 6];
        pitch.extend([62.0; 5]);
        pitch.extend([0.0, 0.0]);
        pitch.extend([64.0; 3]); // too short
        pitch.push(0.0);
        pitch.extend((0..20).map(|i| 65.0 + 0.1 * i as f32)); // a glide of two semitones
        let notes = transcribe(&pitch);
        let spans: Vec<_> = notes.iter().map(|note| (note.start, note.end)).collect();
        assert_eq!(spans, [(0, 6), (6, 11), (17, 37)]);
        assert_eq!((notes[0].pitch, notes[1].pitch), (60.0, 62.0));
        assert!((notes[2].pitch - 65.95).abs() < 1e-4);
        assert_eq!(transcribe(&[]), []);
        assert_eq!(transcribe(&[0.0; 9]), []);
    }
}
