//! The plots: what they show, and that no input breaks them.

use etude::audio::notes::{Outcome, PerformedNote};
use etude::audio::{Contour, HOP};
use etude::data::CostlySpan;
use etude::report::files::EpochRow;
use etude::report::metrics::Metrics;
use etude::report::plots::{
    PerformedTake, Projection, agreement_svg, confusion_svg, contour_svg, embedding_svg, history_svg,
    performed_svg, projection_svg, residuals_svg, scatter_svg, themed,
};
use proptest::prelude::*;

/// A row as the trainer writes it.
fn row(epoch: u64, phase: &str, train_loss: f64, val_loss: Option<f64>) -> EpochRow {
    EpochRow { epoch, phase: phase.into(), lr: 0.005, train_loss, val_loss, val_r2: None }
}

fn is_whole(svg: &str) -> bool {
    svg.starts_with("<svg")
        && svg.trim_end().ends_with("</svg>")
        && !svg.contains("NaN")
        && !svg.contains("inf")
}

#[test]
fn the_history_names_its_phases_and_both_losses() {
    let rows: Vec<_> = (1..=9)
        .map(|e| row(e, if e < 5 { "encoder" } else { "head" }, 1.0 / e as f64, Some(1.2 / e as f64)))
        .collect();
    let svg = history_svg(&rows).unwrap();
    assert!(is_whole(&svg));
    for word in ["encoder", "head", "training", "validation", "epoch"] {
        assert!(svg.contains(word), "{word}");
    }
}

#[test]
fn the_scatter_says_how_good_it_is_and_who_passed() {
    let (y, p) = ([0.0, 0.25, 0.5, 1.0], [0.1, 0.2, 0.6, 0.9]);
    let svg = scatter_svg(&y, &p, Some(&[false, false, true, true])).unwrap();
    assert!(is_whole(&svg));
    let r2 = etude::report::scores::r2(&p, &y).unwrap();
    for word in [&format!("R² {r2:.3}"), "pass", "fail", "identity"] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(scatter_svg(&y, &p[..3], None).unwrap_err().to_string().contains("predictions"));
    assert!(embedding_svg(&[0.0; 7], 2, 3, &[0.0; 2]).unwrap_err().to_string().contains("[2, 3]"));
}

/// Centres of the discs drawn with the outline of data points, in drawing order.
fn points(svg: &str) -> Vec<[i32; 2]> {
    let at = |line: &str, key: &str| -> i32 {
        let rest = &line[line.find(key).unwrap() + key.len()..];
        rest[..rest.find('"').unwrap()].parse().unwrap()
    };
    let discs = svg.lines().filter(|l| l.starts_with("<circle") && l.contains("opacity=\"0.8\""));
    discs.map(|l| [at(l, "cx=\""), at(l, "cy=\"")]).collect()
}

#[test]
fn points_lie_where_their_values_say() {
    let svg = scatter_svg(&[0.0, 0.5, 1.0, f32::NAN], &[0.0, 0.5, 1.0, 0.2], None).unwrap();
    let p = points(&svg);
    assert_eq!(p.len(), 3);
    assert!(svg.contains("3 recordings, 1 left out"));
    // On the identity line, evenly spaced, up and to the right.
    assert!((p[2][0] + p[0][0] - 2 * p[1][0]).abs() <= 1 && (p[2][1] + p[0][1] - 2 * p[1][1]).abs() <= 1);
    assert!(p[2][0] - p[0][0] > 400 && p[0][1] - p[2][1] > 400, "{p:?}");
}

#[test]
fn the_embedding_is_shown_along_its_principal_axes() {
    // A line in three dimensions, far from the origin, with a little across it.
    let z: Vec<f32> = (0..9)
        .flat_map(|i| {
            let (t, u) = (i as f32 - 4.0, if i % 2 == 0 { 0.1 } else { -0.1 });
            [10.0 + 2.0 * t + u, -5.0 + t - 2.0 * u, 3.0]
        })
        .collect();
    let y: Vec<f32> = (0..9).map(|i| i as f32 / 8.0).collect();
    let svg = embedding_svg(&z, 9, 3, &y).unwrap();
    assert!(svg.contains("principal component 1 (100 %") && svg.contains("principal component 2 (0 %"));
    let p = points(&svg);
    assert_eq!(p.len(), 9);
    assert!(p.windows(2).all(|w| w[0][0] < w[1][0]), "in order along the first axis: {p:?}");
    assert!(p.windows(2).all(|w| (w[0][1] - w[1][1]).abs() > 300), "alternating along the second: {p:?}");
    // The stated shares are those of the variance: 3 : 1 over two orthogonal axes.
    let r = 3f32.sqrt();
    let svg = embedding_svg(&[r, 0.0, -r, 0.0, 0.0, 1.0, 0.0, -1.0], 4, 2, &[0.0; 4]).unwrap();
    assert!(svg.contains("1 (75 %") && svg.contains("2 (25 %"));
    assert!(svg.contains("4 recordings, 2 dimensions"));
    assert!(embedding_svg(&[1.0; 2], 1, 2, &[0.25]).unwrap().contains("0.2500"), "the only rating is named");
}

