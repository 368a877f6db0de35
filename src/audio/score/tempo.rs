//! From positions in a score (ticks, quarter notes) to seconds.

/// A tempo map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tempo {
    /// From a position on, which is at a time: so many seconds per unit. In order of positions; the first is 0.
    steps: Vec<(f64, f64, f64)>,
}

impl Tempo {
    /// So many seconds per unit, until it changes.
    pub fn new(per_unit: f64) -> Self {
        Self { steps: vec![(0.0, 0.0, per_unit)] }
    }

    /// Changes at a position, which is none before the last change's.
    pub fn change(&mut self, at: f64, per_unit: f64) {
        self.steps.push((at, self.seconds(at), per_unit));
    }

    /// The time of a position of 0 or more, in seconds.
    pub fn seconds(&self, at: f64) -> f64 {
        let after = self.steps.partition_point(|step| step.0 <= at);
        let (position, time, per_unit) = self.steps[after.max(1) - 1];
        time + (at - position) * per_unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_has_its_tempo() {
        let mut tempo = Tempo::new(0.5);
        tempo.change(0.0, 1.0);
        tempo.change(4.0, 0.25);
        tempo.change(4.0, 2.0);
        let times = [0.0, 1.0, 4.0, 5.0].map(|at| tempo.seconds(at));
        assert_eq!(times, [0.0, 1.0, 4.0, 6.0]);
    }
}
