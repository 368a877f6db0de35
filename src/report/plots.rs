//! Plots of a run as SVG text: the losses, the predictions and the embedding.
//!
//! Values that are not finite are left out, never drawn somewhere made up. Colours are
//! Okabe and Ito's and viridis, which colour-blind readers can tell apart.

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, WHITE};

use super::files::EpochRow;
use super::metrics::{pearson, r2};
use crate::{Error, Result};

const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const VERMILION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const MUTED: RGBColor = RGBColor(0x5C, 0x5C, 0x5C);
const RULE: RGBColor = RGBColor(0x9A, 0x9A, 0x9A);
const GRID: RGBColor = RGBColor(0xE6, 0xE6, 0xE6);

/// A pixel.
type At = (i32, i32);

/// The drawing under construction. Coordinates are pixels, y pointing down.
struct Canvas<'a>(SVGBackend<'a>);

impl<'a> Canvas<'a> {
    fn new(svg: &'a mut String, (width, height): At) -> Result<Self> {
        let mut canvas = Self(SVGBackend::with_string(svg, (width.unsigned_abs(), height.unsigned_abs())));
        canvas.bar((0, 0), (width, height), WHITE)?;
        Ok(canvas)
    }

    fn bar(&mut self, from: At, to: At, colour: RGBColor) -> Result<()> {
        self.0.draw_rect(from, to, &colour, true).map_err(failed)
    }

    fn line(&mut self, points: Vec<At>, colour: &impl Color, width: u32) -> Result<()> {
        let style = ShapeStyle::from(colour).stroke_width(width);
        self.0.draw_path(points, &style).map_err(failed)
    }

    /// A disc, outlined so that neighbours stay apart and pale ones stand out from the paper.
    fn disc(&mut self, at: At, radius: u32, colour: RGBColor) -> Result<()> {
        self.0.draw_circle(at, radius, &colour.mix(0.8), true).map_err(failed)?;
        self.0.draw_circle(at, radius, &BLACK.mix(0.35), false).map_err(failed)
    }

    /// A triangle of about a disc's area.
    fn triangle(&mut self, (x, y): At, radius: i32, colour: RGBColor) -> Result<()> {
        let corners = vec![(x, y - radius - 1), (x + radius + 1, y + radius), (x - radius - 1, y + radius)];
        self.0.fill_polygon(corners.clone(), &colour.mix(0.8)).map_err(failed)?;
        let outline = corners.iter().chain(&corners[..1]).copied().collect();
        self.line(outline, &BLACK.mix(0.35), 1)
    }

    fn text(&mut self, text: &str, at: At, style: Type) -> Result<()> {
        let px = style.px * 1.24; // the SVG backend divides by this
        let weight = if style.bold { FontStyle::Bold } else { FontStyle::Normal };
        let family = ("sans-serif", px).into_font().style(weight);
        let turn = if style.upward { FontTransform::Rotate270 } else { FontTransform::None };
        let style = family.color(&style.colour).transform(turn).pos(Pos::new(style.across, VPos::Center));
        self.0.draw_text(text, &style, at).map_err(failed)
    }

    /// The two lines above a plot and the line of keys at its right.
    fn heading(&mut self, title: &str, subtitle: &str, (left, right): At, keys: &[Key]) -> Result<()> {
        self.text(title, (left, 26), Type { px: 17.0, bold: true, colour: INK, ..Type::SMALL })?;
        self.text(subtitle, (left, 49), Type::SMALL)?;
        let room = |key: &Key| 30 + width(key.name, Type::SMALL.px);
        let mut x = right - keys.iter().map(room).sum::<i32>() - 18 * (keys.len() as i32 - 1);
        for key in keys {
            match key.mark {
                Mark::Line(w) => self.line(vec![(x, 49), (x + 22, 49)], &key.colour, w)?,
                Mark::Disc => self.disc((x + 15, 49), 5, key.colour)?,
                Mark::Triangle => self.triangle((x + 15, 49), 5, key.colour)?,
            }
            self.text(key.name, (x + 28, 49), Type { colour: INK, ..Type::SMALL })?;
            x += room(key) + 18;
        }
        Ok(())
    }

