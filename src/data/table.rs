//! Tables as spreadsheets and scripts write them: CSV with any of the usual separators, line ends and encodings.

use std::path::Path;

use crate::names::quoted;
use crate::{Error, Result, fs};

/// Largest table of takes or grades in bytes: some 300,000 rows. A cell takes up to 25 times its bytes in memory.
pub(super) const MAX_BYTES: u64 = 1 << 25;

/// Most columns of a table.
const MAX_COLUMNS: usize = 1 << 12;

/// A header and the rows below it, each as long as the header. Cells are trimmed.
pub(super) struct Table {
    /// `,`, `;` or tab.
    pub separator: char,
    /// Line of the header, from 1.
    pub header_line: u64,
    pub header: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row with a cell filled.
pub(super) struct Row {
    /// Its first line, from 1.
    pub line: u64,
    pub cells: Vec<String>,
}

impl Table {
    /// Reads the `bytes` of the file at `path`, which errors name.
    ///
    /// The separator is the one that the header has most of. Lines that are blank are passed over, as are cells beyond the header
    /// that are empty; `sep=;` above the header, which Excel writes and reads, names the separator.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let text = decode(path, bytes)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut lines = Lines { text, at: 0, line: 1 };
        let mut first = lines.next_filled();
        let mut named = None;
        if let Some(separator) = first.to_ascii_lowercase().strip_prefix("sep=").and_then(separator_of) {
            named = Some(separator);
            lines.skip(first.len());
            first = lines.next_filled();
        }
        let separator = named.unwrap_or_else(|| sniff(first));

        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator as u8)
            .from_reader(lines.rest().as_bytes());
        let start = lines.at;
        let mut table = Self { separator, header_line: lines.line, header: Vec::new(), rows: Vec::new() };
        for record in reader.records() {
            // Over valid text in memory, with rows of any length, there is nothing that can fail.
            let record = record.map_err(|error| Error::data(path, None, format!("not CSV: {error}")))?;
            // The reader counts blank lines before a row to it.
            lines.seek(start + record.position().map_or(0, |at| at.byte() as usize));
            lines.next_filled();
            let line = lines.line;
            let mut cells: Vec<String> = record.iter().map(|cell| trimmed(cell).to_owned()).collect();
            if cells.iter().all(String::is_empty) {
                continue;
            }
            if table.header.is_empty() {
                if cells.len() > MAX_COLUMNS {
                    let message = format!("{} columns, at most {MAX_COLUMNS} are read", cells.len());
                    return Err(Error::data(path, Some(line), message));
                }
                (table.header_line, table.header) = (line, cells);
                continue;
            }
            let expected = table.header.len();
            while cells.len() > expected && cells.last().is_some_and(String::is_empty) {
                cells.pop();
            }
            if cells.len() != expected {
                let message = format!("{} fields, but the header has {expected}", cells.len());
                return Err(Error::data(path, Some(line), message));
            }
            table.rows.push(Row { line, cells });
        }
        Ok(table)
    }

    /// A number as this table writes it: with a decimal comma too where commas separate nothing.
    pub fn number(&self, cell: &str) -> Option<f64> {
        self.decimal(cell).parse().ok()
    }

    /// The cell with a decimal point for a decimal comma.
    pub fn decimal<'a>(&self, cell: &'a str) -> std::borrow::Cow<'a, str> {
        if self.separator != ',' && cell.matches(',').count() == 1 && !cell.contains('.') {
            cell.replace(',', ".").into()
        } else {
            cell.into()
        }
    }
}

/// Whether a cell says that there is no value.
pub(super) fn is_missing(cell: &str) -> bool {
    matches!(
        cell.to_ascii_lowercase().as_str(),
        "" | "na" | "n/a" | "<na>" | "#n/a" | "nan" | "null" | "none" | "-" | "–" | "—"
    )
}

/// Where a text is being read.
struct Lines<'a> {
    text: &'a str,
    /// Byte.
    at: usize,
    /// From 1.
    line: u64,
}

impl<'a> Lines<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes on by `bytes`, counting ends of lines: `\n`, `\r\n` or `\r`.
    fn skip(&mut self, bytes: usize) {
        let passed = self.rest().as_bytes().get(..bytes).unwrap_or_default();
        let before = self.at.checked_sub(1).and_then(|at| self.text.as_bytes().get(at));
        let mut last = before.copied();
        for &byte in passed {
            // The line was counted at its `\r`.
            if byte == b'\r' || byte == b'\n' && last != Some(b'\r') {
                self.line += 1;
            }
            last = Some(byte);
        }
        self.at += passed.len();
    }

    fn seek(&mut self, to: usize) {
        self.skip(to.saturating_sub(self.at));
    }

    /// Passes lines that are blank; the next one, empty at the end.
    fn next_filled(&mut self) -> &'a str {
        loop {
            let rest = self.rest();
            let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
            if line.len() == rest.len() || !trimmed(line).is_empty() {
                return line;
            }
            self.skip(line.len() + 1);
        }
    }
}

/// Without white space and marks that cannot be seen on either side.
fn trimmed(cell: &str) -> &str {
    cell.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'))
}

