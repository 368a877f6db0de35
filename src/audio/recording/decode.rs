//! Files decoded to samples, packet by packet.

use super::container::Container;
use super::mix::Mix;
use super::mp4;
use super::recorded::{MAX_SECONDS, RATE, Recording};
use super::resample::Resampler;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

/// Rates that a recording may have.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=768_000;

/// Share of packets that may be damaged.
const MAX_DAMAGED: f64 = 0.05;

/// What to do where a file is of no use.
const CONVERT: &str = "convert it to WAV or FLAC, with ffmpeg or an audio editor";

/// Decodes a recording; an error says what is wrong with it.
pub(super) fn decode(mut source: impl MediaSource + 'static) -> Result<Recording, String> {
    let container = container(&mut source)?;
    let skipped = if container == "m4a" { mp4::left_out(&mut source) } else { 0.0 };
    source.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let mut hint = Hint::new();
    hint.with_extension(container);
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let options = (FormatOptions::default(), MetadataOptions::default());
    let mut format =
        symphonia::default::get_probe().probe(&hint, stream, options.0, options.1).map_err(|e| fault(&e))?;
    let track = format.default_track(TrackType::Audio).ok_or("holds no sound")?;
    let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
        return Err(format!("holds sound of a codec that is not read: {CONVERT}"));
    };
    let (id, expected) = (track.id, track.num_frames);
    if let (Some(frames), Some(rate)) = (expected, params.sample_rate)
        && frames > MAX_SECONDS * u64::from(rate)
    {
        return Err(too_long());
    }
    let mut decoder = decoder(&params)?;
    let mut sound = Sound::new(skipped);
    let mut ended_early = false;
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == id => packet,
            Ok(Some(_)) => continue,
            Ok(None) | Err(Error::ResetRequired) => break,
            Err(Error::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                // What wrote to a pipe could not say how long a WAV would be.
                ended_early = container != "wav";
                break;
            }
            Err(e) => return Err(fault(&e)),
        };
        match decoder.decode(&packet) {
            Ok(samples) => sound.take(&samples)?,
            Err(Error::DecodeError(_) | Error::IoError(_)) => sound.miss(packet.dur.get()),
            Err(e) => return Err(fault(&e)),
        }
    }
    sound.whole(expected, ended_early)?;
    let codec = decoder.codec_info().long_name;
    sound.recording(codec)
}

fn too_long() -> String {
    format!("is longer than {} minutes: cut it into takes", MAX_SECONDS / 60)
}

/// The container, if it is one that is read.
fn container(source: &mut (impl Read + Seek)) -> Result<&'static str, String> {
    let mut head = Vec::new();
    source.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    source.take(Container::HEAD).read_to_end(&mut head).map_err(|e| e.to_string())?;
    match Container::of(&head) {
        Some(Container::Known(ending)) => Ok(ending),
        Some(Container::Foreign(name)) => Err(format!("is {name}, which is not read: {CONVERT}")),
        None => Err(format!("is no recording: expected WAV, AIFF, FLAC, MP3, Ogg or MP4; {CONVERT}")),
    }
}

