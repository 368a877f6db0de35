//! What is told of a take as a whole, in words.

/// In which key and how fast a take is beside its reference: `key` in semitones from the reference up to the take, `tempo` in
/// seconds of the take for each of the reference.
///
/// ```
/// use etude::audio::notes::key_and_tempo;
/// assert_eq!(key_and_tempo(-12.25, 1.1), "an octave below the reference and 25 cents below that, 10 % slower");
/// assert_eq!(key_and_tempo(0.0, 1.0), "in the reference's key, at its tempo");
/// ```
pub fn key_and_tempo(key: f32, tempo: f64) -> String {
    let octaves = (key / 12.0).round();
    let rest = key - 12.0 * octaves;
    let octave = match octaves.abs() as u32 {
        0 => String::new(),
        1 => "an octave".to_string(),
        n => format!("{n} octaves"),
    };
    let direction = |x: f32| if x < 0.0 { "below" } else { "above" };
    let cents = 100.0 * rest;
    let fraction = match rest.abs() {
        x if x < 0.005 => String::new(),
        x if x < 1.0 => format!("{:.0} cents {}", cents.abs(), direction(rest)),
        x => format!("{x:.2} semitones {}", direction(rest)),
    };
    let key = match (octave.is_empty(), fraction.is_empty()) {
        (true, true) => "in the reference's key".to_string(),
        (true, false) => format!("{fraction} the reference's key"),
        (false, true) => format!("{octave} {} the reference", direction(octaves)),
        (false, false) => format!("{octave} {} the reference and {fraction} that", direction(octaves)),
    };
    let percent = 100.0 * (tempo - 1.0);
    let tempo = match percent.abs() < 1.0 {
        true => "at its tempo".to_string(),
        false => format!("{:.0} % {}", percent.abs(), if percent > 0.0 { "slower" } else { "faster" }),
    };
    format!("{key}, {tempo}")
}
