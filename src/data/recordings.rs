//! Graded performances in memory.

use unicode_normalization::UnicodeNormalization;

use super::contents::Contents;
use super::rating_scale::RatingScale;
use super::split::Split;
use crate::audio::Contour;
use crate::hash::Fnv1a;

/// The criterion a data set with a single unnamed rating rates by.
pub const OVERALL: &str = "overall";

/// One graded performance.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Unique among the takes.
    pub id: String,
    /// Who performs: splits never part one performer's takes.
    pub performer: String,
    /// What is performed; [`Reference`]s of the same melody are what it can be compared with.
    pub melody: Option<String>,
    /// The pitch.
    pub contour: Contour,
    /// One rating in 0..=1 per criterion of the [`Recordings`], in their order; `None` where the take was not rated by it.
    pub ratings: Vec<Option<f32>>,
    /// What each grading pass of [`Recordings::graders`] gave it for [`OVERALL`], in 0..=1; `None` where it gave nothing. Empty
    /// where the data does not say who graded.
    pub grades: Vec<Option<f32>>,
    /// Whether the judges passed it, where the data says.
    pub pass: Option<bool>,
    /// The part of the split the data itself puts it in, if it does.
    pub split: Option<Split>,
}

/// A take of a melody as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Unique among the references of a melody.
    pub id: String,
    /// The melody played.
    pub melody: String,
    /// The pitch.
    pub contour: Contour,
}

/// Who graded, pass by pass. A *grading pass* is one expert going through the takes; an expert may do so more than once.
#[derive(Debug, Clone, PartialEq)]
pub struct Graders {
    /// The scale of the grades, which lie in memory in 0..=1.
    pub scale: RatingScale,
    /// The expert behind each pass, by name: one who graded twice is there twice.
    pub experts: Vec<String>,
}

impl Graders {
    /// The passes of each expert, in the order of their first.
    pub fn passes(&self) -> Vec<Vec<usize>> {
        let mut of_expert: Vec<(&str, Vec<usize>)> = Vec::new();
        for (pass, expert) in self.experts.iter().enumerate() {
            match of_expert.iter_mut().find(|(known, _)| known == expert) {
                Some((_, passes)) => passes.push(pass),
                None => of_expert.push((expert, vec![pass])),
            }
        }
        of_expert.into_iter().map(|(_, passes)| passes).collect()
    }
}

/// A data set in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recordings {
    /// What the ratings are for, e.g. `overall`, `rhythm`; none where nothing is rated.
    pub criteria: Vec<String>,
    /// The performances, by id.
    pub takes: Vec<Take>,
    /// The reference takes, by id.
    pub references: Vec<Reference>,
    /// Who gave the takes their [`grades`](Take::grades), where the data says so.
    pub graders: Option<Graders>,
    /// What was dropped or left alone on loading and why, with counts; for the log.
    pub notes: Vec<String>,
}

impl Recordings {
    /// Which of the criteria is called `name`, in any case and with any of space, `_`, `-` and `.` between its words.
    pub fn criterion(&self, name: &str) -> Option<usize> {
        let wanted = plain(name);
        self.criteria.iter().position(|known| plain(known) == wanted)
    }

    /// A digest of everything that was recorded and said of it: equal for equal data, and for hardly any other.
    pub fn digest(&self) -> u64 {
        let mut digest = Fnv1a::default();
        let mut add = |bytes: &[u8]| {
            digest.add(&(bytes.len() as u64).to_le_bytes());
            digest.add(bytes);
        };
        let number = |v: &Option<f32>| v.map_or(u32::MAX, f32::to_bits).to_le_bytes();
        self.criteria.iter().for_each(|name| add(name.as_bytes()));
        for Take { id, performer, melody, contour, ratings, grades, pass, split } in &self.takes {
            [id, performer].into_iter().chain(melody).for_each(|name| add(name.as_bytes()));
            add(&Contents::digest(&[contour]).to_le_bytes());
            add(&ratings.iter().chain(grades).flat_map(number).collect::<Vec<u8>>());
            add(&[pass.map_or(2, u8::from)]);
            add(split.map_or("", Split::name).as_bytes());
        }
        for Reference { id, melody, contour } in &self.references {
            [id, melody].into_iter().for_each(|name| add(name.as_bytes()));
            add(&Contents::digest(&[contour]).to_le_bytes());
        }
        self.graders.iter().flat_map(|graders| &graders.experts).for_each(|name| add(name.as_bytes()));
        digest.get()
    }
}

/// A name as it is compared: its words in lower case and composed, with `_` between them.
pub(super) fn plain(name: &str) -> String {
    let name = name.nfc().collect::<String>().to_lowercase();
    let words = name.split(|c: char| c.is_whitespace() || matches!(c, '_' | '-' | '.'));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}