fn decoder(params: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, String> {
    // Trims what encoders pad, where the file tells it.
    let options = AudioDecoderOptions::default();
    symphonia::default::get_codecs().make_audio_decoder(params, &options).map_err(|e| fault(&e))
}

/// A foreign error, with what to do.
fn fault(e: &Error) -> String {
    match e {
        Error::Unsupported(what) if what.contains("aac") || what.contains("mp4a") => {
            format!("holds AAC of a kind that is not read (HE-AAC, say; AAC-LC is): {CONVERT}")
        }
        Error::Unsupported(_) => format!("is of a kind that is not read ({e}): {CONVERT}"),
        _ => format!("cannot be decoded ({e}): is it whole? If it plays elsewhere, {CONVERT}"),
    }
}

/// What was decoded so far.
struct Sound {
    /// Seconds to leave out at the start.
    skipped: f64,
    /// Rate and channels, from the first packet on.
    kind: Option<(u32, usize)>,
    resampler: Option<Resampler>,
    mix: Mix,
    samples: Vec<f32>,
    /// Frames to leave out yet.
    skip: u64,
    /// Frames decoded, those to leave out among them.
    frames: u64,
    packets: [u64; 2],
}

impl Sound {
    fn new(skipped: f64) -> Self {
        Self {
            skipped,
            kind: None,
            resampler: None,
            mix: Mix::default(),
            samples: Vec::new(),
            skip: 0,
            frames: 0,
            packets: [0; 2],
        }
    }

    fn take(&mut self, buffer: &GenericAudioBufferRef<'_>) -> Result<(), String> {
        let (rate, channels) = (buffer.spec().rate(), buffer.num_planes());
        if buffer.frames() == 0 {
            return Ok(());
        }
        if *self.kind.get_or_insert((rate, channels)) != (rate, channels) {
            return Err(format!("changes its rate or its channels in the middle: {CONVERT}"));
        }
        if self.resampler.is_none() {
            if !RATES.contains(&rate) {
                return Err(format!(
                    "has {rate} samples a second: expected {} to {}",
                    RATES.start(),
                    RATES.end()
                ));
            }
            self.resampler = Some(Resampler::new(rate, RATE)?);
            self.skip = (self.skipped * f64::from(rate)).round() as u64;
        }
        self.packets[0] += 1;
        let mut samples = std::mem::take(&mut self.samples);
        samples.resize(buffer.samples_interleaved(), 0.0);
        buffer.copy_to_slice_interleaved(&mut samples);
        let done = self.push(&samples, rate, channels);
        self.samples = samples;
        done
    }

    /// A packet that could not be decoded: as much silence, so that what follows stays where it was.
    fn miss(&mut self, frames: u64) {
        self.packets[1] += 1;
        let Some((rate, channels)) = self.kind else { return };
        let silence = vec![0.0; channels * frames.min(u64::from(rate)) as usize];
        // Silence is finite, and as long as a second at most.
        let _ = self.push(&silence, rate, channels);
    }

    fn push(&mut self, samples: &[f32], rate: u32, channels: usize) -> Result<(), String> {
        let mono = self.mix.push(samples, channels).map_err(|frame| {
            let second = frame as f64 / f64::from(rate);
            format!("has a sample that is no finite number, at {second:.3} s: export it again")
        })?;
        self.frames += mono.len() as u64;
        if self.frames > MAX_SECONDS * u64::from(rate) {
            return Err(too_long());
        }
        let skip = self.skip.min(mono.len() as u64);
        self.skip -= skip;
        match &mut self.resampler {
            Some(resampler) => resampler.push(&mono[skip as usize..]),
            None => Ok(()),
        }
    }

    /// Whether it is as long as its header says.
    fn whole(&self, expected: Option<u64>, ended_early: bool) -> Result<(), String> {
        let Some((rate, _)) = self.kind else { return Ok(()) };
        let seconds = |frames: u64| frames as f64 / f64::from(rate);
        match expected {
            // What encoders pad is not always counted alike; a tenth of a second is no loss.
            Some(expected) if seconds(expected) - seconds(self.frames) > 0.1 => Err(format!(
                "ends after {:.1} s, and its header says {:.1} s: is it cut short? Copy or export it again",
                seconds(self.frames),
                seconds(expected)
            )),
            None if ended_early => Err(format!(
                "breaks off after {:.1} s: is it cut short? Copy or export it again",
                seconds(self.frames)
            )),
            _ => Ok(()),
        }
    }

    fn recording(self, codec: &str) -> Result<Recording, String> {
        let [good, damaged] = self.packets;
        if damaged as f64 > MAX_DAMAGED * (good + damaged) as f64 {
            return Err(format!("is damaged: {damaged} of {} packets cannot be decoded", good + damaged));
        }
        let (Some((rate, channels)), Some(resampler)) = (self.kind, self.resampler) else {
            return Err("holds no samples".into());
        };
        if self.mix.is_cancelled() {
            return Err(
                "has channels that cancel each other, one is another upside down: export one of them".into(),
            );
        }
        let samples = resampler.finish()?;
        if samples.is_empty() {
            return Err("holds no samples".into());
        }
        let mut remarks = Vec::new();
        if damaged > 0 {
            remarks.push("damaged packets were taken for silence".to_string());
        }
        Ok(Recording { samples, rate, channels, codec: codec.to_string(), remarks })
    }
}

/// A source of bytes in memory.
pub(super) fn memory(bytes: &[u8]) -> impl MediaSource + 'static {
    Cursor::new(bytes.to_vec())
}
