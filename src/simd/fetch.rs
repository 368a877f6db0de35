//! Cache lines that are asked for before they are used: hints, which read nothing, so that any address will do. Elsewhere than on
//! x86-64 they are none.

macro_rules! hint {
    ($(#[$doc:meta])* $name:ident, $hint:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(at: *const f32) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: part of every x86-64 processor; what cannot be read is not.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::$hint }>(at.cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    };
}

hint! {
    /// Asks for a line, to the first-level cache.
    fetch, _MM_HINT_T0
}
hint! {
    /// Asks for a line, to the second-level cache.
    fetch_second, _MM_HINT_T1
}
hint! {
    /// Asks for a line that is going to be written.
    fetch_to_write, _MM_HINT_ET0
}
