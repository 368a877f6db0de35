//! Indices beyond 2^32: the CUDA sources run on the CPU over buffers that are reserved rather than filled. A page that is only
//! read is the machine's one page of zeros, one that nobody touches costs nothing, and only those blocks of a launch run that
//! have the last elements, or those on either side of the 2^32nd. An index of 32 bits reads and writes near the start instead.
//!
//! `far_pairs.rs` has the kernels that take more than 2^32 elements. All other ops refuse them (`count` of
//! `src/ops/check.rs`, and `Graph::all_of`), so that their indices fit 32 bits as long as they are unsigned and nothing is added
//! to the last: what is here, and for layers in `far_layers.rs`, are launches of 2^32 - 1 elements, or as many as the op takes.

use etude::device::cuda::CudaOnCpu;
use etude::device::{Buf, Launch};
use etude::kernel::{Elem, Kernel, Params};
use etude::kernels::{activation, dropout, elementwise, feed, gather, loss, optim, pool};
use half::{bf16, f16};
use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        bytes: usize,
        access: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, bytes: usize) -> c_int;
}

/// Read and write.
const ACCESS: c_int = 1 | 2;
/// Private, anonymous, and nothing of it promised.
const RESERVED: c_int = if cfg!(target_os = "macos") { 0x2 | 0x1000 | 0x40 } else { 0x2 | 0x20 | 0x4000 };

/// What is looked at beyond the end of a buffer, in bytes: four elements.
const BEHIND: usize = 16;

/// A buffer of zeros that costs what is written to it. What follows its last element stays 0, or `run` fails.
pub struct Far {
    /// Of the mapping; the elements begin `first` bytes later.
    base: *mut u8,
    first: usize,
    len: usize,
    buf: Buf,
}

impl Far {
    pub fn new(device: &CudaOnCpu, elem: Elem, len: usize) -> Self {
        Self::shifted(device, elem, len, 0)
    }

    /// One that begins `by` elements after a multiple of 16 bytes.
    pub fn shifted(device: &CudaOnCpu, elem: Elem, len: usize, by: usize) -> Self {
        let first = by * elem.bytes::<f32>();
        let bytes = first + len * elem.bytes::<f32>() + BEHIND;
        // SAFETY: new memory, anywhere.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, ACCESS, RESERVED, -1, 0) }.cast::<u8>();
        assert!(base as isize != -1, "no address space for {len} elements");
        // SAFETY: the memory outlives every launch of the test, which alone uses it.
        let buf = unsafe { device.import(base.wrapping_add(first).cast(), elem, len) }.unwrap();
        Self { base, first, len, buf }
    }

    fn bytes(&self) -> usize {
        self.first + self.len * self.buf.elem().bytes::<f32>()
    }

    fn is_zero_behind(&self) -> bool {
        // SAFETY: mapped by `shifted`; bytes are of any value.
        let at = |i| unsafe { self.base.wrapping_add(self.bytes() + i).read() };
        (0..BEHIND).all(|i| at(i) == 0)
    }

    fn place<T>(&self, at: usize) -> *mut T {
        assert!(at < self.len, "element {at} of {}", self.len);
        self.base.wrapping_add(self.first).cast::<T>().wrapping_add(at)
    }

    /// Writes elements from `at` on.
    pub fn put(&self, at: usize, values: impl IntoIterator<Item = f32>) {
        for (i, v) in (at..).zip(values) {
            // SAFETY: an element of the buffer, of its type.
            unsafe {
                match self.buf.elem() {
                    Elem::Real => self.place::<f32>(i).write(v),
                    Elem::F16 => self.place::<f16>(i).write(f16::from_f32(v)),
                    Elem::Bf16 => self.place::<bf16>(i).write(bf16::from_f32(v)),
                    Elem::Index => self.place::<u32>(i).write(v as u32),
                }
            }
        }
    }

    /// Writes indices from `at` on.
    pub fn put_index(&self, at: usize, values: &[u32]) {
        assert_eq!(self.buf.elem(), Elem::Index);
        for (i, v) in (at..).zip(values) {
            // SAFETY: an element of the buffer, of its type.
            unsafe { self.place::<u32>(i).write(*v) };
        }
    }

