//! Names and words of people and files: choices made by name, and how a message quotes what it found.

use std::borrow::Cow;

/// Gives an enum `ALL`, `name()`, and reading and writing by that name, with serde too.
macro_rules! named {
    ($type:ident, $what:literal: $($value:ident $name:literal),+) => {
        impl $type {
            /// Every value.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// The name in files and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name).ok_or_else(|| {
                    let names = $crate::names::listed(&[$($name),+]);
                    $crate::Error::config(format!("{} {}: expected {names}", $what, $crate::names::quoted(name)))
                })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use named;

/// Characters of a foreign text that a message repeats at most.
const QUOTED: usize = 80;

/// What was found, as a message quotes it: in quotation marks, control characters escaped, cut after 80 characters.
pub fn quoted(text: &str) -> String {
    let mut shown = text.chars();
    let start: String = shown.by_ref().take(QUOTED).collect();
    let rest = if shown.next().is_some() { "…" } else { "" };
    format!("{start:?}{rest}")
}

/// Whether a character does something to a terminal or to the order of others instead of being seen.
fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text with foreign parts in it as it may go to a terminal: what is not seen is escaped, but the ends of lines and tabs, and
/// of more than `limit` characters the first are shown.
pub fn shown(text: &str, limit: usize) -> Cow<'_, str> {
    let foreign = |c: char| is_unseen(c) && c != '\n' && c != '\t';
    if text.len() <= limit && !text.chars().any(foreign) {
        return text.into();
    }
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == limit => {
                out.push('…');
                break;
            }
            c if foreign(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.into()
}

/// The first `most` of some names, and how many more there are: `a, b and 3 more`.
pub fn few<'a>(names: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let mut names = names.into_iter();
    let shown = names.by_ref().take(most).collect::<Vec<_>>().join(", ");
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `a, b or c`.
pub(crate) fn listed(names: &[&str]) -> String {
    match names {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_short_and_shows_what_cannot_be_seen() {
        assert_eq!(quoted("a\x1b[2J\u{202e}\tb"), "\"a\\u{1b}[2J\\u{202e}\\tb\"");
        assert_eq!(quoted(&"é".repeat(200_000)), format!("\"{}\"…", "é".repeat(80)));
    }

    #[test]
    fn what_is_shown_is_seen() {
        let plain = "two\n\tlines, ö";
        assert!(matches!(shown(plain, 80), Cow::Borrowed(text) if text == plain));
        assert_eq!(shown("\x1b]0;x\u{7}\r\u{202e}\u{9b}", 80), "\\u{1b}]0;x\\u{7}\\u{d}\\u{202e}\\u{9b}");
        assert_eq!(shown(&"é".repeat(200_000), 3), "ééé…");
        assert_eq!(shown("ééé", 3), "ééé");
    }

    #[test]
    fn few_of_many_names_say_how_many_more() {
        assert_eq!(
            [few([], 2), few(["a", "b"], 2), few(["a", "b", "c", "d"], 2)],
            ["", "a, b", "a, b and 2 more"]
        );
    }

    #[test]
    fn a_list_reads_like_one() {
        assert_eq!(
            [listed(&["a", "b", "c"]), listed(&["a", "b"]), listed(&["a"])],
            ["a, b or c", "a or b", "a"]
        );
    }
}
