//! A kernel over bound buffers.

use super::buf::Buf;
use crate::kernel::{Access, Kernel, Params};
use crate::{Error, Result};
use std::ops::Range;

/// One kernel over bound buffers.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The registry row.
    pub kernel: &'static Kernel,
    /// One buffer per binding, in order.
    pub bufs: Vec<Buf>,
    /// The scalars.
    pub params: Params,
}

impl Launch {
    /// Checks what every device relies on: the row's count and element types, and that
    /// nothing a launch writes overlaps anything else it touches.
    pub(crate) fn check(&self) -> Result<()> {
        let rows = self.kernel.bindings;
        let fault = |message: String| Err(Error::shape(self.kernel.name, "bindings", message));
        if rows.len() != self.bufs.len() {
            return fault(format!("takes {} buffers, was given {}", rows.len(), self.bufs.len()));
        }
        for (i, (row, buf)) in rows.iter().zip(&self.bufs).enumerate() {
            if row.elem != buf.elem() {
                return fault(format!(
                    "`{}` takes {:?} elements, was given {:?}",
                    row.name,
                    row.elem,
                    buf.elem()
                ));
            }
            if row.access != Access::In {
                for (j, other) in self.bufs.iter().enumerate() {
                    if i != j && buf.overlaps(other) {
                        return fault(format!("written `{}` overlaps `{}`", row.name, rows[j].name));
                    }
                }
            }
        }
        Ok(())
    }

    /// [`Self::check`] sees windows of one buffer; two imports of the same memory meet only here, by where they lie.
    pub(crate) fn check_ranges<N: PartialOrd>(&self, range: impl Fn(&Buf) -> Result<Range<N>>) -> Result<()> {
        let rows = self.kernel.bindings;
        let ranges = self.bufs.iter().map(range).collect::<Result<Vec<_>>>()?;
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.access != Access::In) {
            for (j, other) in rows.iter().enumerate() {
                let (a, b) = (&ranges[i], &ranges[j]);
                if i != j && a.start < b.end && b.start < a.end {
                    let message = format!("overlaps `{}`, which the launch writes", row.name);
                    return Err(Error::shape(self.kernel.name, other.name, message));
                }
            }
        }
        Ok(())
    }
}
