//! Grades on a scale against scikit-learn and krippendorff (values made by `tests/golden/sklearn/grades.py`).

use etude::data::{Graders, RatingScale};
use etude::report::calibration::Calibration;
use etude::report::graded::Graded;
use etude::report::isotonic::Isotonic;
use etude::report::metrics::Metrics;
use etude::report::ordinal::{exact, krippendorff, level, majority};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/sklearn/grades.json")).unwrap()
}

fn numbers(of: &Value) -> Vec<f32> {
    of.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn levels(of: &Value) -> Vec<u8> {
    numbers(of).into_iter().map(|v| v as u8).collect()
}

/// Rows with gaps.
fn table(of: &Value) -> Vec<Vec<Option<f32>>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().map(|v| v as f32)).collect();
    of.as_array().unwrap().iter().map(row).collect()
}

/// Every metric that is named there has its value.
fn has(metrics: &Metrics, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_object().unwrap();
    let mut found = 0;
    for metric in Metrics::TABLE {
        let Some(want) = expected.get(metric.name) else { continue };
        let (got, want) = ((metric.value)(metrics), want.as_f64().unwrap());
        assert!(
            got.is_some_and(|got| (got - want).abs() < tolerance),
            "{what} {}: {got:?}, want {want}",
            metric.name
        );
        found += 1;
    }
    assert!(found >= 5, "{what}: {found} metrics compared");
}

#[test]
fn levels_are_measured_as_scikit_learn_does() {
    for (i, case) in golden()["pairs"].as_array().unwrap().iter().enumerate() {
        let metrics = Metrics::default().with_levels(&levels(&case["p"]), &levels(&case["y"]));
        has(&metrics, case, 1e-12, &format!("case {i}"));
    }
}

#[test]
fn alpha_is_krippendorffs() {
    for (i, case) in golden()["alphas"].as_array().unwrap().iter().enumerate() {
        let takes: Vec<Vec<Option<u8>>> = table(&case["takes"])
            .iter()
            .map(|take| take.iter().map(|v| v.map(|v| v as u8)).collect())
            .collect();
        let (got, want) = (krippendorff(&takes).unwrap(), case["alpha"].as_f64().unwrap());
        assert!((got - want).abs() < 1e-12, "table {i}: {got}, want {want}");
    }
    // As Krippendorff printed it for his example.
    let own = golden()["alphas"][0]["alpha"].as_f64().unwrap();
    assert!((own - 0.815).abs() < 5e-4);
}

/// Three experts in five passes, on a scale of four.
fn graders() -> Graders {
    let experts = ["A", "B", "A", "C", "C"].map(String::from).to_vec();
    Graders { scale: RatingScale::new(1.0, 4.0).unwrap(), experts }
}

fn graded(takes: &[Vec<Option<f32>>]) -> Graded {
    Graded::new(&graders(), takes.iter().map(Vec::as_slice))
}

#[test]
fn graders_and_network_are_measured_by_the_same_labels() {
    for (i, case) in golden()["several"].as_array().unwrap().iter().enumerate() {
        let graded = graded(&table(&case["takes"]));
        let labels: Vec<Option<f32>> = table(&Value::Array(vec![case["labels"].clone()])).remove(0);
        assert_eq!(graded.labels(), labels.iter().map(|l| l.map(|l| l as u8)).collect::<Vec<_>>());
        assert!(labels.contains(&None) && labels.iter().flatten().count() > 20);

        let predictions = numbers(&case["predictions"]);
        has(
            &graded.measure(Metrics::default(), &predictions),
            &case["network"],
            1e-12,
            &format!("network {i}"),
        );
        let as_grader = graded.in_their_place(&predictions, &predictions).unwrap();
        has(&as_grader, &case["as_grader"], 1e-6, &format!("as grader {i}"));

        let pass: Option<Vec<bool>> =
            case["pass"].as_array().map(|pass| pass.iter().map(|v| v.as_bool().unwrap()).collect());
        let agreement = graded.agreement(pass.as_deref(), None).unwrap();
        has(&agreement, &case["graders"], 1e-6, &format!("graders {i}"));
        assert_eq!((agreement.auc.is_some(), agreement.accuracy), (pass.is_some(), None));
    }
}

#[test]
fn an_expert_decides_by_a_threshold_of_other_takes() {
    let takes = |grades: &[[f32; 2]]| {
        let take = |[a, b]: &[f32; 2]| [*a, *b, *a, *b, *b].map(Some).to_vec();
        graded(&grades.iter().map(take).collect::<Vec<_>>())
    };
    // A and B pass from 2/3 on, C, who gave what B gave, likewise; then A errs once in four takes.
    let known = takes(&[[0.0, 0.0], [1.0, 1.0]]).thresholds(&[false, true]);
    assert_eq!(known, [0.5; 3]);
    let now = takes(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]);
    let agreement = now.agreement(Some(&[false, true, false, false]), Some(&known)).unwrap();
    assert!((agreement.accuracy.unwrap() - (0.75 + 1.0 + 1.0) / 3.0).abs() < 1e-12);
}

