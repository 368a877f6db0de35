//! Text from bytes.

use super::rows::Fault;
use crate::fs;
use std::borrow::Cow;

/// What is said of a file that is no text.
pub(in crate::audio) const NO_TEXT: &str =
    "is no text file; expected time and f0 as text, in columns or as Praat writes them";

/// The text of a file, lines ending in `\n` or `\r\n`.
///
/// Numbers are ASCII, so that of other encodings only those matter whose ASCII is another: UTF-16. What is no UTF-8 is taken
/// for Latin-1, whose letters stand in names and comments alone.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let text: Cow<'_, str> = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [1..=0x7f, 0, ..] => utf16(bytes, u16::from_le_bytes)?,
        [0, 1..=0x7f, ..] => utf16(bytes, u16::from_be_bytes)?,
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
        },
    };
    if text.contains('\0') {
        return Err(Fault::new(None, NO_TEXT));
    }
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(text),
    };
    // As Macs once ended lines.
    Ok(if text.contains('\r') && !text.contains('\n') { text.replace('\r', "\n").into() } else { text })
}

fn utf16<'a>(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'a, str>, Fault> {
    let fault = || Fault::new(None, "begins as UTF-16 text but is none, or is cut short");
    fs::utf16(bytes, unit).map(Cow::Owned).ok_or_else(fault)
}
