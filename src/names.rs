//! Names and words of people and files: choices made by name, and how a message quotes what it found.

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
                    $crate::Error::config(format!("{} {name:?}: expected {names}", $what))
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
    fn a_list_reads_like_one() {
        assert_eq!(
            [listed(&["a", "b", "c"]), listed(&["a", "b"]), listed(&["a"])],
            ["a, b or c", "a or b", "a"]
        );
    }
}
