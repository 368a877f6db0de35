//! Values to pixels.

use super::canvas::{At, Canvas, GRID, INK, RULE, Type};
use crate::Result;
use plotters::style::text_anchor::HPos;

/// Whether a value can be placed on an axis; beyond 1e100 spans overflow.
pub(super) fn usable(v: f64) -> bool {
    v.abs() <= 1e100
}

/// Maps values to pixels. On a logarithmic axis `lo` and `hi` are exponents of ten.
pub(super) struct Axis {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) log: bool,
    pub(super) from: i32,
    pub(super) to: i32,
    /// Value and label.
    pub(super) ticks: Vec<(f64, String)>,
}

/// The smallest and largest usable value.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| usable(*v)).fold(None, |e, v| {
        let (lo, hi) = e.unwrap_or((v, v));
        Some((lo.min(v), hi.max(v)))
    })
}

/// Room around the data; never an empty span.
pub(super) fn padded((lo, hi): (f64, f64)) -> (f64, f64) {
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
pub(super) fn minus(number: String) -> String {
    number.replace('-', "\u{2212}")
}

/// 1, 2 or 5 times a power of ten, for about `count` steps.
pub(super) fn step(span: f64, count: f64) -> f64 {
    let raw = (span / count).max(f64::MIN_POSITIVE);
    let ten = 10f64.powf(raw.log10().floor());
    ten * [1.0, 2.0, 5.0].into_iter().find(|m| m * ten >= raw * 0.999).unwrap_or(10.0)
}

impl Axis {
    pub(super) fn linear((lo, hi): (f64, f64), (from, to): At, step: f64) -> Self {
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
    pub(super) fn log((lo, hi): (f64, f64), (from, to): At) -> Self {
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

    pub(super) fn at(&self, v: f64) -> i32 {
        let v = if self.log { v.log10() } else { v };
        let share = ((v - self.lo) / (self.hi - self.lo)).clamp(0.0, 1.0);
        self.from + (share * f64::from(self.to - self.from)).round() as i32
    }
}

/// Grid, tick labels and axis names.
pub(super) fn frame(c: &mut Canvas, x: &Axis, y: &Axis, x_name: &str, y_name: &str) -> Result<()> {
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

pub(super) fn nothing(c: &mut Canvas, x: &Axis, y: &Axis) -> Result<()> {
    let style = Type { px: 15.0, across: HPos::Center, ..Type::SMALL };
    c.text("nothing to plot", ((x.from + x.to) / 2, (y.from + y.to) / 2), style)
}

/// Three or four figures, in scientific notation where that is shorter.
pub(super) fn short(v: f64) -> String {
    if v == 0.0 || (1e-3..1e4).contains(&v.abs()) { format!("{v:.4}") } else { format!("{v:.2e}") }
}
