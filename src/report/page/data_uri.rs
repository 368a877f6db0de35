//! Bytes within a page.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes that so many become in base64.
pub(super) fn encoded(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// A `data:` URI of bytes of a kind, in base64 (RFC 4648).
pub(super) fn data_uri(kind: &str, bytes: &[u8]) -> String {
    let mut uri = String::with_capacity(kind.len() + 13 + encoded(bytes.len()));
    uri.push_str("data:");
    uri.push_str(kind);
    uri.push_str(";base64,");
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit)) & 63;
            uri.push(if digit > three.len() { '=' } else { DIGITS[at as usize].into() });
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn known_values() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(data_uri("a/b", bytes.as_bytes()), format!("data:a/b;base64,{text}"));
            assert_eq!(encoded(bytes.len()), text.len());
        }
        assert!(data_uri("a/b", &[0xfb, 0xff, 0xbf]).ends_with(",+/+/"));
    }
}