    fn done(mut self) -> Result<()> {
        self.0.present().map_err(failed)
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::config(format!("the plot could not be drawn: {e}"))
}

/// How text is set: anchored at its vertical centre and, across, at the end named.
#[derive(Clone, Copy)]
struct Type {
    px: f64,
    bold: bool,
    colour: RGBColor,
    across: HPos,
    upward: bool,
}

impl Type {
    const SMALL: Self = Self { px: 13.0, bold: false, colour: MUTED, across: HPos::Left, upward: false };
}

/// About how wide text is set; no font is at hand to ask.
fn width(text: &str, px: f64) -> i32 {
    (text.chars().count() as f64 * px * 0.56).ceil() as i32
}

enum Mark {
    Line(u32),
    Disc,
    Triangle,
}

struct Key {
    name: &'static str,
    colour: RGBColor,
    mark: Mark,
}

/// Whether a value can be placed on an axis; beyond 1e100 spans overflow.
fn usable(v: f64) -> bool {
    v.abs() <= 1e100
}

/// Maps values to pixels. On a logarithmic axis `lo` and `hi` are exponents of ten.
struct Axis {
    lo: f64,
    hi: f64,
    log: bool,
    from: i32,
    to: i32,
    /// Value and label.
    ticks: Vec<(f64, String)>,
}

/// The smallest and largest usable value.
fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| usable(*v)).fold(None, |e, v| {
        let (lo, hi) = e.unwrap_or((v, v));
        Some((lo.min(v), hi.max(v)))
    })
}

/// Room around the data; never an empty span.
fn padded((lo, hi): (f64, f64)) -> (f64, f64) {
    let size = lo.abs().max(hi.abs());
    if hi - lo > 1e-9 * size {
        (lo - 0.04 * (hi - lo), hi + 0.04 * (hi - lo))
    } else if size > 1e-100 {
        (lo - 0.1 * size, hi + 0.1 * size)
    } else {
        (-1.0, 1.0)
    }
}

/// Typographic minus signs.
fn minus(number: String) -> String {
    number.replace('-', "\u{2212}")
}

/// 1, 2 or 5 times a power of ten, for about `count` steps.
fn step(span: f64, count: f64) -> f64 {
    let raw = (span / count).max(f64::MIN_POSITIVE);
    let ten = 10f64.powf(raw.log10().floor());
    ten * [1.0, 2.0, 5.0].into_iter().find(|m| m * ten >= raw * 0.999).unwrap_or(10.0)
}

impl Axis {
    fn linear((lo, hi): (f64, f64), (from, to): At, step: f64) -> Self {
        let first = (lo / step - 1e-9).ceil();
        let size = lo.abs().max(hi.abs());
        let digits = (-step.log10() - 1e-9).ceil().clamp(0.0, 12.0) as usize;
        let label = |v: f64| {
            if size >= 1e6 || step < 1e-5 {
                let digits = (size / step).log10().ceil().clamp(0.0, 6.0) as usize;
                format!("{v:.digits$e}")
            } else {
                format!("{v:.digits$}")
            }
        };
        let ticks = (0..40).map(|i| (first + f64::from(i)) * step);
        // Adding 0 turns −0 into 0.
        let ticks =
            ticks.filter(|v| *v <= hi + 1e-9 * (hi - lo)).map(|v| (v, minus(label(v + 0.0)))).collect();
        Self { lo, hi, log: false, from, to, ticks }
    }

