//! The plots: what they show, and that no input breaks them.
#![cfg(feature = "cli")]

use etude::report::files::EpochRow;
use etude::report::plots::{embedding_svg, history_svg, scatter_svg};
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
    let r2 = etude::report::metrics::r2(&p, &y).unwrap();
    for word in [&format!("R² {r2:.3}"), "pass", "fail", "identity"] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(scatter_svg(&y, &p[..3], None).unwrap_err().to_string().contains("predictions"));
    assert!(embedding_svg(&[0.0; 7], 2, 3, &[0.0; 2]).unwrap_err().to_string().contains("[2, 3]"));
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
