//! What pages are made of: a frame (`base.html`, `page.css`), figures and tables.

use crate::data::InputKind;
use crate::report::plots::themed;
use crate::{Error, Result};
use askama::Template;
use askama::filters::HtmlSafe;

/// Characters of a foreign name that a page shows at most.
pub(super) const NAME: usize = 80;

/// A plot with a caption.
#[derive(Template)]
#[template(path = "figure.html")]
pub(super) struct Figure {
    id: String,
    /// What it shows, for those who do not see it.
    label: String,
    caption: String,
    width: String,
    height: String,
    /// What is inside of the `<svg>`, and its end.
    drawing: String,
}

/// It is a template, which escapes what it is given.
impl HtmlSafe for Figure {}

impl Figure {
    /// `svg` is one of [`crate::report::plots`], in whose texts nothing is foreign but what they escape. `id` is its own in a
    /// page.
    pub(super) fn new(id: &str, label: impl Into<String>, svg: &str, caption: String) -> Self {
        let Drawing { width, height, inside } = Drawing::of(svg);
        Self { id: id.into(), label: label.into(), caption, width, height, drawing: inside }
    }
}

/// A plot's parts, in colours of the page.
pub(super) struct Drawing {
    pub(super) width: String,
    pub(super) height: String,
    /// What is inside of the `<svg>`, and its end.
    pub(super) inside: String,
}

impl Drawing {
    pub(super) fn of(svg: &str) -> Self {
        let svg = themed(svg);
        let (head, inside) = svg.split_once('>').unwrap_or_default();
        let attribute = |name: &str| {
            let value = head.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
            value.map_or(String::new(), |(value, _)| value.into())
        };
        Self { width: attribute("width"), height: attribute("height"), inside: inside.into() }
    }
}

/// The heading of a column, and how its cells are set.
pub(super) struct Column {
    name: String,
    class: &'static str,
}

impl Column {
    /// Of words.
    pub(super) fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), class: "text" }
    }

    /// Of numbers.
    pub(super) fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), class: "number" }
    }
}

/// A cell of a table.
pub(super) struct Cell {
    pub(super) text: String,
    /// What it is, in smaller letters below; may be empty.
    pub(super) about: String,
    /// Where it leads.
    pub(super) link: Option<Link>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, about: String::new(), link: None }
    }
}

/// A place in the page.
pub(super) struct Link {
    /// The id of what it leads to.
    pub(super) to: String,
    /// A time in seconds, from which a script may play.
    pub(super) at: Option<String>,
}

/// A table whose first column names the rows.
#[derive(Template)]
#[template(path = "table.html")]
pub(super) struct Table {
    pub(super) id: String,
    pub(super) caption: String,
    pub(super) columns: Vec<Column>,
    /// A cell a column.
    pub(super) rows: Vec<Vec<Cell>>,
}

impl HtmlSafe for Table {}

impl Table {
    /// The class of the column at this place from 0.
    fn class(&self, place: &usize) -> &'static str {
        self.columns.get(*place).map_or("text", |column| column.class)
    }
}

/// A page as text.
pub(super) fn render(page: &impl Template) -> Result<String> {
    page.render().map_err(|e| Error::config(format!("the page could not be written: {e}")))
}

/// A number with so many digits and a typographic minus sign; an en dash where there is none.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    match value.filter(|v| v.is_finite()) {
        Some(v) => {
            let text = format!("{v:.digits$}");
            let zero = text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
            if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "\u{2212}") }
        }
        None => "–".into(),
    }
}

/// What a network of this kind is shown.
pub(super) fn sees(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Contour => "the pitch contour of a take",
        InputKind::ContourReference => "the pitch contour of a take beside a reference",
        InputKind::AlignmentPath => "how a take aligns to references of its melody",
        InputKind::Notes => "how a take sings each note of its melody",
        InputKind::AlignmentPathNotes => {
            "how a take aligns to references of its melody and how it sings each note"
        }
    }
}

/// `1 take`, `2 takes`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
