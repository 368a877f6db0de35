//! The checksum of a file of tensors, for those who change the file.

/// Makes the checksum that of the bytes as they are, where there is one.
pub fn seal(file: &mut [u8]) {
    let before = br#"\"checksum\":\""#;
    let Some(at) = file.windows(before.len()).position(|bytes| bytes == before) else { return };
    let digits = at + before.len()..at + before.len() + 16;
    if digits.end > file.len() {
        return;
    }
    file[digits.clone()].fill(b'0');
    // FNV-1a.
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = file.iter().fold(0xcbf2_9ce4_8422_2325, step);
    file[digits].copy_from_slice(format!("{hash:016x}").as_bytes());
}
