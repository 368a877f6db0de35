//! What takes of one melody are compared with, and what the network is shown of them.

use super::contents::Contents;
use super::degrade::degrade;
use super::input_options::{InputKind, InputOptions};
use super::random::Random;
use crate::Result;
use crate::audio::notes::{Guide, Heard, Repair};
use crate::audio::{Alignment, Contour, Scale};

/// One view of a take, of any length.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Columns.
    pub len: usize,
    /// `[channels][len]`, row-major.
    pub data: Vec<f32>,
}

/// What the network is shown of a take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// One of a contour alone, else one per reference; none of notes alone.
    pub rows: Vec<Row>,
    /// [`crate::audio::notes::FEATURES`] where the kind has notes, else none.
    pub features: Vec<f32>,
}

/// The references of a melody, ready for takes to be compared with.
#[derive(Debug, Clone)]
pub struct Comparison {
    kind: InputKind,
    scale: Scale,
    /// Of a kind with references.
    guide: Option<Guide>,
    /// Those that takes are compared with, in the guide's order.
    references: Vec<Contour>,
    /// Digest of every reference that the guide was made of.
    digest: u64,
}

impl Comparison {
    /// Ranks `references` and keeps the `options.max_references` most typical, see [`Guide::of`]; of a kind without references
    /// none is looked at.
    ///
    /// # Errors
    /// As [`Guide::of`], of a kind with references.
    pub fn of(kind: InputKind, references: &[&Contour], options: &InputOptions) -> Result<Self> {
        let (scale, guide) = match kind.needs_reference() {
            true => (options.scale, Some(Guide::of(references, options.max_references, &options.align)?)),
            false => (options.scale, None),
        };
        let kept = guide
            .iter()
            .flat_map(|guide| &guide.references)
            .map(|kept| references[kept.index].clone())
            .collect();
        let looked_at = if guide.is_some() { references } else { &[] };
        Ok(Self { kind, scale, guide, references: kept, digest: Contents::digest(looked_at) })
    }

    /// One of `references`, those that this was made of, with planted errors, and its rating by them; nothing of a kind without
    /// references, where no note of the melody is known, or where what is left has no voiced frame.
    ///
    /// # Errors
    /// As [`Guide::notes_in`].
    pub(super) fn degrade(
        &self,
        references: &[&Contour],
        random: &mut Random,
    ) -> Result<Option<(Contour, f32)>> {
        let Some(guide) = &self.guide else { return Ok(None) };
        let of = references[random.below(references.len())];
        let (blocks, notes) = guide.notes_in(of)?;
        Ok(degrade(of, &blocks, &notes, random))
    }

    /// Digests of a take and of all that it is compared with.
    pub fn contents(&self, take: &Contour) -> Contents {
        Contents { contour: Contents::digest(&[take]), references: self.digest }
    }

    /// A take beside the references; `None` of a kind without references.
    ///
    /// # Errors
    /// When it does not align: its hop is another, or it is too long.
    pub fn hear(&self, take: &Contour) -> Result<Option<Heard>> {
        self.guide.as_ref().map(|guide| guide.hear(take)).transpose()
    }

    /// What the network is shown of a take.
    ///
    /// # Errors
    /// As [`Comparison::hear`].
    pub fn show(&self, take: &Contour) -> Result<Shown> {
        Ok(self.shown(take, self.hear(take)?.as_ref()))
    }

    /// What the network is shown of a take that [`Comparison::hear`] heard.
    pub fn shown(&self, take: &Contour, heard: Option<&Heard>) -> Shown {
        let scaled = |pitch: &[f32]| -> Vec<f32> { pitch.iter().map(|&p| self.scale.apply(p)).collect() };
        let row = |data: Vec<f32>| Row { len: take.len(), data };
        match heard {
            Some(heard) if self.kind == InputKind::ContourReference => {
                let beside = |(alignment, reference): (&Alignment, &Contour)| {
                    let reference = alignment.reference_on_performance(take, reference);
                    row([scaled(take.pitch()), scaled(&reference)].concat())
                };
                let rows = heard.alignments.iter().zip(&self.references).map(beside).collect();
                Shown { rows, features: Vec::new() }
            }
            Some(heard) => self.of_heard(heard),
            None => Shown { rows: vec![row(scaled(take.pitch()))], features: Vec::new() },
        }
    }

    /// What is shown of alignments and notes.
    pub(super) fn of_heard(&self, heard: &Heard) -> Shown {
        let row = |a: &Alignment| Row { len: a.path.len(), data: a.columns() };
        let rows = if self.kind.has_path() { heard.alignments.iter().map(row).collect() } else { Vec::new() };
        let features = if self.kind.has_notes() { heard.features() } else { Vec::new() };
        Shown { rows, features }
    }

    /// A take with its notes as they are written; `None` where there are none, or the network is shown a contour.
    pub(super) fn repair<'a>(&'a self, heard: &'a Heard) -> Option<Repair<'a>> {
        let guide = self.guide.as_ref().filter(|_| self.kind.has_path() || self.kind.has_notes())?;
        Repair::of(guide, heard)
    }
}
