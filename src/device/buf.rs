//! Device memory.

use crate::kernel::Elem;
use crate::{Error, Result};
use std::any::Any;
use std::sync::Arc;

/// A device buffer, or a window into one; cloning shares the memory, which is
/// freed with the last clone.
#[derive(Clone)]
pub struct Buf {
    storage: Arc<dyn Any + Send + Sync>,
    elem: Elem,
    offset: usize,
    len: usize,
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({:?}[{}..{}])", self.elem, self.offset, self.offset + self.len)
    }
}

impl Buf {
    /// Wraps a device's own storage of `len` elements.
    pub(crate) fn new<S: Any + Send + Sync>(storage: S, elem: Elem, len: usize) -> Self {
        Self { storage: Arc::new(storage), elem, offset: 0, len }
    }

    /// The device's storage, if it is of type `S`.
    pub(crate) fn storage<S: Any>(&self) -> Option<&S> {
        self.storage.downcast_ref()
    }

    /// First element of the window, counted in elements from the start of the storage.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Element type.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements `offset..offset + len` of this buffer, sharing its memory.
    ///
    /// # Errors
    /// When the window reaches beyond the buffer.
    pub fn window(&self, offset: usize, len: usize) -> Result<Self> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(Self { offset: self.offset + offset, len, ..self.clone() }),
            _ => Err(Error::shape(
                "window",
                "offset",
                format!("elements {offset}..{offset}+{len} of a buffer of {}", self.len),
            )),
        }
    }

    /// Whether the two share an element.
    pub fn overlaps(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}