    /// For positive `lo` and `hi`.
    fn log((lo, hi): (f64, f64), (from, to): At) -> Self {
        let (lo, hi) = padded((lo.log10(), hi.log10()));
        let decades = hi - lo;
        let mantissas: &[f64] = match decades {
            d if d < 1.6 => &[1.0, 2.0, 3.0, 5.0],
            d if d < 3.2 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (decades / 8.0).ceil().max(1.0) as usize;
        let label = |v: f64| if (1e-4..1e5).contains(&v) { format!("{v}") } else { format!("{v:e}") };
        let ticks = (lo.floor() as i32..=hi.ceil() as i32)
            .step_by(every)
            .flat_map(|e| mantissas.iter().map(move |m| format!("{m}e{e}").parse().unwrap_or(f64::NAN)))
            .filter(|v: &f64| (lo..=hi).contains(&v.log10()))
            .map(|v| (v, minus(label(v))))
            .collect();
        Self { lo, hi, log: true, from, to, ticks }
    }

    fn at(&self, v: f64) -> i32 {
        let v = if self.log { v.log10() } else { v };
        let share = ((v - self.lo) / (self.hi - self.lo)).clamp(0.0, 1.0);
        self.from + (share * f64::from(self.to - self.from)).round() as i32
    }
}

/// Grid, tick labels and axis names.
fn frame(c: &mut Canvas, x: &Axis, y: &Axis, x_name: &str, y_name: &str) -> Result<()> {
    for (v, label) in &x.ticks {
        let at = x.at(*v);
        c.line(vec![(at, y.from), (at, y.to)], &GRID, 1)?;
        c.text(label, (at, y.from + 15), Type { across: HPos::Center, ..Type::SMALL })?;
    }
    for (v, label) in &y.ticks {
        let at = y.at(*v);
        c.line(vec![(x.from, at), (x.to, at)], &GRID, 1)?;
        c.text(label, (x.from - 8, at), Type { across: HPos::Right, ..Type::SMALL })?;
    }
    c.line(vec![(x.from, y.to), (x.from, y.from), (x.to, y.from)], &RULE, 1)?;
    let name = Type { px: 14.0, colour: INK, across: HPos::Center, ..Type::SMALL };
    c.text(x_name, ((x.from + x.to) / 2, y.from + 40), name)?;
    c.text(y_name, (20, (y.from + y.to) / 2), Type { upward: true, ..name })
}

fn nothing(c: &mut Canvas, x: &Axis, y: &Axis) -> Result<()> {
    let style = Type { px: 15.0, across: HPos::Center, ..Type::SMALL };
    c.text("nothing to plot", ((x.from + x.to) / 2, (y.from + y.to) / 2), style)
}

/// Training and validation loss per epoch, with the phases of the protocol marked.
///
/// The loss axis is logarithmic where positive losses span more than a factor of 20. Lines
/// break between phases, whose losses differ in kind, where epochs start over (folds), and
/// at losses that are not finite. A ring marks the lowest validation loss of the last phase.
///
/// # Errors
/// [`Error::Config`] if the drawing fails, which no rows are known to cause.
pub fn history_svg(rows: &[EpochRow]) -> Result<String> {
    const SIZE: At = (900, 540);
    const ACROSS: At = (84, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 96);
    let losses = || rows.iter().flat_map(|r| [Some(r.train_loss), r.val_loss]).flatten();
    let (first, last) = extent(rows.iter().map(|r| r.epoch as f64)).unwrap_or((0.0, 1.0));
    let epochs = if first < last { (first, last) } else { (first - 0.5, last + 0.5) };
    let x = Axis::linear(epochs, ACROSS, step(epochs.1 - epochs.0, 8.0).max(1.0));
    let y = match extent(losses()) {
        Some((lo, hi)) if lo > 0.0 && hi > 20.0 * lo => Axis::log((lo, hi), DOWN),
        range => {
            let range = padded(range.unwrap_or((0.0, 1.0)));
            Axis::linear(range, DOWN, step(range.1 - range.0, 6.0))
        }
    };

    // 1. The lowest validation loss of the last phase, which is the one that is kept.
    let kept = rows.iter().filter(|r| rows.last().is_some_and(|l| l.phase == r.phase));
    let best = kept
        .filter_map(|r| r.val_loss.filter(|v| usable(*v)).map(|v| (r.epoch, v)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let subtitle = best.map_or_else(String::new, |(epoch, v)| {
        format!("lowest validation loss {} at epoch {epoch}", minus(short(v)))
    });
    let keys = [
        Key { name: "training", colour: BLUE, mark: Mark::Line(2) },
        Key { name: "validation", colour: VERMILION, mark: Mark::Line(2) },
    ];
    let keys = &keys[..if rows.iter().any(|r| r.val_loss.is_some()) { 2 } else { 1 }];
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.heading("Loss by epoch", &subtitle, ACROSS, keys)?;
    let y_name = if y.log { "mean loss (logarithmic)" } else { "mean loss" };
    frame(&mut c, &x, &y, "epoch", y_name)?;
    if extent(losses()).is_none() {
        nothing(&mut c, &x, &y)?;
    }

    // 2. Runs of rows that belong together: one phase (of one fold).
    let runs: Vec<&[EpochRow]> = rows.chunk_by(|a, b| a.phase == b.phase && a.epoch < b.epoch).collect();
    let mut marked: Vec<(i32, &str)> = Vec::new();
    let mut free = i32::MIN;
    for run in &runs {
        let mark = (x.at(run[0].epoch as f64), run[0].phase.as_str());
        if mark.1.is_empty() || marked.contains(&mark) {
            continue;
        }
        c.line(vec![(mark.0, y.from), (mark.0, y.to - 18)], &RULE, 1)?;
        // Later folds repeat the names; phases too short for their name stay unnamed.
        if mark.0 >= free {
            c.text(mark.1, (mark.0 + 6, y.to - 12), Type::SMALL)?;
            free = mark.0 + width(mark.1, Type::SMALL.px) + 12;
        }
        marked.push(mark);
    }

    // 3. The losses.
    let dots = rows.len() <= 60;
    for run in &runs {
        let train = run.iter().map(|r| (r.epoch, r.train_loss)).collect::<Vec<_>>();
        let val = run.iter().filter_map(|r| Some((r.epoch, r.val_loss?))).collect::<Vec<_>>();
        for (points, colour) in [(train, BLUE), (val, VERMILION)] {
            for line in points.split(|p| !usable(p.1)).filter(|l| !l.is_empty()) {
                let line: Vec<At> = line.iter().map(|p| (x.at(p.0 as f64), y.at(p.1))).collect();
                if dots || line.len() == 1 {
                    for at in &line {
                        c.0.draw_circle(*at, 3, &colour, true).map_err(failed)?;
                    }
                }
                c.line(line, &colour, 2)?;
            }
        }
    }
    if let Some((epoch, v)) = best {
        let style = ShapeStyle::from(&INK).stroke_width(2);
        c.0.draw_circle((x.at(epoch as f64), y.at(v)), 6, &style, false).map_err(failed)?;
    }
    c.done()?;
    Ok(svg)
}

/// Three or four figures, in scientific notation where that is shorter.
fn short(v: f64) -> String {
    if v == 0.0 || (1e-3..1e4).contains(&v.abs()) { format!("{v:.4}") } else { format!("{v:.2e}") }
}

/// Predicted against judge's rating, with the identity line, R² and Pearson's r.
///
/// With `pass`, recordings that passed are discs and those that failed triangles. R² and r
/// are those of the recordings drawn: a pair that is not finite is left out and counted in
/// the heading.
///
/// # Errors
/// [`Error::Shape`] unless all slices are equally long.
pub fn scatter_svg(ratings: &[f32], predictions: &[f32], pass: Option<&[bool]>) -> Result<String> {
    const SIZE: At = (640, 680);
    const ACROSS: At = (76, SIZE.0 - 28);
    const DOWN: At = (SIZE.1 - 60, 84);
    same_len("scatter_svg", "predictions", predictions.len(), ratings.len())?;
    if let Some(pass) = pass {
        same_len("scatter_svg", "pass", pass.len(), ratings.len())?;
    }
    let drawn: Vec<usize> =
        (0..ratings.len()).filter(|&i| ratings[i].is_finite() && predictions[i].is_finite()).collect();
    let of = |v: &[f32]| drawn.iter().map(|&i| v[i]).collect::<Vec<f32>>();
    let (seen, guessed) = (of(ratings), of(predictions));
    let both = || seen.iter().chain(&guessed).map(|v| f64::from(*v));
    // Ratings live in [0, 1]; make room only for what does not.
    let (lo, hi) = extent(both()).map_or((0.0, 1.0), |(lo, hi)| (lo.min(0.0), hi.max(1.0)));
    let range = (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo));
    let every = step(range.1 - range.0, 6.0);
    let (x, y) = (Axis::linear(range, ACROSS, every), Axis::linear(range, DOWN, every));

    let figure = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| minus(format!("{v:.3}")));
    let title = format!(
        "Predicted against judged rating: R² {}, r {}",
        figure(r2(&guessed, &seen)),
        figure(pearson(&guessed, &seen))
    );
    let left_out = match ratings.len() - drawn.len() {
        0 => String::new(),
        k => format!(", {k} left out (not finite)"),
    };
    let subtitle = format!("{}{left_out}", recordings(drawn.len()));
    let mut keys = vec![Key { name: "identity", colour: RULE, mark: Mark::Line(2) }];
    if pass.is_some() {
        keys.push(Key { name: "pass", colour: BLUE, mark: Mark::Disc });
        keys.push(Key { name: "fail", colour: VERMILION, mark: Mark::Triangle });
    }
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    c.heading(&title, &subtitle, ACROSS, &keys)?;
    frame(&mut c, &x, &y, "judge's rating", "predicted rating")?;
    c.line(vec![(x.at(lo), y.at(lo)), (x.at(hi), y.at(hi))], &RULE, 2)?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }
    let radius = radius(drawn.len());
    for &i in &drawn {
        let at = (x.at(f64::from(ratings[i])), y.at(f64::from(predictions[i])));
        match pass {
            Some(pass) if !pass[i] => c.triangle(at, radius as i32, VERMILION)?,
            _ => c.disc(at, radius, BLUE)?,
        }
    }
    c.done()?;
    Ok(svg)
}

