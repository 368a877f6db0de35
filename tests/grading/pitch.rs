//! Pitch tracking: against librosa (values made by `tests/golden/librosa/make.py`), and on signals of known pitch.
use etude::audio::pitch::{PitchOptions, PitchTrack, Voice, track};
use serde_json::Value;
use std::f64::consts::TAU;

const RATE: f64 = 44100.0;

/// Of a phase in cycles.
fn harmonics(phase: f64, orders: std::ops::Range<u32>) -> f64 {
    orders.map(f64::from).map(|k| (TAU * k * phase).sin() / k).sum()
}

/// Noise in -1..1: a linear congruential generator's.
fn noise(n: usize) -> Vec<f64> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        f64::from(state) / 2_f64.powi(31) - 1.0
    };
    (0..n).map(next).collect()
}

/// `n` samples of a function of time in seconds and of noise.
fn signal(n: usize, rate: f64, at: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    (0..n).zip(noise(n)).map(|(i, noise)| at(i as f64 / rate, noise) as f32).collect()
}

/// The signals of make.py.
fn golden(name: &str, t: f64, noise: f64) -> f64 {
    match name {
        "tone" if t > 0.2 && t < 0.8 => 0.3 * (TAU * 440.0 * t).sin(),
        "tone" => 0.0,
        "glide" => 0.2 * harmonics(110.0 * ((3.0 * t).exp2() - 1.0) / (3.0 * 2_f64.ln()), 1..7),
        "vibrato" => {
            let phase = 440.0 * t + 0.03 * 440.0 / 5.5 / TAU * (TAU * 5.5 * t).sin();
            0.2 * harmonics(phase, 1..6) + 0.01 * noise
        }
        "noise" => (if t < 0.5 { 0.0 } else { 0.2 }) * (TAU * 233.0 * t).sin() + 0.1 * noise,
        "no_fundamental" => 0.2 * harmonics(150.0 * t, 2..8),
        "leaps" => {
            let hz = [220.0, 440.0, 880.0, 196.0, 1568.0, 1500.0][((t / 0.2) as usize).min(5)];
            0.2 * harmonics(hz * t, 1..4)
        }
        "other_options" => 0.2 * harmonics(200.0 * t + 100.0 * t * t, 1..5) + 0.02 * noise,
        _ => panic!("{name}"),
    }
}

fn cents(a: f64, b: f64) -> f64 {
    1200.0 * (a / b).log2()
}

