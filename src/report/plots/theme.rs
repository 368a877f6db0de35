//! Plots in a page that has colours of its own.

use super::canvas::{BLUE, GRID, INK, MUTED, RULE, VERMILION};
use plotters::style::{BLACK, RGBColor, WHITE};

/// What a plot is drawn with, and the variable of CSS that stands for it. Colours that say a value stay as they are.
const COLOURS: [(RGBColor, &str); 8] = [
    (WHITE, "paper"),
    (BLACK, "outline"),
    (INK, "ink"),
    (MUTED, "muted"),
    (RULE, "rule"),
    (GRID, "grid"),
    (BLUE, "blue"),
    (VERMILION, "vermilion"),
];

/// A plot of this module with variables of CSS for its colours: `--paper`, `--outline`, `--ink`, `--muted`, `--rule`, `--grid`,
/// `--blue` and `--vermilion`, so that a page can be dark.
pub fn themed(svg: &str) -> String {
    COLOURS.iter().fold(svg.to_string(), |svg, (RGBColor(r, g, b), name)| {
        svg.replace(&format!("=\"#{r:02X}{g:02X}{b:02X}\""), &format!("=\"var(--{name})\""))
    })
}
