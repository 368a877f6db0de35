//! A take beside the notes that it should have.

use super::axis::{Axis, extent, frame, step, usable};
use super::canvas::{At, BLUE, Canvas, INK, Key, MUTED, Mark, Type, VERMILION, width};
use super::pitch::{pitch_axis, pitch_lines};
use crate::Result;
use crate::audio::Contour;
use crate::audio::notes::{Outcome, PerformedNote};
use crate::data::CostlySpan;
use std::ops::{Range, RangeInclusive};

const SIZE: At = (1000, 360);
const ACROSS: At = (76, SIZE.0 - 16);
const DOWN: At = (SIZE.1 - 54, 68);

/// Where the costs of spans are written: from the plot up, as many lines as there are.
const COSTS: [i32; 2] = [DOWN.1 - 9, DOWN.1 - 24];

/// Shares of colour in costly spans, in what costs nearly nothing and in what costs most, and in notes as written.
const COSTLY: [f64; 2] = [0.05, 0.28];
const WRITTEN: f64 = 0.22;

/// How far a note's bar reaches from its pitch to both sides, in semitones: what is within it is right.
const REACH: f64 = 0.5;

/// How far from all notes, or from most of a contour without any, pitch is drawn, in semitones. What is farther off is hum, and
/// would leave the rest no room.
const FARTHEST: f64 = 12.0;

/// A take as it was performed.
#[derive(Debug, Clone, Copy)]
pub struct PerformedTake<'a> {
    /// Its pitch.
    pub contour: &'a Contour,
    /// Semitones from the melody's key up to the take's.
    pub key: f32,
    /// What became of each note of the melody, and what is not in it; may be empty.
    pub notes: &'a [PerformedNote],
    /// What costs most; may be empty.
    pub costly: &'a [CostlySpan],
}

impl PerformedTake<'_> {
    /// Where the first and the last moment of [`performed_svg`] are, in pixels of a width of 1000.
    pub const ACROSS: (i32, i32) = ACROSS;

    /// Whether some of the pitch is more than an octave away from all notes, or where there are none from the middle nine tenths
    /// of the contour, and is not drawn.
    pub fn has_strays(&self) -> bool {
        let drawn = self.drawn(&self.bars());
        self.voiced().any(|pitch| !drawn.contains(&pitch))
    }

    fn voiced(&self) -> impl Iterator<Item = f64> {
        self.contour.pitch().iter().filter(|&&p| p > 0.0).map(|&p| f64::from(p))
    }

    fn bars(&self) -> Vec<Bar<'_>> {
        self.notes.iter().filter_map(|note| Bar::of(note, self.key)).collect()
    }

    /// The pitches that are drawn.
    fn drawn(&self, bars: &[Bar<'_>]) -> RangeInclusive<f64> {
        let (low, high) = extent(bars.iter().map(|bar| bar.pitch)).unwrap_or_else(|| {
            let mut voiced: Vec<f64> = self.voiced().collect();
            voiced.sort_by(f64::total_cmp);
            let rank =
                |share: f64| voiced.get((share * voiced.len() as f64) as usize).copied().unwrap_or(60.0);
            (rank(0.05), rank(0.95))
        });
        low - FARTHEST..=high + FARTHEST
    }
}

/// The pitch of a take from one time to another over the notes of the melody, in the take's key and time.
///
/// A note as written is a bar that reaches 50 cents up and down: it is right where it is performed as high as that. A missing
/// note is dashed, a wrong one has a cross where it is performed, one that is not in the melody a plus sign. Notes have their
/// numbers from 1 above them where there is room. Costly spans are shaded, and say above what they cost. All stretches of a take
/// have the same pitch axis; what is more than an octave away from all notes is not drawn.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the drawing fails, which no take is known to cause.
pub fn performed_svg(take: &PerformedTake<'_>, seconds: Range<f64>) -> Result<String> {
    let bars = take.bars();
    let drawn = take.drawn(&bars);
    let edges = bars.iter().flat_map(|bar| [bar.pitch - REACH, bar.pitch + REACH]);
    let (low, high) =
        extent(take.voiced().filter(|pitch| drawn.contains(pitch)).chain(edges)).unwrap_or((60.0, 72.0));
    // Above the highest is room for its number.
    let y = pitch_axis([low, high, high + 0.1 * (high - low)], DOWN);
    let span = (seconds.end - seconds.start).max(take.contour.hop());
    let x = Axis::linear((seconds.start, seconds.start + span), ACROSS, step(span, 10.0));
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.keys(&keys(take), (ACROSS.0, 16))?;
    costs(&mut c, &x, take.costly)?;
    frame(&mut c, &x, &y, "time in s", "pitch")?;
    let mut free = ACROSS.0;
    for bar in bars.iter().filter(|bar| overlaps(&bar.time, &x)) {
        bar.draw(&mut c, (&x, &y), &mut free)?;
    }
    let hop = take.contour.hop();
    let first = (x.lo / hop).ceil().max(0.0);
    let frames = take.contour.pitch().iter().skip(first as usize).take((span / hop) as usize + 1);
    let pitch: Vec<f32> = frames.map(|&p| if drawn.contains(&f64::from(p)) { p } else { 0.0 }).collect();
    pitch_lines(&mut c, (&x, &y), &pitch, (first * hop, hop))?;
    for note in take.notes.iter().filter(|note| overlaps(&note.span, &x)) {
        let Some(pitch) = note.pitch.filter(|&pitch| drawn.contains(&f64::from(pitch))) else { continue };
        let middle = (note.span.start.max(x.lo) + note.span.end.min(x.hi)) / 2.0;
        let at = (x.at(middle), y.at(f64::from(pitch)));
        match note.outcome {
            Outcome::Wrong => c.cross(at, VERMILION)?,
            Outcome::Extra => c.plus(at, VERMILION)?,
            Outcome::Right | Outcome::Missing => {}
        }
    }
    c.done()?;
    Ok(svg)
}

