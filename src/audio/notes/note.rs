//! A note of a melody.

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
}
