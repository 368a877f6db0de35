//! Batches out of data that stays on the device. No gradient flows through these.

use super::check::{count, expect_constant, expect_shape};
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::gather as k;
use crate::{Error, Result};

/// How a batch lies in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[B, C, T]`.
    #[default]
    Nct,
    /// `[⌈B/16⌉, C, T, 16]`, sixteen samples side by side: element (b, c, t) is at
    /// `((⌊b/16⌋·C + c)·T + t)·16 + b mod 16`, and lanes beyond B are 0.
    Nct16n,
}

/// Options of [`gather_window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Channels of a row, C.
    pub channels: usize,
    /// Columns of the output, T.
    pub columns: usize,
    /// How many of the first channels are shifted where not 0.
    pub shift_channels: usize,
    /// Layout of the output.
    pub layout: Layout,
}

/// Cuts a window out of each of B rows of `data`, resamples it to T columns (the nearest frame) and
/// adds `shift` to what is not 0 in the first channels: transposition of voiced frames.
///
/// `rows [B, 4]` (`u32`) holds for each: where its first element is in `data`, how many frames it has
/// (its channels follow one another), and the window's first frame and number of frames. Frames beyond
/// the row's end, and whatever lies beyond `data`, read as 0. `shift [B]` is in the data's unit.
///
/// # Errors
/// When the shapes do not fit, more than 32,768 columns are asked for, or an input expects a gradient.
pub fn gather_window(g: &mut Graph, data: Var, rows: Var, shift: Var, options: WindowOptions) -> Result<Var> {
    const OP: &str = "gather_window";
    let WindowOptions { channels, columns, shift_channels, layout } = options;
    let total = count(OP, "data", g.shape(data))?;
    let [batch, four] = g.dims(OP, "rows", rows)?;
    if four != 4 || g.elem(rows) != Elem::Index {
        return Err(Error::shape(
            OP,
            "rows",
            format!("needs u32 of shape [B, 4], has {:?} of shape {:?}", g.elem(rows), g.shape(rows)),
        ));
    }
    count(OP, "rows", g.shape(rows))?;
    expect_shape(g, OP, "shift", shift, &[batch], ("rows", rows))?;
    if columns > k::MAX_COLUMNS {
        return Err(Error::shape(OP, "columns", format!("at most {}, asked for {columns}", k::MAX_COLUMNS)));
    }
    expect_constant(g, OP, "data", data)?;
    expect_constant(g, OP, "shift", shift)?;
    let shape = match layout {
        Layout::Nct => vec![batch, channels, columns],
        Layout::Nct16n => vec![batch.div_ceil(k::LANES), channels, columns, k::LANES],
    };
    count(OP, "output", &shape)?;
    let p = k::GatherWindowParams {
        batch: batch as u32,
        channels: channels as u32,
        columns: columns as u32,
        total,
        shift_channels: shift_channels.min(channels) as u32,
        blocked: u32::from(layout == Layout::Nct16n),
    };
    let x = g.temp(&shape);
    g.launch(&k::WINDOW, &p, &[data, rows, shift, x])?;
    Ok(x)
}

/// Rows `indices [B]` (`u32`) of `table [S, …]`: `[B, …]`. A row beyond the table reads as 0.
///
/// # Errors
/// When the table has no rows, `indices` is not one row of `u32`, or the table expects a gradient.
pub fn gather_rows(g: &mut Graph, table: Var, indices: Var) -> Result<Var> {
    const OP: &str = "gather_rows";
    count(OP, "table", g.shape(table))?;
    let [batch] = g.dims(OP, "indices", indices)?;
    if g.elem(indices) != Elem::Index {
        let (elem, shape) = (g.elem(indices), g.shape(indices));
        return Err(Error::shape(OP, "indices", format!("needs u32, has {elem:?} of shape {shape:?}")));
    }
    expect_constant(g, OP, "table", table)?;
    let mut shape = g.shape(table).to_vec();
    let Some(first) = shape.first_mut() else {
        return Err(Error::shape(OP, "table", "needs 1 dimension or more, has shape []"));
    };
    let rows = std::mem::replace(first, batch);
    count(OP, "output", &shape)?;
    let width: usize = shape[1..].iter().product();
    let y = g.temp(&shape);
    let p = k::GatherRowsParams { batch: batch as u32, width: width as u32, table: rows as u32 };
    g.launch(&k::ROWS, &p, &[table, indices, y])?;
    Ok(y)
}
