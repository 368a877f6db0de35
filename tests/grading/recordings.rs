//! Recordings in every format, against what was encoded; and what is no recording, or a broken one.

use etude::audio::recording::{RATE, Recording, parse_recording, read_recording};
use etude::audio::source::{SourceOptions, parse_source};
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recordings").join(name)
}

/// What tests/golden/recordings/make.sh encodes.
fn tone(second: f64) -> f64 {
    0.5 * (TAU * 440.0 * second).sin() * (second / 0.05).min(1.0)
}

/// What a resampler may add: it is late by 1.3 samples at most (29 µs), each of which is 0.031 of the tone.
fn late(rate: u32) -> f64 {
    if rate == RATE { 0.0 } else { 0.041 }
}

/// The worst difference from the tone, but for 10 ms at each end, where coders ring.
fn off(recording: &Recording) -> f64 {
    let worst = recording.samples.iter().enumerate().map(|(i, &x)| {
        let second = i as f64 / f64::from(RATE);
        if (0.01..0.29).contains(&second) { (f64::from(x) - tone(second)).abs() } else { 0.0 }
    });
    worst.fold(0.0, f64::max)
}

#[test]
fn every_format_gives_what_was_encoded_where_it_was() {
    // What coders lose is up to a tenth of the tone here, in ffmpeg's decoders as well; two samples late would be more than that.
    for (name, rate, channels, tolerance) in [
        ("tone.mp3", 44_100, 1, 0.05),
        ("tone-48k.mp3", 48_000, 2, 0.05),
        ("tone.m4a", 44_100, 1, 0.05),
        ("tone.ogg", 44_100, 1, 0.05),
        ("tone-22k.flac", 22_050, 1, 2e-4),
        ("tone-16k.aiff", 16_000, 2, 2e-4),
        ("tone-alac.m4a", 44_100, 1, 2e-5),
    ] {
        let recording = read_recording(golden(name)).unwrap();
        assert_eq!((recording.rate, recording.channels), (rate, channels), "{name}");
        assert!((recording.seconds() - 0.3).abs() < 0.03, "{name}: {} s", recording.seconds());
        assert!(off(&recording) < tolerance + late(rate), "{name}: {}", off(&recording));
    }
}

