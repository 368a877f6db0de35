//! A synthetic data set: random melodies sung with graded errors and rated by a noisy judge.
//!
//! There to try the whole road without any recordings, and to test it: the truth is known. A melody is a
//! random walk on a scale. Reference takes play it with slightly varied timing. A performer has a skill; a
//! take of theirs has errors of
//!
//! - **pitch**: notes out of tune, notes wrong, and a drift of the key over the take,
//! - **rhythm**: notes too long or too short, hesitations between notes,
//! - **octave**: notes an octave off, which the judge hardly minds,
//!
//! and what is no error: a key and a tempo of their own, vibrato, glides into notes, noise and drop-outs of
//! the pitch tracker. The judge hears the errors that were really made, not the skill: `pitch` and `rhythm`
//! fall with them, `overall` is their weighted mean, each plus the judge's own noise.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::random::Random;
use super::recordings::{OVERALL, Recordings, Reference, Take};
use crate::audio::contour::midi_to_hz;
use crate::audio::{Contour, HOP};
use crate::fs::{Lock, is_stray};
use crate::{Error, Result};

/// How large the set is, and how noisy its judge.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthOptions {
    /// Same seed, same options: the same set.
    pub seed: u64,
    /// Graded takes.
    pub takes: usize,
    /// Performers, who take turns; at most one per take.
    pub performers: usize,
    /// Melodies, which take turns.
    pub melodies: usize,
    /// Reference takes of each melody.
    pub references: usize,
    /// Standard deviation of the judge's noise on each rating.
    pub judge_noise: f64,
}

impl Default for SynthOptions {
    /// 600 takes by 200 performers of 20 melodies with 6 references each, judge noise 0.05.
    fn default() -> Self {
        Self { seed: 0, takes: 600, performers: 200, melodies: 20, references: 6, judge_noise: 0.05 }
    }
}

impl SynthOptions {
    fn check(&self) -> Result<()> {
        let counts = [
            ("takes", self.takes),
            ("performers", self.performers),
            ("melodies", self.melodies),
            ("references", self.references),
        ];
        for (name, count) in counts {
            if !(1..=1_000_000).contains(&count) {
                return Err(Error::config(format!("synth {name} {count}: expected 1 to 1000000")));
            }
        }
        if self.performers > self.takes {
            return Err(Error::config(format!(
                "synth: {} performers for {} takes; each performs at least once",
                self.performers, self.takes
            )));
        }
        if !(0.0..=1.0).contains(&self.judge_noise) {
            return Err(Error::config(format!("synth judge noise {}: expected 0 to 1", self.judge_noise)));
        }
        Ok(())
    }
}

/// What the judge rates by.
const CRITERIA: [&str; 3] = [OVERALL, "pitch", "rhythm"];
/// A take is passed from this overall rating on.
const PASS: f64 = 0.5;

/// One note as notated or as sung: MIDI pitch, seconds, and the silence after it in seconds.
#[derive(Clone, Copy)]
struct Note {
    pitch: f64,
    seconds: f64,
    rest: f64,
}

/// A random walk on a major or minor scale, 8 to 13 notes, about 4 to 7 s.
fn melody(random: &mut Random) -> Vec<Note> {
    const SCALES: [[f64; 7]; 2] =
        [[0.0, 2.0, 4.0, 5.0, 7.0, 9.0, 11.0], [0.0, 2.0, 3.0, 5.0, 7.0, 8.0, 10.0]];
    const BEATS: [f64; 6] = [0.5, 0.5, 1.0, 1.0, 1.5, 2.0];
    let scale = SCALES[random.below(2)];
    let tonic = random.between(57.0, 65.0).round();
    let beat = random.between(0.42, 0.55);
    let notes = 8 + random.below(6);
    let mut degree = random.below(5) as i32;
    (0..notes)
        .map(|_| {
            let note = Note {
                pitch: tonic + 12.0 * f64::from(degree.div_euclid(7)) + scale[degree.rem_euclid(7) as usize],
                seconds: beat * BEATS[random.below(BEATS.len())],
                rest: if random.chance(0.1) { 0.5 * beat } else { 0.0 },
            };
            // Never the same degree twice: a repeated note has no boundary in its pitch.
            let step = [1, 1, 2, 2, 3, 4][random.below(6)];
            let up = degree <= -3 || (degree < 9 && random.chance(0.5));
            degree += if up { step } else { -step };
            note
        })
        .collect()
}

