//! conv1d against PyTorch's results in f64 (`tests/golden/design/conv1d.safetensors`).

use crate::vectors::{self, tensor};
use etude::cases::relative;
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use safetensors::SafeTensors;

/// Compares `y`, `gx`, `gw` and `gb` of every case.
fn check(device: &dyn Device, tolerance: f64) {
    let bytes = vectors::read("design/conv1d.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for params in file.names().into_iter().filter(|n| n.ends_with(".params")) {
        let case = params.trim_end_matches(".params");
        let values: Vec<usize> = tensor(&file, params).unwrap().1.iter().map(|&v| v as usize).collect();
        let &[batch, cin, cout, t, taps, stride, padding, dilation, groups] = values.as_slice() else {
            panic!("{params} has {} values", values.len())
        };
        let mut g = Graph::new();
        let mut input = |name: &str, shape: &[usize]| {
            let (stored, values) = tensor(&file, &format!("{case}.{name}")).unwrap();
            assert_eq!(stored, shape, "{case}.{name}");
            g.leaf(&device.upload(&values).unwrap(), None, shape).unwrap()
        };
        let x = input("x", &[batch, cin, t]);
        let w = input("w", &[cout, cin / groups, taps]);
        let b = input("b", &[cout]);
        let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
        let y = conv1d(&mut g, x, w, Some(b), options).unwrap();
        let (gy_shape, gy) = tensor(&file, &format!("{case}.gy")).unwrap();
        assert_eq!(g.shape(y), gy_shape, "{case}");
        let gy = g.bind(&device.upload(&gy).unwrap(), &gy_shape).unwrap();
        g.backward_from(y, gy).unwrap();
        let results =
            [("y", y), ("gx", g.grad(x).unwrap()), ("gw", g.grad(w).unwrap()), ("gb", g.grad(b).unwrap())];
        let mut step = g.compile(device, &results.map(|r| r.1)).unwrap();
        step.poison(device).unwrap();
        step.run().unwrap();
        for (name, var) in results {
            let got = device.download_f64(step.buf(var).unwrap()).unwrap();
            let (shape, want) = tensor(&file, &format!("{case}.{name}")).unwrap();
            assert_eq!(g.shape(var), shape, "{case}.{name}");
            let error = relative(&got, &want);
            assert!(error <= tolerance, "{case}.{name} of {values:?}: {error:e}");
        }
        seen += 1;
    }
    assert_eq!(seen, 8, "cases in the file");
}

#[test]
fn the_oracle_agrees_with_pytorch() {
    // Both in double precision; only the order of sums of at most a few hundred terms differs.
    check(&Cpu::<f64>::new(1).unwrap(), 1e-14);
}

#[test]
fn f32_agrees_with_pytorch() {
    // Inputs rounded to f32 (6e-8 each), and as many roundings in sums of a hundred terms.
    check(&Cpu::<f32>::new(1).unwrap(), 5e-7);
}
