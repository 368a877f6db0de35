//! The page of graded takes.

use super::base::{Cell, Column, Link, NAME, Table, count, number, sees};
use super::section::{Refused, Section};
use super::take::{GradedTake, Grader, Sound};
use crate::data::CostlySpan;
use crate::names::shown;
use crate::report::interval::LEVEL;
use crate::{Error, Result};
use askama::Template;
use base64::encoded_len;

/// Samples a second of what is heard: all that a voice has to tell of pitch, in a third of the bytes.
pub const SOUND_RATE: u32 = 16_000;

/// Bytes of sound that a page holds at most: half an hour.
const MOST_SOUND: usize = 64 << 20;

/// Bytes of sections, without their sound, that a page holds at most: of more, browsers open it slowly or not at all.
const MOST_DRAWN: usize = 64 << 20;

/// What runs in a page that has sound.
const SCRIPT: &str = include_str!("scored.js");

/// The SHA-256 of that in base64, by which the page's policy lets it run; a test says what it should be.
const SCRIPT_HASH: &str = "XlbzPVi7SvXhn4RB01jLr5i1tFt3cgAMHt41fMKEobE=";

#[derive(Template)]
#[template(path = "scored.html")]
struct Page<'a> {
    title: String,
    version: &'static str,
    lead: Vec<String>,
    overview: Option<Table>,
    takes: &'a str,
    has_sound: bool,
    hash: &'static str,
    script: &'static str,
}

/// A page of graded takes, which grows with them: a section each, as text, is all that is kept.
pub struct ScoredPage {
    title: String,
    lead: Vec<String>,
    takes: String,
    /// The cells of each take in the overview, empty where there is nothing to tell.
    overview: Vec<[Cell; 6]>,
    refused: usize,
    /// Bytes so far.
    sound: usize,
    /// Takes that have a row in the overview alone, as there was no room for a section.
    listed: usize,
    most_drawn: usize,
}

impl ScoredPage {
    /// Without takes so far.
    pub fn new(grader: &Grader<'_>) -> Self {
        let criterion = shown(grader.criterion, NAME);
        let data = grader.trained_on.map_or(String::new(), |(data, takes)| {
            format!(" on {} (“{}”)", count(takes, "take"), shown(data, NAME))
        });
        let fold = grader.fold.map_or(String::new(), |(fold, folds)| {
            format!(", as that of fold {fold} of {folds}: on all of its data but that fold")
        });
        Self {
            title: format!("Graded takes: {criterion}"),
            lead: [
                format!(
                    "A network graded these takes: the model “{}” predicts the {} “{criterion}” of a take, from 0, the worst, to \
                     1, the best. It is shown {}.",
                    shown(grader.name, NAME),
                    if grader.several { "ratings" } else { "rating" },
                    sees(grader.kind)
                ),
                format!(
                    "It was trained by etude {} for {}{data}{fold}.",
                    shown(grader.version, NAME),
                    count(grader.epochs, "epoch")
                ),
            ]
            .into_iter()
            .chain(grader.about.map(str::to_owned))
            .collect(),
            takes: String::new(),
            overview: Vec::new(),
            refused: 0,
            sound: 0,
            listed: 0,
            most_drawn: MOST_DRAWN,
        }
    }

    /// Whether no section has room any more.
    fn is_full(&self) -> bool {
        self.takes.len() - self.sound >= self.most_drawn
    }

    /// Whether there is room for so many seconds of sound at [`SOUND_RATE`].
    pub fn has_room(&self, seconds: f64) -> bool {
        if self.is_full() {
            return false;
        }
        let samples = (seconds * f64::from(SOUND_RATE)).ceil() as usize;
        let bytes = samples.checked_mul(2).and_then(|bytes| encoded_len(bytes, true));
        bytes.is_some_and(|bytes| self.sound + bytes <= MOST_SOUND)
    }

