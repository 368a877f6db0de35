//! Tables of numbers, with names above them or without.

use super::dialect::{Cell, Dialect, MAX_COLUMNS};
use super::rows::Fault;
use crate::names::quoted;

/// Lines of text that may stand above the numbers.
const MAX_HEADER: usize = 10;

/// A column's cells.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Flags are 1 and 0, what is missing or text is NaN.
    pub values: Vec<f64>,
    pub numbers: usize,
    pub flags: usize,
    /// Cells with nothing in them at all.
    pub empty: usize,
    /// The first row with a text.
    pub text: Option<usize>,
}

impl Column {
    fn push(&mut self, field: &str, cell: Cell) {
        match cell {
            Cell::Number(_) => self.numbers += 1,
            Cell::Flag(_) => self.flags += 1,
            Cell::Missing => self.empty += usize::from(field.is_empty()),
            Cell::Text => self.text = self.text.or(Some(self.values.len())),
        }
        self.values.push(match cell {
            Cell::Number(number) => number,
            Cell::Flag(flag) => f64::from(u8::from(flag)),
            Cell::Missing | Cell::Text => f64::NAN,
        });
    }

    /// Whether it holds texts, or nothing.
    pub(super) fn is_text(&self) -> bool {
        self.numbers == 0 && self.flags == 0 && (self.text.is_some() || self.empty == self.values.len())
    }
}

/// A file of columns.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub columns: Vec<Column>,
    /// The line of each row, from 1.
    pub lines: Vec<u64>,
    /// Lines of text above, the nearest first, and whether they are comments.
    header: Vec<(&'a str, bool)>,
    dialect: Dialect,
}

/// A line that says something: what it says, and whether it is a comment.
fn content(line: &str) -> Option<(&str, bool)> {
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        return Some((line, false));
    }
    let trimmed = line.trim();
    let comment = trimmed.starts_with(['#', '%']) || trimmed.starts_with("//");
    // Of a row, not trimmed: a tab at its end stands before an empty cell.
    let said = if comment { trimmed.trim_start_matches(['#', '%', '/']).trim() } else { line };
    (!trimmed.is_empty()).then_some((said, comment))
}

impl<'a> Table<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        let rows = text.lines().filter_map(content).filter(|(_, comment)| !comment).map(|(line, _)| line);
        let dialect = Dialect::of(rows);
        let mut table = Self { columns: Vec::new(), lines: Vec::new(), header: Vec::new(), dialect };
        let mut fields = Vec::with_capacity(MAX_COLUMNS);
        for (number, line) in (1..).zip(text.lines()) {
            let Some((line, comment)) = content(line) else { continue };
            if table.lines.is_empty() && (comment || table.is_header(line)) {
                table.header.insert(0, (line, comment));
                table.header.truncate(MAX_HEADER + 1);
                if !comment && table.header.len() > MAX_HEADER {
                    return Err(unexpected(number, line));
                }
            } else if !comment {
                fields.clear();
                fields.extend(dialect.fields(line).map(|(field, _)| field).take(MAX_COLUMNS + 1));
                table.push(number, line, &fields)?;
            }
        }
        if table.lines.is_empty() {
            return Err(match table.header.first() {
                Some((line, _)) => unexpected(None, line),
                None => Fault::new(None, "no frames: the file is empty"),
            });
        }
        while table.columns.last().is_some_and(|c| c.empty == c.values.len()) {
            table.columns.pop();
        }
        Ok(table)
    }

    /// Whether a line above the numbers has only names in it.
    fn is_header(&self, line: &str) -> bool {
        let mut text = false;
        for (field, _) in self.dialect.fields(line).take(MAX_COLUMNS) {
            match self.dialect.cell(field) {
                Cell::Number(_) => return false,
                Cell::Text => text = true,
                _ => {}
            }
        }
        text
    }

    fn push(&mut self, number: u64, line: &str, fields: &[&str]) -> Result<(), Fault> {
        let count = fields.len();
        if count > MAX_COLUMNS {
            return Err(unexpected(number, line));
        }
        match self.lines.len() {
            0 => self.columns.resize_with(count, Column::default),
            // sonic-annotator's file name, in the first row alone.
            1 if count + 1 == self.columns.len() && self.columns[0].text.is_some() => {
                self.columns.remove(0);
            }
            _ => {}
        }
        let columns = self.columns.len();
        if count < columns || !fields[columns..].iter().all(|field| field.is_empty()) {
            let message = format!("{count} columns, but {columns} above: {}", quoted(line.trim()));
            return Err(Fault::new(number, message));
        }
        for (column, field) in self.columns.iter_mut().zip(fields) {
            column.push(field, self.dialect.cell(field));
        }
        self.lines.push(number);
        Ok(())
    }

    /// The names of the columns, if there are any: those of a line or comment that `are_known`, else of a line.
    pub(super) fn names(&self, are_known: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
        let of = |line| names(line, self.dialect, self.columns.len());
        let known = self.header.iter().filter_map(|&(line, _)| of(line)).find(|names| are_known(names));
        known.or_else(|| self.header.iter().filter(|(_, comment)| !comment).find_map(|&(line, _)| of(line)))
    }
}

/// The error for a line that holds no numbers.
pub(super) fn unexpected(line: impl Into<Option<u64>>, found: &str) -> Fault {
    let expected = "expected numbers, time in seconds and f0 in Hz, in columns";
    Fault::new(line, format!("{expected}, found {}", quoted(found.trim())))
}

/// The names in `line` of so many columns. Names have blanks and units in them where numbers have none, so that they may be
/// separated in another way.
fn names(line: &str, dialect: Dialect, columns: usize) -> Option<Vec<String>> {
    let of = |separator| -> Vec<String> {
        let fields = Dialect { separator, ..dialect }.fields(line).take(MAX_COLUMNS + 1);
        let mut names: Vec<String> = fields.map(|(name, _)| name.to_owned()).collect();
        while names.len() > columns && names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        names
    };
    // Units belong to the name before them.
    let joined = || {
        let mut names: Vec<String> = Vec::new();
        for word in of(' ') {
            match names.last_mut() {
                Some(name) if word.starts_with(['(', '[', '/']) => *name = format!("{name} {word}"),
                _ => names.push(word),
            }
        }
        names
    };
    let by_wide_gaps = || -> Vec<String> {
        line.split("  ").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let fits = |names: &Vec<String>| names.len() == columns;
    let same = of(dialect.separator);
    if fits(&same) {
        return Some(same);
    }
    let others = ['\t', ';', ','].into_iter().map(of).chain([joined(), by_wide_gaps()]);
    if let Some(names) = others.into_iter().find(fits) {
        return Some(names);
    }
    // R leaves the name of the rows' names out.
    (columns > 2 && same.len() + 1 == columns).then(|| [vec![String::new()], same].concat())
}
