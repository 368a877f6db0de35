//! The contrastive loss and its gradient against vectors computed by PyTorch in f64, whose origin
//! `tests/golden/design/cases.json` lists: random, duplicate and zero rows, one label, labels on bin edges.

use crate::vectors;
use etude::cases::relative;
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::contrastive::{ContrastiveOptions, Metric, bins, contrastive, contrastive_halves};
use safetensors::SafeTensors;

fn numbers(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    vectors::tensor(file, name).unwrap().1
}

/// Loss and gradient on `device`, of all pairs or of the given ones.
fn run(
    device: &dyn Device,
    z: &[f64],
    labels: &[f64],
    pairing: Option<&[u32]>,
    opts: ContrastiveOptions,
) -> (f64, Vec<f64>) {
    let n = labels.len();
    let (zb, lb) = (device.upload(z).unwrap(), device.upload(labels).unwrap());
    let mut g = Graph::new();
    let zv = g.leaf(&zb, None, &[n, z.len() / n]).unwrap();
    let lv = g.bind(&lb, &[n]).unwrap();
    let loss = match pairing {
        None => contrastive(&mut g, zv, lv, opts).unwrap(),
        Some(p) => {
            let pv = g.bind(&device.upload(p).unwrap(), &[n / 2, 2]).unwrap();
            contrastive_halves(&mut g, zv, lv, pv, opts).unwrap()
        }
    };
    g.backward(loss).unwrap();
    let dz = g.grad(zv).unwrap();
    let mut step = g.compile(device, &[loss, dz]).unwrap();
    assert_eq!(step.launches(), 1, "value and gradient are one launch");
    step.poison(device).unwrap();
    step.run().unwrap();
    let read = |v| device.download_f64(step.buf(v).unwrap()).unwrap();
    (read(loss)[0], read(dz))
}

/// The oracle, then the f32 device, with the tolerance of each: f32 inputs are rounded by 6e-8, which
/// a hinge near its corner or a short distance amplifies.
fn devices() -> [(Box<dyn Device>, f64); 3] {
    [
        (Box::new(Cpu::<f64>::new(1).unwrap()), 1e-12),
        (Box::new(Cpu::<f32>::new(1).unwrap()), 2e-6),
        (Box::new(Cpu::<f32>::new(3).unwrap()), 2e-6),
    ]
}

fn check(what: &str, got: &(f64, Vec<f64>), want: &(f64, Vec<f64>), tolerance: f64) {
    let loss = (got.0 - want.0).abs();
    assert!(loss <= tolerance * want.0, "{what}: loss {} for {}", got.0, want.0);
    let grad = relative(&got.1, &want.1);
    assert!(grad <= tolerance, "{what}: gradient off by {grad:e}");
}

#[test]
fn all_pairs_match_pytorch() {
    let (bytes, table) =
        (vectors::read("design/contrastive_all.safetensors"), vectors::read("design/cases.json"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let table: serde_json::Value = serde_json::from_slice(&table).unwrap();
    let table = table["contrastive_all"].as_array().unwrap();
    assert_eq!(table.len(), 24);
    for case in table {
        let k = case["case"].as_u64().unwrap();
        let get = |name: &str| numbers(&file, &format!("k{k}.{name}"));
        let metric = match case["metric"].as_str().unwrap() {
            "euclid" => Metric::Euclidean,
            _ => Metric::Cosine,
        };
        let margin = case["margin"].as_f64().unwrap() as f32;
        let opts = ContrastiveOptions { metric, margin, ..Default::default() };
        let labels = get("label");
        let want = (get("loss")[0], get("grad"));
        for (device, tolerance) in devices() {
            check(&case.to_string(), &run(&*device, &get("h"), &labels, None, opts), &want, tolerance);
        }
        let ours = bins(&get("y"), case["bins"].as_u64().unwrap() as usize).unwrap();
        assert_eq!(ours.iter().map(|&b| f64::from(b)).collect::<Vec<_>>(), labels, "{case}");
    }
}

#[test]
fn matched_halves_match_the_papers_form() {
    let bytes = vectors::read("design/contrastive_halves.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let both = |a, b| [numbers(&file, a), numbers(&file, b)].concat();
    let labels: Vec<f64> = bins(&both("y1", "y2"), 5).unwrap().into_iter().map(f64::from).collect();
    let half = labels.len() as u32 / 2;
    // Any order of the pairs, either order in a pair.
    let pairing: Vec<u32> = (0..half).rev().flat_map(|i| [half + i, i]).collect();
    let want = (numbers(&file, "loss")[0], both("g1", "g2"));
    for (device, tolerance) in devices() {
        let got = run(&*device, &both("h1", "h2"), &labels, Some(&pairing), ContrastiveOptions::default());
        check("halves", &got, &want, tolerance);
    }
}
