//! f0 files as pitch trackers and editors write them, told apart by what they hold.
//!
//! | format | holds | unvoiced |
//! |---|---|---|
//! | two columns | time and f0: Tony, mir_eval, listings | 0, negative, NaN, nothing, `--undefined--`, rows left out |
//! | CREPE | time, f0 and confidence, named so or all in 0..=1 | confidence below [`F0Options::min_confidence`], and as above |
//! | librosa | time, f0, `voiced_flag` (`True`, `False`, 1, 0), `voiced_probs` | flag false, and as above |
//! | sonic-annotator | file name (on the first row alone), time, f0, perhaps a label | as above |
//! | one column | f0, rows [`F0Options::row_hop`] seconds apart | as above |
//! | Praat Pitch | `ooTextFile`, long or short: candidates per frame, of which the first counts | 0, or from the ceiling on |
//! | Praat PitchTier | `ooTextFile`, long, short or spreadsheet: points | no points |
//!
//! **Text** is UTF-8, UTF-16 (Praat's choice) or Latin-1, its lines ending in any way. Empty lines and lines that start with `#`,
//! `%` or `//` are skipped. Columns are separated by semicolon, tab, comma or spaces; numbers may have decimal commas where the
//! separator is another. Cells may be quoted, and rows may end in a separator.
//!
//! **Names** may stand above the columns (in a comment too), with units in them: `time (ms)`, `f0 [Hz]`. They decide which column
//! is which where there are more than two; an index column, and any other, is left out.
//!
//! **Times** are seconds unless their name says ms, frames or samples. Half of all rows must be 0.5 ms to 0.5 s from the next:
//! other times are in another unit and are refused, but whole numbers are frames (or samples) where
//! [`F0Options::row_hop`] says how far apart rows are. Milliseconds are never guessed: 10 may be a frame number as well. Equal
//! times that come of rounding (`100.01` twice, 5.8 ms apart) are spread evenly. A time that goes back is an error.
//!
//! **f0** is in Hz, or in MIDI note numbers where its name or [`F0Options::unit`] says so.

mod columns;
mod dialect;
mod options;
mod praat;
mod read;
mod rows;
mod table;
pub(super) mod text;
mod times;

pub use options::{F0Options, F0Unit};
pub(crate) use read::MAX_BYTES;
pub use read::{F0File, F0Format, parse_f0, read_f0};
