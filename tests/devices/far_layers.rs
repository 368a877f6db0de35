//! The last elements of convolutions, batch normalisation and linear layers of nearly 2^32 elements, as many as their ops take;
//! `far.rs` says how.
//!
//! Not here: gradients of weights and biases, and statistics, whose blocks each walk over a good part of all elements; and
//! `conv_block`, whose buffers have no more elements either (`count` of `src/ops/check.rs` for each) and whose places are of 64
//! bits.

use crate::far::{Far, floats, near, number, run, words};
use etude::device::cuda::CudaOnCpu;
use etude::kernel::{Elem, Kernel, Params};
use etude::kernels::batch_norm::{self, BatchNormParams};
use etude::kernels::conv1d::{self, Conv1dParams};
use etude::kernels::conv2d::{self, Conv2dParams};
use etude::kernels::linear::{self, LinearParams};

/// Most elements of a buffer.
const MOST: u64 = u32::MAX as u64;
/// Positions at the end of the last sample that hold numbers, and those that are looked at.
const FILLED: u64 = 3000;
const SEEN: u64 = 100;

/// A convolution of one group: input height and width, taps along both; stride, padding and dilation of both.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: u64,
    cin: u64,
    cout: u64,
    size: [u64; 2],
    taps: [u64; 2],
    stride: u64,
    padding: u64,
    dilation: u64,
}

impl Shape {
    fn output(&self) -> [u64; 2] {
        // One row has no padding above.
        [0, 1].map(|axis| {
            let padded = self.size[axis] + 2 * self.pad(axis);
            (padded - (self.taps[axis] - 1) * self.dilation - 1) / self.stride(axis) + 1
        })
    }

    fn is_flat(&self) -> bool {
        self.size[0] == 1
    }

    fn pad(&self, axis: usize) -> u64 {
        if axis == 0 && self.is_flat() { 0 } else { self.padding }
    }

    fn stride(&self, axis: usize) -> u64 {
        if axis == 0 && self.is_flat() { 1 } else { self.stride }
    }

    fn inputs(&self) -> u64 {
        self.size[0] * self.size[1]
    }

    fn outputs(&self) -> u64 {
        self.output()[0] * self.output()[1]
    }

    fn params(&self) -> Params {
        let u = |v: u64| u32::try_from(v).unwrap();
        let ([h, w], [kh, kw], [oh, ow]) = (self.size.map(u), self.taps.map(u), self.output().map(u));
        let [batch, cin, cout] = [self.batch, self.cin, self.cout].map(u);
        let [stride, padding, dilation] = [self.stride, self.padding, self.dilation].map(u);
        let (groups, bias, splits, tf32) = (1, 1, 1, 0);
        if self.is_flat() {
            let (t, k, out) = (w, kw, ow);
            let p = Conv1dParams {
                batch,
                cin,
                cout,
                groups,
                t,
                k,
                out,
                stride,
                padding,
                dilation,
                bias,
                splits,
                tf32,
            };
            return Params::new(&p);
        }
        let ([stride_h, stride_w], [padding_h, padding_w], [dilation_h, dilation_w]) =
            ([stride; 2], [padding; 2], [dilation; 2]);
        let p = Conv2dParams {
            batch,
            cin,
            cout,
            groups,
            h,
            w,
            kh,
            kw,
            oh,
            ow,
            stride_h,
            stride_w,
            padding_h,
            padding_w,
            dilation_h,
            dilation_w,
            bias,
            splits,
            tf32,
        };
        Params::new(&p)
    }

    /// Each pair of an output and an input position with the tap between them, of those that `output` meets.
    fn meets(&self, output: u64) -> Vec<(u64, u64)> {
        let width = self.output()[1];
        let at = [output / width, output % width];
        let mut met = Vec::new();
        for (r, c) in (0..self.taps[0]).flat_map(|r| (0..self.taps[1]).map(move |c| (r, c))) {
            let of = |axis: usize, tap: u64| {
                let place =
                    (at[axis] * self.stride(axis) + tap * self.dilation).checked_sub(self.pad(axis))?;
                (place < self.size[axis]).then_some(place)
            };
            if let (Some(row), Some(column)) = (of(0, r), of(1, c)) {
                met.push((row * self.size[1] + column, r * self.taps[1] + c));
            }
        }
        met
    }
}

/// Numbers at the end of the last sample's `channels` of `plane` positions: element of a channel there, 0 elsewhere.
fn filled(of: u64, channel: u64, plane: u64, at: u64) -> f64 {
    if at + FILLED < plane { 0.0 } else { number(of, channel, at).into() }
}

