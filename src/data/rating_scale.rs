//! The scale that judges rated on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::quoted;
use crate::{Error, Result};

/// The lowest and the highest rating there can be, as in `1..4`, both included. Ratings are mapped to 0..=1 by it.
///
/// Read from and written as text: `LOW..HIGH`; `LOW-HIGH`, with an en dash too, and `LOW to HIGH` are understood as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatingScale {
    low: f64,
    high: f64,
}

impl RatingScale {
    /// Ratings that are in 0..=1 already.
    pub const UNIT: Self = Self { low: 0.0, high: 1.0 };

    /// What errors say of a rating that no known scale has, so that whoever asks people for a scale can tell.
    pub const OUTSIDE: &str = "outside the rating scale";

    /// A scale from the lowest to the highest rating.
    ///
    /// # Errors
    /// [`Error::Config`] unless both are finite, and `low` below `high`.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        if low.is_finite() && high.is_finite() && low < high && (high - low).is_finite() {
            Ok(Self { low, high })
        } else {
            Err(Error::config(format!(
                "rating scale {low}..{high}: expected the lowest rating, then a higher one"
            )))
        }
    }

    /// The lowest rating.
    pub fn low(self) -> f64 {
        self.low
    }

    /// The highest rating.
    pub fn high(self) -> f64 {
        self.high
    }

    /// How many grades it has where it counts in whole numbers, 4 of `1..4`; `None` where it does not, or has more than 101.
    /// [`RatingScale::UNIT`] is a scale of shares, not of two grades.
    pub fn levels(self) -> Option<u8> {
        let whole = self.low.fract() == 0.0 && self.high.fract() == 0.0 && self.high - self.low <= 100.0;
        (whole && self != Self::UNIT).then(|| (self.high - self.low) as u8 + 1)
    }

    /// The rating in 0..=1; `None` for one that is not on the scale.
    pub fn unit(self, rating: f64) -> Option<f32> {
        let on_scale = (self.low..=self.high).contains(&rating);
        on_scale.then(|| ((rating - self.low) / (self.high - self.low)) as f32)
    }
}

impl fmt::Display for RatingScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.low, self.high)
    }
}

impl FromStr for RatingScale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        // The longest first: `..` is in `..=`. A sign at the beginning separates nothing.
        for separator in ["..=", "..", "–", " to ", "-"] {
            for (at, _) in text.trim_start().match_indices(separator).filter(|&(at, _)| at > 0) {
                let text = text.trim_start();
                if let (Some(low), Some(high)) = (number(&text[..at]), number(&text[at + separator.len()..]))
                {
                    return Self::new(low, high);
                }
            }
        }
        Err(Error::config(format!("rating scale {}: expected LOW..HIGH, such as 1..4", quoted(text))))
    }
}

impl Serialize for RatingScale {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RatingScale {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_read_as_people_write_it() {
        let of = |low, high| RatingScale::new(low, high).unwrap();
        for (text, scale) in [
            ("1..4", of(1.0, 4.0)),
            (" 0..=100 ", of(0.0, 100.0)),
            ("1-5", of(1.0, 5.0)),
            ("1 – 5", of(1.0, 5.0)),
            ("0 to 10", of(0.0, 10.0)),
            ("-1..1", of(-1.0, 1.0)),
            ("-3--1", of(-3.0, -1.0)),
            ("0.5 .. 4.5", of(0.5, 4.5)),
            ("1e-1..1e2", of(0.1, 100.0)),
        ] {
            assert_eq!(text.parse::<RatingScale>().unwrap(), scale, "{text}");
            assert_eq!(scale.to_string().parse::<RatingScale>().unwrap(), scale);
            let json = serde_json::to_string(&scale).unwrap();
            assert_eq!(serde_json::from_str::<RatingScale>(&json).unwrap(), scale, "{json}");
        }
        for text in [
            "",
            "1",
            "..",
            "1..",
            "..4",
            "4..1",
            "1..1",
            "nan..1",
            "0..inf",
            "a..b",
            "-",
            "1..2..3",
            "-1e308..1e308",
        ] {
            let message = text.parse::<RatingScale>().unwrap_err().to_string();
            assert!(message.starts_with("rating scale "), "{message}");
        }
    }

    #[test]
    fn ratings_are_mapped_onto_the_unit_interval() {
        let scale: RatingScale = "1..4".parse().unwrap();
        assert_eq!([1.0, 2.5, 4.0].map(|r| scale.unit(r)), [Some(0.0), Some(0.5), Some(1.0)]);
        assert_eq!([0.9, 4.1, f64::NAN, f64::INFINITY].map(|r| scale.unit(r)), [None; 4]);
    }
}
