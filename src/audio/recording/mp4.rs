//! What an MP4 file leaves out at the start of its sound: an encoder's priming samples, by the edit list.

use std::io::{Read, Seek, SeekFrom};

/// Boxes looked at, at most: no file nests or lists so many before its sound.
const MAX_BOXES: usize = 10_000;

/// A box's content: where it begins and ends.
type Span = (u64, u64);

/// Seconds that the first audio track's edit list (ISO 14496-12, 8.6.6) leaves out at the start; 0 where there is none.
///
/// An empty edit before it, which delays the track, is not made up for: silence at the start of a take means nothing.
pub(super) fn left_out(source: &mut (impl Read + Seek)) -> f64 {
    // What is no box is nobody's edit list; the decoder says what is wrong with it.
    track(source).unwrap_or(0.0)
}

fn track(source: &mut (impl Read + Seek)) -> Option<f64> {
    let end = source.seek(SeekFrom::End(0)).ok()?;
    let mut budget = MAX_BOXES;
    let movie = *find(source, (0, end), b"moov", &mut budget)?.first()?;
    for track in find(source, movie, b"trak", &mut budget)? {
        let media = *find(source, track, b"mdia", &mut budget)?.first()?;
        let handler = *find(source, media, b"hdlr", &mut budget)?.first()?;
        if bytes::<12>(source, handler.0)?[8..] != *b"soun" {
            continue;
        }
        let header = *find(source, media, b"mdhd", &mut budget)?.first()?;
        let version = bytes::<4>(source, header.0)?[0];
        let scale = u32::from_be_bytes(bytes(source, header.0 + if version == 0 { 12 } else { 20 })?);
        let edits = *find(source, track, b"edts", &mut budget)?.first()?;
        let list = *find(source, edits, b"elst", &mut budget)?.first()?;
        return Some(first_edit(source, list)? as f64 / f64::from(scale.max(1)));
    }
    None
}

/// Where in the media the first edit that is not empty begins.
fn first_edit(source: &mut (impl Read + Seek), list: Span) -> Option<u64> {
    let wide = bytes::<4>(source, list.0)?[0] == 1;
    let count = u32::from_be_bytes(bytes(source, list.0 + 4)?);
    let (entry, time) = if wide { (20, 8) } else { (12, 4) };
    (0..u64::from(count.min(8))).find_map(|i| {
        let at = list.0 + 8 + entry * i + time;
        let begin = match wide {
            true => i64::from_be_bytes(bytes(source, at)?),
            false => i64::from(i32::from_be_bytes(bytes(source, at)?)),
        };
        u64::try_from(begin).ok()
    })
}

/// The boxes of a kind that lie directly in a span.
fn find(
    source: &mut (impl Read + Seek),
    span: Span,
    kind: &[u8; 4],
    budget: &mut usize,
) -> Option<Vec<Span>> {
    let (mut at, end) = span;
    let mut found = Vec::new();
    while at + 8 <= end {
        *budget = budget.checked_sub(1)?;
        let head: [u8; 8] = bytes(source, at)?;
        let short = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let (size, header) = match short {
            0 => (end - at, 8),
            1 => (u64::from_be_bytes(bytes(source, at + 8)?), 16),
            size => (size, 8),
        };
        let next = at.checked_add(size)?;
        if size < header {
            return None;
        }
        if head[4..] == *kind {
            found.push((at + header, next.min(end)));
        }
        at = next;
    }
    Some(found)
}

fn bytes<const N: usize>(source: &mut (impl Read + Seek), at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    source.seek(SeekFrom::Start(at)).ok()?;
    source.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = (content.len() as u32 + 8).to_be_bytes();
        [&size[..], kind, content].concat()
    }

    fn movie(handler: &[u8; 4], edits: &[(u32, i32)]) -> Vec<u8> {
        let mut list = vec![0, 0, 0, 0];
        list.extend((edits.len() as u32).to_be_bytes());
        for (duration, begin) in edits {
            list.extend(duration.to_be_bytes());
            list.extend(begin.to_be_bytes());
            list.extend([0, 1, 0, 0]);
        }
        let header = boxed(b"mdhd", &[&[0; 12][..], &44_100_u32.to_be_bytes(), &[0; 8]].concat());
        let handler = boxed(b"hdlr", &[&[0; 8][..], handler, &[0; 13]].concat());
        let media = boxed(b"mdia", &[header, handler].concat());
        let edits = boxed(b"edts", &boxed(b"elst", &list));
        let track = boxed(b"trak", &[boxed(b"tkhd", &[0; 84]), edits, media].concat());
        [boxed(b"ftyp", b"M4A \0\0\0\0"), boxed(b"moov", &track), boxed(b"mdat", &[0; 32])].concat()
    }

    #[test]
    fn the_first_edit_that_is_not_empty_counts() {
        let of = |bytes: Vec<u8>| left_out(&mut Cursor::new(bytes));
        assert_eq!(of(movie(b"soun", &[(44_100, 1024)])), 1024.0 / 44_100.0);
        assert_eq!(of(movie(b"soun", &[(10, -1), (44_100, 2112)])), 2112.0 / 44_100.0);
        assert_eq!(of(movie(b"soun", &[])), 0.0);
        assert_eq!(of(movie(b"vide", &[(44_100, 1024)])), 0.0);
    }

    #[test]
    fn damage_is_no_edit_list_and_ends() {
        let whole = movie(b"soun", &[(44_100, 1024)]);
        for cut in 0..whole.len() {
            let _ = left_out(&mut Cursor::new(&whole[..cut]));
            for damage in [0, 1, 0xff] {
                let mut damaged = whole.clone();
                damaged[cut] = damage;
                assert!(left_out(&mut Cursor::new(damaged)).is_finite());
            }
        }
    }
}
