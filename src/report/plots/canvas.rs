//! What is drawn with.

use crate::{Error, Result};
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, WHITE};

pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const VERMILION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const MUTED: RGBColor = RGBColor(0x5C, 0x5C, 0x5C);
pub(super) const RULE: RGBColor = RGBColor(0x9A, 0x9A, 0x9A);
pub(super) const GRID: RGBColor = RGBColor(0xE6, 0xE6, 0xE6);

/// A pixel.
pub(super) type At = (i32, i32);

/// The drawing under construction. Coordinates are pixels, y pointing down.
pub(super) struct Canvas<'a>(SVGBackend<'a>);

impl<'a> Canvas<'a> {
    pub(super) fn new(svg: &'a mut String, (width, height): At) -> Result<Self> {
        let mut canvas = Self(SVGBackend::with_string(svg, (width.unsigned_abs(), height.unsigned_abs())));
        canvas.bar((0, 0), (width, height), WHITE)?;
        Ok(canvas)
    }

    pub(super) fn bar(&mut self, from: At, to: At, colour: RGBColor) -> Result<()> {
        self.0.draw_rect(from, to, &colour, true).map_err(failed)
    }

    /// A bar that what is below shows through, all the more the smaller the share of `colour`.
    pub(super) fn shade(&mut self, from: At, to: At, (colour, share): (RGBColor, f64)) -> Result<()> {
        self.0.draw_rect(from, to, &colour.mix(share), true).map_err(failed)
    }

    pub(super) fn line(&mut self, points: Vec<At>, colour: &impl Color, width: u32) -> Result<()> {
        let style = ShapeStyle::from(colour).stroke_width(width);
        self.0.draw_path(points, &style).map_err(failed)
    }

    /// A disc, outlined so that neighbours stay apart and pale ones stand out from the paper.
    pub(super) fn disc(&mut self, at: At, radius: u32, colour: RGBColor) -> Result<()> {
        self.0.draw_circle(at, radius, &colour.mix(0.8), true).map_err(failed)?;
        self.0.draw_circle(at, radius, &BLACK.mix(0.35), false).map_err(failed)
    }

    /// A disc without an outline.
    pub(super) fn dot(&mut self, at: At, radius: u32, colour: RGBColor) -> Result<()> {
        self.0.draw_circle(at, radius, &colour, true).map_err(failed)
    }

    /// A circle.
    pub(super) fn ring(&mut self, at: At, radius: u32, colour: RGBColor) -> Result<()> {
        let style = ShapeStyle::from(&colour).stroke_width(2);
        self.0.draw_circle(at, radius, &style, false).map_err(failed)
    }

    /// A triangle of about a disc's area.
    pub(super) fn triangle(&mut self, (x, y): At, radius: i32, colour: RGBColor) -> Result<()> {
        let corners = vec![(x, y - radius - 1), (x + radius + 1, y + radius), (x - radius - 1, y + radius)];
        self.0.fill_polygon(corners.clone(), &colour.mix(0.8)).map_err(failed)?;
        let outline = corners.iter().chain(&corners[..1]).copied().collect();
        self.line(outline, &BLACK.mix(0.35), 1)
    }

    /// A bar with an outline, filled with a share of its colour.
    pub(super) fn frame(&mut self, from: At, to: At, (colour, share): (RGBColor, f64)) -> Result<()> {
        self.shade(from, to, (colour, share))?;
        self.0.draw_rect(from, to, &colour, false).map_err(failed)
    }

    /// The outline of a bar in dashes.
    pub(super) fn dashes(&mut self, (left, top): At, (right, bottom): At, colour: RGBColor) -> Result<()> {
        const DASH: i32 = 4;
        for y in [top, bottom] {
            for x in (left..right).step_by(2 * DASH as usize) {
                self.line(vec![(x, y), ((x + DASH).min(right), y)], &colour, 2)?;
            }
        }
        for x in [left, right] {
            for y in (top..bottom).step_by(2 * DASH as usize) {
                self.line(vec![(x, y), (x, (y + DASH).min(bottom))], &colour, 2)?;
            }
        }
        Ok(())
    }