#[test]
fn agrees_with_librosa() {
    let cases: Value = serde_json::from_str(include_str!("../golden/librosa/pitch.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let values = |key: &str| case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
        let (name, rate) = (case["name"].as_str().unwrap(), number("rate"));
        let options = PitchOptions {
            lowest: number("lowest"),
            highest: number("highest"),
            frame: number("frame") as usize,
            hop: number("hop") as usize,
        };
        let samples = signal(number("samples") as usize, rate, |t, noise| golden(name, t, noise));
        let got = track(&samples, rate, &options).unwrap();
        assert_eq!([got.f0.len(), got.probability.len()], [values("f0").len(); 2], "{name}");
        for (i, (hz, want)) in got.f0.iter().zip(values("f0")).enumerate() {
            assert_eq!(*hz > 0.0, want > 0.0, "{name} {i}: {hz}, {want}");
            // Half a bin, and the rounding of three digits at 60 Hz, 0.015 cents.
            assert!(want == 0.0 || cents(*hz, want).abs() < 5.02, "{name} {i}: {hz}, {want}");
        }
        for (i, (p, want)) in got.probability.iter().zip(values("probability")).enumerate() {
            // Rounded to seven digits; where sin rounds otherwise a sample differs by 2e-8.
            assert!((p - want).abs() < 1e-6, "{name} {i}: {p}, {want}");
        }
    }
}

/// The largest distance in cents from the true f0 among the frames whose samples all lie in `seconds`; they must be voiced.
fn worst(track: &PitchTrack, seconds: std::ops::Range<f64>, truth: impl Fn(f64) -> f64) -> f64 {
    let half = 1024.0 / RATE;
    let time = |i: usize| i as f64 * 256.0 / RATE;
    let inside = |i: &usize| time(*i) >= seconds.start + half && time(*i) <= seconds.end - half;
    let frames: Vec<usize> = (0..track.f0.len()).filter(inside).collect();
    assert!(frames.len() > 20);
    frames.into_iter().fold(0.0, |worst: f64, i| {
        assert!(track.f0[i] > 0.0, "frame {i} is unvoiced");
        worst.max(cents(track.f0[i], truth(time(i))).abs())
    })
}

fn pitch(samples: &[f32]) -> PitchTrack {
    track(samples, RATE, &PitchOptions::default()).unwrap()
}

/// How far off a tone may be, in cents. librosa's d keeps the energy of the samples without a partner, which pulls low pitches
/// up, those of sines most: 31 cents of 65 Hz were measured. High ones err by the parabola: 4.9 cents of 1900 Hz.
fn tolerance(hz: f64) -> f64 {
    5.0 + 2000.0 / hz
}

#[test]
fn tones_glides_and_vibrato() {
    for hz in [65.4, 110.0, 261.6, 440.0, 987.8, 1900.0] {
        let samples = signal(22050, RATE, |t, noise| 0.3 * (TAU * hz * t).sin() + 1e-4 * noise);
        let off = worst(&pitch(&samples), 0.0..0.5, |_| hz);
        assert!(off < tolerance(hz), "{hz} Hz: {off} cents");
        let samples = signal(22050, RATE, |t, noise| 0.1 * harmonics(hz * t, 1..11) + 0.03 * noise);
        let off = worst(&pitch(&samples), 0.0..0.5, |_| hz);
        assert!(off < tolerance(hz), "{hz} Hz in noise: {off} cents");
    }
    // An octave a second, down.
    let samples = signal(44100, RATE, |t, _| 0.2 * harmonics(880.0 * (1.0 - (-t).exp2()) / 2_f64.ln(), 1..5));
    let off = worst(&pitch(&samples), 0.0..1.0, |t| 880.0 * (-t).exp2());
    assert!(off < 4.0, "glide: {off} cents");
    let phase = |t: f64| 440.0 * t + 0.03 * 440.0 / 5.5 / TAU * (TAU * 5.5 * t).sin();
    let samples = signal(44100, RATE, |t, _| 0.2 * harmonics(phase(t), 1..6));
    // 46 ms are a quarter of a turn: peaks of 51 cents are flattened.
    let off = worst(&pitch(&samples), 0.0..1.0, |t| 440.0 * (1.0 + 0.03 * (TAU * 5.5 * t).cos()));
    assert!(off < 8.0, "vibrato: {off} cents");
}

/// Twice what is measured of middle pitches with overtones, and just above that of a sine of 440 Hz, 3.4 cents.
const TONE: f64 = 4.0;

#[test]
fn no_octave_errors_without_a_strong_fundamental() {
    for (name, orders) in [("missing", 2..9_u32), ("odd only", 1..2), ("high", 3..9)] {
        let samples = signal(22050, RATE, |t, noise| {
            let weak = 0.01 * (TAU * 200.0 * t).sin();
            let odd = (1..12).step_by(2).map(|k| (TAU * 200.0 * f64::from(k) * t).sin()).sum::<f64>();
            let sum = if name == "odd only" { odd } else { harmonics(200.0 * t, orders.clone()) };
            0.1 * sum + weak + 1e-3 * noise
        });
        let off = worst(&pitch(&samples), 0.0..0.5, |_| 200.0);
        assert!(off < TONE, "{name}: {off} cents");
    }
}

#[test]
fn silence_is_unvoiced_and_noise_mostly() {
    let silence = pitch(&[0.0; 44100]);
    assert_eq!(silence.f0.len(), 173);
    assert!(silence.f0.iter().chain(&silence.probability).all(|&v| v == 0.0));
    let noise = pitch(&signal(44100, RATE, |_, noise| 0.3 * noise));
    let voiced = noise.f0.iter().filter(|&&hz| hz > 0.0).count();
    // White noise happens to be periodic now and then: 28 of 173 frames, as in librosa.
    assert!(voiced < 40, "{voiced}");
    // Between rests a tone begins and ends within half a frame.
    let samples =
        signal(66150, RATE, |t, _| if (0.5..1.0).contains(&t) { (TAU * 330.0 * t).sin() } else { 0.0 });
    let track = pitch(&samples);
    for (i, hz) in track.f0.iter().enumerate() {
        let time = i as f64 * 256.0 / RATE;
        let outside = (0.5 - time).max(time - 1.0);
        assert!(outside.abs() < 0.0233 || (*hz > 0.0) == (outside < 0.0), "{time} s: {hz}");
    }
}

#[test]
fn short_loud_and_faint() {
    for n in [1, 2, 255, 256, 257, 1000, 2047] {
        let track = pitch(&signal(n, RATE, |t, _| (TAU * 700.0 * t).sin()));
        assert_eq!([track.f0.len(), track.probability.len()], [1 + n / 256; 2]);
        assert!(n < 1000 || track.f0.iter().all(|&hz| cents(hz, 700.0).abs() < 30.0), "{n}: {track:?}");
    }
    // The largest f32 and the smallest: squares neither overflow nor vanish.
    let tone = |scale: f64| pitch(&signal(22050, RATE, |t, _| scale * (TAU * 440.0 * t).sin()));
    for scale in [3e38, 1e-30] {
        assert!(worst(&tone(scale), 0.0..0.5, |_| 440.0) < TONE, "{scale}");
    }
}

#[test]
fn refuses_what_it_cannot_track() {
    let message = |samples: &[f32], rate: f64, options: PitchOptions| {
        track(samples, rate, &options).unwrap_err().to_string()
    };
    let default = PitchOptions::default();
    assert!(message(&[], RATE, default).contains("no samples"));
    assert!(message(&[0.0, f32::NAN], RATE, default).contains("sample 1 is NaN"));
    assert!(message(&[f32::INFINITY], RATE, default).contains("sample 0 is inf"));
    assert!(message(&[0.0], 0.0, default).contains("sample rate 0"));
    assert!(message(&[0.0], RATE, PitchOptions { frame: 1024, ..default }).contains("two periods"));
    assert!(message(&[0.0], RATE, PitchOptions { highest: 60.0, ..default }).contains("highest pitch 60 Hz"));
}

#[test]
fn the_same_bits_on_one_thread_and_four() {
    // Three parts of frames and some.
    let samples =
        signal(450 * 256, RATE, |t, noise| 0.2 * harmonics(200.0 * t + 40.0 * t * t, 1..5) + 0.1 * noise);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pitch(&samples))
    };
    let (one, four) = (on(1), on(4));
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&one.f0), bits(&four.f0));
    assert_eq!(bits(&one.probability), bits(&four.probability));
    assert!(one.f0.iter().any(|&hz| hz > 0.0));
}

