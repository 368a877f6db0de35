//! Where measurements go as they are made: lines of JSON, a bar for people.

use crate::out::{self, say};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The bar, the clock, and whether lines of JSON are wanted.
pub struct Sink {
    json: bool,
    bar: ProgressBar,
    end: Option<Instant>,
    /// Whether a page is wanted too, whatever becomes of the lines.
    page: bool,
}

impl Sink {
    /// `seconds` are what all of it may take; 0 for as long as it takes.
    pub fn new(json: bool, seconds: u64, page: bool) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>9} {bar:30} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        let end = Instant::now().checked_add(Duration::from_secs(seconds)).filter(|_| seconds > 0);
        Self { json, bar, end, page }
    }

    /// A part of `count` things begins.
    pub fn begin(&self, part: &'static str, count: usize) {
        self.bar.set_length(count as u64);
        self.bar.set_position(0);
        self.bar.set_prefix(part);
    }

    /// One of them begins.
    pub fn doing(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }

    /// One of them is done.
    pub fn did(&self) {
        self.bar.inc(1);
    }

    /// A line of JSON. Once nobody can read them, and nothing else is wanted, it all ends.
    pub fn say(&self, value: &Value) {
        if self.json {
            self.bar.suspend(|| say!("{value}"));
            if out::is_lost() && !self.page {
                self.finish();
                std::process::exit(out::code().into());
            }
        }
    }

    /// Seconds that are left.
    pub fn left(&self) -> f64 {
        self.end.map_or(f64::INFINITY, |end| end.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
