//! YIN's difference function (A. de Cheveigné and H. Kawahara, JASA 111, 2002), by FFT.

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The plans, which clones share, and the memory of one thread.
#[derive(Clone)]
pub(super) struct Yin {
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    frame: usize,
    periods: RangeInclusive<usize>,
    /// The frame and zeros; then its correlations, times the points of the FFT.
    signal: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    /// Σ x(i)² over i ≤ τ.
    energy: Vec<f64>,
    /// Σ x(i)² of the frame.
    energy_of_all: f64,
    normalised: Vec<f64>,
}

/// The fewest points of an FFT, at least `least`, that are a power of two or three times one.
fn points(least: usize) -> usize {
    let two = least.next_power_of_two();
    if two / 4 * 3 >= least { two / 4 * 3 } else { two }
}

impl Yin {
    /// For frames of `frame` samples and `periods` in samples: from 1 up, and less than a frame.
    pub(super) fn new(frame: usize, periods: RangeInclusive<usize>) -> Self {
        // Enough that no product of samples up to the longest period apart wraps around.
        let points = points(frame + periods.end());
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(points), planner.plan_fft_inverse(points));
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            signal: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            scratch: vec![Complex::default(); scratch],
            energy: vec![0.0; *periods.end()],
            energy_of_all: 0.0,
            normalised: Vec::with_capacity(periods.clone().count()),
            forward,
            inverse,
            frame,
            periods,
        }
    }

    /// The cumulative mean normalised difference d'(τ) of a frame: a value for each period τ, in their order.
    ///
    /// `fill` writes the frame. With x its samples and r(τ) = Σ x(i)·x(i+τ) over all pairs in the frame:
    ///
    /// ```text
    /// d(τ)  = 2·(r(0) − r(τ)) − Σ x(i)²  over i < τ
    /// d'(τ) = d(τ) / (1/τ · Σ d(t))      over 1 ≤ t ≤ τ
    /// ```
    ///
    /// So d(τ) is Σ (x(i) − x(i+τ))² and the energy of the last τ samples, which have no partner: librosa's form. d' of silence
    /// is 0 throughout.
    pub(super) fn normalised(&mut self, fill: impl FnOnce(&mut [f64])) -> &[f64] {
        let (frame, rest) = self.signal.split_at_mut(self.frame);
        fill(frame);
        rest.fill(0.0);
        let mut sum = 0.0;
        for (energy, x) in self.energy.iter_mut().zip(frame) {
            sum += *x * *x;
            *energy = sum;
        }
        self.correlate();

        let scale = 1.0 / self.signal.len() as f64;
        let none = self.signal[0];
        self.energy_of_all = none * scale;
        let (mut sum, mut period) = (0.0, 0.0);
        self.normalised.clear();
        let differences = self.signal[1..].iter().zip(&self.energy);
        for (r, energy) in differences {
            let difference = 2.0 * (none - r) * scale - energy;
            sum += difference;
            period += 1.0;
            if period >= *self.periods.start() as f64 {
                self.normalised.push(difference / (sum / period + f64::MIN_POSITIVE));
            }
        }
        &self.normalised
    }

    /// Σ x(i)² of the frame that was looked at last.
    pub(super) fn energy(&self) -> f64 {
        self.energy_of_all
    }

    /// Puts the signal's correlations in its place.
    fn correlate(&mut self) {
        let fits = "all lengths are the plans'";
        self.forward
            .process_with_scratch(&mut self.signal, &mut self.spectrum, &mut self.scratch)
            .expect(fits);
        for bin in &mut self.spectrum {
            *bin = Complex::new(bin.norm_sqr(), 0.0);
        }
        self.inverse
            .process_with_scratch(&mut self.spectrum, &mut self.signal, &mut self.scratch)
            .expect(fits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_plain_sums() {
        let x: Vec<f64> = (0..200).map(|i| (0.31 * f64::from(i)).sin() + (i * i % 7) as f64 / 7.0).collect();
        let n = x.len();
        let d = |t: usize| -> f64 {
            let pairs: f64 = (0..n - t).map(|i| (x[i] - x[i + t]).powi(2)).sum();
            pairs + x[n - t..].iter().map(|x| x * x).sum::<f64>()
        };
        let mut yin = Yin::new(n, 3..=90);
        // Twice: what is left of a frame must not reach the next.
        for _ in 0..2 {
            let normalised = yin.normalised(|to| to.copy_from_slice(&x));
            assert_eq!(normalised.len(), 88);
            for (t, got) in (3..=90).zip(normalised) {
                let want = d(t) * t as f64 / (1..=t).map(d).sum::<f64>();
                // Rounding of an FFT of a few hundred points, relative to r(0), some 1e-14.
                assert!((got - want).abs() < 1e-12, "{t}: {got}, {want}");
            }
        }
        assert!(yin.normalised(|to| to.fill(0.0)).iter().all(|d| *d == 0.0));
    }

    #[test]
    fn an_fft_of_two_or_three_powers_of_two() {
        assert_eq!([1, 2, 3, 5, 7, 2783, 3072, 3073].map(points), [1, 2, 3, 6, 8, 3072, 3072, 4096]);
    }
}
