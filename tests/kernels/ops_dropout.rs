//! Dropout: the generator's known answers, the rate, and what the mask depends on.

use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::kernels::dropout::philox4x32;
use etude::ops::dropout::{DropoutOptions, dropout};

/// Vectors published with Random123 (Salmon et al. 2011), `philox4x32` with 10 rounds.
#[test]
fn philox_gives_its_known_answers() {
    let f = u32::MAX;
    assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox4x32([f; 4], [f; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    assert_eq!(
        philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

fn mask(n: usize, state: [u32; 3], probability: f32, stream: u32) -> (Vec<f32>, Vec<f32>) {
    let cpu = Cpu::<f32>::new(2).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let ones = device.upload(&vec![1f32; n]).unwrap();
    let x = g.leaf(&ones, None, &[n]).unwrap();
    let s = g.bind(&device.upload(&state).unwrap(), &[3]).unwrap();
    let y = dropout(&mut g, x, s, DropoutOptions { probability, stream }).unwrap();
    let up = g.bind(&ones, &[n]).unwrap();
    g.backward_from(y, up).unwrap();
    let dx = g.grad(x).unwrap();
    let mut step = g.compile(device, &[y, dx]).unwrap();
    step.poison(device).unwrap();
    step.run().unwrap();
    let read = |v| device.download(step.buf(v).unwrap()).unwrap();
    (read(y), read(dx))
}

#[test]
fn the_mask_is_philox_word_by_word_and_backward_has_the_same() {
    let (state, n) = ([7, 11, 13], 40_003);
    let (y, dx) = mask(n, state, 0.25, 5);
    assert_eq!(y, dx);
    for (i, y) in y.iter().enumerate() {
        let word = philox4x32([(i / 4) as u32, 13, 5, 0], [7, 11])[i % 4];
        assert_eq!(*y, if word < 1 << 30 { 0.0 } else { 4.0 / 3.0 }, "element {i}");
    }
    let kept = y.iter().filter(|&&v| v != 0.0).count() as f64 / n as f64;
    // Four standard deviations of the mean of 40,003 draws.
    assert!((kept - 0.75).abs() < 4.0 * (0.75 * 0.25 / n as f64).sqrt(), "kept {kept}");
}

#[test]
fn seed_step_and_stream_each_give_another_mask_and_nothing_else_does() {
    let base = mask(1000, [1, 2, 3], 0.5, 0).0;
    assert_eq!(base, mask(1000, [1, 2, 3], 0.5, 0).0);
    for (state, stream) in [([9, 2, 3], 0), ([1, 9, 3], 0), ([1, 2, 9], 0), ([1, 2, 3], 9)] {
        let other = mask(1000, state, 0.5, stream).0;
        let same = base.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!((400..600).contains(&same), "{same} of 1000 elements alike");
    }
    assert_eq!(mask(100, [1, 2, 3], 0.0, 0).0, vec![1.0; 100]);
}

#[test]
fn a_linear_layer_that_drops_its_input_is_dropout_then_linear_bit_for_bit() {
    use etude::cases::normal;
    use etude::ops::linear::{Activation, dropped_linear, linear};
    let cpu = Cpu::<f32>::new(2).unwrap();
    let device: &dyn Device = &cpu;
    // One piece of work and several; rows that are no multiple of the generator's four words.
    for [batch, inputs, outputs] in [[3, 5, 2], [1031, 67, 33]] {
        let run = |folded: bool| {
            let mut g = Graph::new();
            let leaf = |g: &mut Graph, seed, shape: &[usize]| {
                let buf = device.upload(&normal(seed, shape.iter().product())).unwrap();
                g.leaf(&buf, None, shape).unwrap()
            };
            let x = leaf(&mut g, 1, &[batch, inputs]);
            let (w, b) = (leaf(&mut g, 2, &[outputs, inputs]), leaf(&mut g, 3, &[outputs]));
            let up = leaf(&mut g, 4, &[batch, outputs]);
            let state = g.bind(&device.upload(&[3u32, 1, 4]).unwrap(), &[3]).unwrap();
            let options = DropoutOptions { probability: 0.3, stream: 2 };
            let y = if folded {
                dropped_linear(&mut g, x, Some((state, options)), w, Some(b), Activation::Relu).unwrap()
            } else {
                let x = dropout(&mut g, x, state, options).unwrap();
                linear(&mut g, x, w, Some(b), Activation::Relu).unwrap()
            };
            g.backward_from(y, up).unwrap();
            let all = [y, g.grad(x).unwrap(), g.grad(w).unwrap(), g.grad(b).unwrap()];
            let mut step = g.compile(device, &all).unwrap();
            assert_eq!(step.launches(), if folded { 2 } else { 4 });
            step.poison(device).unwrap();
            step.run().unwrap();
            all.map(|v| device.download(step.buf(v).unwrap()).unwrap())
        };
        assert_eq!(run(true), run(false), "{batch} {inputs} {outputs}");
    }
}

#[test]
fn misuse_is_an_error() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let x = g.bind(&device.upload(&[0f32; 3]).unwrap(), &[3]).unwrap();
    let state = g.bind(&device.upload(&[0u32; 3]).unwrap(), &[3]).unwrap();
    for probability in [-0.1, 1.0, f32::NAN, f32::INFINITY] {
        let e = dropout(&mut g, x, state, DropoutOptions { probability, stream: 0 }).unwrap_err().to_string();
        assert!(e.contains("dropout: probability"), "{e}");
    }
    let e = dropout(&mut g, x, x, DropoutOptions { probability: 0.5, stream: 0 }).unwrap_err().to_string();
    assert!(e.contains("dropout: state"), "{e}");
}
