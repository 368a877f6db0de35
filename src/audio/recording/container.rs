//! What kind of file begins like this.

/// A container of audio, told by the first bytes of a file: names of files may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// One that is read, with the ending that its files have.
    Known(&'static str),
    /// One that is not, by its name.
    Foreign(&'static str),
}

impl Container {
    /// Bytes from the start of a file that tell what it is.
    pub const HEAD: u64 = 64;

    /// The container whose file begins with `head`; `None` where it is no audio. [`Container::HEAD`] bytes are enough.
    pub fn of(head: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        let starts = |magic: &[u8]| at(0, magic);
        Some(match head {
            _ if starts(b"RIFF") && at(8, b"WAVE") => Self::Known("wav"),
            _ if starts(b"RF64") || starts(b"BW64") => Self::Foreign("a WAV of more than 4 GB (RF64)"),
            _ if starts(b"RIFF") && at(8, b"AVI ") => Self::Foreign("AVI"),
            _ if starts(b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) => Self::Known("aiff"),
            _ if starts(b"fLaC") => Self::Known("flac"),
            _ if starts(b"OggS") && (at(28, b"OpusHead") || at(28, b"Speex")) => {
                Self::Foreign("Ogg with Opus or Speex")
            }
            _ if starts(b"OggS") => Self::Known("ogg"),
            _ if at(4, b"ftyp") => Self::Known("m4a"),
            _ if starts(b"ID3") => Self::Known("mp3"),
            // Twelve bits of synchronisation, then MPEG's version and layer: 0 for ADTS, 1 for MP3.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::Known("aac"),
            [0xff, second, ..] if second & 0xe6 == 0xe2 && second & 0x18 != 0x08 => Self::Known("mp3"),
            _ if starts(b"caff") => Self::Foreign("Core Audio (CAF)"),
            _ if starts(&[0x30, 0x26, 0xb2, 0x75]) => Self::Foreign("Windows Media (WMA)"),
            _ if starts(b"#!AMR") => Self::Foreign("AMR"),
            _ if starts(&[0x1a, 0x45, 0xdf, 0xa3]) => Self::Foreign("WebM or Matroska"),
            _ if starts(b".snd") => Self::Foreign("Sun's AU"),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        let known = |head: &[u8]| match Container::of(head) {
            Some(Container::Known(ending)) => ending,
            Some(Container::Foreign(_)) => "foreign",
            None => "",
        };
        assert_eq!(known(b"RIFF\x24\0\0\0WAVEfmt "), "wav");
        assert_eq!(known(b"RIFF\x24\0\0\0RMID"), "");
        assert_eq!(known(b"FORM\0\0\0\0AIFC"), "aiff");
        assert_eq!(known(b"\0\0\0\x20ftypM4A "), "m4a");
        assert_eq!(known(&[0xff, 0xfb, 0x90, 0x64]), "mp3");
        assert_eq!(known(&[0xff, 0xf3, 0x90, 0x64]), "mp3");
        assert_eq!(known(&[0xff, 0xf1, 0x50, 0x80]), "aac");
        // UTF-16 with its byte order mark, as Praat writes.
        assert_eq!(known(&[0xff, 0xfe, b'F', 0]), "");
        assert_eq!(known(&[0xfe, 0xff, 0, b'F']), "");
        let mut opus = b"OggS".to_vec();
        opus.resize(28, 0);
        opus.extend(b"OpusHead");
        assert_eq!((known(&opus), known(b"OggS")), ("foreign", "ogg"));
        assert_eq!((known(b""), known(&[0xff]), known(b"0.0,440.0\n")), ("", "", ""));
    }
}