/// A WAV file: format tag 1 (whole numbers) or 3 (floats), channels, rate, bits, interleaved frames in bytes.
fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let frame = channels * bits.div_ceil(8);
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend([tag, channels].map(u16::to_le_bytes).concat());
    file.extend([rate, rate * u32::from(frame)].map(u32::to_le_bytes).concat());
    file.extend([frame, bits].map(u16::to_le_bytes).concat());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn floats(channels: u16, rate: u32, samples: &[f32]) -> Vec<u8> {
    wav(3, channels, rate, 32, &samples.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn tones(rate: u32) -> impl Iterator<Item = f64> {
    (0..rate * 3 / 10).map(move |i| tone(f64::from(i) / f64::from(rate)))
}

fn parse(bytes: &[u8]) -> Result<Recording, String> {
    parse_recording(Path::new("take.wav"), bytes).map_err(|e| e.to_string())
}

fn refused(bytes: &[u8], word: &str) {
    let message = parse(bytes).expect_err(word);
    assert!(message.contains("take.wav") && message.contains(word), "{message}");
}

#[test]
fn every_width_and_rate_of_wav() {
    let int = |bits: u16, rate: u32| -> Vec<u8> {
        let scale = f64::from(1_u32 << (bits - 1));
        let bytes = |x: f64| match bits {
            8 => vec![(x * scale + 128.0).round() as u8],
            bits => ((x * scale).round() as i32).to_le_bytes()[..usize::from(bits / 8)].to_vec(),
        };
        wav(1, 1, rate, bits, &tones(rate).flat_map(bytes).collect::<Vec<u8>>())
    };
    // Half a step of the width.
    for (bits, tolerance) in [(8, 8e-3), (16, 3e-4), (24, 2e-4), (32, 2e-4)] {
        for rate in [44_100, 8_000, 48_000, 192_000] {
            let recording = parse(&int(bits, rate)).unwrap();
            assert!(off(&recording) < tolerance + late(rate), "{bits} bits, {rate} Hz: {}", off(&recording));
        }
    }
    let float: Vec<f32> = tones(44_100).map(|x| x as f32).collect();
    assert!(off(&parse(&floats(1, 44_100, &float)).unwrap()) < 1e-6);
}

#[test]
fn channels_are_mixed_and_one_may_be_dead() {
    let dead: Vec<f32> = tones(44_100).flat_map(|x| [2.0 * x as f32, 0.0]).collect();
    let recording = parse(&floats(2, 44_100, &dead)).unwrap();
    assert_eq!(recording.channels, 2);
    assert!(off(&recording) < 1e-6);
    let upside_down: Vec<f32> = tones(44_100).flat_map(|x| [x as f32, -x as f32]).collect();
    refused(&floats(2, 44_100, &upside_down), "cancel each other");
    // Silence cancels nothing.
    assert!(parse(&floats(2, 44_100, &[0.0; 2000])).is_ok());
}

#[test]
fn what_is_no_recording_is_refused_with_a_reason() {
    let mut samples: Vec<f32> = tones(44_100).map(|x| x as f32).collect();
    let whole = floats(1, 44_100, &samples);
    refused(&[], "is no recording");
    refused(b"time,f0\n0,440\n", "is no recording");
    refused(&floats(1, 44_100, &[]), "holds no samples");
    refused(&floats(1, 1_000, &samples), "1000 samples a second");
    refused(&whole[..whole.len() / 2], "is it cut short?");
    refused(&whole[..30], "cannot be decoded");
    // What writes to a pipe says the largest length.
    let mut piped = whole.clone();
    piped[4..8].fill(0xff);
    piped[40..44].fill(0xff);
    assert_eq!(parse(&piped), parse(&whole));
    refused(&std::fs::read(golden("tone.opus")).unwrap(), "Ogg with Opus");
    samples[4410] = f32::NAN;
    refused(&floats(1, 44_100, &samples), "no finite number, at 0.100 s");
    samples[4410] = f32::INFINITY;
    refused(&floats(1, 44_100, &samples), "no finite number, at 0.100 s");
}

#[test]
fn what_is_nothing_at_all_says_what_could_be_read() {
    let message = parse_source(Path::new("take.wav"), &[7, 0, 0, 0, 9, 0, 200, 1], &SourceOptions::default());
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("no recording or score of a kind that is read, and no text with f0"),
        "{message}"
    );
}

#[test]
fn what_is_longer_than_an_hour_is_refused_before_it_is_decoded() {
    refused(&wav(1, 1, 4_000, 8, &vec![128; 4_000 * 3_601]), "longer than 60 minutes");
}

#[test]
fn aac_of_another_kind_is_refused_by_name() {
    let mut file = std::fs::read(golden("tone.m4a")).unwrap();
    // The configuration of AAC-LC at 44.1 kHz with one channel; object type 5 is SBR, which HE-AAC adds.
    let at = file.windows(3).position(|bytes| bytes == [0x05, 0x12, 0x08]).unwrap() + 1;
    file[at] = 0x2a;
    refused(&file, "HE-AAC");
}

#[test]
fn damage_ends_in_a_recording_or_an_error() {
    for name in
        ["tone.mp3", "tone.m4a", "tone.ogg", "tone-22k.flac", "tone-16k.aiff", "tone.aac", "tone-alac.m4a"]
    {
        let whole = std::fs::read(golden(name)).unwrap();
        for cut in (0..whole.len()).step_by(whole.len() / 40 + 1) {
            let _ = parse(&whole[..cut]);
        }
        // Headers are where lengths and counts are.
        for at in (0..whole.len().min(1200)).step_by(17) {
            for damage in [0x00, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = damage;
                if let Ok(recording) = parse(&damaged) {
                    assert!(!recording.samples.is_empty() && recording.samples.iter().all(|x| x.is_finite()));
                }
            }
        }
    }
}