#[test]
fn a_narrow_range_keeps_to_itself() {
    let samples = signal(22050, RATE, |t, _| 0.2 * harmonics(440.0 * t, 1..5));
    // A range of two bins, less than pitch moves in a frame, and one that the tone is not in.
    let narrow = PitchOptions { lowest: 439.0, highest: 442.0, ..PitchOptions::default() };
    let off = worst(&track(&samples, RATE, &narrow).unwrap(), 0.0..0.5, |_| 440.0);
    assert!(off < TONE, "{off} cents");
    for voice in Voice::ALL {
        let options = PitchOptions::of(voice);
        let track = track(&samples, RATE, &options).unwrap();
        assert!(
            track.f0.iter().all(|&hz| hz == 0.0 || (options.lowest..=options.highest).contains(&hz)),
            "{voice}"
        );
    }
}

#[test]
fn what_is_left_in_a_pause_is_no_note() {
    // A tone of 1000 Hz 66 dB below the note that it follows, and the same 54 dB below.
    for (level, voiced) in [(0.5e-3, false), (2e-3, true)] {
        let tone = |hz: f64, t: f64| (TAU * hz * t).sin();
        let samples =
            signal(44100, RATE, |t, _| if t < 0.5 { tone(440.0, t) } else { level * tone(1000.0, t) });
        let track = track(&samples, RATE, &PitchOptions::default()).unwrap();
        assert!((track.f0[40] - 440.0).abs() < 2.0);
        let tail = &track.f0[110..160];
        assert!(tail.iter().all(|&f0| (f0 > 0.0) == voiced), "{level}: {tail:?}");
    }
}