#[test]
fn wide_losses_get_a_logarithmic_axis_and_lines_break_where_they_must() {
    let lines = |svg: &str| svg.matches("stroke-width=\"2\"").count();
    let narrow: Vec<_> = (1..4).map(|e| row(e, "mse", e as f64, None)).collect();
    let base = history_svg(&narrow).unwrap();
    assert!(!base.contains("logarithmic") && !base.contains("validation"));
    let wide: Vec<_> = (1..4).map(|e| row(e, "mse", 10f64.powi(e as i32), None)).collect();
    assert!(history_svg(&wide).unwrap().contains("logarithmic"));
    let zero: Vec<_> = (0..4).map(|e| row(e, "mse", 100.0 * e as f64, None)).collect();
    assert!(!history_svg(&zero).unwrap().contains("logarithmic"));
    let mut broken = narrow.clone();
    broken.insert(2, row(3, "mse", f64::NAN, None));
    broken[3].epoch = 4;
    assert_eq!(lines(&history_svg(&broken).unwrap()), lines(&base) + 1);
    let mut phases = narrow.clone();
    phases[2].phase = "head <1>".into();
    let svg = history_svg(&phases).unwrap();
    assert_eq!(lines(&svg), lines(&base) + 1);
    assert!(svg.contains("head &lt;1&gt;"));
}

#[test]
fn graders_and_network_are_shown_where_both_are_measured() {
    let of = |r2, grade_mae| Metrics { r2, grade_mae, auc: Some(0.9), ..Metrics::default() };
    let svg = agreement_svg(&of(Some(0.5), Some(1.0)), &Metrics { auc: None, ..of(Some(0.75), Some(0.25)) })
        .unwrap();
    assert!(is_whole(&svg));
    for word in ["network", "graders", "R²", "grade MAE ↓"] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(!svg.contains("AUC"), "the network has none");
    let p = points(&svg);
    // The network's discs, behind that of the key: R² 0.75 right of MAE 0.25, and above it.
    let [_, r2, mae] = p[..] else { panic!("{p:?}") };
    assert!(r2[0] - mae[0] > 150 && mae[1] - r2[1] > 20, "{p:?}");
    for (graders, network) in [
        (Metrics::default(), Metrics::default()),
        (of(Some(f64::NAN), None), of(Some(0.5), None)),
        (of(Some(-1e30), None), of(Some(f64::MAX), None)),
    ] {
        assert!(is_whole(&agreement_svg(&graders, &network).unwrap()));
    }
}

fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -1.0f32..2.0,
        1 => Just(0.5f32),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(1e30f32),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_numbers_break_a_plot(
        values in prop::collection::vec((any_value(), any_value(), any::<bool>()), 0..40),
        d in 1usize..4,
    ) {
        let (y, p): (Vec<f32>, Vec<f32>) = values.iter().map(|v| (v.0, v.1)).unzip();
        let pass: Vec<bool> = values.iter().map(|v| v.2).collect();
        prop_assert!(is_whole(&scatter_svg(&y, &p, Some(&pass)).unwrap()));
        let n = y.len() / d;
        prop_assert!(is_whole(&embedding_svg(&p[..n * d], n, d, &y[..n]).unwrap()));
        let rows: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(e, v)| row(e as u64, "mse", f64::from(v.0), v.2.then_some(f64::from(v.1))))
            .collect();
        prop_assert!(is_whole(&history_svg(&rows).unwrap()));
    }
}

