//! Times in seconds, from what files have for times.

use super::options::F0Options;

/// What times are counted in, as far as a name says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum TimeUnit {
    #[default]
    Unsaid,
    Seconds,
    Milliseconds,
    /// Frames, or samples.
    Frames,
}

/// What the median step from row to row may be, in seconds.
const STEPS: std::ops::RangeInclusive<f64> = 0.0005..=0.5;

/// What was done to times.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub notes: Vec<&'static str>,
    /// How far a time may be off, in seconds, where rounding made times equal.
    pub rounding: f64,
}

/// Makes seconds of times that may not go back.
///
/// An error names the row at fault, where there is one.
pub(super) fn seconds(
    times: &mut [f64],
    unit: TimeUnit,
    row_hop: Option<f64>,
) -> Result<Done, (Option<usize>, String)> {
    let mut done = Done::default();
    for (row, time) in times.iter().enumerate() {
        if !time.is_finite() {
            return Err((Some(row), format!("time {time} is not a finite number")));
        }
        if row > 0 && *time < times[row - 1] {
            return Err((Some(row), format!("time {time} goes back (the one before is {})", times[row - 1])));
        }
    }
    if unit == TimeUnit::Milliseconds {
        times.iter_mut().for_each(|time| *time /= 1000.0);
        done.notes.push("times are milliseconds, as their name says");
    }
    let Some(mut step) = median_step(times, |step| step > 0.0) else {
        // One row has no steps, and any time.
        return if times.len() < 2 { Ok(done) } else { Err((Some(1), "all times are the same".into())) };
    };
    if let Some(row) = (1..times.len()).find(|&row| times[row] == times[row - 1]) {
        done.rounding = spread(times, row, step)?;
        step = median_step(times, |_| true).unwrap_or(step);
        done.notes.push("times that rounding made equal are spread evenly");
    }

    let whole = unit == TimeUnit::Unsaid && step >= 1.0 && times.iter().all(|time| time.fract() == 0.0);
    if unit == TimeUnit::Frames || whole {
        let Some(hop) = row_hop else {
            let message = format!(
                "times are frame or sample numbers, {step} from row to row, not seconds: {}{}",
                F0Options::ROW_HOP_ASKED,
                if whole { ", or if they are ms, name the column time (ms)" } else { "" }
            );
            return Err((None, message));
        };
        times.iter_mut().for_each(|time| *time *= hop / step);
        done.notes.push("times are frame numbers, of the length given");
        return plausible(hop).map(|()| done);
    }
    plausible(step).map(|()| done)
}

fn plausible(step: f64) -> Result<(), (Option<usize>, String)> {
    if STEPS.contains(&step) {
        return Ok(());
    }
    let why =
        if step > 1.0 { "if they are ms, name their column time (ms)" } else { "are they in another unit?" };
    let message = format!(
        "rows are {step} s apart, by the median; expected {} to {}: {why}",
        STEPS.start(),
        STEPS.end()
    );
    Err((None, message))
}

/// The median of those steps that count, if any does.
fn median_step(times: &[f64], counts: impl Fn(f64) -> bool) -> Option<f64> {
    let mut steps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).filter(|step| counts(*step)).collect();
    let middle = steps.len() / 2;
    (!steps.is_empty()).then(|| *steps.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Spreads runs of equal times, from the one that ends in `row`, over the time to the next row: not all of it where that is far,
/// as unvoiced rows may be left out. `step` is the median step between different times. Gives how far a time may be off.
///
/// Two rows can only be rounded to one time if they are nearer than the last digit of it.
fn spread(times: &mut [f64], row: usize, step: f64) -> Result<f64, (Option<usize>, String)> {
    let different = 1 + times.windows(2).filter(|w| w[0] < w[1]).count();
    let hop = step * different as f64 / times.len() as f64;
    let (mut at, mut widest) = (row - 1, 0.0f64);
    while at < times.len() {
        let time = times[at];
        let count = times[at..].iter().take_while(|t| **t == time).count();
        if count > 1 {
            // A row's step is at most that of different times, which may be the digit itself or a multiple of it.
            if step > 1.5 * last_digit(time) {
                let message = format!("time {time} stands there twice, and rows are {step} apart otherwise");
                return Err((Some(at + 1), message));
            }
            let filled = hop * count as f64;
            let room = times.get(at + count).map_or(filled, |next| next - time);
            let room = if room > 2.0 * filled { filled } else { room };
            for (i, t) in times[at..at + count].iter_mut().enumerate() {
                *t = time + room * i as f64 / count as f64;
            }
            widest = widest.max(room);
        }
        at += count;
    }
    Ok(widest / 2.0)
}

/// What the last decimal of a number counts, as written with the fewest.
fn last_digit(number: f64) -> f64 {
    let text = number.to_string();
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    0.1f64.powi(decimals as i32)
}