fn separator_of(name: &str) -> Option<char> {
    let mut chars = name.chars();
    match (chars.next(), trimmed(chars.as_str())) {
        (Some(separator @ (',' | ';' | '\t')), "") => Some(separator),
        _ => None,
    }
}

/// The separator that stands most often outside of quotation marks.
fn sniff(header: &str) -> char {
    let mut counts = [(',', 0), (';', 0), ('\t', 0)];
    let mut inside = false;
    for c in header.chars() {
        inside ^= c == '"';
        for (separator, count) in &mut counts {
            *count += usize::from(c == *separator && !inside);
        }
    }
    let most = counts.iter().map(|c| c.1).max().unwrap_or(0);
    counts.iter().find(|c| c.1 == most).map_or(',', |c| c.0)
}

/// The text of a file in UTF-8, or in UTF-16 with a byte order mark.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<String> {
    let wide = |of: fn([u8; 2]) -> u16| {
        fs::utf16(&bytes[2..], of)
            .ok_or_else(|| Error::data(path, None, "not UTF-16 text, which its byte order mark says it is"))
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes)?,
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes)?,
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
                let message = "not UTF-8 text; save it as CSV in UTF-8";
                return Err(Error::data(path, Some(line as u64), message));
            }
        },
    };
    if let Some(at) = text.find('\0') {
        let start = quoted(&text[..at].chars().take(20).collect::<String>());
        return Err(Error::data(path, None, format!("not a text file: a zero byte after {start}")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Table> {
        Table::parse(Path::new("t.csv"), bytes)
    }

    /// Rows with their lines.
    type Rows = Vec<(u64, Vec<String>)>;

    /// Separator, header and rows.
    fn seen(bytes: &[u8]) -> (char, Vec<String>, Rows) {
        let table = parse(bytes).unwrap();
        (table.separator, table.header, table.rows.into_iter().map(|row| (row.line, row.cells)).collect())
    }

    fn cells(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| cell.to_string()).collect()
    }

    #[test]
    fn the_header_tells_the_separator() {
        for (text, separator) in [
            ("a,b\n1,2", ','),
            ("a;b\n1;2", ';'),
            ("a\tb\n1\t2", '\t'),
            ("a;\"b,,,\"\n1;2", ';'),
            ("a\n1", ','),
        ] {
            assert_eq!(seen(text.as_bytes()).0, separator, "{text:?}");
        }
        assert_eq!(
            seen(b"sep=;\na;b,c,d\n1;2"),
            (';', cells(&["a", "b,c,d"]), vec![(3, cells(&["1", "2"]))])
        );
    }

    #[test]
    fn rows_keep_their_lines_through_blank_ones_and_all_line_ends() {
        let expected = vec![(4, cells(&["1", "x\ny"])), (8, cells(&["2", "z"]))];
        let text = "\n a , b \n\n1,\"x\ny\"\n  \n,\n2, z ,,\n\n";
        let (_, header, rows) = seen(text.as_bytes());
        assert_eq!((header, rows), (cells(&["a", "b"]), expected));
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "", "1,2", " ", "", "3,4"].join(end);
            assert_eq!(
                seen(text.as_bytes()).2,
                [(3, cells(&["1", "2"])), (6, cells(&["3", "4"]))],
                "{end:?}"
            );
        }
        let fault = parse(b"a,b\n\n\n1\n").err().unwrap().to_string();
        assert_eq!(fault, "t.csv:4: 1 fields, but the header has 2");
        assert!(parse(b"a,b\n1,2,3\n").is_err());
        let wide = parse(",x".repeat(5000).as_bytes()).err().unwrap().to_string();
        assert_eq!(wide, "t.csv:1: 5001 columns, at most 4096 are read");
    }

    #[test]
    fn every_unicode_encoding_with_a_mark_is_read() {
        let text = "\u{feff}name;f\u{fc}r\nx;1\n";
        let expected = (';', cells(&["name", "f\u{fc}r"]), vec![(2, cells(&["x", "1"]))]);
        let wide = |of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(of).collect::<Vec<u8>>();
        assert_eq!(seen(text.as_bytes()), expected);
        assert_eq!(seen(&wide(u16::to_le_bytes)), expected);
        assert_eq!(seen(&wide(u16::to_be_bytes)), expected);
        let message = |bytes: &[u8]| parse(bytes).err().unwrap().to_string();
        assert!(message(b"a,b\nx,f\xfcr\n").starts_with("t.csv:2: not UTF-8"));
        assert!(message(b"\xff\xfea").contains("not UTF-16"));
        assert!(message(b"\xff\xfe\x00\xd8").contains("not UTF-16"));
        assert!(message(b"PK\x03\x00\x01").contains("zero byte"));
        assert!(seen(b"").1.is_empty());
    }

    #[test]
    fn a_comma_is_decimal_where_it_separates_nothing() {
        let of = |text: &str, cell: &str| parse(text.as_bytes()).unwrap().number(cell);
        assert_eq!(
            (of("a;b", "0,5"), of("a\tb", "-1,25"), of("a;b", "0.5")),
            (Some(0.5), Some(-1.25), Some(0.5))
        );
        assert_eq!((of("a,b", "0,5"), of("a;b", "1,2,3"), of("a;b", "1.000,5")), (None, None, None));
    }
}
