//! The C ABI: its header is up to date, C programs compile against it and compute what Rust computes, and nothing that C hands
//! over by mistake gets further than a status and a message.

use etude::cases::{normal, uniform};
use etude::contrastive::ContrastiveOptions;
use etude::device::{Cpu, Device};
use etude::embed::{Buffers, Contrastive, Conv1d, Conv2d, ConvGradients, PairwiseSimilarity};
use etude::ffi::*;
use etude::kernel::Elem;
use etude::ops::conv1d::ConvOptions1d;
use etude::ops::conv2d::ConvOptions2d;
use etude::ops::similarity::Similarity;
use half::{bf16, f16};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::{null, null_mut};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_header_is_that_of_the_source() {
    let root = Path::new(ROOT);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let files = ["status", "types", "context", "conv", "similarity", "contrastive"];
    let bindings = files
        .iter()
        .fold(cbindgen::Builder::new().with_config(config), |made, file| {
            made.with_src(root.join(format!("src/ffi/{file}.rs")))
        })
        .generate()
        .unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = root.join("include/etude.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let differ = made.lines().zip(committed.lines()).position(|(a, b)| a != b);
    assert!(
        made == committed,
        "include/etude.h is not what cbindgen makes of src/ffi, from line {:?}: \
         run `UPDATE_HEADER=1 cargo test --features ffi --test faces`",
        differ.map(|i| i + 1)
    );
}

/// The command, which must succeed, and its standard output.
fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{error}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// The libraries for C: shared, then static.
fn libraries() -> [PathBuf; 2] {
    // The lean build, without devices: that is all the example needs.
    let arguments = ["rustc", "--lib", "--no-default-features", "--features", "ffi"];
    let messages = run(Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--crate-type", "cdylib,staticlib", "--message-format", "json"])
        .current_dir(ROOT));
    let named = |suffix: &str| {
        let found = messages.lines().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let files = message["filenames"].as_array()?.clone();
            files.iter().filter_map(|f| f.as_str()).find(|f| f.ends_with(suffix)).map(PathBuf::from)
        });
        found.unwrap_or_else(|| panic!("no {suffix} was built"))
    };
    [named(std::env::consts::DLL_EXTENSION), named(".a")]
}

/// Numbers of the lines that start with `word`.
fn printed(output: &str, word: &str) -> Vec<f32> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(word));
    lines.flat_map(str::split_whitespace).map(|number| number.parse().unwrap()).collect()
}

#[test]
#[cfg(unix)]
fn the_example_in_c_computes_what_rust_does() {
    let dir = tempfile::tempdir().unwrap();
    let [shared, fixed] = libraries();
    let cc = std::env::var("CC").unwrap_or("cc".into());
    let strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude"];
    let system: &[&str] = if cfg!(target_os = "macos") {
        &["-lm", "-framework", "CoreFoundation"]
    } else {
        &["-lm", "-lpthread", "-ldl", "-lgcc_s"]
    };
    let mut outputs = Vec::new();
    for (name, library) in [("shared", &shared), ("static", &fixed)] {
        let program = dir.path().join(name);
        run(Command::new(&cc)
            .args(strict)
            .arg("examples/c/contrastive.c")
            .arg(library)
            .args(system)
            .arg(format!("-Wl,-rpath,{}", shared.parent().unwrap().display()))
            .arg("-o")
            .arg(&program)
            .current_dir(ROOT));
        outputs.push(run(&mut Command::new(&program)));
    }
    assert_eq!(outputs[0], outputs[1]);

    let embeddings = [0.0, 0.0, 1.0, 0.0, 0.25, 0.5, 2.0, 1.0, -1.0, 0.5, 0.5, -1.0f32];
    let labels = [0.0, 0.0, 1.0, 2.0, 4.0, 4.0f32];
    let (cpu, options) = (Cpu::<f32>::new(1).unwrap(), ContrastiveOptions::default());
    let device: &dyn Device = &cpu;
    let [z, l, loss, dz] = [&embeddings[..], &labels, &[0.0], &[0.0; 12]].map(|v| device.upload(v).unwrap());
    let set = Buffers { embeddings: &z, labels: &l, weights: None };
    Contrastive::all([6, 2], options).unwrap().run(device, &[set], &loss, &[&dz]).unwrap();
    assert_eq!(printed(&outputs[0], "loss "), device.download(&loss).unwrap());
    assert_eq!(printed(&outputs[0], "gradient "), device.download(&dz).unwrap());
    // By hand: 10 + x[t] - x[t + 2], and the mean of three times one half of their sum.
    assert_eq!(printed(&outputs[0], "y "), [8.0, 8.0, 8.0, 3.0, 6.0, 9.0]);
    assert!(
        outputs[0].contains("error contrastive: margin: must be positive and finite, is -1"),
        "{}",
        outputs[0]
    );
}

