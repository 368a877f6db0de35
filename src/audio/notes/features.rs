//! The numbers that a network is shown of a take's notes.

use super::edit::{Edit, Edits};
use super::statistics::{
    count, deviation, largest, least, longest_run, mean, median, share, smallest, weighted_mean,
};
use super::sung::{Sung, WRONG};

/// Numbers that [`note_features`] makes of a take and a reference.
pub const NOTE_FEATURES: usize = 47;

/// Numbers that [`edit_features`] makes of a take.
pub const EDIT_FEATURES: usize = 12;

/// A note this far off, in semitones, begins to be wrong.
const OFF: f32 = 0.75;

/// The features in order, [`NOTE_FEATURES`] and then [`EDIT_FEATURES`] of them, with what they are.
///
/// Of a note, `a` is [`Sung::error`], `u` and `t` are [`Sung::voiced`] and [`Sung::in_tune`], `z` is its deviation (3 where there
/// is none), `L` is [`Sung::length`]; of two neighbours, `v` is `min(|z − z′|, 4)`. Onsets are in blocks; `s` is where the note
/// begins in the reference.
pub const FEATURES: [(&str, &str); NOTE_FEATURES + EDIT_FEATURES] = [
    ("notes", "notes of the melody"),
    ("silent", "share of notes whose core is not voiced"),
    ("error_mean", "mean a"),
    ("error_by_length", "mean a, weighted by the notes' lengths"),
    ("error_median", "median a"),
    ("off_share", "share of notes with a > 0.5"),
    ("far_share", "share of notes with a > 0.8"),
    ("wrong_share", "share of notes with a > 1.5"),
    ("off", "notes with a > 0.5"),
    ("far", "notes with a > 0.8"),
    ("wrong", "notes with a > 1.5"),
    ("error_1", "largest a"),
    ("error_2", "second largest a"),
    ("error_3", "third largest a"),
    ("error_4", "fourth largest a"),
    ("error_5", "fifth largest a"),
    ("interval_mean", "mean v"),
    ("interval_off_share", "share of neighbours with v > 0.7"),
    ("interval_off", "neighbours with v > 0.7"),
    ("interval_1", "largest v"),
    ("interval_2", "second largest v"),
    ("interval_3", "third largest v"),
    ("onset_deviation", "deviation of onsets from a least-squares line over s; 20 of fewer than 3 onsets"),
    ("onset_worst", "largest distance of an onset from that line; 40 of fewer than 3"),
    ("tempo_deviation", "deviation of g = ln max(onset step / max(step of s, 1), 0.1); 1 of fewer than 3"),
    ("tempo_worst", "largest |g − median g|; 2 of fewer than 3"),
    ("tempo_median", "median g; 0 of fewer than 3"),
    ("length_deviation", "deviation of L"),
    ("length_1", "largest |L|"),
    ("length_2", "second largest |L|"),
    ("length_3", "third largest |L|"),
    ("voiced_mean", "mean u"),
    ("voiced_least", "least u"),
    ("in_tune_mean", "mean t"),
    ("in_tune_1", "least t"),
    ("in_tune_2", "second least t"),
    ("in_tune_3", "third least t"),
    ("in_tune_4", "fourth least t"),
    ("out_of_tune_share", "share of notes with t < 0.3"),
    ("error_first", "a of the first note"),
    ("error_last", "a of the last note"),
    ("error_first_half", "mean a of the first half of the notes"),
    ("error_second_half", "mean a of the second half"),
    ("wrong_run", "longest run of notes with a > 0.75"),
    ("right_run", "longest run of notes with a < 0.5, over the notes"),
    ("first_wrong", "index of the first note with a > 0.75, over the notes; 1 if there is none"),
    ("deviation", "deviation of z over notes with a < 1.5; 1 of fewer than 2"),
    ("edit_mean", "cost of the edits over the notes"),
    ("edit", "cost of the edits"),
    ("edit_matches", "share of notes matched within half a semitone"),
    ("edit_wrong", "notes sung half a semitone off or more"),
    ("edit_far", "notes sung more than a semitone off"),
    ("edit_inserted", "notes inserted"),
    ("edit_deleted", "notes left out"),
    ("edit_run", "longest run of matches, over the notes"),
    ("edit_error_mean", "mean distance of the notes sung, and one more of 0"),
    ("edit_error_median", "median distance of the notes sung, and one more of 0"),
    ("edit_ratio", "notes of the take over notes of the melody"),
    ("edit_surplus", "notes of the take less notes of the melody"),
];

/// Fills an array from the left.
struct Fill<'a>(std::slice::IterMut<'a, f32>);

impl Fill<'_> {
    fn put<const N: usize>(&mut self, values: [f32; N]) {
        values.into_iter().zip(&mut self.0).for_each(|(value, place)| *place = value);
    }
}