/// How a line is rendered, beyond its notes.
struct Voice {
    vibrato_depth: f64,
    vibrato_hz: f64,
    glide: f64,
    jitter: f64,
    dropout: f64,
}

/// The contour a pitch tracker would give for these notes.
fn render(notes: &[Note], voice: &Voice, random: &mut Random) -> Result<Contour> {
    let frames = |seconds: f64| (seconds / HOP).round() as usize;
    let mut pitch = vec![0.0; frames(random.between(0.05, 0.4))];
    let mut last = notes.first().map_or(60.0, |note| note.pitch);
    for note in notes {
        let sounding = frames(note.seconds).max(8);
        // The tracker loses the end of most notes.
        let gap = random.below(6).min(sounding / 4);
        let phase = random.unit();
        for frame in 0..sounding - gap {
            let time = frame as f64 * HOP;
            let glide = (last - note.pitch).clamp(-3.0, 3.0) * (-time / voice.glide).exp();
            let vibrato = voice.vibrato_depth
                * (time / 0.3).min(1.0) // it sets in late
                * (std::f64::consts::TAU * (phase + voice.vibrato_hz * time)).sin();
            let midi = note.pitch + glide + vibrato + voice.jitter * random.normal();
            pitch.push(if random.chance(voice.dropout) { 0.0 } else { midi.clamp(1.0, 127.0) as f32 });
        }
        pitch.resize(pitch.len() + gap + frames(note.rest), 0.0);
        last = note.pitch;
    }
    pitch.resize(pitch.len() + frames(random.between(0.05, 0.4)), 0.0);
    Contour::from_pitch(pitch, HOP)
}

/// A reference take: right notes, timing varied a little.
fn play(melody: &[Note], random: &mut Random) -> Result<Contour> {
    let tempo = (0.05 * random.normal()).exp();
    let notes: Vec<Note> = melody
        .iter()
        .map(|note| Note {
            seconds: note.seconds * tempo * (0.04 * random.normal()).exp(),
            rest: note.rest * tempo,
            ..*note
        })
        .collect();
    let piano = Voice { vibrato_depth: 0.0, vibrato_hz: 0.0, glide: 0.004, jitter: 0.02, dropout: 0.005 };
    render(&notes, &piano, random)
}