    /// Adds a take: a row of the overview, and a section while there is room.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be drawn.
    pub fn add(&mut self, take: &GradedTake<'_>) -> Result<()> {
        let costly = take.performed.map_or(Vec::new(), |p| CostlySpan::of(&p.notes, take.costs));
        let interval = take.interval.map(|ends| ends.map(|end| number(Some(end.into()), 2)));
        let most = costly.first();
        let cells = [
            self.link(take.name),
            number(Some(take.grade.into()), 2).into(),
            interval.map_or(String::new(), |[low, high]| format!("{low} to {high}")).into(),
            take.pass.map_or("", |pass| if pass { "pass" } else { "fail" }).to_string().into(),
            take.mark.map_or(String::new(), |mark| mark.to_string()).into(),
            most.map_or(String::new(), |s| format!("{:.1} to {:.1} s ({:.2})", s.start, s.end, s.cost))
                .into(),
        ];
        self.overview.push(cells);
        if self.is_full() {
            self.listed += 1;
            return Ok(());
        }
        if let Sound::Wav(bytes) = &take.sound {
            self.sound += encoded_len(bytes.len(), true).unwrap_or(MOST_SOUND);
        }
        let section = Section::of(self.overview.len(), take, &costly)?;
        self.render(&section)
    }

    /// Adds a take that could not be graded, and why.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be written.
    pub fn refuse(&mut self, name: &str, error: &str) -> Result<()> {
        self.refused += 1;
        let mut cells = [const { String::new() }; 6].map(Cell::from);
        (cells[0], cells[1]) = (self.link(name), "not graded".to_string().into());
        if self.is_full() {
            self.listed += 1;
            cells[0].about = shown(error, 200).into_owned();
            self.overview.push(cells);
            return Ok(());
        }
        self.overview.push(cells);
        let section = Refused::of(self.overview.len(), name, error);
        self.render(&section)
    }

    /// The page. Nothing in it depends on when it was made.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be written.
    pub fn html(mut self) -> Result<String> {
        let takes = count(self.overview.len(), "take");
        match self.refused {
            0 if self.overview.len() < 2 => {}
            0 => self.lead.push(format!("On this page: {takes}.")),
            n => self.lead.push(format!(
                "On this page: {takes}, of which {n} could not be graded, for the reason told there."
            )),
        }
        if self.listed > 0 {
            let shown = count(self.overview.len() - self.listed, "take");
            self.lead.push(format!(
                "The first {shown} have a section each. Then the page was as large as it may be: the others are in the overview \
                 alone."
            ));
        }
        let page = Page {
            title: self.title,
            version: env!("CARGO_PKG_VERSION"),
            lead: self.lead,
            overview: (self.overview.len() > 1).then(|| overview(self.overview)),
            takes: &self.takes,
            has_sound: self.sound > 0,
            hash: SCRIPT_HASH,
            script: SCRIPT,
        };
        // All at once: a text that grows is held twice while it does.
        let mut html = String::with_capacity(self.takes.len() + (1 << 16));
        page.render_into(&mut html).map_err(failed)?;
        Ok(html)
    }

    /// The name of the next take, which leads to its section.
    fn link(&self, name: &str) -> Cell {
        let link = || Link { to: format!("take-{}", self.overview.len() + 1), at: None };
        Cell { link: (!self.is_full()).then(link), ..shown(name, NAME).into_owned().into() }
    }

    fn render(&mut self, section: &impl Template) -> Result<()> {
        section.render_into(&mut self.takes).map_err(failed)
    }
}

fn failed(e: askama::Error) -> Error {
    Error::config(format!("the page could not be written: {e}"))
}