fn fill(far: &Far, of: u64, [batch, channels, plane]: [u64; 3]) {
    for c in 0..channels {
        let first = ((batch - 1) * channels + c) * plane;
        let from = plane.saturating_sub(FILLED);
        far.put((first + from) as usize, (from..plane).map(|at| filled(of, c, plane, at) as f32));
    }
}

/// The last positions of a convolution and of the gradient of its input.
fn convolution([fwd, bwd_x]: [&'static Kernel; 2], s: Shape) {
    let device = CudaOnCpu::with_seed(0).unwrap();
    let (inputs, outputs, taps) = (s.inputs(), s.outputs(), s.taps[0] * s.taps[1]);
    let (n, m) = (s.batch * s.cin * inputs, s.batch * s.cout * outputs);
    assert!(n.max(m) <= MOST && n.max(m) > MOST - (1 << 27), "{s:?}: {n} and {m} elements");
    let [x, dx] = [0, 1].map(|_| Far::new(&device, Elem::Real, n as usize));
    let [y, dy] = [0, 1].map(|_| Far::new(&device, Elem::Real, m as usize));
    let weight = |c: u64, i: u64, tap: u64| number(2, c * s.cin + i, tap);
    let every = (0..s.cout).flat_map(|c| (0..s.cin).map(move |i| (c, i)));
    let w: Vec<f32> = every.flat_map(|(c, i)| (0..taps).map(move |tap| weight(c, i, tap))).collect();
    let b: Vec<f32> = (0..s.cout).map(|c| number(3, c, 0)).collect();
    fill(&x, 0, [s.batch, s.cin, inputs]);
    fill(&dy, 1, [s.batch, s.cout, outputs]);
    let (w, b) = (floats(&w), floats(&b));
    // The last places of each phase and each tile of channels.
    let last = |kernel: &Kernel| {
        let blocks: u64 = (kernel.cuda.grid)(&s.params()).map(u64::from).iter().product();
        (blocks - 2 * (s.stride * s.stride * s.cin.max(s.cout).div_ceil(8))..blocks).collect::<Vec<_>>()
    };
    run(&device, fwd, &[&x, &w, &b, &y], s.params(), &last(fwd));
    run(&device, bwd_x, &[&dy, &w, &dx], s.params(), &last(bwd_x));
    for (c, o) in (0..s.cout).flat_map(|c| (outputs - SEEN..outputs).map(move |o| (c, o))) {
        let of = |i: u64| {
            let terms = s.meets(o).into_iter();
            terms.map(|(at, tap)| filled(0, i, inputs, at) * f64::from(weight(c, i, tap))).sum::<f64>()
        };
        let want = f64::from(number(3, c, 0)) + (0..s.cin).map(of).sum::<f64>();
        let at = ((s.batch - 1) * s.cout + c) * outputs + o;
        near(y.get(at as usize), want, || format!("{} of {s:?}: channel {c}, position {o}", fwd.name));
    }
    let met: Vec<_> = (outputs.saturating_sub(FILLED)..outputs).map(|o| (o, s.meets(o))).collect();
    for (i, at) in (0..s.cin).flat_map(|i| (inputs - SEEN..inputs).map(move |at| (i, at))) {
        let mut want = 0.0;
        for (o, tap) in met.iter().flat_map(|(o, m)| m.iter().filter(|m| m.0 == at).map(|m| (*o, m.1))) {
            want += (0..s.cout).map(|c| filled(1, c, outputs, o) * f64::from(weight(c, i, tap))).sum::<f64>();
        }
        let place = ((s.batch - 1) * s.cin + i) * inputs + at;
        near(dx.get(place as usize), want, || format!("{} of {s:?}: channel {i}, position {at}", bwd_x.name));
    }
}

#[test]
fn conv1d_of_as_many_positions_as_there_can_be() {
    let of = |batch, cin: u64, cout: u64, stride: u64| {
        // Positions, so that the larger side has as many elements as may be.
        let t = MOST / (batch * cin.max(cout.div_ceil(stride)));
        let size = [1, t / stride * stride - 8];
        Shape { batch, cin, cout, size, taps: [1, 5], stride, padding: 3, dilation: 2 }
    };
    // The narrow way, one row and several, with a stride; tiles of 32 rows, of 64, of the other side, and of both.
    for s in
        [of(3, 1, 1, 1), of(3, 2, 6, 3), of(2, 3, 20, 1), of(1, 3, 40, 1), of(2, 40, 3, 2), of(2, 20, 20, 1)]
    {
        convolution([&conv1d::FWD, &conv1d::BWD_X], s);
    }
}

#[test]
fn conv2d_of_as_many_positions_as_there_can_be() {
    let of = |batch, cin: u64, cout: u64, stride: u64| {
        let width = 50;
        let rows = MOST / (batch * cin.max(cout.div_ceil(stride * stride)) * width);
        let size = [rows / stride * stride - 8, width];
        Shape { batch, cin, cout, size, taps: [3, 2], stride, padding: 1, dilation: 2 }
    };
    for s in [of(3, 1, 1, 1), of(3, 2, 6, 2), of(2, 3, 20, 1), of(2, 40, 3, 2), of(2, 20, 20, 1)] {
        convolution([&conv2d::FWD, &conv2d::BWD_X], s);
    }
}

#[test]
fn linear_layers_of_as_many_rows_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    for [inputs, outputs] in [[17, 3], [3, 17], [16, 4]] {
        let batch = MOST / inputs.max(outputs);
        let p = LinearParams {
            batch: batch as u32,
            inputs: inputs as u32,
            outputs: outputs as u32,
            activation: linear::IDENTITY,
            bias: 1,
            wanted: linear::WANT_X,
            threshold: 0,
            scale: 1.0,
            stream: 0,
        };
        let new = |count| Far::new(&device, Elem::Real, (batch * count) as usize);
        let (x, dx, y, dy) = (new(inputs), new(inputs), new(outputs), new(outputs));
        let w: Vec<f32> = (0..outputs).flat_map(|o| (0..inputs).map(move |i| number(2, o, i))).collect();
        let b: Vec<f32> = (0..outputs).map(|o| number(3, o, 0)).collect();
        let (w, b, state) = (floats(&w), floats(&b), words(&[0; 3]));
        let block = (batch - 1) / 32;
        for r in block * 32..batch {
            x.put((r * inputs) as usize, (0..inputs).map(|i| number(0, r, i)));
            dy.put((r * outputs) as usize, (0..outputs).map(|o| number(1, r, o)));
        }
        let [dw, db] = [inputs * outputs, outputs].map(|n| floats(&vec![0.0; n as usize]));
        run(&device, &linear::FWD, &[&state, &x, &w, &b, &y], Params::new(&p), &[block]);
        let bufs = [&state, &x, &w, &y, &dy, &dx, &dw, &db];
        run(&device, &linear::BWD, &bufs, Params::new(&p), &[block]);
        let product = |(a, b): (f32, f32)| f64::from(a) * f64::from(b);
        for r in block * 32..batch {
            for o in 0..outputs {
                let terms = (0..inputs).map(|i| product((number(0, r, i), number(2, o, i))));
                let want = f64::from(number(3, o, 0)) + terms.sum::<f64>();
                near(y.get((r * outputs + o) as usize), want, || {
                    format!("[{inputs}, {outputs}]: y {r}, {o}")
                });
            }
            for i in 0..inputs {
                let want = (0..outputs).map(|o| product((number(1, r, o), number(2, o, i)))).sum();
                near(dx.get((r * inputs + i) as usize), want, || {
                    format!("[{inputs}, {outputs}]: dx {r}, {i}")
                });
            }
        }
    }
}

