//! What plots of one point a recording share.

/// How many are drawn, and how many are not.
pub(super) fn recordings(drawn: usize, all: usize) -> String {
    let left_out = match all - drawn {
        0 => String::new(),
        k => format!(", {k} left out (not finite)"),
    };
    format!("{drawn} recording{}{left_out}", if drawn == 1 { "" } else { "s" })
}

/// Smaller points where there are many.
pub(super) fn radius(n: usize) -> u32 {
    match n {
        0..=300 => 5,
        301..=1500 => 4,
        _ => 3,
    }
}