/// The first 47 of [`FEATURES`], of the notes of a take beside one reference.
pub fn note_features(notes: &[Sung]) -> [f32; NOTE_FEATURES] {
    let of = |value: fn(&Sung) -> f32| -> Vec<f32> { notes.iter().map(value).collect() };
    let z = of(|sung| sung.deviation.unwrap_or(WRONG));
    let (a, t, u, length) = (of(Sung::error), of(|s| s.in_tune), of(|s| s.voiced), of(|s| s.length));
    let n = notes.len().max(1) as f32;
    let mut features = [0.0; NOTE_FEATURES];
    let mut fill = Fill(features.iter_mut());

    fill.put([notes.len() as f32, notes.iter().filter(|s| s.deviation.is_none()).count() as f32 / n]);
    fill.put([mean(&a), weighted_mean(&a, &of(|s| s.note.blocks() as f32)), median(&a)]);
    let limits = [0.5, 0.8, 1.5];
    fill.put(limits.map(|limit| share(&a, |a| a > limit)));
    fill.put(limits.map(|limit| count(&a, |a| a > limit)));
    fill.put(largest::<5>(&a));

    let v: Vec<f32> = z.windows(2).map(|z| (z[1] - z[0]).abs().min(4.0)).collect();
    fill.put([mean(&v), share(&v, |v| v > 0.7), count(&v, |v| v > 0.7)]);
    fill.put(largest::<3>(&v));

    fill.put(rhythm(notes));
    fill.put([deviation(&length)]);
    fill.put(largest::<3>(&length.iter().map(|l| l.abs()).collect::<Vec<f32>>()));

    fill.put([mean(&u), least(&u), mean(&t)]);
    fill.put(smallest::<4>(&t));
    fill.put([share(&t, |t| t < 0.3)]);

    let (first, second) = a.split_at(a.len() / 2);
    let end = |a: Option<&f32>| a.copied().unwrap_or(0.0);
    fill.put([end(a.first()), end(a.last()), mean(first), mean(second)]);
    let right: Vec<f32> = z.iter().zip(&a).filter(|&(_, &a)| a < 1.5).map(|(&z, _)| z).collect();
    fill.put([
        longest_run(&a, |a| a > OFF),
        longest_run(&a, |a| a < 0.5) / n,
        a.iter().position(|&a| a > OFF).map_or(1.0, |at| at as f32 / n),
        if right.len() < 2 { 1.0 } else { deviation(&right) },
    ]);
    features
}

/// How evenly the notes are sung: the deviation of onsets from a line, the largest, and of the logarithm of the tempo from note
/// to note the deviation, the largest and the median.
fn rhythm(notes: &[Sung]) -> [f32; 5] {
    let onsets: Vec<[f32; 2]> =
        notes.iter().filter_map(|s| s.onset().map(|onset| [s.note.start as f32, onset as f32])).collect();
    if onsets.len() < 3 {
        return [20.0, 40.0, 1.0, 2.0, 0.0];
    }
    let [x, y] = [0, 1].map(|i| mean(&onsets.iter().map(|at| at[i]).collect::<Vec<f32>>()));
    let (mut xx, mut xy) = (0.0, 0.0);
    for at in &onsets {
        xx += (at[0] - x) * (at[0] - x);
        xy += (at[0] - x) * (at[1] - y);
    }
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    let residuals: Vec<f32> = onsets.iter().map(|at| at[1] - y - slope * (at[0] - x)).collect();
    let tempo = |pair: &[[f32; 2]]| {
        let [step, onset] = [0, 1].map(|i| pair[1][i] - pair[0][i]);
        (onset / step.max(1.0)).max(0.1).ln()
    };
    let g: Vec<f32> = onsets.windows(2).map(tempo).collect();
    let middle = median(&g);
    let worst =
        |values: &[f32], from: f32| values.iter().fold(0.0, |worst: f32, v| worst.max((v - from).abs()));
    [deviation(&residuals), worst(&residuals, 0.0), deviation(&g), worst(&g, middle), middle]
}