fn recordings(n: usize) -> String {
    format!("{n} recording{}", if n == 1 { "" } else { "s" })
}

/// Smaller points where there are many.
fn radius(n: usize) -> u32 {
    match n {
        0..=300 => 5,
        301..=1500 => 4,
        _ => 3,
    }
}

fn same_len(op: &'static str, argument: &'static str, got: usize, want: usize) -> Result<()> {
    if got == want {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{got} values, where the ratings are {want}")))
}

/// The embedding's two principal components, coloured by rating.
///
/// `embedding` is row-major `[n, d]`. The axes are scaled apart, and each names its share of
/// the variance. Rows that are not finite are left out; a rating that is not is drawn grey.
///
/// # Errors
/// [`Error::Shape`] unless `embedding` holds `n·d` values and `ratings` holds `n`.
pub fn embedding_svg(embedding: &[f32], n: usize, d: usize, ratings: &[f32]) -> Result<String> {
    const SIZE: At = (760, 600);
    const ACROSS: At = (76, SIZE.0 - 120);
    const DOWN: At = (SIZE.1 - 60, 84);
    const BAR: At = (SIZE.0 - 92, SIZE.0 - 72);
    if n.checked_mul(d) != Some(embedding.len()) {
        let message = format!("{} values, where [n, d] is [{n}, {d}]", embedding.len());
        return Err(Error::shape("embedding_svg", "embedding", message));
    }
    if ratings.len() != n {
        let message = format!("{} values, where the embedding has {n} rows", ratings.len());
        return Err(Error::shape("embedding_svg", "ratings", message));
    }
    let row = |i: usize| &embedding[i * d..(i + 1) * d];
    let drawn: Vec<usize> = (0..n).filter(|&i| d > 0 && row(i).iter().all(|v| v.is_finite())).collect();
    let (points, share) = principal(&drawn.iter().map(|&i| row(i)).collect::<Vec<_>>());
    let axis = |k: usize, pixels: At, count: f64| {
        let range = padded(extent(points.iter().map(|p| p[k])).unwrap_or((0.0, 1.0)));
        Axis::linear(range, pixels, step(range.1 - range.0, count))
    };
    let (x, y) = (axis(0, ACROSS, 7.0), axis(1, DOWN, 6.0));

    let rated = extent(drawn.iter().map(|&i| f64::from(ratings[i])));
    let left_out = match n - drawn.len() {
        0 => String::new(),
        k => format!(", {k} left out (not finite)"),
    };
    let mut svg = String::new();
    let mut c = Canvas::new(&mut svg, SIZE)?;
    let subtitle = format!("{}{left_out}, {d} dimensions", recordings(drawn.len()));
    c.heading("Embedding by rating", &subtitle, ACROSS, &[])?;
    let name =
        |k: usize| format!("principal component {} ({:.0} % of the variance)", k + 1, 100.0 * share[k]);
    frame(&mut c, &x, &y, &name(0), &name(1))?;
    if drawn.is_empty() {
        nothing(&mut c, &x, &y)?;
    }

    // The colour bar, from the lowest to the highest rating drawn.
    let colour = |v: f64| match rated {
        Some((lo, hi)) if lo < hi => viridis((v - lo) / (hi - lo)),
        _ => viridis(0.5),
    };
    if let Some((lo, hi)) = rated {
        let range = if lo < hi { (lo, hi) } else { padded((lo, hi)) };
        let mut bar = Axis::linear(range, DOWN, step(range.1 - range.0, 5.0));
        if lo == hi {
            bar.ticks = vec![(lo, minus(short(lo)))];
        }
        for k in 0..64 {
            // Each reaches to the top, so that no seam shows between neighbours.
            let v = range.0 + (range.1 - range.0) * f64::from(k) / 64.0;
            let middle = v + (range.1 - range.0) / 128.0;
            c.bar((BAR.0, DOWN.1), (BAR.1, bar.at(v)), colour(middle))?;
        }
        for (v, label) in &bar.ticks {
            c.line(vec![(BAR.1, bar.at(*v)), (BAR.1 + 5, bar.at(*v))], &RULE, 1)?;
            c.text(label, (BAR.1 + 9, bar.at(*v)), Type::SMALL)?;
        }
        let style = Type { px: 14.0, colour: INK, across: HPos::Center, upward: true, ..Type::SMALL };
        c.text("judge's rating", (SIZE.0 - 16, (DOWN.0 + DOWN.1) / 2), style)?;
    }
    let radius = radius(drawn.len());
    for (&i, p) in drawn.iter().zip(&points) {
        let v = f64::from(ratings[i]);
        let colour = if v.is_finite() { colour(v) } else { RULE };
        c.disc((x.at(p[0]), y.at(p[1])), radius, colour)?;
    }
    c.done()?;
    Ok(svg)
}

/// Viridis (van der Walt and Smith, 2015), interpolated between eight of its colours.
fn viridis(v: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 8] = [
        [68.0, 1.0, 84.0],
        [70.0, 50.0, 127.0],
        [54.0, 92.0, 141.0],
        [39.0, 127.0, 142.0],
        [31.0, 161.0, 135.0],
        [74.0, 194.0, 109.0],
        [159.0, 218.0, 58.0],
        [253.0, 231.0, 37.0],
    ];
    let v = v.clamp(0.0, 1.0) * 7.0;
    let k = (v as usize).min(6);
    let mix = |i: usize| (STOPS[k][i] + (v - k as f64) * (STOPS[k + 1][i] - STOPS[k][i])).round() as u8;
    RGBColor(mix(0), mix(1), mix(2))
}

