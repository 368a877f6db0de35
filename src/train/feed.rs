//! What changes from step to step: uploaded once an epoch, laid out by the device, whose last launch of a step makes the next
//! one's inputs ready and keeps the loss.

use super::batch::{BatchBufs, BatchValues};
use crate::device::{Buf, Device};
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::kernels::optim::HYPER;
use crate::ops::feed::{FeedVars, feed};
use crate::optim::ALIGNMENT;
use crate::{Error, Result};

/// The inputs of an epoch's steps, as the device takes them.
#[derive(Default)]
pub(super) struct EpochInputs {
    reals: Vec<f64>,
    words: Vec<u32>,
}

/// Appends a part at a multiple of [`ALIGNMENT`].
fn push<T: Copy + Default>(table: &mut Vec<T>, part: impl IntoIterator<Item = T>) {
    table.extend(part);
    table.resize(table.len().next_multiple_of(ALIGNMENT), T::default());
}

impl EpochInputs {
    /// Appends a step's: the batch, the state of the random stream, the partner of each sample, and the optimizer's numbers.
    pub(super) fn push(
        &mut self,
        batch: &BatchValues,
        dropout: Option<[u32; 3]>,
        pairing: Option<&[u32]>,
        hyper: [f64; HYPER],
    ) {
        push(&mut self.words, batch.rows.iter().copied());
        push(&mut self.words, batch.examples.iter().copied());
        dropout.into_iter().for_each(|state| push(&mut self.words, state));
        pairing.into_iter().for_each(|rows| push(&mut self.words, rows.iter().copied()));
        push(&mut self.reals, batch.shift.iter().map(|&v| f64::from(v)));
        batch.lengths.iter().for_each(|l| push(&mut self.reals, l.iter().map(|&v| f64::from(v))));
        push(&mut self.reals, hyper);
    }
}

/// The buffers that a recorded step reads its inputs from, and the tables that they are laid out from.
pub(super) struct Feed {
    /// The batch.
    pub batch: BatchBufs,
    /// State of the random stream.
    pub dropout: Option<Buf>,
    /// The partner of each sample.
    pub pairing: Option<Buf>,
    /// The optimizer's numbers.
    pub hyper: Buf,
    reals: Buf,
    words: Buf,
    real_table: Buf,
    word_table: Buf,
    step: Buf,
    losses: Buf,
}

/// Cuts windows out of a buffer, in the order of [`EpochInputs::push`].
struct Cut<'a> {
    from: &'a Buf,
    at: usize,
}

impl Cut<'_> {
    fn take(&mut self, len: usize) -> Result<Buf> {
        let window = self.from.window(self.at, len)?;
        self.at += len.next_multiple_of(ALIGNMENT);
        Ok(window)
    }
}

impl Feed {
    /// Buffers for `steps` steps of `size` samples; with lengths where samples are `padded`, with the state of a random stream
    /// and with partners where asked for.
    ///
    /// # Errors
    /// When the device refuses.
    pub(super) fn new(
        device: &dyn Device,
        [steps, size]: [usize; 2],
        padded: bool,
        dropout: bool,
        pairing: bool,
    ) -> Result<Self> {
        let row = |elem, lens: &[usize]| {
            let len: usize = lens.iter().map(|n| n.next_multiple_of(ALIGNMENT)).sum();
            Ok::<_, Error>((device.alloc(elem, len)?, device.alloc(elem, steps * len)?))
        };
        let optional = |wanted, len| if wanted { len } else { 0 };
        let (words, word_table) =
            row(Elem::Index, &[4 * size, size, optional(dropout, 3), optional(pairing, size)])?;
        let (reals, real_table) = row(Elem::Real, &[size, optional(padded, size), HYPER])?;
        let mut cut = Cut { from: &words, at: 0 };
        let (rows, examples) = (cut.take(4 * size)?, cut.take(size)?);
        let dropout = dropout.then(|| cut.take(3)).transpose()?;
        let pairing = pairing.then(|| cut.take(size)).transpose()?;
        let mut cut = Cut { from: &reals, at: 0 };
        let shift = cut.take(size)?;
        let lengths = padded.then(|| cut.take(size)).transpose()?;
        let hyper = cut.take(HYPER)?;
        let (step, losses) = (device.alloc(Elem::Index, 1)?, device.alloc(Elem::Real, steps)?);
        let batch = BatchBufs { rows, shift, examples, lengths, size };
        Ok(Self { batch, dropout, pairing, hyper, reals, words, real_table, word_table, step, losses })
    }

    /// Appends the launch that ends a step.
    ///
    /// # Errors
    /// When `loss` is not one value.
    pub(super) fn record(&self, g: &mut Graph, loss: Var) -> Result<()> {
        let steps = self.losses.len();
        let mut bind = |buf: &Buf, shape: &[usize]| g.bind(buf, shape);
        let vars = FeedVars {
            real_table: bind(&self.real_table, &[steps, self.reals.len()])?,
            word_table: bind(&self.word_table, &[steps, self.words.len()])?,
            step: bind(&self.step, &[1])?,
            losses: bind(&self.losses, &[steps])?,
            reals: bind(&self.reals, &[self.reals.len()])?,
            words: bind(&self.words, &[self.words.len()])?,
        };
        feed(g, loss, vars)
    }

    /// Uploads an epoch's inputs; its first step is then ready to run.
    ///
    /// # Errors
    /// When they are of another number of steps, or the device fails.
    pub(super) fn upload(&self, device: &dyn Device, inputs: &EpochInputs) -> Result<()> {
        device.write(&self.real_table, (&inputs.reals).into())?;
        device.write(&self.word_table, (&inputs.words).into())?;
        device.write(&self.reals, inputs.reals[..self.reals.len()].into())?;
        device.write(&self.words, inputs.words[..self.words.len()].into())?;
        device.write(&self.step, (&[0u32]).into())
    }

    /// The loss of each step of the epoch that was run.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) async fn losses(&self, device: &dyn Device) -> Result<Vec<f64>> {
        device.download_f64_async(&self.losses).await
    }
}