    /// Element `at` of floats.
    pub fn get(&self, at: usize) -> f64 {
        assert_eq!(self.buf.elem(), Elem::Real);
        // SAFETY: an element of the buffer, of its type.
        unsafe { self.place::<f32>(at).read() }.into()
    }

    /// Element `at` of indices.
    pub fn get_index(&self, at: usize) -> u32 {
        assert_eq!(self.buf.elem(), Elem::Index);
        // SAFETY: an element of the buffer, of its type.
        unsafe { self.place::<u32>(at).read() }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // SAFETY: what `shifted` mapped; no launch is left that knows it.
        unsafe { munmap(self.base.cast(), self.bytes() + BEHIND) };
    }
}

/// Runs these blocks of a launch.
pub fn run(device: &CudaOnCpu, kernel: &'static Kernel, bufs: &[&Far], params: Params, blocks: &[u64]) {
    let launch = Launch { kernel, bufs: bufs.iter().map(|far| far.buf.clone()).collect(), params };
    device.run_blocks(launch, blocks).unwrap();
    for (binding, far) in kernel.bindings.iter().zip(bufs) {
        assert!(far.is_zero_behind(), "{} writes beyond `{}`", kernel.name, binding.name);
    }
}

/// A number in [-1, 1] that 16 bits hold, for element `k` of row `i` of matrix `of`.
pub fn number(of: u64, i: u64, k: u64) -> f32 {
    let mut v = (of << 56 ^ i << 24 ^ k).wrapping_add(0x9e37_79b9_7f4a_7c15);
    v = (v ^ v >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    v = (v ^ v >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((v ^ v >> 31) % 17) as f32 / 8.0 - 1.0
}

/// Fails where a device's value is not what plain arithmetic makes of the same numbers; `what` says which it is.
pub fn near(got: f64, want: f64, what: impl FnOnce() -> String) {
    let alike = (got - want).abs() <= 1e-4 * want.abs().max(1.0) || got.is_nan() && want.is_nan();
    assert!(alike, "{}: {got}, not {want}", what());
}

/// A binding of a kernel that makes each element of one place of all buffers.
enum Bound<'a> {
    /// Numbers are read, are written, or are both.
    In,
    Out,
    InOut,
    /// What all elements need, or what nobody looks at.
    Whole(&'a Far),
}

const SPAN: u64 = 1024;

/// The elements that these blocks of `SPAN` own of `n`.
fn of_spans(blocks: &[u64], n: u64) -> impl Iterator<Item = u64> {
    blocks.iter().flat_map(move |block| block * SPAN..n.min((block + 1) * SPAN))
}

/// The first block, those on both sides of the 2^31st of `n` elements, and the last.
fn spans(n: u64) -> [u64; 4] {
    let middle = (1 << 31) / SPAN;
    [0, middle - 1, middle, (n - 1) / SPAN]
}

/// Launches `kernel` over as many elements as 32 bits count: `want` makes of what is read, and of a binding's old contents, what
/// is to be written.
fn each(kernel: &'static Kernel, params: Params, bound: &[Bound<'_>], want: impl Fn(&[f64]) -> Vec<f64>) {
    // Where four are one access, and where no four can be.
    each_shifted(kernel, params, bound, &want, 0);
    each_shifted(kernel, params, bound, &want, 1);
}

fn each_shifted(
    kernel: &'static Kernel,
    params: Params,
    bound: &[Bound<'_>],
    want: &impl Fn(&[f64]) -> Vec<f64>,
    by: usize,
) {
    let device = CudaOnCpu::with_seed(0).unwrap();
    let n = u64::from(u32::MAX);
    let own: Vec<Far> = bound.iter().map(|_| Far::shifted(&device, Elem::Real, n as usize, by)).collect();
    let blocks = spans(n);
    let reads = |b: &Bound<'_>| matches!(b, Bound::In | Bound::InOut);
    for (of, (bound, far)) in bound.iter().zip(&own).enumerate() {
        if reads(bound) {
            of_spans(&blocks, n).for_each(|i| far.put(i as usize, [number(of as u64, i, 0)]));
        }
    }
    let bufs: Vec<&Far> =
        bound.iter().zip(&own).map(|(b, own)| if let Bound::Whole(far) = b { far } else { own }).collect();
    run(&device, kernel, &bufs, params, &blocks);
    for i in of_spans(&blocks, n) {
        let read =
            bound.iter().enumerate().filter(|(_, b)| reads(b)).map(|(of, _)| number(of as u64, i, 0).into());
        let written = bound.iter().zip(&own).filter(|(b, _)| matches!(b, Bound::Out | Bound::InOut));
        for (want, (_, far)) in want(&read.collect::<Vec<_>>()).into_iter().zip(written) {
            near(far.get(i as usize), want, || format!("{}: element {i}", kernel.name));
        }
    }
}

/// A few floats.
pub fn floats(values: &[f32]) -> Far {
    let far = Far::new(&CudaOnCpu::with_seed(0).unwrap(), Elem::Real, values.len());
    far.put(0, values.iter().copied());
    far
}

/// A few indices.
pub fn words(values: &[u32]) -> Far {
    let far = Far::new(&CudaOnCpu::with_seed(0).unwrap(), Elem::Index, values.len());
    far.put_index(0, values);
    far
}

use Bound::{In, InOut, Out, Whole};

#[test]
fn elementwise_of_as_many_elements_as_there_can_be() {
    let p = Params::new(&elementwise::ElementwiseParams { n: u32::MAX, factor: 1.5 });
    each(&elementwise::FILL, p, &[Out], |_| vec![1.5]);
    each(&elementwise::COPY, p, &[In, Out], |v| vec![v[0]]);
    each(&elementwise::ADD, p, &[In, In, Out], |v| vec![v[0] + 1.5 * v[1]]);
    each(&elementwise::ACCUMULATE, p, &[In, InOut], |v| vec![v[0] + v[1]]);
    each(&elementwise::SCALE, p, &[In, Whole(&floats(&[3.0])), Out], |v| vec![4.5 * v[0]]);
}

#[test]
fn activations_of_as_many_elements_as_there_can_be() {
    let p = Params::new(&activation::ActivationParams { n: u32::MAX, slope: 0.25 });
    let slope = |v: f64| if v > 0.0 { 1.0 } else { 0.25 };
    each(&activation::RELU_FWD, p, &[In, Out], |v| vec![slope(v[0]) * v[0]]);
    each(&activation::RELU_BWD, p, &[In, In, Out], |v| vec![slope(v[0]) * v[1]]);
    each(&activation::SIGMOID_FWD, p, &[In, Out], |v| vec![1.0 / (1.0 + (-v[0]).exp())]);
    each(&activation::SIGMOID_BWD, p, &[In, In, Out], |v| vec![v[1] * v[0] * (1.0 - v[0])]);
}

#[test]
fn dropout_of_as_many_elements_as_there_can_be() {
    let p = dropout::DropoutParams { n: u32::MAX, threshold: 0, scale: 2.0, stream: 1 };
    each(&dropout::APPLY, Params::new(&p), &[Whole(&words(&[1, 2, 3])), In, Out], |v| vec![2.0 * v[0]]);
}

#[test]
fn updates_of_as_many_parameters_as_there_can_be() {
    let sgd = optim::SgdParams { n: u32::MAX, momentum: 0.5, weight_decay: 0.25 };
    let hyper = floats(&[0.125, 0.5, 0.75]);
    each(&optim::SGD, Params::new(&sgd), &[Whole(&hyper), In, InOut, InOut], |v| {
        let velocity = 0.5 * v[2] + v[0] + 0.25 * v[1];
        vec![v[1] - 0.125 * velocity, velocity]
    });
    let adam =
        optim::AdamParams { n: u32::MAX, rate1: 0.5, rate2: 0.5, eps: 1.0, weight_decay: 0.0, decoupled: 0 };
    each(&optim::ADAM, Params::new(&adam), &[Whole(&hyper), In, InOut, InOut, InOut], |v| {
        let (mean, square) = (0.5 * (v[0] + v[2]), 0.5 * (v[0] * v[0] + v[3]));
        // An old square is a number of either sign here.
        vec![v[1] - 0.125 / 0.5 * mean / ((square / 0.75).sqrt() + 1.0), mean, square]
    });
}

#[test]
fn losses_of_as_many_terms_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    // The mean's divisor goes out of the slopes.
    let p = Params::new(&loss::LossParams { n: u32::MAX, weight: u32::MAX as f32 });
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let part = Far::new(&device, Elem::Real, 1 << 22);
    let value = floats(&[0.0]);
    let bound = [In, In, Whole(&value), Out, Whole(&part)];
    each(&loss::MSE, p, &bound, |v| vec![2.0 * (v[0] - v[1])]);
    let blocks = spans(u32::MAX.into());
    let last = of_spans(&blocks[3..], u32::MAX.into());
    let sum = last.map(|i| f64::from(number(0, i, 0) - number(1, i, 0)).powi(2)).sum();
    near(part.get((1 << 22) - 1), sum, || "the last block's terms".into());
    each(&loss::BCE_LOGITS, p, &bound, |v| vec![sigmoid(v[0]) - v[1]]);
    each(&loss::BCE, p, &bound, |v| {
        let y = v[0].clamp(0.0, 1.0);
        vec![(y - v[1]) / (y * (1.0 - y)).max(1e-12)]
    });
}

#[test]
fn means_of_as_many_rows_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    // Whole quads, a row beyond 4096, and rows of no quads.
    for frames in [1000, 5001, 7] {
        let channels = 3;
        let batch = u64::from(u32::MAX) / (channels * frames);
        let rows = batch * channels;
        let p = pool::PoolParams { batch: batch as u32, channels: channels as u32, frames: frames as u32 };
        let params = Params::new(&p);
        let new = |elem, len: u64| Far::new(&device, elem, len as usize);
        let [x, dx] = [0, 1].map(|_| new(Elem::Real, rows * frames));
        let [y, dy] = [0, 1].map(|_| new(Elem::Real, rows));
        let lengths = new(Elem::Index, batch);
        let length = |row: u64| (row / channels * 5 % frames + 1).min(frames);
        let blocks = spans(rows * frames);
        let mut seen: Vec<u64> = of_spans(&blocks, rows * frames).map(|i| i / frames).collect();
        seen.dedup();
        for row in &seen {
            lengths.put_index((row / channels) as usize, &[length(*row) as u32]);
            dy.put(*row as usize, [number(0, *row, 0)]);
            x.put((row * frames) as usize, (0..frames).map(|t| number(1, *row, t)));
        }
        for masked in [false, true] {
            let length = |row| if masked { length(row) } else { frames };
            let (kernel, bufs) = if masked {
                (&pool::MASKED_BWD, vec![&lengths, &dy, &dx])
            } else {
                (&pool::MEAN_BWD, vec![&dy, &dx])
            };
            run(&device, kernel, &bufs, params, &blocks);
            for i in of_spans(&blocks, rows * frames) {
                let (row, t) = (i / frames, i % frames);
                let want =
                    if t < length(row) { f64::from(number(0, row, 0)) / length(row) as f64 } else { 0.0 };
                near(dx.get(i as usize), want, || format!("{} of {frames}: element {i}", kernel.name));
            }
            let (kernel, bufs) = if masked {
                (&pool::MASKED_FWD, vec![&x, &lengths, &y])
            } else {
                (&pool::MEAN_FWD, vec![&x, &y])
            };
            // Rows of a block.
            let own = if frames > 4096 { 1 } else { 256 >> (frames / 4).clamp(1, 32).ilog2() };
            let mut blocks: Vec<u64> = seen.iter().map(|row| row / own).collect();
            blocks.dedup();
            run(&device, kernel, &bufs, params, &blocks);
            for row in &seen {
                let sum: f64 = (0..length(*row)).map(|t| f64::from(number(1, *row, t))).sum();
                let what = || format!("{} of {frames}: row {row}", kernel.name);
                near(y.get(*row as usize), sum / length(*row) as f64, what);
            }
        }
    }
}

