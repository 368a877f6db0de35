//! Where the time of a step goes, as a table for people.

/// One launch of a step, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaunchTime {
    /// Its kernel.
    pub name: &'static str,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A row a launch and one of their sum: microseconds, rates and the share of the time.
pub fn profile_table(launches: &[LaunchTime]) -> String {
    let total: f64 = launches.iter().map(|launch| launch.seconds).sum();
    let line = |name: &str, flops: u64, bytes: u64, seconds: f64| {
        // A clock may not tell short launches from 0.
        let rate = |count: u64| count as f64 / seconds.max(1e-9) / 1e9;
        let share = 100.0 * seconds / total.max(1e-9);
        format!("{name:<26} {:>9.1} {:>9.1} {:>9.1} {share:>6.1}%\n", seconds * 1e6, rate(flops), rate(bytes))
    };
    let mut out = format!("{:<26} {:>9} {:>9} {:>9} {:>7}\n", "kernel", "us", "GFLOP/s", "GB/s", "share");
    for launch in launches {
        out += &line(launch.name, launch.flops, launch.bytes, launch.seconds);
    }
    let sum = |count: fn(&LaunchTime) -> u64| launches.iter().map(count).sum();
    out += &line(&format!("{} launches", launches.len()), sum(|l| l.flops), sum(|l| l.bytes), total);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_line_up_and_end_in_their_sum() {
        let launch = |name, seconds| LaunchTime { name, flops: 4_000_000, bytes: 2_000_000, seconds };
        let table = profile_table(&[launch("one", 1e-3), launch("two", 3e-3)]);
        let expected = "\
kernel                            us   GFLOP/s      GB/s   share
one                           1000.0       4.0       2.0   25.0%
two                           3000.0       1.3       0.7   75.0%
2 launches                    4000.0       2.0       1.0  100.0%
";
        assert_eq!(table, expected);
        assert_eq!(profile_table(&[]).lines().count(), 2);
    }
}