#[test]
fn batch_normalisation_of_as_many_values_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    // Quads, single values, and short runs of which a block owns several channels.
    for [channels, inner] in [[1000, 1000], [1000, 1001], [1000, 7]] {
        let batch = MOST / (channels * inner);
        let p = BatchNormParams::new([batch, channels, inner].map(|v| v as u32), 0.5, 0.1);
        let [x, y] = [0, 1].map(|_| Far::new(&device, Elem::Real, (batch * channels * inner) as usize));
        let of = |what: u64| floats(&(0..channels).map(|c| number(what, c, 0)).collect::<Vec<_>>());
        let variance = floats(&vec![1.5; channels as usize]);
        let at = |b: u64, c: u64, s: u64| ((b * channels + c) * inner + s) as usize;
        let seen = |b: u64| (channels - 2..channels).flat_map(move |c| (0..inner).map(move |s| (b, c, s)));
        seen(batch - 1).for_each(|(b, c, s)| x.put(at(b, c, s), [number(0, c, s)]));
        let blocks = u64::from((batch_norm::EVAL_FWD.cuda.grid)(&Params::new(&p))[0]);
        // The last splits of the last channels.
        let [last, before] = [blocks - 1, blocks - 1 - p.splits() as u64];
        let bufs = [&x, &of(1), &of(2), &of(3), &variance, &y];
        run(&device, &batch_norm::EVAL_FWD, &bufs, Params::new(&p), &[last, before]);
        for (b, c, s) in seen(batch - 1) {
            let [value, gamma, beta, mean] =
                [number(0, c, s), number(1, c, 0), number(2, c, 0), number(3, c, 0)].map(f64::from);
            let want = gamma * (value - mean) / 2f64.sqrt() + beta;
            near(y.get(at(b, c, s)), want, || format!("[{batch}, {channels}, {inner}]: {b}, {c}, {s}"));
        }
    }
}