/// The last 12 of [`FEATURES`], of a take as it was transcribed.
pub fn edit_features(edits: &Edits) -> [f32; EDIT_FEATURES] {
    let [notes, taken] = edits.notes.map(|notes| notes as f32);
    let m = notes.max(1.0);
    let sung = |step: &Edit| match step {
        Edit::Sung(distance) => Some(*distance),
        Edit::Inserted | Edit::Deleted => None,
    };
    let mut distances: Vec<f32> = edits.steps.iter().filter_map(sung).collect();
    let matches: Vec<f32> = edits.steps.iter().map(|step| f32::from(step.matches())).collect();
    let of = |kind: Edit| edits.steps.iter().filter(|&&step| step == kind).count() as f32;
    let matched = count(&matches, |m| m > 0.0);
    let wrong = distances.len() as f32 - matched;
    let far = count(&distances, |d| d > 1.0);
    distances.push(0.0);
    [
        edits.cost / m,
        edits.cost,
        matched / m,
        wrong,
        far,
        of(Edit::Inserted),
        of(Edit::Deleted),
        longest_run(&matches, |m| m > 0.0) / m,
        mean(&distances),
        median(&distances),
        taken / m,
        taken - notes,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tune::{TUNE, guide, sing};
    use super::*;
    use crate::audio::contour::{Contour, HOP};

    fn of(take: &Contour) -> Vec<f32> {
        guide(1).hear(take).unwrap().features()
    }

    fn named(features: &[f32], name: &str) -> f32 {
        features[FEATURES.iter().position(|(feature, _)| *feature == name).unwrap()]
    }

    /// What differs from a take without a fault.
    fn changed(take: &Contour) -> Vec<(&'static str, f32, f32)> {
        let (right, now) = (of(&sing(&TUNE, 0.0)), of(take));
        let pairs = FEATURES.iter().zip(right.into_iter().zip(now));
        pairs.filter(|(_, (a, b))| (a - b).abs() > 1e-4).map(|((name, _), (a, b))| (*name, a, b)).collect()
    }

    #[test]
    fn a_take_without_a_fault_is_one_in_any_key() {
        let right = of(&sing(&TUNE, 0.0));
        assert_eq!(right.len(), FEATURES.len());
        for (name, value) in [
            ("notes", 5.0),
            ("silent", 0.0),
            ("error_1", 0.0),
            ("interval_1", 0.0),
            ("onset_worst", 0.0),
            ("tempo_deviation", 0.0),
            ("length_1", 0.0),
            ("voiced_least", 1.0),
            ("in_tune_1", 1.0),
            ("right_run", 1.0),
            ("first_wrong", 1.0),
            ("edit", 0.0),
            ("edit_matches", 1.0),
            ("edit_run", 1.0),
            ("edit_surplus", 0.0),
        ] {
            assert!((named(&right, name) - value).abs() < 1e-5, "{name}: {}", named(&right, name));
        }
        for by in [-12.0, -3.4, 5.0, 12.25] {
            assert_eq!(changed(&sing(&TUNE, by)), [], "{by}");
        }
    }

    #[test]
    fn another_tempo_and_a_slip_of_an_octave_are_no_errors() {
        let slow = of(&sing(&TUNE.map(|(pitch, frames)| (pitch, frames * 3 / 2)), 0.0));
        // Half as long again is a logarithm of 0.41; a block more or less of 10 is 0.1.
        for (name, most) in
            [("error_1", 1e-4), ("onset_worst", 1.0), ("length_1", 0.06), ("tempo_worst", 0.1)]
        {
            assert!(named(&slow, name) <= most, "{name}: {}", named(&slow, name));
        }
        let mut notes = TUNE;
        notes[3].0 += 12.0;
        let slipped = of(&sing(&notes, 0.0));
        for name in ["error_1", "interval_1", "edit"] {
            assert!(named(&slipped, name) < 1e-4, "{name}: {}", named(&slipped, name));
        }
    }

    #[test]
    fn a_wrong_note_shows_as_one() {
        let mut notes = TUNE;
        notes[3].0 += 2.0; // the third note, after a rest
        let features = of(&sing(&notes, 0.0));
        for (name, value) in [
            ("error_1", 2.0),
            ("error_2", 0.0),
            ("wrong", 1.0),
            ("wrong_share", 0.2),
            ("interval_1", 2.0),
            ("interval_2", 2.0),
            ("interval_3", 0.0),
            ("in_tune_1", 0.0),
            ("in_tune_2", 1.0),
            ("wrong_run", 1.0),
            ("right_run", 0.4),
            ("first_wrong", 0.4),
            ("edit", 1.2),
            ("edit_far", 1.0),
            ("edit_matches", 0.8),
            ("edit_run", 0.4),
        ] {
            assert!((named(&features, name) - value).abs() < 1e-4, "{name}: {}", named(&features, name));
        }
    }

    #[test]
    fn a_held_note_shows_in_the_rhythm_alone() {
        let mut notes = TUNE;
        notes[3].1 += 40;
        let names: Vec<&str> = changed(&sing(&notes, 0.0)).into_iter().map(|(name, ..)| name).collect();
        assert!(names.contains(&"length_1") && names.contains(&"onset_worst"), "{names:?}");
        assert!(
            names.iter().all(|name| ["length", "onset", "tempo"].contains(&&name[..name.find('_').unwrap()]))
        );
    }

    #[test]
    fn a_note_left_out_and_one_too_many_show_in_the_edits() {
        let mut short = TUNE.to_vec();
        short.remove(1);
        let features = of(&sing(&short, 0.0));
        assert_eq!((named(&features, "edit_deleted"), named(&features, "edit_surplus")), (1.0, -1.0));
        let mut long = TUNE.to_vec();
        long.insert(1, (69.0, 40));
        let features = of(&sing(&long, 0.0));
        assert_eq!((named(&features, "edit_inserted"), named(&features, "edit_surplus")), (1.0, 1.0));
    }

    #[test]
    fn nothing_sung_gives_numbers() {
        assert!(note_features(&[]).into_iter().chain(edit_features(&Edits::default())).all(f32::is_finite));
        let speck = Contour::from_pitch(vec![60.0], HOP).unwrap();
        assert!(of(&speck).into_iter().all(f32::is_finite));
    }
}
