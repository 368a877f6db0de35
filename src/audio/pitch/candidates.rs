//! The troughs of a difference function as candidates of f0, each with the probability that a threshold would choose it.

/// A candidate of one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Its f0 in Hz.
    pub hz: f32,
    /// The natural logarithm of its probability.
    pub log: f32,
    /// Its bin of pitch.
    pub bin: u16,
}

/// What was seen in some frames that follow each other.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of all frames; in each a bin at most once, the highest first.
    candidates: Vec<Candidate>,
    /// Where each frame's candidates end.
    ends: Vec<usize>,
    /// The probability that each frame is voiced, in 0..=1.
    pub voiced: Vec<f64>,
    /// The energy of each frame: the sum of its squares.
    pub energy: Vec<f64>,
}

impl Seen {
    /// The number of frames.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The candidates of a frame.
    pub(super) fn candidates(&self, frame: usize) -> &[Candidate] {
        let start = if frame == 0 { 0 } else { self.ends[frame - 1] };
        &self.candidates[start..self.ends[frame]]
    }
}

/// Thresholds tried: 0.01, 0.02, ... 1.
const THRESHOLDS: usize = 100;

/// Of the Boltzmann distribution over the troughs below a threshold: one is exp(2) times likelier than the next longer period.
const BOLTZMANN: f64 = 2.0;

/// The share of a threshold's probability that the lowest trough has where none is below the threshold.
const NO_TROUGH: f64 = 0.01;

/// Bins of pitch per semitone: 10 cents each.
pub(super) const BINS: f64 = 10.0;

/// Bins of pitch from the lowest f0 to the highest.
pub(super) fn bins(lowest: f64, highest: f64) -> usize {
    (12.0 * BINS * (highest / lowest).log2()).floor() as usize + 1
}

/// The distribution function of the thresholds at `x`: Beta(2, 18), which for whole parameters is a sum of two terms.
fn beta(x: f64) -> f64 {
    let rest = (1.0 - x).powi(18);
    1.0 - rest * (1.0 - x) - 19.0 * x * rest
}

/// A local minimum of the difference function.
#[derive(Clone)]
struct Trough {
    /// Its index there.
    at: usize,
    /// How many thresholds it is not below.
    level: usize,
    probability: f64,
}

/// Finds the candidates of frames; clones are for other threads.
#[derive(Clone)]
pub(super) struct Finder {
    /// Samples per second.
    rate: f64,
    lowest: f64,
    /// The period in samples at index 0 of a difference function.
    first: usize,
    bins: usize,
    /// The thresholds, rising.
    thresholds: Vec<f64>,
    /// The probability of the thresholds before each, and of all of them.
    before: Vec<f64>,
    /// The troughs of one frame, and the levels among them, rising.
    troughs: Vec<Trough>,
    levels: Vec<usize>,
}