#[test]
fn rows_of_a_table_as_large_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    for width in [1024, 1023] {
        let table_rows = u64::from(u32::MAX) / width;
        let p = gather::GatherRowsParams {
            batch: table_rows as u32,
            width: width as u32,
            table: table_rows as u32,
        };
        let n = table_rows * width;
        let [table, y] = [0, 1].map(|_| Far::new(&device, Elem::Real, n as usize));
        let indices = Far::new(&device, Elem::Index, table_rows as usize);
        // The rows in reverse.
        let of = |row: u64| table_rows - 1 - row;
        let blocks = spans(n);
        for row in of_spans(&blocks, n).map(|i| i / width) {
            indices.put_index(row as usize, &[of(row) as u32]);
            table.put((of(row) * width) as usize, (0..width).map(|k| number(0, of(row), k)));
        }
        run(&device, &gather::ROWS, &[&table, &indices, &y], Params::new(&p), &blocks);
        for i in of_spans(&blocks, n) {
            let want = number(0, of(i / width), i % width).into();
            near(y.get(i as usize), want, || format!("width {width}: element {i}"));
        }
    }
}

#[test]
fn windows_at_the_end_of_as_much_data_as_there_can_be() {
    const CHANNELS: u32 = 3;
    const COLUMNS: u32 = 64;
    let device = CudaOnCpu::with_seed(0).unwrap();
    let total = u32::MAX;
    let data = Far::new(&device, Elem::Real, total as usize);
    let length = (1 << 30) + 7;
    // Samples begin so that a channel ends the data, so that one is beyond 2^32 where the data's start would be read instead,
    // and at a frame of its own.
    let rows = [
        [total - CHANNELS * 100, 100, 30, COLUMNS],
        [(1 << 31) + 10, length, 20, COLUMNS],
        [5, length, length - 70, COLUMNS],
        [total - 80, 500, 7, COLUMNS],
    ];
    let at = |row: &[u32; 4], c: u32, t: u32| {
        let [offset, length, start, _] = row.map(u64::from);
        let frame = start + u64::from(t);
        let at = offset + u64::from(c) * length + frame;
        (frame < length && at < total.into()).then_some(at as usize)
    };
    data.put(0, (0..1000).map(|i| number(0, i, 0)));
    for row in &rows {
        for i in (0..CHANNELS).flat_map(|c| (0..COLUMNS).filter_map(move |t| at(row, c, t))) {
            data.put(i, [number(0, i as u64, 0)]);
        }
    }
    let batch = rows.len() as u32;
    for blocked in [0, 1] {
        let p = gather::GatherWindowParams {
            batch,
            channels: CHANNELS,
            columns: COLUMNS,
            total,
            shift_channels: 0,
            blocked,
        };
        let x = Far::new(&device, Elem::Real, (16 * CHANNELS * COLUMNS) as usize);
        let bufs = [&data, &words(&rows.concat()), &floats(&[0.0; 4]), &x];
        run(&device, &gather::WINDOW, &bufs, Params::new(&p), &[0, 1, 2]);
        for (b, row) in (0..).zip(&rows) {
            for (c, t) in (0..CHANNELS).flat_map(|c| (0..COLUMNS).map(move |t| (c, t))) {
                let want = at(row, c, t).map_or(0.0, |i| number(0, i as u64, 0).into());
                let place =
                    if blocked == 1 { (c * COLUMNS + t) * 16 + b } else { (b * CHANNELS + c) * COLUMNS + t };
                let what = || format!("blocked {blocked}: sample {b}, channel {c}, column {t}");
                near(x.get(place as usize), want, what);
            }
        }
    }
}