/// The header means the same to C++.
#[test]
#[cfg(unix)]
fn the_header_compiles_as_cpp() {
    let cxx = std::env::var("CXX").unwrap_or("c++".into());
    run(Command::new(cxx)
        .args(["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "include/etude.h"])
        .current_dir(ROOT));
}

/// A context, freed at the end.
pub(crate) struct Context(pub *mut EtudeContext);

impl Context {
    pub fn cpu(threads: usize) -> Self {
        let mut context = null_mut();
        // SAFETY: writes a pointer to where `context` is.
        ok(unsafe { etude_cpu_new(threads, &mut context) });
        Self(context)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: of `etude_cpu_new` or `etude_cuda_on_stream`, and freed once.
        unsafe { etude_context_free(self.0) }
    }
}

fn last_error() -> String {
    // SAFETY: a string that this thread keeps until its next error.
    unsafe { CStr::from_ptr(etude_last_error()) }.to_str().unwrap().into()
}

#[track_caller]
pub(crate) fn ok(status: EtudeStatus) {
    assert_eq!(status, ETUDE_OK, "{}", last_error());
}

#[track_caller]
pub(crate) fn refused(status: EtudeStatus, words: &[&str]) {
    let text = last_error();
    assert_eq!(status, ETUDE_INVALID_ARGUMENT, "{text}");
    assert!(words.iter().all(|w| text.contains(w)), "`{text}` does not say {words:?}");
}

pub(crate) fn floats(seed: u64, len: usize) -> Vec<f32> {
    normal(seed, len).into_iter().map(|v| v as f32).collect()
}

pub(crate) fn positive(seed: u64, len: usize) -> Vec<f32> {
    uniform(seed, len).into_iter().map(|v| v as f32).collect()
}

const NAN: f32 = f32::NAN;

#[test]
fn convolutions_are_those_of_embed() {
    let (context, cpu) = (Context::cpu(2), Cpu::<f32>::new(1).unwrap());
    let device: &dyn Device = &cpu;

    let options = ConvOptions1d { stride: 2, padding: 1, dilation: 3, groups: 2, ..Default::default() };
    let (xs, ws) = ([3, 4, 29], [6, 2, 5]);
    let of = Conv1d::new(xs, ws, options).unwrap();
    let mut c = etude_conv1d_defaults();
    (c.batch, c.cin, c.length, c.cout, c.taps) = (3, 4, 29, 6, 5);
    (c.stride, c.padding, c.dilation, c.groups) = (2, 1, 3, 2);
    let mut length = 0;
    // SAFETY: `c` and what is written to are locals.
    ok(unsafe { etude_conv1d_output(&c, &mut length) });
    assert_eq!(of.output(), [3, 6, length]);

    let (x, w, b) = (floats(1, 348), floats(2, 60), floats(3, 6));
    let count = of.output().iter().product();
    let (dy, mut y) = (floats(4, count), vec![NAN; count]);
    let (mut dx, mut dw, mut db) = (vec![NAN; 348], vec![NAN; 60], vec![NAN; 6]);
    let (xp, wp) = (x.as_ptr(), w.as_ptr());
    // SAFETY: vectors of the lengths that the struct says.
    unsafe {
        ok(etude_conv1d_forward(context.0, &c, xp, wp, b.as_ptr(), y.as_mut_ptr()));
        let [dx, dw, db] = [&mut dx, &mut dw, &mut db].map(|v| v.as_mut_ptr());
        ok(etude_conv1d_backward(context.0, &c, xp, wp, dy.as_ptr(), dx, dw, db));
    }
    let up = |v: &Vec<f32>| device.upload(v).unwrap();
    let (xb, wb, yb) = (up(&x), up(&w), up(&y));
    of.forward(device, &xb, &wb, Some(&up(&b)), &yb).unwrap();
    assert_eq!(device.download(&yb).unwrap(), y);
    let [gx, gw, gb] = [up(&dx), up(&dw), up(&db)];
    let wanted = ConvGradients { x: Some(&gx), weight: Some(&gw), bias: Some(&gb) };
    of.backward(device, &xb, &wb, &up(&dy), wanted).unwrap();
    assert_eq!([gx, gw, gb].map(|g| device.download(&g).unwrap()), [dx, dw, db]);

    let options = ConvOptions2d { stride: [2, 1], padding: [1, 2], dilation: [1, 2], ..Default::default() };
    let (xs, ws) = ([2, 3, 9, 11], [5, 3, 3, 4]);
    let of = Conv2d::new(xs, ws, options).unwrap();
    let mut c = etude_conv2d_defaults();
    (c.batch, c.cin, c.size, c.cout, c.taps) = (2, 3, [9, 11], 5, [3, 4]);
    (c.stride, c.padding, c.dilation) = ([2, 1], [1, 2], [1, 2]);
    let mut size = [0; 2];
    // SAFETY: `c` and what is written to are locals.
    ok(unsafe { etude_conv2d_output(&c, size.as_mut_ptr()) });
    assert_eq!(of.output(), [2, 5, size[0], size[1]]);

    let (x, w) = (floats(1, 594), floats(2, 180));
    let count = of.output().iter().product();
    let (dy, mut y) = (floats(4, count), vec![NAN; count]);
    let (mut dx, mut dw) = (vec![NAN; 594], vec![NAN; 180]);
    let (xp, wp) = (x.as_ptr(), w.as_ptr());
    // SAFETY: vectors of the lengths that the struct says.
    unsafe {
        ok(etude_conv2d_forward(context.0, &c, xp, wp, null(), y.as_mut_ptr()));
        // One gradient at a time.
        let back = |dx, dw| etude_conv2d_backward(context.0, &c, xp, wp, dy.as_ptr(), dx, dw, null_mut());
        ok(back(dx.as_mut_ptr(), null_mut()));
        ok(back(null_mut(), dw.as_mut_ptr()));
    }
    let (xb, wb, yb, gx, gw) = (up(&x), up(&w), up(&y), up(&dx), up(&dw));
    of.forward(device, &xb, &wb, None, &yb).unwrap();
    assert_eq!(device.download(&yb).unwrap(), y);
    let wanted = ConvGradients { x: Some(&gx), weight: Some(&gw), bias: None };
    of.backward(device, &xb, &wb, &up(&dy), wanted).unwrap();
    assert_eq!([gx, gw].map(|g| device.download(&g).unwrap()), [dx, dw]);
}

/// Numbers as an [`EtudeType`] stores them, in bytes.
fn stored(dtype: EtudeType, values: &[f32]) -> Vec<u32> {
    let bytes: Vec<u8> = match dtype {
        ETUDE_F32 => bytemuck::cast_slice(values).to_vec(),
        ETUDE_F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        ETUDE_BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        _ => unreachable!(),
    };
    // Aligned for each of them.
    let mut words = vec![0u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    words
}

const TYPES: [(EtudeType, Elem); 3] =
    [(ETUDE_F32, Elem::Real), (ETUDE_F16, Elem::F16), (ETUDE_BF16, Elem::Bf16)];

/// A device buffer of that type.
fn uploaded(device: &dyn Device, elem: Elem, values: &[f32]) -> etude::device::Buf {
    let buf = device.alloc(elem, values.len()).unwrap();
    device.write(&buf, values.into()).unwrap();
    buf
}

#[test]
fn similarities_are_those_of_embed() {
    let (context, cpu) = (Context::cpu(1), Cpu::<f32>::new(1).unwrap());
    let device: &dyn Device = &cpu;
    let (n, m, d) = (17, 23, 5);
    let (a, b, dy) = (floats(1, n * d), floats(2, m * d), floats(3, n * m));
    let kinds = [
        (ETUDE_DOT, Similarity::Dot),
        (ETUDE_COSINE, Similarity::Cosine),
        (ETUDE_SQUARED_EUCLIDEAN, Similarity::SquaredEuclidean),
        (ETUDE_EUCLIDEAN, Similarity::Euclidean),
    ];
    for (number, kind) in kinds {
        for (dtype, elem) in TYPES {
            let s = EtudeSimilarity { n, m, d, kind: number, dtype };
            let (left, right) = (stored(dtype, &a), stored(dtype, &b));
            let (left, right) = (left.as_ptr().cast(), right.as_ptr().cast());
            let (mut y, mut da, mut db) = (vec![NAN; n * m], vec![NAN; n * d], vec![NAN; m * d]);
            let (to_a, to_b) = (da.as_mut_ptr(), db.as_mut_ptr());
            // SAFETY: vectors of the lengths that the struct says.
            unsafe {
                ok(etude_similarity_forward(context.0, &s, left, right, y.as_mut_ptr()));
                ok(etude_similarity_backward(context.0, &s, left, right, dy.as_ptr(), to_a, to_b));
            }
            let of = PairwiseSimilarity::new([n, d], [m, d], kind).unwrap();
            let [left, right] = [&a, &b].map(|v| uploaded(device, elem, v));
            let [up, ga, gb, out] = [&dy, &a, &b, &y].map(|v| uploaded(device, Elem::Real, v));
            of.forward(device, &left, &right, &out).unwrap();
            of.backward(device, [&left, &right, &up], [&ga, &gb]).unwrap();
            let want = [out, ga, gb].map(|v| device.download(&v).unwrap());
            assert_eq!([y, da, db], want, "{kind:?} {elem:?}");
        }
    }
}

#[test]
fn losses_are_those_of_embed() {
    let (context, cpu) = (Context::cpu(2), Cpu::<f32>::new(1).unwrap());
    let device: &dyn Device = &cpu;
    let ([n, m], d) = ([19, 31], 6);
    let values = |seed, rows| (floats(seed, rows * d), positive(seed + 1, rows), positive(seed + 2, rows));
    let sets = [values(1, n), values(5, m)];
    for (dtype, elem) in TYPES {
        for (metric, weighted) in [(ETUDE_METRIC_EUCLIDEAN, false), (ETUDE_METRIC_COSINE, true)] {
            let mut c = etude_contrastive_defaults();
            (c.d, c.dtype, c.metric, c.margin, c.tau) = (d, dtype, metric, 1.5, 0.25);
            (c.weight, c.grad_scale) = (0.5, 2.0);
            let pick = [etude::contrastive::Metric::Euclidean, etude::contrastive::Metric::Cosine];
            let options = ContrastiveOptions {
                metric: pick[metric as usize],
                margin: 1.5,
                tau: 0.25,
                weight: 0.5,
                grad_scale: 2.0,
            };
            let rows = sets.each_ref().map(|(z, ..)| stored(dtype, z));
            let theirs = sets.each_ref().map(|(z, l, s)| {
                [
                    uploaded(device, elem, z),
                    uploaded(device, Elem::Real, l),
                    uploaded(device, Elem::Real, s),
                    uploaded(device, Elem::Real, z),
                ]
            });
            let bound = |i: usize| {
                let [z, l, s, _]: &[_; 4] = &theirs[i];
                Buffers { embeddings: z, labels: l, weights: weighted.then_some(s) }
            };
            for cross in [false, true] {
                let mut gradients = sets.each_ref().map(|(z, ..)| vec![NAN; z.len()]);
                let to = gradients.each_mut().map(|g| g.as_mut_ptr());
                let of = |i: usize| EtudeSamples {
                    n: [n, m][i],
                    embeddings: rows[i].as_ptr().cast(),
                    labels: sets[i].1.as_ptr(),
                    weights: if weighted { sets[i].2.as_ptr() } else { null() },
                    gradient: to[i],
                };
                let mut loss = NAN;
                let out = uploaded(device, Elem::Real, &[NAN]);
                let (first, second) = (&theirs[0][3], &theirs[1][3]);
                if cross {
                    // SAFETY: vectors of the lengths that `c` and the sets say.
                    ok(unsafe { etude_contrastive_cross(context.0, &c, &of(0), &of(1), &mut loss) });
                    let call = Contrastive::cross([n, d], [m, d], options).unwrap();
                    call.run(device, &[bound(0), bound(1)], &out, &[first, second]).unwrap();
                    assert_eq!(gradients[1], device.download(second).unwrap());
                } else {
                    // SAFETY: vectors of the lengths that `c` and the sets say.
                    ok(unsafe { etude_contrastive(context.0, &c, &of(0), &mut loss) });
                    let call = Contrastive::all([n, d], options).unwrap();
                    call.run(device, &[bound(0)], &out, &[first]).unwrap();
                }
                assert!(loss > 0.0);
                assert_eq!([loss], device.download(&out).unwrap()[..], "{elem:?} {cross}");
                assert_eq!(gradients[0], device.download(first).unwrap(), "{elem:?} {cross}");
            }
        }
    }
}

#[test]
fn mistakes_come_back_as_a_status_and_a_message() {
    let context = Context::cpu(1);
    let cpu = context.0;
    let mut conv = etude_conv1d_defaults();
    (conv.batch, conv.cin, conv.length, conv.cout, conv.taps) = (1, 2, 5, 2, 3);
    let (x, w, mut y) = ([1.0; 10], [1.0; 12], [NAN; 6]);
    let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
    // SAFETY: arrays of the lengths that `conv` says; what says otherwise is refused before anything is read.
    unsafe {
        let forward =
            |context, conv: &EtudeConv1d, x, w, y| etude_conv1d_forward(context, conv, x, w, null(), y);
        ok(forward(cpu, &conv, x, w, y));
        refused(forward(null(), &conv, x, w, y), &["etude_conv1d_forward", "context", "is null"]);
        refused(etude_conv1d_forward(cpu, null(), x, w, null(), y), &["conv: is null"]);
        refused(forward(cpu, &conv, null(), w, y), &["x: is null"]);
        refused(forward(cpu, &conv, x, null(), y), &["weight: is null"]);
        refused(forward(cpu, &conv, x, w, null_mut()), &["y: is null"]);
        refused(forward(cpu, &conv, x, w, x.cast_mut()), &["x", "overlaps", "y"]);
        refused(forward(cpu, &conv, x.byte_add(1), w, y), &["x: ", "multiple of 4"]);
        refused(forward(cpu, &EtudeConv1d { groups: 0, ..conv }, x, w, y), &["groups"]);
        refused(
            forward(cpu, &EtudeConv1d { groups: 3, ..conv }, x, w, y),
            &["groups", "3 does not divide 2"],
        );
        refused(forward(cpu, &EtudeConv1d { stride: 0, ..conv }, x, w, y), &["stride"]);
        refused(forward(cpu, &EtudeConv1d { taps: 6, ..conv }, x, w, y), &["weight", "6 taps"]);
        refused(
            forward(cpu, &EtudeConv1d { precision: 3, ..conv }, x, w, y),
            &["precision", "below 3, is 3"],
        );
        for huge in [usize::MAX, usize::MAX / 8, 1 << 33] {
            refused(forward(cpu, &EtudeConv1d { batch: huge, ..conv }, x, w, y), &["x: "]);
        }
        refused(etude_conv1d_output(&conv, null_mut()), &["length: is null"]);
        refused(etude_conv2d_output(&etude_conv2d_defaults(), [0; 2].as_mut_ptr()), &["x: ", "empty"]);

        let back = |dy, dx| etude_conv1d_backward(cpu, &conv, x, w, dy, dx, null_mut(), null_mut());
        refused(back(null(), null_mut()), &["dy: is null"]);
        refused(back(y, y), &["overlaps"]);

        let mut s = etude_similarity_defaults();
        (s.n, s.m, s.d) = (2, 3, 2);
        let matrix = |s: &EtudeSimilarity| etude_similarity_forward(cpu, s, x.cast(), w.cast(), y);
        ok(matrix(&s));
        refused(matrix(&EtudeSimilarity { kind: 4, ..s }), &["kind", "below 4, is 4"]);
        refused(matrix(&EtudeSimilarity { dtype: 3, ..s }), &["dtype", "below 3, is 3"]);
        refused(matrix(&EtudeSimilarity { d: 0, ..s }), &["similarity"]);

        let (labels, mut gradient, mut loss) = ([0.0, 1.0, 2.0], [NAN; 6], NAN);
        let set = EtudeSamples {
            n: 3,
            embeddings: x.cast(),
            labels: labels.as_ptr(),
            weights: null(),
            gradient: gradient.as_mut_ptr(),
        };
        let mut c = etude_contrastive_defaults();
        c.d = 2;
        let mut all = |c: &EtudeContrastive, set: &EtudeSamples| etude_contrastive(cpu, c, set, &mut loss);
        ok(all(&c, &set));
        refused(all(&c, &EtudeSamples { n: 1, ..set }), &["contrastive"]);
        refused(all(&c, &EtudeSamples { labels: null(), ..set }), &["samples->labels: is null"]);
        refused(all(&c, &EtudeSamples { gradient: null_mut(), ..set }), &["samples->gradient: is null"]);
        refused(all(&EtudeContrastive { tau: NAN, ..c }, &set), &["tau"]);
        refused(all(&EtudeContrastive { metric: 2, ..c }, &set), &["metric"]);
        refused(etude_contrastive(cpu, &c, null(), &mut loss), &["samples: is null"]);
        let bad = EtudeSamples { embeddings: null(), ..set };
        refused(etude_contrastive_cross(cpu, &c, &set, &bad, &mut loss), &["others->embeddings: is null"]);

        refused(etude_cpu_new(1, null_mut()), &["context: is null"]);
        refused(etude_synchronize(null()), &["context: is null"]);
        ok(etude_synchronize(cpu));
        etude_context_free(null_mut());
    }
    // Another thread has no error of this one.
    assert!(!last_error().is_empty());
    std::thread::spawn(|| assert!(last_error().is_empty())).join().unwrap();
}

#[test]
fn versions() {
    // SAFETY: a static string.
    let version = unsafe { CStr::from_ptr(etude_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    assert_eq!(etude_abi_version(), ETUDE_ABI_VERSION);
}

#[test]
fn a_card_that_is_not_there_is_an_error() {
    let mut contexts = [std::ptr::dangling_mut(); 2];
    let [first, second] = &mut contexts;
    // SAFETY: pointers to locals.
    unsafe {
        assert_eq!(etude_cuda_new(1 << 20, first), ETUDE_DEVICE_FAILED);
        assert!(last_error().starts_with("cuda: "), "{}", last_error());
        assert_eq!(etude_cuda_on_stream(1 << 20, null_mut(), second), ETUDE_DEVICE_FAILED);
    }
    assert_eq!(contexts, [null_mut(); 2]);
}

/// On a card: the caller's memory and stream.
#[test]
#[cfg(feature = "cuda")]
fn calls_on_a_card_are_those_of_embed() {
    let cuda = match etude::device::Cuda::new(0) {
        Ok(cuda) => cuda,
        Err(e) => return eprintln!("not run on a card: {e}"),
    };
    let device: &dyn Device = &cuda;
    let (n, d) = (64, 16);
    let (z, labels) = (floats(1, n * d), positive(2, n));
    let [zb, lb] = [&z, &labels].map(|v| device.upload(v).unwrap());
    let new = |len| uploaded(device, Elem::Real, &vec![NAN; len]);
    let address = |buf: &etude::device::Buf| cuda.export(buf).unwrap().0 as *mut f32;

    let mut context = null_mut();
    let stream = cuda.stream().cu_stream();
    // SAFETY: the stream is `cuda`'s, which outlives the context.
    ok(unsafe { etude_cuda_on_stream(0, stream.cast(), &mut context) });
    let context = Context(context);
    let (loss, gradient) = (new(1), new(n * d));
    let mut c = etude_contrastive_defaults();
    c.d = d;
    let set = EtudeSamples {
        n,
        embeddings: address(&zb).cast(),
        labels: address(&lb),
        weights: null(),
        gradient: address(&gradient),
    };
    // SAFETY: memory of `cuda`'s, which this context runs on, of the lengths in `set`.
    ok(unsafe { etude_contrastive(context.0, &c, &set, address(&loss)) });
    // SAFETY: the context is alive.
    ok(unsafe { etude_synchronize(context.0) });

    let (want, by) = (new(1), new(n * d));
    let bound = Buffers { embeddings: &zb, labels: &lb, weights: None };
    let options = ContrastiveOptions::default();
    Contrastive::all([n, d], options).unwrap().run(device, &[bound], &want, &[&by]).unwrap();
    for (got, want) in [(&loss, &want), (&gradient, &by)] {
        assert_eq!(device.download(got).unwrap(), device.download(want).unwrap());
    }

    // A host pointer is no memory of the card's.
    let wrong = EtudeSamples { embeddings: z.as_ptr().cast(), ..set };
    // SAFETY: refused before anything is read.
    refused(unsafe { etude_contrastive(context.0, &c, &wrong, address(&loss)) }, &["samples->embeddings"]);
}
