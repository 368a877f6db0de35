//! Similarity matrices.

use super::shared::{apart, fits};
use crate::Result;
use crate::device::{Buf, Device, Launch};
use crate::kernel::{Kernel, Params, stored_as};
use crate::kernels::similarity as ks;
use crate::ops::similarity::{self, Similarity};

/// [`similarity`](crate::ops::similarity::similarity): every row of `a` `[N, D]` against every row of `b` `[M, D]`, both in
/// f32 or both in 16 bits; the matrix `[N, M]` and the gradients are f32.
#[derive(Debug, Clone, Copy)]
pub struct PairwiseSimilarity {
    p: ks::SimilarityParams,
    shapes: [[usize; 2]; 2],
    batch: usize,
}

impl PairwiseSimilarity {
    const OP: &str = "similarity";

    /// For matrices of these shapes.
    ///
    /// # Errors
    /// When their columns differ, or a side is empty or beyond 32 bits.
    pub fn new(a: [usize; 2], b: [usize; 2], kind: Similarity) -> Result<Self> {
        let [n, m, d] = similarity::sizes(Self::OP, a, b)?;
        Ok(Self { p: ks::SimilarityParams { n, m, d, kind: kind as u32 }, shapes: [a, b], batch: 1 })
    }

    /// The same for `batch` matrices on either side, which lie one after another in every buffer.
    #[must_use]
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Shape of a matrix.
    pub fn output(&self) -> [usize; 2] {
        [self.shapes[0][0], self.shapes[1][0]]
    }

    fn check(&self, argument: &'static str, buf: &Buf, [rows, columns]: [usize; 2]) -> Result<()> {
        let shape = [self.batch, rows, columns];
        fits(Self::OP, argument, buf, if self.batch == 1 { &shape[1..] } else { &shape })
    }

    /// A launch for each of the batch, which writes apart from what is read.
    fn run(&self, device: &dyn Device, kernel: &'static Kernel, bufs: &[&Buf]) -> Result<()> {
        let one = |i: usize| {
            let part = |buf: &&Buf| {
                let len = buf.len() / self.batch;
                buf.window(i * len, len)
            };
            let bufs = bufs.iter().map(part).collect::<Result<_>>()?;
            Ok(Launch { kernel, params: Params::new(&self.p), bufs })
        };
        let launches = (0..self.batch).map(one).collect::<Result<_>>()?;
        // SAFETY: each has its own part of what is written, and nothing else lies there.
        unsafe { device.run_each(launches) }
    }

    /// The matrix into `y`.
    ///
    /// # Errors
    /// When a buffer is of another length or type, or the device fails.
    pub fn forward(&self, device: &dyn Device, a: &Buf, b: &Buf, y: &Buf) -> Result<()> {
        self.check("a", a, self.shapes[0])?;
        self.check("b", b, self.shapes[1])?;
        self.check("y", y, self.output())?;
        apart(Self::OP, &[("a", a), ("b", b)], &[("y", Some(y))])?;
        let kernel = stored_as(Self::OP, "a", a.elem(), [&ks::FWD, &ks::FWD_F16, &ks::FWD_BF16])?;
        self.run(device, kernel, &[a, b, y])
    }

    /// The gradients by `a` and `b` from that by the matrix, `dy`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn backward(&self, device: &dyn Device, [a, b, dy]: [&Buf; 3], [da, db]: [&Buf; 2]) -> Result<()> {
        let [of_a, of_b] = self.shapes;
        let shapes =
            [("a", a, of_a), ("b", b, of_b), ("dy", dy, self.output()), ("da", da, of_a), ("db", db, of_b)];
        for (argument, buf, shape) in shapes {
            self.check(argument, buf, shape)?;
        }
        apart(Self::OP, &[("a", a), ("b", b), ("dy", dy)], &[("da", Some(da)), ("db", Some(db))])?;
        let kernel = stored_as(Self::OP, "a", a.elem(), [&ks::BWD, &ks::BWD_F16, &ks::BWD_BF16])?;
        self.run(device, kernel, &[a, b, dy, da, db])
    }
}