#[test]
fn a_grade_is_the_nearest_and_a_majority_more_than_half() {
    let grades = [-0.2, 0.0, 0.16, 0.17, 0.5, 0.8333, 0.8334, 1.0, 1.5].map(|p| level(p, 4).unwrap());
    assert_eq!(grades, [0, 0, 0, 1, 2, 2, 3, 3, 3], "halves go up, what is beyond the scale to its end");
    assert_eq!([level(f32::NAN, 4), level(f32::INFINITY, 4)], [None; 2]);
    // As `majority_score` has it in MASTmelody: nothing of 2 2 1 1 3, and of 1 2 2 3 4, where 2 is the most frequent.
    for (grades, expected) in [
        (&[1, 1, 2, 2, 3][..], None),
        (&[1, 2, 2, 3, 4], None),
        (&[1, 2, 2, 2, 4], Some(2)),
        (&[3, 3, 2], Some(3)),
        (&[3, 2], None),
        (&[3, 3], Some(3)),
        (&[3], None),
        (&[], None),
    ] {
        assert_eq!(majority(grades), expected, "{grades:?}");
    }
}

#[test]
fn what_cannot_be_measured_is_none() {
    assert_eq!(Metrics::default().with_levels(&[], &[]), Metrics::default());
    assert_eq!(exact(&[1, 2], &[1]), None);
    let some = Some(2);
    for takes in
        [vec![], vec![vec![some, None], vec![None, Some(1)]], vec![vec![some, some], vec![some, some]]]
    {
        assert_eq!(krippendorff(&takes), None, "{takes:?}");
    }
    let takes = vec![vec![Some(0.0); 5], vec![Some(1.0); 5]];
    let plain = Metrics::default();
    for predictions in [&[0.1, f32::NAN][..], &[0.1]] {
        assert_eq!(graded(&takes).measure(plain.clone(), predictions), plain);
    }
    // One grader has nobody to agree with; a scale of shares has no steps.
    let graders = |scale: &str, experts: &[&str]| Graders {
        scale: scale.parse().unwrap(),
        experts: experts.iter().map(|name| name.to_string()).collect(),
    };
    let of = |graders: &Graders| {
        let graded = Graded::new(graders, takes.iter().map(|take| &take[..graders.experts.len()]));
        (graded.agreement(None, None), graded.measure(plain.clone(), &[0.0, 1.0]))
    };
    assert_eq!(of(&graders("1..4", &["A", "A"])).0, None);
    for scale in ["0..1", "0..2.5", "0..1000"] {
        let (agreement, network) = of(&graders(scale, &["A", "B"]));
        assert_eq!((agreement.unwrap().mae, network), (Some(0.0), plain.clone()), "{scale}");
    }
    assert_eq!(of(&graders("1..4", &["A", "B"])).1.grade_accuracy, Some(1.0));
}

#[test]
fn the_monotone_map_is_scikit_learns() {
    for case in golden()["isotonic"].as_array().unwrap() {
        let map = Isotonic::fit(&numbers(&case["x"]), &numbers(&case["y"])).unwrap();
        map.check().unwrap();
        for (at, to) in numbers(&case["at"]).into_iter().zip(numbers(&case["to"])) {
            assert!((map.at(at) - to).abs() < 1e-6, "{at} becomes {}, want {to}", map.at(at));
        }
    }
    assert_eq!(Isotonic::fit(&[], &[]), None);
    assert_eq!(Isotonic::fit(&[0.5], &[f32::NAN]), None);
    assert_eq!(Isotonic::fit(&[0.5, 0.6], &[1.0]), None);
    assert!(Isotonic::fit(&[0.5], &[1.0]).unwrap().at(f32::NAN).is_nan());
}

#[test]
fn a_calibration_learns_what_most_said() {
    // Most gave 1, yet the mean of each is 0.25: what a network learns to say.
    let takes = vec![vec![Some(0.0), Some(0.0), Some(0.0), Some(1.0), Some(0.25)]; 3];
    let mut high = vec![vec![Some(1.0); 5]; 2];
    high.extend(takes);
    let (graded, predictions) = (graded(&high), [0.9, 0.8, 0.25, 0.2, 0.3]);
    let calibration = Calibration::fit(graders().scale, &graded, &predictions).unwrap();
    let grades = [0.25, 0.85, 0.0, 1.0].map(|p| calibration.grade(p));
    assert_eq!(grades, [Some(1.0), Some(4.0), Some(1.0), Some(4.0)]);
    let calibrated = predictions.map(|p| calibration.at(p));
    let exact = |predictions: &[f32]| graded.measure(Metrics::default(), predictions).grade_accuracy;
    assert_eq!((exact(&predictions), exact(&calibrated)), (Some(0.2), Some(1.0)));
    assert_eq!(calibration.grade(f32::NAN), None);

    let json = serde_json::to_value(&calibration).unwrap();
    let back = |json: &Value| serde_json::from_value::<Calibration>(json.clone()).unwrap();
    assert_eq!(back(&json), calibration);
    calibration.check().unwrap();
    for (key, value) in [
        ("scale", serde_json::json!("0..1")),
        ("map", serde_json::json!({"x": [], "y": []})),
        ("map", serde_json::json!({"x": [0.1, 0.1], "y": [0.0, 1.0]})),
        ("map", serde_json::json!({"x": [0.1, 0.2], "y": [0.5, 0.4]})),
        ("map", serde_json::json!({"x": [0.1, 0.2], "y": [0.5, 1.4]})),
        ("map", serde_json::json!({"x": [0.1, 0.2], "y": [0.5]})),
    ] {
        let mut forged = json.clone();
        forged[key] = value;
        assert!(back(&forged).check().is_err(), "{forged}");
    }
    let alone = Graded::new(&graders(), [&[Some(0.0), None, None, None, None][..]]);
    let message = Calibration::fit(graders().scale, &alone, &[0.5]).unwrap_err().to_string();
    assert!(message.contains("no take has a grade that most"), "{message}");
}