/// Whether some of a time is on an axis.
fn overlaps(time: &Range<f64>, x: &Axis) -> bool {
    usable(time.start) && usable(time.end) && time.start < x.hi && time.end >= x.lo
}

/// What the take has of what a drawing can show.
fn keys(take: &PerformedTake<'_>) -> Vec<Key> {
    let has = |outcome| take.notes.iter().any(|note| note.outcome == outcome);
    let all = [
        (true, "as performed", BLUE, Mark::Line(2)),
        (take.notes.iter().any(|note| note.written.is_some()), "as written", MUTED, Mark::Bar(WRITTEN)),
        (has(Outcome::Wrong), "wrong", VERMILION, Mark::Cross),
        (has(Outcome::Missing), "missing", VERMILION, Mark::Dashes),
        (has(Outcome::Extra), "extra", VERMILION, Mark::Plus),
        (!take.costly.is_empty(), "costs part of the grade", VERMILION, Mark::Shade(COSTLY[1])),
    ];
    all.into_iter().filter(|key| key.0).map(|(_, name, colour, mark)| Key { name, colour, mark }).collect()
}

/// Shades costly spans, the more they cost the stronger, and says what they cost; what has no room goes without words.
fn costs(c: &mut Canvas, x: &Axis, costly: &[CostlySpan]) -> Result<()> {
    let mut spans: Vec<&CostlySpan> =
        costly.iter().filter(|span| overlaps(&(span.start..span.end), x)).collect();
    spans.sort_by(|a, b| a.start.total_cmp(&b.start));
    let most = costly.iter().map(|span| f64::from(span.cost)).fold(f64::MIN_POSITIVE, f64::max);
    let mut free = [x.from; COSTS.len()];
    for span in spans {
        let (from, to) = (x.at(span.start), x.at(span.end));
        let shade = COSTLY[0] + (COSTLY[1] - COSTLY[0]) * (f64::from(span.cost) / most).clamp(0.0, 1.0);
        // A hair between notes that follow each other.
        c.shade((from, DOWN.1), ((to - 1).max(from + 2), DOWN.0), (VERMILION, shade))?;
        let label = format!("{:.2}", span.cost);
        let wide = width(&label, Type::SMALL.px);
        let at = ((from + to - wide) / 2).clamp(x.from, x.to - wide);
        if let Some(line) = free.iter().position(|&free| free <= at) {
            c.text(&label, (at, COSTS[line]), Type { colour: INK, ..Type::SMALL })?;
            free[line] = at + wide + 6;
        }
    }
    Ok(())
}

/// A note of the melody in a take's key and time.
struct Bar<'a> {
    note: &'a PerformedNote,
    number: usize,
    pitch: f64,
    time: Range<f64>,
}

impl<'a> Bar<'a> {
    fn of(note: &'a PerformedNote, key: f32) -> Option<Self> {
        let (number, pitch) = note.written?;
        let time = note.due.as_ref().unwrap_or(&note.span).clone();
        let pitch = f64::from(pitch + key);
        usable(pitch).then_some(Self { note, number: number + 1, pitch, time })
    }

    /// Draws it, with its number where what is drawn to its left leaves room.
    fn draw(&self, c: &mut Canvas, (x, y): (&Axis, &Axis), free: &mut i32) -> Result<()> {
        let [left, right] = [self.time.start, self.time.end].map(|time| x.at(time));
        let (top, bottom) = (y.at(self.pitch + REACH), y.at(self.pitch - REACH));
        // A hair between notes of one pitch.
        let right = (right - 1).max(left + 2);
        let is_missing = self.note.outcome == Outcome::Missing;
        match is_missing {
            true => c.dashes((left, top), (right, bottom), VERMILION)?,
            false => c.frame((left, top), (right, bottom), (MUTED, WRITTEN))?,
        }
        let label = self.number.to_string();
        let wide = width(&label, Type::SMALL.px);
        let at = ((left + right - wide) / 2).clamp(x.from, x.to - wide);
        if at >= *free {
            c.text(&label, (at, top - 9), Type::SMALL)?;
            *free = at + wide + 3;
        }
        Ok(())
    }
}
