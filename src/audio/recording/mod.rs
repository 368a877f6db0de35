//! Recordings: what microphones and editors write, as mono samples at one rate.
//!
//! | container | codecs |
//! |---|---|
//! | WAV (RIFF), AIFF | PCM of 8 to 32 bits, floats, µ-law, A-law |
//! | FLAC, Ogg | FLAC, Vorbis |
//! | MP3 | MP3, without the encoder's delay where the file tells it |
//! | MP4 (`.m4a`), ADTS (`.aac`) | AAC-LC, ALAC, without what the edit list leaves out at the start |
//!
//! What else there is (Opus, HE-AAC, WMA, AMR, WebM …) is refused by name. [Symphonia](https://github.com/pdeljanov/Symphonia)
//! decodes, [rubato](https://github.com/HEnquist/rubato) resamples.

mod container;
mod decode;
mod mix;
mod mp4;
mod read;
mod recorded;
mod resample;
mod wav;

pub use container::Container;
pub use read::{parse_recording, read_recording};
pub use recorded::{MAX_SECONDS, RATE, Recording};
