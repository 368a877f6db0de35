//! A caller's memory: whose it is, and how far it goes.
//!
//! The driver is asked twice of each address. Its pointer attributes say whose the memory is, without an error for what is none.
//! `cuMemGetAddressRange` says what was allocated there: all of a `cuMemAlloc`, but of memory that was put together by mapping,
//! as PyTorch's expandable segments are, one piece of 2 or 20 MB; of a pool's memory perhaps nothing.

use super::fault::fault;
use super::shared::Shared;
use crate::Result;
use cudarc::driver::sys::{self, CUpointer_attribute as Attribute, CUresult};
use std::ffi::c_void;

/// What the driver knows of the memory at an address; zeros where that is nothing.
#[derive(Default, Clone, Copy)]
struct Known {
    /// A `CUmemorytype`.
    kind: u32,
    /// The card that it was allocated on.
    ordinal: i32,
    /// The context that it was allocated in; mapped memory and that of pools belong to none.
    context: u64,
    /// Whether it moves between the host and the cards by itself.
    managed: u32,
    /// Whether there is memory behind the address.
    mapped: u32,
    /// What was reserved around the address: bytes from `start` on.
    start: u64,
    bytes: u64,
}

impl Known {
    /// Why it is not memory of card `ordinal` in `context`, if so.
    fn refusal(&self, card: &str, ordinal: i32, context: u64) -> Option<String> {
        const HOST: u32 = sys::CUmemorytype::CU_MEMORYTYPE_HOST as u32;
        const DEVICE: u32 = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32;
        match self.kind {
            _ if self.managed != 0 => None,
            HOST => Some(format!("the host's memory, not that of {card}: copy it there first")),
            DEVICE if self.ordinal != ordinal => {
                Some(format!("memory of card {}, not of {card}, which is card {ordinal}", self.ordinal))
            }
            DEVICE if self.context != 0 && self.context != context => {
                Some(format!("memory of another context of {card}"))
            }
            DEVICE => None,
            _ => Some(format!("no memory of {card}")),
        }
    }

    /// Whether `bytes` from `start` on, of which `last` is known of the last, are memory as far as this tells.
    fn holds(&self, last: &Self, start: u64, bytes: u64) -> bool {
        let inside = self.bytes == 0
            || start
                .checked_sub(self.start)
                .and_then(|before| before.checked_add(bytes))
                .is_some_and(|end| end <= self.bytes);
        inside && self.mapped != 0 && last.mapped != 0
    }
}

/// How many of `bytes` from `start` on are allocated without a gap, by `range`, which gives base and size of what was allocated
/// around an address; `None` where it does not know the first.
///
/// Each question is for the end of the answer before it, and an answer that does not go beyond its address is an error: so there
/// are no more questions than there are bytes, and of memory as drivers map it one for every 2 MB.
fn reach(
    start: u64,
    bytes: u64,
    mut range: impl FnMut(u64) -> Result<Option<(u64, u64)>>,
) -> Result<Option<u64>> {
    let end = start
        .checked_add(bytes)
        .ok_or_else(|| fault(format!("{bytes} bytes at {start:#x} go beyond all addresses")))?;
    let mut at = start;
    while at < end {
        let Some((base, size)) = range(at)? else { break };
        let stop = base.checked_add(size).filter(|stop| base <= at && at < *stop);
        let stop = stop.ok_or_else(|| {
            fault(format!("the driver has {size} bytes at {base:#x} allocated around {at:#x}, which are not"))
        })?;
        // What follows another piece begins where that ends.
        if at != start && base != at {
            break;
        }
        at = stop;
    }
    Ok((at > start || bytes == 0).then(|| bytes.min(at - start)))
}