#[test]
fn the_last_step_of_a_table_as_large_as_there_can_be() {
    let device = CudaOnCpu::with_seed(0).unwrap();
    let (steps, reals, wide) = (u32::MAX / 1500, 1500, 1400);
    let real_table = Far::new(&device, Elem::Real, steps as usize * reals as usize);
    let word_table = Far::new(&device, Elem::Index, steps as usize * wide as usize);
    let new = |elem, len: u32| Far::new(&device, elem, len as usize);
    let (losses, out, out_words) = (new(Elem::Real, steps), new(Elem::Real, reals), new(Elem::Index, wide));
    let last = steps as usize - 1;
    real_table.put(last * reals as usize, (0..reals).map(|k| number(0, 0, k.into())));
    word_table.put_index(last * wide as usize, &(0..wide).map(|k| k + 7).collect::<Vec<_>>());
    let step = words(&[steps - 2]);
    let bufs = [&floats(&[0.5]), &real_table, &word_table, &step, &losses, &out, &out_words];
    run(&device, &feed::NEXT, &bufs, Params::new(&feed::FeedParams { steps, reals, words: wide }), &[0]);
    assert_eq!((step.get_index(0), losses.get(last - 1)), (steps - 1, 0.5));
    for k in 0..reals {
        assert_eq!(out.get(k as usize), f64::from(number(0, 0, k.into())), "{k}");
    }
    for k in 0..wide {
        assert_eq!(out_words.get_index(k as usize), k + 7, "{k}");
    }
}
