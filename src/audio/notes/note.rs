//! A note of a melody.

use super::super::contour::Span;

/// Shortest note, in blocks: 93 ms at the default block.
pub(super) const SHORTEST: usize = 4;

/// A note: its pitch, and the blocks `start..end` that it sounds in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// MIDI pitch.
    pub pitch: f32,
    /// Its first block.
    pub start: usize,
    /// The block after its last.
    pub end: usize,
}

impl Note {
    /// Blocks that it sounds in.
    pub fn blocks(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// The notes of pitches per block, 0.0 where unvoiced: runs of one rounded pitch that last 4 blocks or more.
    pub(super) fn runs(pitch: &[f32]) -> Vec<Self> {
        let mut end = 0;
        let runs = pitch.chunk_by(|a, b| a.round() == b.round()).map(|run| {
            let start = end;
            end += run.len();
            Self { pitch: run[0].round(), start, end }
        });
        runs.filter(|note| note.pitch > 0.0 && note.blocks() >= SHORTEST).collect()
    }

    /// The notes of a score in blocks of so many frames, from the nearest edge of a block to the nearest. One that is left no
    /// block is left out, but for the first where none is left any.
    pub(super) fn of_score(notes: &[Span], frames: usize) -> Vec<Self> {
        let block = |frame: usize| (frame + frames / 2) / frames;
        let all = notes.iter().map(|span| Self {
            pitch: span.pitch,
            start: block(span.start),
            end: block(span.end),
        });
        let kept: Vec<Self> = all.clone().filter(|note| note.blocks() > 0).collect();
        if !kept.is_empty() {
            return kept;
        }
        all.take(1).map(|note| Self { end: note.start + 1, ..note }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_runs_of_a_rounded_pitch_that_last() {
        let pitch =
            [0.0, 60.4, 59.6, 60.0, 60.1, 0.0, 62.0, 62.0, 62.0, 0.0, 0.0, 0.0, 0.0, 64.0, 64.2, 64.4, 63.6];
        let note = |pitch, start, end| Note { pitch, start, end };
        assert_eq!(Note::runs(&pitch), [note(60.0, 1, 5), note(64.0, 13, 17)]);
        assert_eq!(Note::runs(&[]), []);
    }

    #[test]
    fn notes_of_a_score_are_in_whole_blocks() {
        let span = |start, end| Span { pitch: 60.0, start, end };
        let note = |start, end| Note { pitch: 60.0, start, end };
        let spans = [span(0, 8), span(8, 13), span(13, 14), span(14, 16), span(22, 30)];
        // 13 to 14 is from 3.25 to 3.5 blocks, and 14 to 16 from 3.5, which is rounded up, to 4.
        assert_eq!(Note::of_score(&spans, 4), [note(0, 2), note(2, 3), note(3, 4), note(6, 8)]);
        // Blocks much longer than the notes.
        assert_eq!(Note::of_score(&spans[1..4], 100), [note(0, 1)]);
        assert_eq!(Note::of_score(&[], 4), []);
    }
}