/// A graded take by a performer of this skill (0 worst, 1 best), and its ratings in the order of [`CRITERIA`].
fn sing(melody: &[Note], skill: f64, judge_noise: f64, random: &mut Random) -> Result<(Contour, [f64; 3])> {
    // How bad each kind of error is in this take: partly the performer, partly the day, a little each its own.
    let day = 0.5 * (1.0 - skill) + random.between(-0.2, 0.7);
    let mut severity = || (day + random.between(-0.2, 0.2)).clamp(0.0, 1.0);
    let (mistuned, wrong, drifting, uneven, hesitant) =
        (severity(), severity(), severity(), severity(), severity());
    let octave_slips = if random.chance(0.15) { 0.12 } else { 0.0 };

    let key = (random.between(-5.0, 5.0)).round() + 0.3 * random.normal();
    let tempo = (0.1 * random.normal()).exp();
    let drift = 1.8 * drifting * drifting * if random.chance(0.5) { 1.0 } else { -1.0 };
    let total: f64 = melody.iter().map(|note| note.seconds).sum();

    let mut notes = Vec::with_capacity(melody.len());
    let (mut offsets, mut stretches) = (Vec::new(), Vec::new());
    let (mut elapsed, mut hesitation, mut slips) = (0.0, 0.0, 0.0);
    for note in melody {
        let mut offset = drift * (elapsed / total - 0.5) + (0.05 + 0.35 * mistuned) * random.normal();
        if random.chance(0.5 * wrong * wrong) {
            let by = random.between(1.0, 3.5).round();
            offset += if random.chance(0.5) { by } else { -by };
        }
        let stretch = (0.03 + 0.4 * uneven) * random.normal();
        let octave = if random.chance(octave_slips) { -12.0 } else { 0.0 };
        slips += octave / -12.0 * note.seconds / total;
        let mut rest = note.rest * tempo;
        if random.chance(0.35 * hesitant * hesitant) {
            let pause = random.between(0.2, 0.8);
            rest += pause;
            hesitation += pause;
        }
        notes.push(Note {
            pitch: note.pitch + key + offset + octave,
            seconds: note.seconds * tempo * stretch.exp(),
            rest,
        });
        offsets.push((offset, note.seconds / total));
        stretches.push((stretch, note.seconds / total));
        elapsed += note.seconds;
    }
    let voice = Voice {
        vibrato_depth: random.between(0.0, 0.35),
        vibrato_hz: random.between(4.5, 6.5),
        glide: random.between(0.01, 0.04),
        jitter: random.between(0.03, 0.1),
        dropout: random.between(0.0, 0.03),
    };
    let contour = render(&notes, &voice, random)?;

    // The judge takes the key as the middle of the notes sung, and past 1.5 semitones wrong is wrong.
    let key = weighted_median(&mut offsets.clone());
    let out_of_tune: f64 = offsets.iter().map(|&(offset, w)| w * (offset - key).abs().min(1.5)).sum();
    let pace = weighted_median(&mut stretches.clone());
    let out_of_time: f64 = stretches.iter().map(|&(stretch, w)| w * (stretch - pace).abs()).sum();
    let out_of_time = out_of_time + 1.5 * hesitation / total;
    let pitch = 1.0 / (1.0 + (out_of_tune / 0.4).powi(2));
    let rhythm = 1.0 / (1.0 + (out_of_time / 0.3).powi(2));
    let overall = 0.6 * pitch + 0.4 * rhythm - 0.1 * slips;
    let rate = |heard: f64, random: &mut Random| (heard + judge_noise * random.normal()).clamp(0.0, 1.0);
    Ok((contour, [rate(overall, random), rate(pitch, random), rate(rhythm, random)]))
}

/// The value below which half the weight lies, of (value, weight) pairs.
fn weighted_median(values: &mut [(f64, f64)]) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = 0.5 * values.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    for &(value, weight) in values.iter() {
        sum += weight;
        if sum >= half {
            return value;
        }
    }
    0.0
}

