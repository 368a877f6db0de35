//! How a table's lines fall into cells, and cells into numbers.

/// Most columns of a table.
pub(super) const MAX_COLUMNS: usize = 64;

/// Rows that decide how a file is written.
const SAMPLE: usize = 100;

/// See [`Dialect::score`].
const BEST: usize = 3;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Number(f64),
    Flag(bool),
    /// Nothing, or what trackers write for no pitch.
    Missing,
    Text,
}

/// What separates cells, and whether a comma stands for the decimal point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dialect {
    /// `' '` is any number of blanks of any kind.
    pub separator: char,
    pub decimal_comma: bool,
}

/// In the order in which they are preferred.
const DIALECTS: [Dialect; 7] = [
    Dialect { separator: ';', decimal_comma: false },
    Dialect { separator: ';', decimal_comma: true },
    Dialect { separator: '\t', decimal_comma: false },
    Dialect { separator: '\t', decimal_comma: true },
    Dialect { separator: ',', decimal_comma: false },
    Dialect { separator: ' ', decimal_comma: false },
    Dialect { separator: ' ', decimal_comma: true },
];

impl Dialect {
    /// The one in which most of the first lines are numbers.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let lines: Vec<&str> = lines.take(SAMPLE).collect();
        let mut best = (0, Self { separator: ' ', decimal_comma: false });
        for dialect in DIALECTS {
            let score = lines.iter().map(|line| dialect.score(line)).sum();
            if score > best.0 {
                best = (score, dialect);
            }
            if score == BEST * lines.len() {
                break;
            }
        }
        best.1
    }

    /// [`BEST`] for a line of nothing but numbers, 2 if only one of them is there, 1 for numbers between texts.
    fn score(self, line: &str) -> usize {
        if self.separator != ' ' && !line.contains(self.separator) {
            return 0;
        }
        let (mut numbers, mut texts) = (0, 0);
        for (field, quoted) in self.fields(line).take(MAX_COLUMNS) {
            match self.cell(field) {
                Cell::Number(_) => numbers += 1,
                Cell::Text if !quoted => texts += 1,
                _ => {}
            }
        }
        usize::from(numbers >= 2) + if numbers >= 1 && texts == 0 { 2 } else { 0 }
    }

    /// The cells of a line, without blanks and quotation marks around them, and whether there were such marks.
    pub(super) fn fields(self, line: &str) -> Fields<'_> {
        Fields { rest: Some(line), separator: self.separator }
    }

    pub(super) fn cell(self, field: &str) -> Cell {
        let number = if !self.decimal_comma {
            field.parse()
        } else if field.contains('.') {
            return Cell::Text;
        } else {
            field.replacen(',', ".", 1).parse()
        };
        match number {
            Ok(number) if f64::is_finite(number) => Cell::Number(number),
            // `nan` and `inf`, but not 1e999.
            Ok(_) if field.contains(['n', 'N']) => Cell::Missing,
            Ok(number) => Cell::Number(number),
            Err(_) => word(field),
        }
    }
}

/// A cell that is no number.
fn word(field: &str) -> Cell {
    const MISSING: [&str; 14] = [
        "",
        "-",
        "--",
        "?",
        "na",
        "n/a",
        "<na>",
        "none",
        "null",
        "undefined",
        "--undefined--",
        "nan(ind)",
        "-nan(ind)",
        "unvoiced",
    ];
    let is = |word: &str| field.eq_ignore_ascii_case(word);
    if is("true") || is("false") {
        Cell::Flag(is("true"))
    } else if MISSING.into_iter().any(is) || field.contains("1.#") {
        Cell::Missing
    } else {
        Cell::Text
    }
}

/// See [`Dialect::fields`].
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    separator: char,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let (blanks, separator) = (self.separator == ' ', self.separator as u8);
        let mut rest = self.rest?;
        if blanks {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
        }
        let ends = |b: u8| if blanks { b.is_ascii_whitespace() } else { b == separator };
        // By bytes: every separator is ASCII.
        let cut = |text: &'a str| match text.bytes().position(ends) {
            Some(at) => (text[..at].trim(), Some(&text[at + 1..])),
            None => (text.trim(), None),
        };
        let (field, after) = cut(rest);
        self.rest = after;
        if !field.starts_with('"') {
            return Some((field, false));
        }
        let inside = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let Some((field, after)) = inside else { return Some((field, false)) };
        self.rest = cut(after).1;
        Some((field.trim(), true))
    }
}
