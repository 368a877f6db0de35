//! What is timed.

use super::step;
use super::target::Target;
use etude::cases::{self, Case, Input, normal, uniform};
use etude::device::{Buf, Device};
use etude::graph::{Graph, Step, Var};
use etude::kernel::Elem;
use etude::ops::contrastive::{ContrastiveOptions, bins, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::similarity::{Similarity, similarity};
use etude::{Error, Result};

/// Makes a step over memory of its own, again and again.
pub type Make<'a> = Box<dyn FnMut() -> Result<Step> + 'a>;

/// A step to take apart.
pub struct Workload<'a> {
    pub name: String,
    /// About how many operations its largest launch is; 0 for few.
    pub flops: f64,
    pub make: Make<'a>,
}

/// The memory of rows as `stored`.
fn upload(device: &dyn Device, rows: &[f64], stored: Elem) -> Result<Buf> {
    let buf = device.alloc(stored, rows.len())?;
    device.write(&buf, rows.into())?;
    Ok(buf)
}

/// Similarities of N rows with N others, and their gradients if asked for.
fn gram<'a>(
    target: &'a Target,
    kind: Similarity,
    n: usize,
    d: usize,
    stored: Elem,
    backward: bool,
) -> Make<'a> {
    let device = target.device();
    let mut rows = None;
    Box::new(move || {
        let (a, b) = rows.get_or_insert_with(|| (normal(1, n * d), normal(2, n * d)));
        let mut g = Graph::new();
        let (a, b) = (upload(device, a, stored)?, upload(device, b, stored)?);
        let (a, b) = (g.leaf(&a, None, &[n, d])?, g.leaf(&b, None, &[n, d])?);
        let y = similarity(&mut g, a, b, kind)?;
        let mut keep = vec![y];
        if backward {
            g.backward_from(y, y)?;
            keep.extend([a, b].iter().filter_map(|&v| g.grad(v)));
        }
        g.compile(device, &keep)
    })
}

/// How embeddings lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    /// Every row for itself.
    Random,
    /// As training leaves them: five centres, one a label, and noise of 1e-3.
    Clustered,
}

/// Such embeddings of N rows.
fn embeddings(lie: Lie, n: usize, d: usize, labels: &[f32]) -> Vec<f64> {
    let mut z = normal(1, n * d);
    if lie == Lie::Clustered {
        let centres = normal(3, 5 * d);
        for (row, label) in z.chunks_exact_mut(d).zip(labels) {
            let centre = &centres[*label as usize * d..];
            row.iter_mut().zip(centre).for_each(|(v, c)| *v = c + 1e-3 * *v);
        }
    }
    z
}

pub fn loss<'a>(target: &'a Target, n: usize, d: usize, stored: Elem, lie: Lie) -> Make<'a> {
    let device = target.device();
    let mut rows = None;
    Box::new(move || {
        if rows.is_none() {
            let labels = bins(&uniform(2, n), 5)?;
            rows = Some((embeddings(lie, n, d, &labels), labels));
        }
        let (z, labels) = rows.as_ref().ok_or_else(|| Error::config("no rows"))?;
        let mut g = Graph::new();
        let (z, labels) = (upload(device, z, stored)?, device.upload(labels)?);
        let (z, labels) = (g.leaf(&z, None, &[n, d])?, g.bind(&labels, &[n])?);
        let loss = contrastive(&mut g, z, labels, ContrastiveOptions::default())?;
        g.backward(loss)?;
        let keep: Vec<Var> = [Some(loss), g.grad(z)].into_iter().flatten().collect();
        g.compile(device, &keep)
    })
}

fn conv<'a>(target: &'a Target, x: [usize; 3], cout: usize, taps: usize, options: ConvOptions1d) -> Make<'a> {
    let device = target.device();
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &[cout, x[1] / options.groups, taps])];
    let case = Case::new("conv1d", "", inputs, move |g, v| conv1d(g, v[0], v[1], None, options));
    Box::new(move || Ok(case.prepare(device)?.step))
}

