//! Gathering against its formula, element by element, and beyond every end.

use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};

fn window(data: &[f32], rows: &[u32], shift: &[f32], options: WindowOptions) -> Vec<f32> {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let d = g.bind(&device.upload(data).unwrap(), &[data.len()]).unwrap();
    let r = g.bind(&device.upload(rows).unwrap(), &[rows.len() / 4, 4]).unwrap();
    let s = g.bind(&device.upload(shift).unwrap(), &[shift.len()]).unwrap();
    let x = gather_window(&mut g, d, r, s, options).unwrap();
    let mut step = g.compile(device, &[x]).unwrap();
    step.poison(device).unwrap();
    step.run().unwrap();
    device.download(step.buf(x).unwrap()).unwrap()
}

/// The formula of the kernel's header.
fn formula(data: &[f32], row: &[u32], shift: f32, c: usize, t: usize, o: WindowOptions) -> f32 {
    let [offset, len, start, window] = [0, 1, 2, 3].map(|i| u128::from(row[i]));
    let s = start + (2 * t as u128 + 1) * window / (2 * o.columns as u128);
    let at = offset + c as u128 * len + s;
    if s >= len || at >= data.len() as u128 {
        return 0.0;
    }
    let v = data[at as usize];
    if c < o.shift_channels && v != 0.0 { v + shift } else { v }
}

fn check(data: &[f32], rows: &[u32], shift: &[f32], channels: usize, columns: usize) {
    let batch = shift.len();
    for layout in [Layout::Nct, Layout::Nct16n] {
        let options = WindowOptions { channels, columns, shift_channels: 1, layout };
        let got = window(data, rows, shift, options);
        let place = |b: usize, c: usize, t: usize| match layout {
            Layout::Nct => (b * channels + c) * columns + t,
            Layout::Nct16n => (((b / 16) * channels + c) * columns + t) * 16 + b % 16,
        };
        let lanes = if layout == Layout::Nct { batch } else { batch.next_multiple_of(16) };
        assert_eq!(got.len(), lanes * channels * columns);
        for b in 0..lanes {
            for c in 0..channels {
                for t in 0..columns {
                    let want = if b < batch {
                        formula(data, &rows[4 * b..][..4], shift[b], c, t, options)
                    } else {
                        0.0
                    };
                    assert_eq!(
                        got[place(b, c, t)],
                        want,
                        "{layout:?} b{b} c{c} t{t} of {:?}",
                        &rows[4 * b.min(batch - 1)..][..4]
                    );
                }
            }
        }
    }
}

#[test]
fn every_window_follows_the_formula() {
    let data: Vec<f32> = (0..600).map(|i| if i % 7 == 0 { 0.0 } else { i as f32 }).collect();
    for columns in [1, 2, 15, 16, 17, 37, 64] {
        let mut rows = Vec::new();
        for window in [0, 1, 2, 7, 15, 16, 17, 36, 37, 38, 64, 99, 150] {
            for start in [0, 1, 60, 99, 100, 101] {
                rows.extend([200, 100, start, window]);
            }
        }
        let shift: Vec<f32> = (0..rows.len() / 4).map(|b| b as f32 / 8.0).collect();
        check(&data, &rows, &shift, 2, columns);
    }
}

#[test]
fn what_lies_beyond_the_data_reads_as_zero() {
    let data: Vec<f32> = (1..50).map(|i| i as f32).collect();
    const MAX: u32 = u32::MAX;
    let rows = [
        [49, 10, 0, 5],
        [45, 10, 0, 5],
        [45, 10, 3, 99],
        [MAX, 10, 0, 5],
        [0, MAX, 40, 5],
        [0, MAX, MAX, MAX],
        [MAX, MAX, MAX, MAX],
        [10, 10, MAX, 5],
        [10, 0, 0, 5],
        [0, 49, 0, MAX],
    ];
    let shift = vec![0.5; rows.len()];
    check(&data, rows.as_flattened(), &shift, 3, 5);
}

#[test]
fn rows_of_a_table() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let table = g.bind(&device.upload(&[1f32, 2., 3., 4., 5., 6.]).unwrap(), &[3, 2]).unwrap();
    let at = g.bind(&device.upload(&[2u32, 0, 3, u32::MAX, 1]).unwrap(), &[5]).unwrap();
    let y = gather_rows(&mut g, table, at).unwrap();
    assert_eq!(g.shape(y), [5, 2]);
    let mut step = g.compile(device, &[y]).unwrap();
    step.poison(device).unwrap();
    step.run().unwrap();
    let got = device.download(step.buf(y).unwrap()).unwrap();
    assert_eq!(got, [5., 6., 1., 2., 0., 0., 0., 0., 3., 4.]);
}

#[test]
fn misuse_is_an_error_that_names_the_argument() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let real = device.upload(&[0f32; 12]).unwrap();
    let index = device.upload(&[0u32; 12]).unwrap();
    let mut g = Graph::new();
    let data = g.bind(&real, &[12]).unwrap();
    let leaf = g.leaf(&real, None, &[12]).unwrap();
    let rows = g.bind(&index, &[3, 4]).unwrap();
    let wide = g.bind(&index, &[4, 3]).unwrap();
    let real_rows = g.bind(&real, &[3, 4]).unwrap();
    let shift = g.bind(&real.window(0, 3).unwrap(), &[3]).unwrap();
    let options = WindowOptions { channels: 1, columns: 5, shift_channels: 0, layout: Layout::Nct };
    let mut fails = |d, r, s, o, argument: &str| {
        let error = gather_window(&mut g, d, r, s, o).unwrap_err().to_string();
        assert!(error.starts_with("gather_window: ") && error.contains(argument), "{error}");
    };
    fails(leaf, rows, shift, options, "data");
    fails(data, wide, shift, options, "[4, 3]");
    fails(data, real_rows, shift, options, "rows");
    fails(data, rows, data, options, "[12]");
    fails(data, rows, shift, WindowOptions { columns: 40_000, ..options }, "columns");
    fails(data, rows, shift, WindowOptions { channels: 0, ..options }, "output");
    for (table, indices, argument) in [(leaf, index.clone(), "table"), (data, real.clone(), "indices")] {
        let indices = g.bind(&indices, &[12]).unwrap();
        let error = gather_rows(&mut g, table, indices).unwrap_err().to_string();
        assert!(error.contains(argument), "{error}");
    }
}
