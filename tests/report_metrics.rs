//! Metrics against scikit-learn and scipy (values made by `golden/metrics.py`).
use etude::report::metrics::*;
use serde_json::Value;

#[test]
fn agrees_with_scikit_learn() {
    let cases: Value = serde_json::from_str(include_str!("golden/metrics.json")).unwrap();
    for c in cases.as_array().unwrap() {
        let f = |k: &str| -> Vec<f32> {
            c[k].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let q: Vec<bool> = c["q"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        let b: Vec<usize> = c["b"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let (y, p, z) = (f("y"), f("p"), f("z"));
        let m = Metrics::new(&p, &y).with_pass(&p, &q, best_threshold(&p, &q)).with_embedding(&z, &b);
        for (name, got) in m.rows().into_iter().filter(|r| !r.0.starts_with("accuracy")) {
            let want = c[name].as_f64().unwrap();
            assert!((got.unwrap() - want).abs() < 1e-9, "{name}: {got:?}, want {want}");
        }
    }
}

#[test]
fn undefined_is_none() {
    let same = [0.3f32; 7];
    let m = Metrics::new(&same, &same).with_pass(&same, &[true; 7], 0.5).with_embedding(&same, &[1; 7]);
    assert_eq!((m.r2, m.pearson, m.spearman, m.auc), (None, None, None, None));
    assert_eq!((m.silhouette, m.davies_bouldin), (None, None));
    assert_eq!(Metrics::new(&[], &[]), Metrics::default());
    assert_eq!(Metrics::new(&[f32::NAN], &[0.5]).mae, None);
}