/// The rows' coordinates on their first two principal components, and each one's share of
/// the variance. Power iteration with deflation; no d × d matrix is formed.
fn principal(rows: &[&[f32]]) -> (Vec<[f64; 2]>, [f64; 2]) {
    let (n, d) = (rows.len(), rows.first().map_or(0, |r| r.len()));
    let mut mean = vec![0.0; d];
    for row in rows {
        mean.iter_mut().zip(*row).for_each(|(m, v)| *m += f64::from(*v) / n as f64);
    }
    let centred = |i: usize| rows[i].iter().zip(&mean).map(|(v, m)| f64::from(*v) - m);
    let total: f64 = (0..n).flat_map(centred).map(|v| v * v).sum();
    let length = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let project = |axis: &[f64]| -> Vec<f64> {
        (0..n).map(|i| centred(i).zip(axis).map(|(v, a)| v * a).sum()).collect()
    };
    let mut points = vec![[0.0; 2]; n];
    let mut share = [0.0; 2];
    let mut first: Vec<f64> = Vec::new();
    for k in 0..2 {
        // Any fixed start in the rows' span that no symmetry of the data favours.
        let mut scores: Vec<f64> =
            (1..=n).map(|i| (i as f64 * 0.618_033_988_749_895).fract() - 0.4).collect();
        let mut axis = vec![0.0; d];
        for _ in 0..300 {
            let mut next = vec![0.0; d];
            for (i, s) in scores.iter().enumerate() {
                next.iter_mut().zip(centred(i)).for_each(|(a, v)| *a += s * v);
            }
            if k == 1 {
                let along: f64 = next.iter().zip(&first).map(|(a, b)| a * b).sum();
                next.iter_mut().zip(&first).for_each(|(a, b)| *a -= along * b);
            }
            let size = length(&next);
            // What is left is rounding.
            if size.is_nan() || size <= 1e-7 * length(&scores) * total.sqrt() {
                axis.fill(0.0);
                break;
            }
            next.iter_mut().for_each(|a| *a /= size);
            let moved: f64 = axis.iter().zip(&next).map(|(a, b)| (a - b).powi(2)).sum();
            axis = next;
            scores = project(&axis);
            if moved < 1e-18 {
                break;
            }
        }
        // An axis has no direction of its own: its largest part points up.
        let largest = axis.iter().fold(0.0f64, |m, a| if a.abs() > m.abs() + 1e-9 { *a } else { m });
        if largest < 0.0 {
            axis.iter_mut().for_each(|a| *a = -*a);
        }
        let scores = project(&axis);
        if total > 0.0 {
            share[k] = scores.iter().map(|s| s * s).sum::<f64>() / total;
        }
        points.iter_mut().zip(scores).for_each(|(p, s)| p[k] = s);
        first = axis;
    }
    (points, share)
}
