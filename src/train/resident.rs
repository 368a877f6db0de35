//! The data set on the device, and the views of it that batches are made of.

use super::options::Windows;
use crate::data::inputs::{Example, Inputs};
use crate::data::random::Random;
use crate::device::{Buf, Device};
use crate::kernel::Elem;
use crate::net::PcConvNet;
use crate::ops::contrastive::bins;
use crate::{Error, Result};

/// One view of one example: what `gather_window` reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Index of the example.
    pub example: u32,
    /// Offset, length, start, window: see [`crate::ops::gather::gather_window`].
    pub row: [u32; 4],
    /// Added to voiced frames.
    pub shift: f32,
}

impl View {
    /// Of an example that is features alone.
    fn of_no_row(example: usize) -> Self {
        Self { example: example as u32, row: [0; 4], shift: 0.0 }
    }
}

/// Checks that there are such examples among so many.
///
/// # Errors
/// Naming the first that there is not.
pub(super) fn check_examples(examples: &[usize], of: usize) -> Result<()> {
    match examples.iter().find(|&&e| e >= of) {
        Some(e) => Err(Error::config(format!("example {e} of {of}: the split is of other data"))),
        None => Ok(()),
    }
}

/// Values at a time from the host to the device: what rows are gathered in stays in the cache.
const PIECE: usize = 1 << 18;

/// A buffer on its way to the device, piece by piece: a copy of all rows on the host would be a third of what a run takes, and a
/// third of the time between two folds.
struct Upload<'a> {
    device: &'a dyn Device,
    to: Buf,
    piece: Vec<f32>,
    /// Values that are there.
    done: usize,
}

impl<'a> Upload<'a> {
    fn new(device: &'a dyn Device, len: usize) -> Result<Self> {
        Ok(Self { device, to: device.alloc(Elem::Real, len)?, piece: Vec::with_capacity(PIECE), done: 0 })
    }

    /// Values so far.
    fn len(&self) -> usize {
        self.done + self.piece.len()
    }