    /// A cross of diagonals.
    pub(super) fn cross(&mut self, (x, y): At, colour: RGBColor) -> Result<()> {
        self.line(vec![(x - 5, y - 5), (x + 5, y + 5)], &colour, 3)?;
        self.line(vec![(x - 5, y + 5), (x + 5, y - 5)], &colour, 3)
    }

    /// An upright cross.
    pub(super) fn plus(&mut self, (x, y): At, colour: RGBColor) -> Result<()> {
        self.line(vec![(x - 6, y), (x + 6, y)], &colour, 3)?;
        self.line(vec![(x, y - 6), (x, y + 6)], &colour, 3)
    }

    pub(super) fn text(&mut self, text: &str, at: At, style: Type) -> Result<()> {
        let px = style.px * 1.24; // the SVG backend divides by this
        let weight = if style.bold { FontStyle::Bold } else { FontStyle::Normal };
        let family = ("sans-serif", px).into_font().style(weight);
        let turn = if style.upward { FontTransform::Rotate270 } else { FontTransform::None };
        let style = family.color(&style.colour).transform(turn).pos(Pos::new(style.across, VPos::Center));
        self.0.draw_text(text, &style, at).map_err(failed)
    }

    /// The two lines above a plot and the line of keys at its right.
    pub(super) fn heading(
        &mut self,
        title: &str,
        subtitle: &str,
        (left, right): At,
        keys: &[Key],
    ) -> Result<()> {
        self.text(title, (left, 26), Type { px: 17.0, bold: true, colour: INK, ..Type::SMALL })?;
        self.text(subtitle, (left, 49), Type::SMALL)?;
        let room: i32 = keys.iter().map(Key::room).sum();
        self.keys(keys, (right - room - 18 * (keys.len() as i32 - 1), 49))
    }

    /// A line of keys, from its left end.
    pub(super) fn keys(&mut self, keys: &[Key], (mut x, y): At) -> Result<()> {
        for key in keys {
            match key.mark {
                Mark::Line(w) => self.line(vec![(x, y), (x + 22, y)], &key.colour, w)?,
                Mark::Disc => self.disc((x + 15, y), 5, key.colour)?,
                Mark::Triangle => self.triangle((x + 15, y), 5, key.colour)?,
                Mark::Shade(share) => self.shade((x, y - 8), (x + 22, y + 8), (key.colour, share))?,
                Mark::Bar(share) => self.frame((x, y - 5), (x + 22, y + 5), (key.colour, share))?,
                Mark::Dashes => self.dashes((x, y - 5), (x + 22, y + 5), key.colour)?,
                Mark::Cross => self.cross((x + 14, y), key.colour)?,
                Mark::Plus => self.plus((x + 14, y), key.colour)?,
            }
            self.text(key.name, (x + 28, y), Type { colour: INK, ..Type::SMALL })?;
            x += key.room() + 18;
        }
        Ok(())
    }

    pub(super) fn done(mut self) -> Result<()> {
        self.0.present().map_err(failed)
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::config(format!("the plot could not be drawn: {e}"))
}

/// How text is set: anchored at its vertical centre and, across, at the end named.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) px: f64,
    pub(super) bold: bool,
    pub(super) colour: RGBColor,
    pub(super) across: HPos,
    pub(super) upward: bool,
}

impl Type {
    pub(super) const SMALL: Self =
        Self { px: 13.0, bold: false, colour: MUTED, across: HPos::Left, upward: false };
}

/// About how wide text is set; no font is at hand to ask.
pub(super) fn width(text: &str, px: f64) -> i32 {
    (text.chars().count() as f64 * px * 0.62).ceil() as i32
}

pub(super) enum Mark {
    Line(u32),
    Disc,
    Triangle,
    /// Of a share of the colour.
    Shade(f64),
    /// Outlined, and filled with a share of the colour.
    Bar(f64),
    Dashes,
    Cross,
    Plus,
}

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) colour: RGBColor,
    pub(super) mark: Mark,
}

impl Key {
    /// How wide it is set.
    fn room(&self) -> i32 {
        30 + width(self.name, Type::SMALL.px)
    }
}
