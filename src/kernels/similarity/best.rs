//! A row's best entries, kept in order while others come.

use crate::kernel::Real;

/// A row's best so far, as keys of which larger is better, in falling order.
pub struct Best<'a, F> {
    pub keys: &'a mut [F],
    pub indices: &'a mut [u32],
}

impl<F: Real> Best<'_, F> {
    pub fn start(&mut self) {
        self.keys.fill(F::neg_infinity());
        self.indices.fill(u32::MAX);
    }

    /// What a key must be beyond to be among them.
    pub fn least(&self) -> F {
        self.keys[self.keys.len() - 1]
    }

    /// Takes `key`, which is beyond the least, with an index greater than all before.
    pub fn insert(&mut self, key: F, index: u32) {
        let at = self.keys.partition_point(|&k| k >= key);
        let last = self.keys.len() - 1;
        self.keys.copy_within(at..last, at + 1);
        self.indices.copy_within(at..last, at + 1);
        (self.keys[at], self.indices[at]) = (key, index);
    }

    /// From keys back to similarities.
    pub fn finish(&mut self, nearest: bool) {
        for (key, &index) in self.keys.iter_mut().zip(&*self.indices) {
            if index == u32::MAX {
                *key = F::nan();
            } else if nearest {
                *key = F::zero() - *key;
            }
        }
    }
}