/// Generates the set: the same bits from the same options, whatever the number of threads.
///
/// Criteria `overall`, `pitch` and `rhythm`; a take passes from an overall rating of 0.5. Ids are the paths
/// that [`write()`] gives the files.
pub fn generate(options: &SynthOptions) -> Result<Recordings> {
    options.check()?;
    // A stream of draws of its own for everything made, so that no order of making matters.
    let stream = |kind: u64, index: usize| Random::new(options.seed, (kind << 40) + index as u64);
    let name_of = |melody: usize| format!("m{:03}", melody + 1);

    let melodies: Vec<Vec<Note>> = (0..options.melodies).map(|index| melody(&mut stream(0, index))).collect();
    let references = (0..options.melodies * options.references)
        .into_par_iter()
        .map(|index| {
            let (melody, number) = (index / options.references, index % options.references + 1);
            Ok(Reference {
                id: format!("references/{}-{number:03}.csv", name_of(melody)),
                melody: name_of(melody),
                contour: play(&melodies[melody], &mut stream(1, index))?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut takes = (0..options.takes)
        .into_par_iter()
        .map(|index| {
            let (performer, round) = (index % options.performers, index / options.performers);
            let melody = (performer + round) % options.melodies; // another one each round
            let skill = stream(2, performer).unit();
            let (contour, ratings) =
                sing(&melodies[melody], skill, options.judge_noise, &mut stream(3, index))?;
            let performer = format!("p{:04}", performer + 1);
            Ok(Take {
                id: format!("takes/{performer}-{:03}-{}.csv", round + 1, name_of(melody)),
                performer,
                melody: Some(name_of(melody)),
                contour,
                ratings: ratings.map(|rating| Some(rating as f32)).to_vec(),
                grades: Vec::new(),
                pass: Some(ratings[0] >= PASS),
                split: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    takes.sort_by(|a, b| a.id.cmp(&b.id));
    let criteria = CRITERIA.map(String::from).to_vec();
    Ok(Recordings { criteria, takes, references, ..Recordings::default() })
}

/// Generates the set and writes it to `directory` as [`super::manifest`] reads it: `manifest.csv`, and an f0
/// file per take in `takes/` and per reference in `references/`.
///
/// The directory appears whole or not at all. One that exists must be empty, but for what file managers leave. What a killed
/// process left beside it of the same name is removed; another process that is at it still is left alone, and is an error.
pub fn write(directory: impl AsRef<Path>, options: &SynthOptions) -> Result<Recordings> {
    let directory = directory.as_ref();
    options.check()?;
    let Some(name) = directory.file_name() else {
        return Err(Error::config(format!("{}: expected the name of a new directory", directory.display())));
    };
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    let beside = |ending: &str| {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(ending);
        hidden
    };
    let _lock = Lock::take(&parent.join(beside(".lock")), directory)?;
    must_be_empty(directory)?;
    let partial = beside(".partial-");
    remove_leftovers(parent, &partial)?;
    let recordings = generate(options)?;
    let mut partial = parent.join(partial).into_os_string();
    partial.push(std::process::id().to_string());
    let partial = Partial(partial.into());
    std::fs::create_dir(&partial.0).map_err(Error::io(&partial.0, "create"))?;
    write_files(&partial.0, &recordings)?;
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(Error::io(directory, "replace"))?;
    }
    std::fs::rename(&partial.0, directory).map_err(Error::io(directory, "create"))?;
    Ok(recordings)
}

/// Whether nothing is lost with it.
fn must_be_empty(directory: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(directory, "create"))?,
    };
    for entry in entries {
        if !is_stray(&entry.map_err(Error::io(directory, "read"))?.file_name()) {
            return Err(Error::data(directory, None, "is not empty; name a new directory"));
        }
    }
    Ok(())
}

/// Removes what processes that were killed left in `parent`: directories named `partial` and the process. Under the lock no
/// other can be alive.
fn remove_leftovers(parent: &Path, partial: &OsStr) -> Result<()> {
    for entry in std::fs::read_dir(parent).map_err(Error::io(parent, "read"))? {
        let name = entry.map_err(Error::io(parent, "read"))?.file_name();
        let process = name.as_encoded_bytes().strip_prefix(partial.as_encoded_bytes());
        if process.is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit)) {
            let left = parent.join(&name);
            std::fs::remove_dir_all(&left).map_err(Error::io(&left, "remove"))?;
        }
    }
    Ok(())
}

/// A directory under construction; whatever of it is there on drop is removed. After a rename nothing is.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_files(directory: &Path, recordings: &Recordings) -> Result<()> {
    for sub in ["takes", "references"] {
        let sub = directory.join(sub);
        std::fs::create_dir(&sub).map_err(Error::io(&sub, "create"))?;
    }
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(Error::io(&path, "write"))
    };
    let takes = recordings.takes.par_iter().map(|take| (&take.id, &take.contour));
    let references = recordings.references.par_iter().map(|reference| (&reference.id, &reference.contour));
    takes.chain(references).try_for_each(|(name, contour)| write(name, &f0_text(contour)))?;

    let mut manifest = String::from("path,performer,melody,reference,pass");
    for criterion in &recordings.criteria {
        let _ = write!(manifest, ",rating_{criterion}");
    }
    manifest.push('\n');
    for take in &recordings.takes {
        let melody = take.melody.as_deref().unwrap_or_default();
        let references: Vec<&str> = recordings
            .references
            .iter()
            .filter(|reference| reference.melody == melody)
            .map(|reference| reference.id.as_str())
            .collect();
        let pass = take.pass.map_or("", |pass| if pass { "pass" } else { "fail" });
        let _ = write!(manifest, "{},{},{melody},{},{pass}", take.id, take.performer, references.join(";"));
        for rating in &take.ratings {
            let _ = write!(manifest, ",{}", rating.map_or(String::new(), |rating| rating.to_string()));
        }
        manifest.push('\n');
    }
    write("manifest.csv", &manifest)
}

/// Two columns, time in seconds and f0 in Hz.
fn f0_text(contour: &Contour) -> String {
    let mut text = String::with_capacity(20 * contour.len());
    text.push_str("time,f0\n");
    for (frame, &pitch) in contour.pitch().iter().enumerate() {
        let hz = if pitch > 0.0 { midi_to_hz(f64::from(pitch)) } else { 0.0 };
        let _ = writeln!(text, "{:.6},{hz:.4}", frame as f64 * contour.hop());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> SynthOptions {
        SynthOptions { seed, takes: 60, performers: 20, melodies: 5, references: 2, ..Default::default() }
    }

    #[test]
    fn the_seed_decides_everything() {
        let set = generate(&small(1)).unwrap();
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(set, one_thread.install(|| generate(&small(1))).unwrap());
        assert_ne!(set, generate(&small(2)).unwrap());
    }

    #[test]
    fn the_default_set_is_as_described() {
        let set = generate(&SynthOptions::default()).unwrap();
        assert_eq!((set.takes.len(), set.references.len()), (600, 120));
        assert_eq!(set.criteria, ["overall", "pitch", "rhythm"]);
        let mut performers: Vec<_> = set.takes.iter().map(|take| &take.performer).collect();
        performers.dedup();
        assert_eq!(performers.len(), 200);
        // Takes of one performer are of different melodies, and each has references.
        for takes in set.takes.chunk_by(|a, b| a.performer == b.performer) {
            assert_eq!(takes.len(), 3);
            assert!(takes[0].melody != takes[1].melody && takes[1].melody != takes[2].melody);
        }
        for take in &set.takes {
            assert_eq!(set.references.iter().filter(|r| Some(&r.melody) == take.melody.as_ref()).count(), 6);
            assert!((2.0..20.0).contains(&take.contour.seconds()), "{}", take.contour.seconds());
            assert_eq!(take.pass, take.ratings[0].map(|rating| rating >= 0.5));
        }
        // Each fifth of the range of ratings is well filled.
        for criterion in 0..3 {
            let mut counts = [0; 5];
            for take in &set.takes {
                let rating = take.ratings[criterion].unwrap();
                assert!((0.0..=1.0).contains(&rating));
                counts[((5.0 * rating) as usize).min(4)] += 1;
            }
            assert!(counts.iter().all(|&count| count >= 48), "{criterion}: {counts:?}");
        }
    }

    /// Without noise the judge is fair: perfect notes rate 1, and errors cost what they are errors of.
    #[test]
    fn the_judge_hears_the_errors() {
        let quiet = SynthOptions { judge_noise: 0.0, ..small(4) };
        let set = generate(&quiet).unwrap();
        for take in &set.takes {
            let [Some(overall), Some(pitch), Some(rhythm)] = take.ratings[..] else {
                panic!("three criteria")
            };
            let mean = 0.6 * pitch + 0.4 * rhythm;
            assert!((mean - 0.1..=mean + 1e-6).contains(&overall), "{overall} {mean}");
        }
        // The mean rating falls with the skill.
        let of = |skill: f64| -> f64 {
            let rate = |index| {
                let random = &mut Random::new(9, index);
                let tune = melody(random);
                sing(&tune, skill, 0.0, random).unwrap().1[0]
            };
            (0..100).map(rate).sum::<f64>() / 100.0
        };
        assert!(of(0.0) + 0.1 < of(0.5) && of(0.5) + 0.1 < of(1.0), "{} {} {}", of(0.0), of(0.5), of(1.0));
    }

    #[test]
    fn refuses_impossible_sets() {
        for options in [
            SynthOptions { takes: 0, ..small(0) },
            SynthOptions { performers: 61, ..small(0) },
            SynthOptions { melodies: 0, ..small(0) },
            SynthOptions { references: usize::MAX, ..small(0) },
            SynthOptions { judge_noise: f64::NAN, ..small(0) },
        ] {
            assert!(matches!(generate(&options), Err(Error::Config(_))), "{options:?}");
        }
        let one = SynthOptions { takes: 1, performers: 1, melodies: 1, references: 1, ..small(0) };
        assert_eq!(generate(&one).unwrap().takes.len(), 1);
    }
}
