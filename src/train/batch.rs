//! Batches, in host memory and on the device.

use super::resident::{Resident, View};
use crate::device::{Buf, Device};
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::net::NetConfig;
use crate::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use crate::{Error, Result};

/// A batch in host memory.
pub struct BatchValues {
    /// `[B, 4]`.
    pub rows: Vec<u32>,
    /// `[B]`.
    pub shift: Vec<f32>,
    /// `[B]`, indices of the examples.
    pub examples: Vec<u32>,
    /// `[B]`, frames that the mean over time includes, where samples are padded.
    pub lengths: Option<Vec<f32>>,
}

/// The device buffers that a recorded step reads its batch from, as [`BatchValues`].
pub struct BatchBufs {
    /// `[B, 4]`.
    pub rows: Buf,
    /// `[B]`.
    pub shift: Buf,
    /// `[B]`.
    pub examples: Buf,
    /// `[B]`.
    pub lengths: Option<Buf>,
    /// Samples, B.
    pub size: usize,
}

/// A batch in a graph.
pub struct BatchVars {
    /// The network's input `[blocks, C, T, 16]`, and the frames that the mean over time includes, for a path head.
    pub path: Option<(Var, Option<Var>)>,
    /// Standardised features `[B, F]`, for a note head.
    pub features: Option<Var>,
    /// `[B]`, indices of the examples.
    pub examples: Var,
}

impl BatchBufs {
    /// Buffers for `size` samples.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(device: &dyn Device, size: usize, padded: bool) -> Result<Self> {
        Ok(Self {
            rows: device.alloc(Elem::Index, 4 * size)?,
            shift: device.alloc(Elem::Real, size)?,
            examples: device.alloc(Elem::Index, size)?,
            lengths: if padded { Some(device.alloc(Elem::Real, size)?) } else { None },
            size,
        })
    }

    /// What these buffers are to hold; fewer views than the batch holds are filled up with the first.
    ///
    /// # Errors
    /// When there are none or too many.
    pub fn values(&self, views: &[View], valid: impl Fn(&View) -> usize) -> Result<BatchValues> {
        if views.is_empty() || views.len() > self.size {
            return Err(Error::config(format!("{} views for a batch of {}", views.len(), self.size)));
        }
        let all = || (0..self.size).map(|i| views.get(i).unwrap_or(&views[0]));
        Ok(BatchValues {
            rows: all().flat_map(|v| v.row).collect(),
            shift: all().map(|v| v.shift).collect(),
            examples: all().map(|v| v.example).collect(),
            lengths: self.lengths.as_ref().map(|_| all().map(|v| valid(v) as f32).collect()),
        })
    }

    /// Uploads a batch.
    ///
    /// # Errors
    /// When the values are another batch's, or the device fails.
    pub fn write(&self, device: &dyn Device, values: &BatchValues) -> Result<()> {
        device.write(&self.rows, (&values.rows).into())?;
        device.write(&self.shift, (&values.shift).into())?;
        device.write(&self.examples, (&values.examples).into())?;
        match (&self.lengths, &values.lengths) {
            (Some(buf), Some(lengths)) => device.write(buf, lengths.into()),
            _ => Ok(()),
        }
    }

    /// Records what the network is shown of the batch.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn record(&self, g: &mut Graph, data: &Resident, net: &NetConfig) -> Result<BatchVars> {
        let path = match net.has_path() {
            true => Some(self.record_path(g, data, net)?),
            false => None,
        };
        let examples = g.bind(&self.examples, &[self.size])?;
        let features = match (&data.features, net.notes) {
            (Some(table), Some(notes)) => {
                let table = g.bind(table, &[data.shape[0], notes.features])?;
                Some(gather_rows(g, table, examples)?)
            }
            _ => None,
        };
        Ok(BatchVars { path, features, examples })
    }

    fn record_path(&self, g: &mut Graph, data: &Resident, net: &NetConfig) -> Result<(Var, Option<Var>)> {
        let all = g.bind(&data.data, &[data.data.len()])?;
        let rows = g.bind(&self.rows, &[self.size, 4])?;
        let shift = g.bind(&self.shift, &[self.size])?;
        let (channels, columns) = (net.channels, net.frames);
        let options = WindowOptions { channels, columns, shift_channels: channels, layout: Layout::Nct16n };
        let x = gather_window(g, all, rows, shift, options)?;
        let lengths = self.lengths.as_ref().map(|b| g.bind(b, &[self.size])).transpose()?;
        Ok((x, lengths))
    }
}
