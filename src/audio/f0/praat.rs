//! Praat's text files: what counts are the numbers that stand alone, and strings, whatever is written between them.
//!
//! So the long form (`xmin = 0`), the short one (`0`) and spreadsheets are one format.

use super::rows::{Fault, Rows};
use crate::names::quoted;

/// A string or a number that stands alone.
enum Token<'a> {
    String(&'a str),
    Number(f64),
}

/// Whether a text is one of Praat's.
pub(super) fn is_praat(text: &str) -> bool {
    text.trim_start().lines().next().is_some_and(|first| first.contains("\"ooTextFile"))
}

/// The tokens of a text with their lines.
fn tokens(text: &str) -> impl Iterator<Item = (u64, Token<'_>)> {
    (1..).zip(text.lines()).flat_map(|(number, line)| {
        let mut rest = line;
        std::iter::from_fn(move || {
            loop {
                rest = rest.trim_start();
                if rest.is_empty() || rest.starts_with('!') {
                    return None; // `!` begins a comment
                }
                if let Some((string, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                    rest = after;
                    return Some((number, Token::String(string)));
                }
                let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
                rest = after;
                if word == "--undefined--" {
                    return Some((number, Token::Number(f64::NAN)));
                }
                if let Ok(value) = word.parse() {
                    return Some((number, Token::Number(value)));
                }
            }
        })
    })
}

/// Numbers, one by one.
struct Numbers<I> {
    tokens: I,
    line: u64,
}

impl<'a, I: Iterator<Item = (u64, Token<'a>)>> Numbers<I> {
    fn next(&mut self, what: &str) -> Result<f64, Fault> {
        match self.tokens.next() {
            Some((line, Token::Number(value))) => {
                self.line = line;
                Ok(value)
            }
            Some((line, Token::String(text))) => {
                Err(Fault::new(line, format!("expected {what}, found {}", quoted(text))))
            }
            None => Err(Fault::new(self.line, format!("the file ends here, before {what}"))),
        }
    }

    fn count(&mut self, what: &str) -> Result<u64, Fault> {
        let count = self.next(what)?;
        if count >= 0.0 && count.fract() == 0.0 {
            return Ok(count as u64);
        }
        Err(Fault::new(self.line, format!("{what} is {count}")))
    }
}

/// What a Praat file holds: the rows, and whether they are a PitchTier's.
pub(super) fn parse(text: &str) -> Result<(Rows, bool), Fault> {
    let mut tokens = tokens(text);
    let mut string = || match tokens.next() {
        Some((_, Token::String(text))) => text,
        _ => "",
    };
    string(); // ooTextFile
    let class = string().to_owned();
    let mut numbers = Numbers { tokens, line: 1 };
    match class.as_str() {
        "PitchTier" => Ok((pitch_tier(&mut numbers)?, true)),
        "Pitch 1" => Ok((pitch(&mut numbers)?, false)),
        _ => {
            let found = quoted(&class);
            Err(Fault::new(
                None,
                format!("is a Praat file of class {found}; expected \"Pitch 1\" or \"PitchTier\""),
            ))
        }
    }
}

fn pitch_tier<'a>(numbers: &mut Numbers<impl Iterator<Item = (u64, Token<'a>)>>) -> Result<Rows, Fault> {
    numbers.next("the start")?;
    numbers.next("the end")?;
    let mut rows = Rows::default();
    for _ in 0..numbers.count("the number of points")? {
        rows.times.push(numbers.next("the time of a point")?);
        rows.lines.push(numbers.line);
        let hz = numbers.next("the f0 of a point")?;
        rows.hz.push(if hz > 0.0 { hz } else { 0.0 });
    }
    Ok(rows)
}

fn pitch<'a>(numbers: &mut Numbers<impl Iterator<Item = (u64, Token<'a>)>>) -> Result<Rows, Fault> {
    numbers.next("the start")?;
    numbers.next("the end")?;
    let frames = numbers.count("the number of frames")?;
    let step = numbers.next("the step")?;
    let first = numbers.next("the first frame's time")?;
    let ceiling = numbers.next("the ceiling")?;
    numbers.next("the most candidates")?;
    let mut rows = Rows::default();
    for frame in 0..frames {
        numbers.next("the intensity of a frame")?;
        rows.times.push(first + step * frame as f64);
        rows.lines.push(numbers.line);
        let mut hz = 0.0;
        for candidate in 0..numbers.count("the number of candidates")? {
            let frequency = numbers.next("the frequency of a candidate")?;
            numbers.next("the strength of a candidate")?;
            // The first is the one that Praat's path goes through.
            if candidate == 0 && frequency > 0.0 && frequency < ceiling {
                hz = frequency;
            }
        }
        rows.hz.push(hz);
    }
    Ok(rows)
}