impl Finder {
    /// For f0 from `lowest` Hz on in so many `bins`, and difference functions that begin at a period of `first` samples.
    pub(super) fn new(rate: f64, lowest: f64, bins: usize, first: usize) -> Self {
        let at = |i: usize| i as f64 / THRESHOLDS as f64;
        Self {
            rate,
            lowest,
            first,
            bins,
            thresholds: (1..=THRESHOLDS).map(at).collect(),
            before: (0..=THRESHOLDS).map(|i| beta(at(i))).collect(),
            troughs: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// Adds a frame, whose difference function has two values at least.
    pub(super) fn see(&mut self, difference: &[f64], seen: &mut Seen) {
        self.find(difference);
        self.weigh(difference);
        let start = seen.candidates.len();
        let (mut voiced, mut last_one) = (0.0, 0.0);
        for trough in self.troughs.iter().filter(|trough| trough.probability > 0.0) {
            let hz = self.rate / ((self.first + trough.at) as f64 + shift(difference, trough.at));
            let bin = (12.0 * BINS * (hz / self.lowest).log2()).round_ties_even().max(0.0);
            if bin >= self.bins as f64 {
                continue;
            }
            let candidate = Candidate { hz: hz as f32, log: trough.probability.ln() as f32, bin: bin as u16 };
            // Periods rise, so bins fall: of two in a bin the longer period counts.
            match seen.candidates[start..].last_mut() {
                Some(last) if last.bin == candidate.bin => *last = candidate,
                _ => {
                    seen.candidates.push(candidate);
                    voiced += last_one;
                }
            }
            last_one = trough.probability;
        }
        seen.ends.push(seen.candidates.len());
        seen.voiced.push((voiced + last_one).clamp(0.0, 1.0));
    }

    /// Finds the troughs. At the ends one neighbour is enough.
    fn find(&mut self, difference: &[f64]) {
        self.troughs.clear();
        let last = difference.len() - 1;
        for (at, &height) in difference.iter().enumerate() {
            let falls = if at == 0 { height < difference[1] } else { height < difference[at - 1] };
            if falls && (at == 0 || at == last || height <= difference[at + 1]) {
                let level = self.thresholds.partition_point(|threshold| *threshold <= height);
                self.troughs.push(Trough { at, level, probability: 0.0 });
            }
        }
    }

    /// Gives each trough its probability: each threshold shares its own among the troughs below it, the shortest period
    /// first; where none is, the lowest trough has a little of it.
    fn weigh(&mut self, difference: &[f64]) {
        self.levels.clear();
        self.levels
            .extend(self.troughs.iter().map(|trough| trough.level).filter(|level| *level < THRESHOLDS));
        self.levels.sort_unstable();
        self.levels.dedup();
        // Thresholds from one level to the next have the same troughs below them.
        for (i, &level) in self.levels.iter().enumerate() {
            let next = self.levels.get(i + 1).copied().unwrap_or(THRESHOLDS);
            let below = || self.troughs.iter().filter(|trough| trough.level <= level).count() as f64;
            let norm = (1.0 - (-BOLTZMANN).exp()) / (1.0 - (-BOLTZMANN * below()).exp());
            let mut share = (self.before[next] - self.before[level]) * norm;
            for trough in self.troughs.iter_mut().filter(|trough| trough.level <= level) {
                trough.probability += share;
                share *= (-BOLTZMANN).exp();
            }
        }
        let height = |trough: &Trough| difference[trough.at];
        if let Some(lowest) = self.troughs.iter_mut().min_by(|a, b| height(a).total_cmp(&height(b))) {
            lowest.probability += NO_TROUGH * self.before[lowest.level];
        }
    }
}

/// How far the minimum of the parabola through a value and its neighbours is from it, in samples: 0 where that is a sample or
/// more, and at the ends.
fn shift(difference: &[f64], at: usize) -> f64 {
    if at == 0 || at + 1 == difference.len() {
        return 0.0;
    }
    let (before, here, after) = (difference[at - 1], difference[at], difference[at + 1]);
    let curvature = after + before - 2.0 * here;
    let slope = (after - before) / 2.0;
    if slope.abs() >= curvature.abs() { 0.0 } else { -slope / curvature }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(difference: &[f64]) -> Seen {
        let mut seen = Seen::default();
        // A rate of 1000 Hz, periods of 10 samples on: 100 Hz and less.
        Finder::new(1000.0, 20.0, bins(20.0, 100.0), 10).see(difference, &mut seen);
        seen
    }

    #[test]
    fn thresholds_are_beta_distributed() {
        // ∫ x·(1−x)¹⁷ by a plain sum of midpoints, 19·18 times it.
        for x in [0.01, 0.1, 0.5, 1.0] {
            let n = 100_000;
            let density = |i: usize| {
                let at = x * (i as f64 + 0.5) / n as f64;
                342.0 * at * (1.0 - at).powi(17)
            };
            let sum: f64 = (0..n).map(density).sum::<f64>() * x / n as f64;
            // The rule errs by (x/n)²/24 times the change of slope, 342: 1.4e-9.
            assert!((beta(x) - sum).abs() < 1e-8, "{x}");
        }
    }

    #[test]
    fn a_deep_trough_takes_nearly_all() {
        let seen = seen(&[0.9, 0.5, 0.001, 0.5, 0.9, 0.9, 0.9]);
        let [one] = seen.candidates(0) else { panic!("{seen:?}") };
        assert_eq!(one.hz, (1000.0_f64 / 12.0) as f32);
        assert_eq!(f64::from(one.bin), (120.0 * (1000.0_f64 / 12.0 / 20.0).log2()).round());
        assert!((seen.voiced[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn thresholds_share_among_the_troughs_below_them() {
        // Below 0.255 there is one trough, from 0.26 on there are two, which share as 1 : exp(−2).
        let seen = seen(&[0.9, 0.255, 0.9, 0.205, 0.9]);
        let first = (1.0 - beta(0.25)) / (1.0 + (-2.0_f64).exp());
        let second = 0.01 * beta(0.2) + beta(0.25) - beta(0.2) + (1.0 - beta(0.25)) - first;
        let [a, b] = seen.candidates(0) else { panic!("{seen:?}") };
        // Logarithms are kept as f32.
        assert!((f64::from(a.log) - first.ln()).abs() < 1e-6, "{} {}", a.log, first.ln());
        assert!((f64::from(b.log) - second.ln()).abs() < 1e-6, "{} {}", b.log, second.ln());
        assert!((seen.voiced[0] - first - second).abs() < 1e-6);
    }

    #[test]
    fn shallow_troughs_and_flat_ones() {
        // Above all thresholds: a hundredth, to the lowest.
        let shallow = seen(&[2.0, 1.5, 2.0, 1.2, 2.0]);
        let [one] = shallow.candidates(0) else { panic!("{shallow:?}") };
        assert!(one.hz < 80.0 && (shallow.voiced[0] - 0.01).abs() < 1e-9);
        let silence = seen(&[0.0; 9]);
        assert!(silence.candidates(0).is_empty() && silence.voiced[0] == 0.0);
    }

    #[test]
    fn a_parabola_between_samples() {
        let at = |x: f64| (x - 1.2_f64).powi(2);
        assert!((shift(&[at(0.0), at(1.0), at(2.0)], 1) - 0.2).abs() < 1e-12);
        assert_eq!(shift(&[0.0, 1.0, 2.0], 1), 0.0);
        assert_eq!(shift(&[0.0, 1.0], 0), 0.0);
    }
}