impl Shared {
    /// Whether `bytes` from `pointer` on are this card's to use; the context is bound.
    pub(super) fn check_import(&self, pointer: u64, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let first = self.known(pointer)?;
        let reached = reach(pointer, bytes, |at| {
            let known = if at == pointer { first } else { self.known(at)? };
            match self.refusal(&known) {
                // Nothing follows what came before.
                Some(_) if at != pointer && known.kind == 0 => Ok(None),
                Some(why) => Err(fault(format!("address {at:#x} is {why}"))),
                None => self.range(at),
            }
        })?;
        let Some(reached) = reached else {
            // Nobody says where it ends: the caller does.
            let last = self.known(pointer + (bytes - 1))?;
            if self.refusal(&last).is_some() || !first.holds(&last, pointer, bytes) {
                return Err(fault(format!("{bytes} bytes at {pointer:#x}, where so many are not allocated")));
            }
            return Ok(());
        };
        if reached < bytes {
            return Err(fault(format!("{bytes} bytes at {pointer:#x}, where {reached} are allocated")));
        }
        Ok(())
    }

    fn refusal(&self, known: &Known) -> Option<String> {
        let context = self.stream.context();
        known.refusal(&self.card.name, context.ordinal() as i32, context.cu_ctx() as u64)
    }

    /// What is known of the memory at an address.
    fn known(&self, address: u64) -> Result<Known> {
        let mut known = Known::default();
        let mut attributes = [
            Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
            Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
            Attribute::CU_POINTER_ATTRIBUTE_CONTEXT,
            Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED,
            Attribute::CU_POINTER_ATTRIBUTE_MAPPED,
            Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
            Attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        ];
        let mut places: [*mut c_void; 7] = [
            (&raw mut known.kind).cast(),
            (&raw mut known.ordinal).cast(),
            (&raw mut known.context).cast(),
            (&raw mut known.managed).cast(),
            (&raw mut known.mapped).cast(),
            (&raw mut known.start).cast(),
            (&raw mut known.bytes).cast(),
        ];
        let count = attributes.len() as u32;
        // SAFETY: as many places as attributes, each as large as cuda.h says of its attribute; any address may be asked for.
        let asked = unsafe {
            sys::cuPointerGetAttributes(count, attributes.as_mut_ptr(), places.as_mut_ptr(), address)
        };
        self.check("asking whose memory it is", asked.result())?;
        Ok(known)
    }