/// What `kernels` times and `once` runs; with `quick` small ones, for a look at whether all of it works.
pub fn workloads(target: &Target, quick: bool) -> Vec<Workload<'_>> {
    let mut work = convolutions(target, quick);
    // Rows in f32, and in what 16 bits the device has.
    let half = [Elem::Bf16, Elem::F16].into_iter().find(|&elem| target.device().alloc(elem, 1).is_ok());
    for stored in [Some(Elem::Real), half].into_iter().flatten() {
        losses(target, quick, stored, &mut work);
        similarities(target, quick, stored, &mut work);
    }
    for case in cases::all().into_iter().filter(|c| c.bench) {
        let (name, device) = (format!("{} {}", case.stem, case.name), target.device());
        work.push(Workload { name, flops: 0.0, make: Box::new(move || Ok(case.prepare(device)?.step)) });
    }
    work
}

fn similarities<'a>(target: &'a Target, quick: bool, stored: Elem, work: &mut Vec<Workload<'a>>) {
    let sizes: &[(usize, usize)] = if quick { &[(64, 16)] } else { &[(1024, 128), (16384, 128)] };
    for &(n, d) in sizes {
        for kind in [Similarity::Dot, Similarity::Cosine, Similarity::Euclidean] {
            let name = format!("similarity {kind:?} {} N={n} D={d}", called(stored));
            // Its gradients are two more products.
            let flops = 6.0 * (n * n * d) as f64;
            work.push(Workload { name, flops, make: gram(target, kind, n, d, stored, true) });
        }
    }
}

fn losses<'a>(target: &'a Target, quick: bool, stored: Elem, work: &mut Vec<Workload<'a>>) {
    let sizes: &[(usize, usize)] = if quick {
        &[(64, 16)]
    } else {
        &[(1024, 16), (1024, 128), (4096, 16), (4096, 128), (16384, 16), (16384, 128), (65536, 128)]
    };
    for &(n, d) in sizes {
        for lie in [Lie::Random, Lie::Clustered] {
            let lies = if lie == Lie::Random { "random" } else { "clustered" };
            let name = format!("loss {} {lies} N={n} D={d}", called(stored));
            let flops = 4.0 * (n as f64).powi(2) * d as f64;
            work.push(Workload { name, flops, make: loss(target, n, d, stored, lie) });
        }
    }
}

fn convolutions(target: &Target, quick: bool) -> Vec<Workload<'_>> {
    let plain = ConvOptions1d::default();
    let strided = ConvOptions1d { stride: 3, ..plain };
    let mut work = Vec::new();
    let batches: &[usize] = if quick { &[2] } else { &[64, 512] };
    for &b in batches {
        for (cin, cout, t) in [(1, 4, 1000), (4, 8, 332), (8, 16, 109)] {
            let name = format!("conv1d B={b} {cin}->{cout} k7 s3 T={t}");
            let make = conv(target, [b, cin, t], cout, 7, strided);
            work.push(Workload { name, flops: 2.0 * (b * t / 3 * cin * cout * 7) as f64, make });
        }
        let (name, device) = (format!("step B={b}"), target.device());
        work.push(Workload { name, flops: 0.0, make: Box::new(move || step::record(device, b.max(16))) });
    }
    let (b, cin, cout, t) = if quick { (1, 4, 8, 32) } else { (32, 64, 128, 512) };
    let same = ConvOptions1d { padding: 2, ..plain };
    let name = format!("conv1d B={b} {cin}->{cout} k5 T={t}");
    let make = conv(target, [b, cin, t], cout, 5, same);
    work.push(Workload { name, flops: 2.0 * (b * t * cin * cout * 5) as f64, make });
    work
}

/// What a type of rows is called.
fn called(stored: Elem) -> &'static str {
    match stored {
        Elem::F16 => "f16",
        Elem::Bf16 => "bf16",
        _ => "f32",
    }
}