/// All takes, in the columns that say something.
fn overview(rows: Vec<[Cell; 6]>) -> Table {
    let columns = [
        Column::text("take"),
        Column::number("grade"),
        Column::number("nine in ten"),
        Column::text("verdict"),
        Column::number("mark"),
        Column::text("costs most"),
    ];
    let told: Vec<bool> =
        (0..columns.len()).map(|i| rows.iter().any(|row| !row[i].text.is_empty())).collect();
    let mut caption = "Grades go from 0 to 1.".to_string();
    let meanings = [
        (
            2,
            format!(
                " {:.0} % of takes with such a grade are taken to be rated within the interval beside it.",
                100.0 * LEVEL
            ),
        ),
        (4, " The mark is on the graders’ scale.".to_string()),
        (5, " Last is where in the take most is lost, and how much of the grade.".to_string()),
    ];
    meanings.iter().filter(|meaning| told[meaning.0]).for_each(|meaning| caption += &meaning.1);
    let cells =
        |row: [Cell; 6]| row.into_iter().zip(&told).filter_map(|(cell, told)| told.then_some(cell)).collect();
    Table {
        id: "overview-table".into(),
        caption,
        columns: columns.into_iter().zip(&told).filter_map(|(column, told)| told.then_some(column)).collect(),
        rows: rows.into_iter().map(cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Contour, HOP};
    use crate::data::InputKind;

    fn contour() -> Contour {
        Contour::from_pitch(vec![60.0; 100], HOP).unwrap()
    }

    fn take(contour: &Contour, sound: Sound) -> GradedTake<'_> {
        let (name, costs) = ("a", &[]);
        let (interval, pass, mark, performed, criteria) = (None, None, None, None, &[]);
        GradedTake { name, grade: 0.5, interval, pass, mark, criteria, contour, performed, costs, sound }
    }

    fn page() -> ScoredPage {
        ScoredPage::new(&Grader {
            name: "m",
            criterion: "c",
            several: false,
            version: "1",
            epochs: 1,
            about: Some("Only a toy."),
            trained_on: Some(("set", 1)),
            fold: Some((2, 5)),
            kind: InputKind::Contour,
        })
    }

    #[test]
    fn takes_that_there_is_no_room_for_are_in_the_overview_alone() {
        let (contour, mut page) = (contour(), page());
        page.add(&take(&contour, Sound::Wav(vec![0; 3000]))).unwrap();
        // The second is the last that fits.
        page.most_drawn = 2 * (page.takes.len() - page.sound);
        page.add(&take(&contour, Sound::Wav(vec![0; 3000]))).unwrap();
        assert!(page.is_full() && !page.has_room(0.1));
        page.add(&take(&contour, Sound::Wav(vec![0; 3000]))).unwrap();
        page.refuse("no take", "it is <empty>").unwrap();
        let html = page.html().unwrap();
        assert_eq!((html.matches("<section class=\"take\"").count(), html.matches("<audio").count()), (2, 2));
        assert_eq!(
            (html.matches("<th scope=\"row\">").count(), html.matches("href=\"#take-").count()),
            (4, 2)
        );
        for told in [
            "The first 2 takes have a section each.",
            "no take<span class=\"about\">it is &#60;empty&#62;</span>",
        ] {
            assert!(html.contains(told), "{told}");
        }
    }

    #[test]
    fn sound_that_there_is_no_room_for_is_left_out_and_that_is_said() {
        let (contour, mut page) = (contour(), page());
        let take = |sound| take(&contour, sound);
        // Four bytes of text for three, two bytes a sample.
        let most = MOST_SOUND as f64 * 0.75 / 2.0 / f64::from(SOUND_RATE);
        assert!(page.has_room(most - 0.01) && !page.has_room(most + 0.01) && !page.has_room(f64::INFINITY));
        page.add(&take(Sound::Wav(vec![0; 3 * 32_000]))).unwrap();
        assert!(page.has_room(most - 3.01) && !page.has_room(most - 2.99));
        page.add(&take(Sound::LeftOut("it is too much".into()))).unwrap();
        let html = page.html().unwrap();
        assert_eq!(html.matches("<audio").count(), 1);
        assert!(
            html.contains("Its sound is left out: it is too much.")
                && html.contains("for 1 epoch on 1 take (“set”), as that of fold 2 of 5")
                && html.contains("<p>Only a toy.</p>")
        );
        // Neither an interval nor a verdict, mark or notes: no columns of them.
        assert!(html.contains("<th scope=\"col\" class=\"number\">grade</th></tr>"), "{html}");
    }
}