    /// Base and size of what was allocated around an address, if the driver knows.
    fn range(&self, address: u64) -> Result<Option<(u64, u64)>> {
        let (mut base, mut size) = (0, 0);
        // SAFETY: both pointers are valid; the driver checks the address.
        let found = unsafe { sys::cuMemGetAddressRange_v2(&raw mut base, &raw mut size, address) };
        if matches!(found, CUresult::CUDA_ERROR_NOT_FOUND | CUresult::CUDA_ERROR_INVALID_VALUE) {
            return Ok(None);
        }
        self.check("asking how far memory goes", found.result())?;
        Ok(Some((base, size as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What `reach` says of these ranges, and how often it asked.
    fn walk(ranges: &[(u64, u64)], start: u64, bytes: u64) -> (Result<Option<u64>>, usize) {
        let mut asked = 0;
        let reached = reach(start, bytes, |at| {
            asked += 1;
            let around = |r: &&(u64, u64)| r.0 <= at && u128::from(at) < u128::from(r.0) + u128::from(r.1);
            Ok(ranges.iter().find(around).copied())
        });
        (reached, asked)
    }

    fn reached(ranges: &[(u64, u64)], start: u64, bytes: u64) -> Option<u64> {
        walk(ranges, start, bytes).0.unwrap()
    }

    #[test]
    fn what_was_allocated_at_once_takes_one_question() {
        let all = [(4096, 8 * MIB)];
        let (whole, asked) = walk(&all, 4096, 8 * MIB);
        assert_eq!((whole.unwrap(), asked), (Some(8 * MIB), 1));
        // From the middle on; one byte more than there is; nothing; nothing where nothing is.
        assert_eq!(reached(&all, MIB, 2 * MIB), Some(2 * MIB));
        assert_eq!(reached(&all, MIB, 7 * MIB + 4097), Some(7 * MIB + 4096));
        assert_eq!(reached(&all, MIB, 0), Some(0));
        assert_eq!(reached(&all, 4095, 2), None);
    }

    #[test]
    fn segments_are_followed_to_the_last_byte() {
        let first = 0x7f00_0000_0000;
        let segments: Vec<_> = (0..5).map(|i| (first + i * 2 * MIB, 2 * MIB)).collect();
        let (whole, asked) = walk(&segments, first, 10 * MIB);
        assert_eq!((whole.unwrap(), asked), (Some(10 * MIB), 5));
        // Beginning and ending inside of segments, and no question more than that takes.
        let (inner, asked) = walk(&segments, first + MIB, 4 * MIB);
        assert_eq!((inner.unwrap(), asked), (Some(4 * MIB), 3));
        let (exact, asked) = walk(&segments, first + MIB, 3 * MIB);
        assert_eq!((exact.unwrap(), asked), (Some(3 * MIB), 2));
        // Beyond the last.
        assert_eq!(reached(&segments, first + 9 * MIB, 2 * MIB), Some(MIB));
    }

    #[test]
    fn a_hole_ends_it() {
        let segments = [(0, 2 * MIB), (2 * MIB, 2 * MIB), (6 * MIB, 2 * MIB)];
        assert_eq!(reached(&segments, 0, 8 * MIB), Some(4 * MIB));
        assert_eq!(reached(&segments, 0, 4 * MIB), Some(4 * MIB));
        // An answer for the next address that begins elsewhere is no piece of this memory.
        let odd = reach(MIB, 4 * MIB, |at| Ok(Some(if at == MIB { (0, 2 * MIB) } else { (MIB, 9 * MIB) })));
        assert_eq!(odd.unwrap(), Some(MIB));
    }

    #[test]
    fn answers_that_lead_nowhere_are_errors() {
        let whole = |base, size| reach(MIB, 4 * MIB, |_| Ok(Some((base, size)))).unwrap_err().to_string();
        // No bytes; all before the address; all behind it; beyond all addresses.
        for text in [whole(MIB, 0), whole(0, MIB), whole(2 * MIB, MIB), whole(MIB, u64::MAX)] {
            assert!(text.contains("0x100000") && text.contains("are not"), "{text}");
        }
        // Later on too: the same answer again and again would never end.
        let mut asked = 0;
        let again = reach(0, 4 * MIB, |_| {
            asked += 1;
            Ok(Some((0, 2 * MIB)))
        });
        assert!(again.is_err() && asked == 2, "{asked}");
        let text = walk(&[(MIB, u64::MAX - MIB)], u64::MAX - 7, 9).0.unwrap_err().to_string();
        assert!(text.contains("beyond all addresses"), "{text}");
        assert_eq!(reached(&[(MIB, u64::MAX - MIB)], u64::MAX - 9, 9), Some(9));
        // What the driver fails with comes through.
        assert!(reach(0, 1, |_| Err(fault("lost"))).unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn memory_of_others_is_refused_by_name() {
        let ours = Known { kind: 2, ordinal: 1, context: 77, mapped: 1, ..Known::default() };
        let refusal = |known: Known| known.refusal("H100", 1, 77).unwrap_or_default();
        assert_eq!(refusal(ours), "");
        // Mapped and pooled memory has no context.
        assert_eq!(refusal(Known { context: 0, ..ours }), "");
        assert!(refusal(Known { context: 78, ..ours }).contains("another context"));
        assert!(refusal(Known { ordinal: 0, ..ours }).contains("card 0"));
        assert!(refusal(Known { kind: 1, ..ours }).contains("host's memory"));
        assert!(refusal(Known::default()).contains("no memory of H100"));
        // Managed memory is everybody's.
        assert_eq!(refusal(Known { kind: 1, ordinal: -1, managed: 1, ..ours }), "");
    }

    #[test]
    fn memory_without_a_range_is_taken_as_far_as_it_is_known() {
        let pooled = Known { kind: 2, mapped: 1, ..Known::default() };
        assert!(pooled.holds(&pooled, 4096, 8));
        let reserved = Known { start: 4096, bytes: 64, ..pooled };
        assert!(reserved.holds(&pooled, 4096, 64) && reserved.holds(&pooled, 4152, 8));
        assert!(!reserved.holds(&pooled, 4152, 9) && !reserved.holds(&pooled, 4095, 8));
        assert!(!reserved.holds(&pooled, 4097, u64::MAX));
        let unmapped = Known { mapped: 0, ..pooled };
        assert!(!pooled.holds(&unmapped, 4096, 8) && !unmapped.holds(&pooled, 4096, 8));
    }
}