#[test]
fn residuals_lie_above_the_line_where_the_prediction_is_kind() {
    let svg = residuals_svg(&[0.5, 0.5, 0.5, f32::NAN], &[0.7, 0.5, 0.3, 0.1]).unwrap();
    assert!(is_whole(&svg) && svg.contains("3 recordings, 1 left out"));
    let p = points(&svg);
    assert!(p[0][1] < p[1][1] && p[1][1] < p[2][1] && p[0][0] > p[2][0], "{p:?}");
    assert_eq!(p[1][1] - p[0][1], p[2][1] - p[1][1]);
    assert!(residuals_svg(&[0.5], &[]).unwrap_err().to_string().contains("predictions"));
}

#[test]
fn a_confusion_matrix_has_judgements_in_rows() {
    let classes = ["fail", "pass"].map(String::from);
    let svg = confusion_svg("Pass or fail", &classes, &[3, 1, 0, 4]).unwrap();
    assert!(is_whole(&svg) && svg.contains("7 of 8 recordings on the diagonal"));
    // The texts of the cells in their order: a row adds up to all.
    let cells: Vec<&str> =
        svg.lines().map(str::trim).filter(|l| l.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(
        cells,
        ["7 of 8 recordings on the diagonal", "3", "75 %", "1", "25 %", "0", "0 %", "4", "100 %"]
    );
    for (k, counts) in [(0, vec![]), (2, vec![1; 3])] {
        assert!(confusion_svg("", &vec!["a".to_string(); k], &counts).is_err());
    }
    // Many classes, and names that are long or would be tags.
    let many: Vec<String> = (0..101).map(|i| format!("<b>{}", "x".repeat(i))).collect();
    let svg = confusion_svg("", &many, &vec![0; 101 * 101]).unwrap();
    assert!(is_whole(&svg) && !svg.contains("<b>"));
}

#[test]
fn neighbours_are_drawn_on_one_scale_and_not_more_than_a_thousand() {
    let z: Vec<f32> = (0..1200 * 2).map(|i| (i as f32 * 0.618).fract()).collect();
    let svg = projection_svg("Title", Projection::Neighbours, (&z[..24], 12, 2), &[0.5; 12]).unwrap();
    assert!(is_whole(&svg) && svg.contains("Title") && svg.contains("t-SNE"));
    assert_eq!(points(&svg).len(), 12);
    let again = projection_svg("Title", Projection::Neighbours, (&z[..24], 12, 2), &[0.5; 12]).unwrap();
    assert_eq!(svg, again);
}

#[test]
fn a_themed_plot_has_no_colour_of_its_own_but_those_of_values() {
    let plain = scatter_svg(&[0.0, 1.0], &[0.1, 0.9], Some(&[false, true])).unwrap();
    let svg = themed(&plain);
    assert!(plain.contains("\"#") && !svg.contains("\"#"), "{svg}");
    for name in ["paper", "outline", "ink", "muted", "rule", "grid", "blue", "vermilion"] {
        assert!(svg.contains(&format!("=\"var(--{name})\"")), "{name}");
    }
    let svg = themed(&embedding_svg(&[0.0, 1.0, 2.0, 3.0], 2, 2, &[0.0, 1.0]).unwrap());
    assert!(svg.contains("\"#440154\"") && svg.contains("\"#FDE725\""), "the colours of ratings stay");
}

#[test]
fn a_contour_is_a_line_for_each_of_its_voiced_stretches() {
    let svg = contour_svg("Take <1>", &[[60.0; 50], [0.0; 50], [64.0; 50]].concat(), 0.01).unwrap();
    assert!(is_whole(&svg) && svg.contains("Take &lt;1&gt;") && svg.contains("1.5 s, 67 % voiced"));
    // One more is the key's.
    assert_eq!(svg.matches("stroke-width=\"2\"").count(), 3);
    for name in ["C4", "E4"] {
        assert!(svg.contains(name), "{name}");
    }
    assert!(is_whole(&contour_svg("", &[], 0.01).unwrap()));
}

/// A note of number and pitch as it should be from a second on, and what became of it.
fn note(number: usize, pitch: f32, start: f64, outcome: Outcome) -> PerformedNote {
    let is_extra = outcome == Outcome::Extra;
    PerformedNote {
        outcome,
        written: (!is_extra).then_some((number, pitch)),
        span: start..start + 1.0,
        part: start..start + 1.0,
        due: (!is_extra).then_some(start..start + 1.0),
        pitch: (outcome != Outcome::Missing).then_some(if outcome == Outcome::Wrong {
            pitch + 2.0
        } else {
            pitch
        }),
        cents: None,
        late: None,
        longer: None,
    }
}

/// Left, top, right and bottom of what is drawn as rectangles of a class of fill, in drawing order.
fn bars(svg: &str, fill: &str) -> Vec<[i32; 4]> {
    let of = |line: &str, key: &str| -> i32 {
        let rest = &line[line.find(key).unwrap() + key.len()..];
        rest[..rest.find('"').unwrap()].parse().unwrap()
    };
    let all = svg.lines().filter(|l| l.starts_with("<rect") && l.contains(fill));
    all.map(|l| {
        let [x, y, w, h] = [" x=\"", " y=\"", " width=\"", " height=\""].map(|key| of(l, key));
        [x, y, x + w, y + h]
    })
    .collect()
}

#[test]
fn a_take_is_drawn_over_its_notes_as_written() {
    let pitch: Vec<f32> = [[61.0; 100], [65.0; 100], [0.0; 100], [66.0; 100]].concat();
    let contour = Contour::from_pitch(pitch, 0.01).unwrap();
    let notes = [
        note(0, 60.0, 0.0, Outcome::Right),
        note(1, 62.0, 1.0, Outcome::Wrong),
        note(2, 64.0, 2.0, Outcome::Missing),
        note(0, 66.0, 3.0, Outcome::Extra),
    ];
    let costly = [CostlySpan { start: 1.0, end: 3.0, note: Some(2), cost: 0.25 }];
    let take = PerformedTake { contour: &contour, key: 1.0, notes: &notes, costly: &costly };
    let svg = performed_svg(&take, 0.0..4.0).unwrap();
    assert!(is_whole(&svg) && !take.has_strays());
    for word in ["as performed", "as written", "wrong", "missing", "extra", "costs part", "0.25", "F4"] {
        assert!(svg.contains(word), "{word}");
    }
    // The right note and the wrong one, behind the key's bar; the missing one is dashed.
    let written = bars(&svg, "fill=\"#5C5C5C\"");
    assert_eq!(written.len(), 3, "{written:?}");
    let (left, right) = PerformedTake::ACROSS;
    let quarter = (right - left) / 4;
    assert_eq!([written[1][0], written[2][0]], [left, left + quarter]);
    assert_eq!(written[2][2], left + 2 * quarter - 1);
    // In the take's key: the line goes through the middle of the first bar.
    let [_, top, _, bottom] = written[1];
    let middle = (top + bottom) / 2;
    let drawn = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("#0072B2")).nth(1).unwrap();
    assert!((-1..=1).any(|off| drawn.contains(&format!("{left},{}", middle + off))), "{middle} {drawn}");
    let shaded = bars(&svg, "fill=\"#D55E00\"");
    assert_eq!([shaded[1][0], shaded[1][2]], [left + quarter, left + 3 * quarter - 1]);
    // Crosses and plus signs are lines of 3 pixels: two each, and two each in the key.
    assert_eq!(svg.matches("stroke-width=\"3\"").count(), 8);
    let nothing = PerformedTake { contour: &contour, key: 0.0, notes: &[], costly: &[] };
    let svg = performed_svg(&nothing, 1.0..2.0).unwrap();
    assert!(is_whole(&svg) && !svg.contains("as written") && svg.contains("1.5"));
    // A hum two octaves below leaves the rest its room.
    let hum = Contour::from_pitch([[60.0; 100], [36.0; 100]].concat(), 0.01).unwrap();
    let take = PerformedTake { contour: &hum, key: 0.0, notes: &notes, costly: &[] };
    let svg = performed_svg(&take, 0.0..2.0).unwrap();
    assert!(take.has_strays() && !svg.contains(">\nC2") && svg.contains("C4"));
}

#[test]
fn no_notes_break_the_drawing_of_a_take() {
    let contour = Contour::from_pitch(vec![60.0], HOP).unwrap();
    let [mut far, mut odd, mut long] = [
        note(0, 60.0, 0.0, Outcome::Wrong),
        note(1, f32::NAN, 1.0, Outcome::Right),
        note(2, 1e30, 0.0, Outcome::Missing),
    ];
    (far.span, far.due) = (-1e300..1e300, None);
    odd.due = Some(f64::NAN..f64::INFINITY);
    long.due = Some(-5.0..5e9);
    let costly = [CostlySpan { start: f64::NAN, end: 1.0, note: None, cost: f32::NAN }];
    let take = PerformedTake { contour: &contour, key: -400.0, notes: &[far, odd, long], costly: &costly };
    for seconds in [0.0..0.0, 0.0..1.0, 5.0..1e9] {
        assert!(is_whole(&performed_svg(&take, seconds).unwrap()));
    }
}