    fn push(&mut self, mut values: &[f32]) -> Result<()> {
        while !values.is_empty() {
            let (now, rest) = values.split_at(values.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            values = rest;
            if self.piece.len() == PIECE {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let window = self.to.window(self.done, self.piece.len())?;
        self.device.write(&window, (&self.piece).into())?;
        self.done += self.piece.len();
        self.piece.clear();
        Ok(())
    }

    fn end(mut self) -> Result<Buf> {
        if !self.piece.is_empty() {
            self.write()?;
        }
        Ok(self.to)
    }
}

/// The data set on the device.
pub struct Resident {
    /// All rows, one after the other.
    pub data: Buf,
    /// The standardised features of each example, `[examples, F]`, for a note head.
    pub features: Option<Buf>,
    /// The ratings of each example, `[examples, K]`, and of each degraded take after them; 0 where there is none.
    pub ratings: Buf,
    /// Of several criteria 1 for each rating that there is, else 0.
    pub rated: Option<Buf>,
    /// Examples, and criteria, K.
    pub shape: [usize; 2],
    /// What the contrastive loss compares: bins, or the ratings themselves.
    pub labels: Buf,
    /// The same on the host.
    pub label_values: Vec<f32>,
    /// Offset and length of each example's rows.
    rows: Vec<Vec<[u32; 2]>>,
    windows: Windows,
    frames: usize,
}

impl Resident {
    /// Uploads `inputs` for a network; `label_bins` of `None` compares ratings as they are.
    ///
    /// # Errors
    /// When the network takes other inputs, the data set is too large for 32-bit offsets, a rating is out of range, or the
    /// device refuses.
    pub async fn new(
        device: &dyn Device,
        inputs: &Inputs,
        windows: Windows,
        net: &PcConvNet,
        label_bins: Option<usize>,
    ) -> Result<Self> {
        if inputs.channels != net.config.channels {
            return Err(Error::config(format!(
                "the network takes {} input channels, the data has {} ({})",
                net.config.channels, inputs.channels, inputs.kind
            )));
        }
        let features = match net.config.notes {
            Some(_) => {
                let rows: Vec<&[f32]> = inputs.with_degraded().map(|e| e.features.as_slice()).collect();
                Some(device.upload(&net.standardise_async(device, &rows).await?)?)
            }
            None => None,
        };
        let total: usize = inputs.with_degraded().flat_map(|e| &e.rows).map(|r| r.data.len()).sum();
        if u32::try_from(total).is_err() {
            return Err(Error::config(format!(
                "the data set has {total} values, more than 32-bit offsets reach: use fewer references or takes"
            )));
        }
        let mut rows = Vec::with_capacity(inputs.examples.len() + inputs.degraded.len());
        // A note head reads no row, but a buffer has a value.
        let mut upload = Upload::new(device, total.max(1))?;
        for Example { rows: views, .. } in inputs.with_degraded() {
            let mut places = Vec::with_capacity(views.len());
            for row in views {
                places.push([upload.len() as u32, row.len as u32]);
                upload.push(&row.data)?;
            }
            rows.push(places);
        }
        if inputs.criteria.len() != net.config.criteria {
            return Err(Error::config(format!(
                "the network rates {} criteria, the data has {} ({})",
                net.config.criteria,
                inputs.criteria.len(),
                inputs.criterion()
            )));
        }
        let ratings: Vec<f32> = inputs.with_degraded().map(|e| e.rating).collect();
        let shape = [ratings.len(), net.config.criteria];
        let (targets, rated) = match net.config.criteria {
            1 => (device.upload(&ratings)?, None),
            _ => {
                let each = || inputs.with_degraded().flat_map(|e| &e.ratings);
                let of = |value: fn(&Option<f32>) -> f32| each().map(value).collect::<Vec<f32>>();
                let (targets, rated) = (of(|r| r.unwrap_or(0.0)), of(|r| f32::from(u8::from(r.is_some()))));
                (device.upload(&targets)?, Some(device.upload(&rated)?))
            }
        };
        let label_values = match label_bins {
            Some(k) => bins(&ratings, k)?,
            None => ratings.clone(),
        };
        Ok(Self {
            data: upload.end()?,
            features,
            ratings: targets,
            rated,
            shape,
            labels: device.upload(&label_values)?,
            label_values,
            rows,
            windows,
            frames: net.config.frames,
        })
    }

    /// Whether samples are padded, so that the mean over time needs their lengths.
    pub fn padded(&self) -> bool {
        matches!(self.windows, Windows::Chunks { .. })
    }

    /// A random view of an example, as training sees it; of one without rows the same always.
    pub fn random_view(&self, example: usize, rng: &mut Random) -> View {
        let rows = &self.rows[example];
        let Some(&[offset, len]) = rows.get(rng.below(rows.len())) else { return View::of_no_row(example) };
        let (start, window, shift) = match self.windows {
            Windows::Resampled => {
                let share = rng.between(0.8, 1.0);
                let window = ((f64::from(len) * share).round() as u32).clamp(1, len);
                (rng.below((len - window + 1) as usize) as u32, window, 0.0)
            }
            Windows::Chunks { shift } => {
                let room = (len as usize).saturating_sub(self.frames);
                let start = rng.below(room + 1) as u32;
                (start, self.frames as u32, (rng.between(-1.0, 1.0) * f64::from(shift)) as f32)
            }
        };
        View { example: example as u32, row: [offset, len, start, window], shift }
    }

    /// All views of an example whose predictions are averaged in evaluation: each row whole, or cut
    /// into chunks that cover it, the last aligned with its end.
    pub fn views(&self, example: usize) -> Vec<View> {
        if self.rows[example].is_empty() {
            return vec![View::of_no_row(example)];
        }
        let mut out = Vec::new();
        for &[offset, len] in &self.rows[example] {
            let mut push = |start, window| {
                out.push(View { example: example as u32, row: [offset, len, start, window], shift: 0.0 });
            };
            match self.windows {
                Windows::Resampled => push(0, len),
                Windows::Chunks { .. } => {
                    let (len, frames) = (len as usize, self.frames);
                    let chunks = len.div_ceil(frames).max(1);
                    let last = len.saturating_sub(frames);
                    for i in 0..chunks {
                        push((i * frames).min(last) as u32, frames as u32);
                    }
                }
            }
        }
        out
    }

    /// Frames of a view that are not padding.
    pub fn valid_frames(&self, view: &View) -> usize {
        let [_, len, start, _] = view.row;
        match self.windows {
            Windows::Resampled => self.frames,
            Windows::Chunks { .. } => ((len - start.min(len)) as usize).min(self.frames),
        }
    }
}
