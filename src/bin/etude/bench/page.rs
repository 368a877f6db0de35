//! What was measured, for people: the same text on a terminal and as a page of Markdown.

use super::check::Verdict;
use super::row::{Ceilings, Row};
use super::target::Target;

/// All of it.
pub struct Report {
    pub title: String,
    pub about: String,
    pub software: bool,
    pub ceilings: Option<Ceilings>,
    pub verdict: Option<Verdict>,
    pub steps: Vec<Row>,
    pub kernels: Vec<Row>,
    pub without: Vec<String>,
    pub timed_by: &'static str,
}

impl Report {
    pub fn of(target: &Target) -> Self {
        let (title, about) = target.title();
        let timed_by = if target.has_clock() {
            "launches one by one by the device's clock, what fits its cache read from there"
        } else if target.cache() > 0 {
            "launches by the host's clock, repeated over memory beyond the cache"
        } else {
            "launches by the host's clock, repeated; what fits the cache is read from there"
        };
        Self {
            title,
            about,
            software: !target.is_card(),
            ceilings: None,
            verdict: None,
            steps: Vec::new(),
            kernels: Vec::new(),
            without: Vec::new(),
            timed_by,
        }
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# {}\n\n{}. Etude {}, {}.\n",
            self.title,
            self.about,
            env!("CARGO_PKG_VERSION"),
            build()
        );
        if self.software {
            page += "\nThis computes on the processor: it says what is right or wrong, and nothing about the speed of a GPU.\n";
        }
        if let Some(verdict) = &self.verdict {
            page += &correctness(verdict);
        }
        if let Some(ceilings) = &self.ceilings {
            page += &self.speed(ceilings);
        }
        if !self.without.is_empty() {
            page += "\n## Left out\n\n";
            self.without.iter().for_each(|line| page += &format!("- {line}\n"));
        }
        page
    }

    fn speed(&self, ceilings: &Ceilings) -> String {
        let mut page =
            format!("\n## Speed\n\nAt most, measured: copy {} GB/s, ", figure(ceilings.bytes / 1e9));
        page += &format!("multiply-adds {} GFLOP/s in f32", figure(ceilings.flops / 1e9));
        page += &ceilings.half.map_or(String::new(), |half| format!(", {} in f16", figure(half / 1e9)));
        page += ". Medians; the floor is what the launch would take at these rates, the share how much of its time that is; ";
        page += &format!("{}.\n", self.timed_by);
        if !self.steps.is_empty() {
            let cells = |row: &Row| {
                vec![row.how.clone(), micro(row.timing.median), micro(row.timing.least), share(row, ceilings)]
            };
            page += &table(
                &["training step of PCConvNet", "µs", "least µs", "share"],
                self.steps.iter().map(cells),
            );
        }
        if !self.kernels.is_empty() {
            let cells = |row: &Row| {
                let rate = |count: u64| figure(count as f64 / row.timing.median / 1e9);
                let (floor, bytes) = ceilings.floor(row.cost);
                let binds = if bytes { "bytes" } else { "flops" };
                vec![
                    row.how.clone(),
                    micro(floor),
                    micro(row.timing.median),
                    rate(row.cost.flops),
                    rate(row.cost.bytes),
                    share(row, ceilings),
                    binds.into(),
                    row.what.clone(),
                ]
            };
            let head = ["kernel", "floor µs", "µs", "GFLOP/s", "GB/s", "share", "of", "workload"];
            page += &table(&head, self.kernels.iter().map(cells));
        }
        page
    }
}

fn correctness(verdict: &Verdict) -> String {
    let (launched, all) = verdict.kernels;
    let mut page = format!("\n## Right or wrong\n\n{} cases", verdict.cases);
    page += &format!(" of the case table against the f64 oracle, {launched} of {all} kernels: ");
    page += &match verdict.faults.len() {
        0 => "all within their tolerances".to_string(),
        n => format!("**{n} wrong**"),
    };
    if verdict.refused > 0 {
        page += &format!("; {} are of types that the device does not store", verdict.refused);
    }
    if verdict.left_out > 0 {
        page += &format!("; no time for {} more (--only cases runs them all)", verdict.left_out);
    }
    page += ".\n";
    if !verdict.faults.is_empty() {
        page += "\n";
        verdict.faults.iter().for_each(|fault| page += &format!("- {fault}\n"));
    }
    page
}

/// What the binary was built with, and for what.
fn build() -> String {
    format!("{} on {} {}", env!("ETUDE_BUILD"), std::env::consts::OS, std::env::consts::ARCH)
}

/// How much of the time the floor is. More than all of it is no share of the memory's rate: the launch read from a cache.
fn share(row: &Row, ceilings: &Ceilings) -> String {
    match 100.0 * ceilings.floor(row.cost).0 / row.timing.median {
        share if share > 100.0 => "cache".into(),
        share => format!("{share:.0} %"),
    }
}

fn micro(seconds: f64) -> String {
    figure(seconds * 1e6)
}

/// Three digits.
fn figure(v: f64) -> String {
    match v {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A table of Markdown whose columns line up.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|h| h.to_string()).collect()).chain(rows).collect();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, &width))| match c {
            0 => format!("{cell:<width$}"),
            // A long name is the last of its line.
            c if c + 1 == widths.len() && c > 5 => cell.clone(),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths
        .iter()
        .enumerate()
        .map(|(c, w)| if c == 0 { "-".repeat(w + 2) } else { format!("{}:", "-".repeat(w + 1)) });
    let mut out = format!("\n{}|{}|\n", line(&rows[0]), rule.collect::<Vec<_>>().join("|"));
    rows[1..].iter().for_each(|row| out += &line(row));
    out
}
