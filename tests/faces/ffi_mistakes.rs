//! What C hands over by mistake, or after a fork: a status and a message, never a wrong number, and no hang.

use crate::ffi::{Context, floats, ok, positive, refused};
use etude::ffi::*;
use std::ptr::null;

const NAN: f32 = f32::NAN;

/// Nothing that a call writes may share memory with anything else that it is given, whichever of its launches uses that.
#[test]
fn overlaps_are_refused_across_the_whole_call() {
    let context = Context::cpu(1);
    let cpu = context.0;
    // Each argument has 64 floats of an arena; what is under test moves into another's.
    let mut arena = vec![1.0f32; 16 * 64];
    let base = arena.as_mut_ptr();
    // SAFETY: below sixteen.
    let at = |part: usize| unsafe { base.add(64 * part) };
    let mut one = etude_conv1d_defaults();
    (one.batch, one.cin, one.length, one.cout, one.taps) = (1, 2, 5, 3, 3);
    let mut two = etude_conv2d_defaults();
    (two.batch, two.cin, two.size, two.cout, two.taps) = (1, 2, [4, 3], 3, [2, 2]);
    let s = EtudeSimilarity { n: 3, m: 4, d: 5, ..etude_similarity_defaults() };
    let c = EtudeContrastive { d: 5, ..etude_contrastive_defaults() };
    let sets = |[z, l, w, g]: [*mut f32; 4]| EtudeSamples {
        n: 3,
        embeddings: z.cast(),
        labels: l,
        weights: w,
        gradient: g,
    };
    type Arguments<'a> = &'a [(&'a str, usize)];
    type Function<'a> = &'a dyn Fn(&[*mut f32]) -> EtudeStatus;
    // Names and lengths; those of what is written begin at `outputs`.
    let forward = [("x", 10), ("weight", 18), ("bias", 3), ("y", 9)];
    let backward = [("x", 10), ("weight", 18), ("dy", 9), ("dx", 10), ("dweight", 18), ("dbias", 3)];
    let forward2 = [("x", 24), ("weight", 24), ("bias", 3), ("y", 18)];
    let backward2 = [("x", 24), ("weight", 24), ("dy", 18), ("dx", 24), ("dweight", 24), ("dbias", 3)];
    let matrix = [("a", 15), ("b", 20), ("y", 12)];
    let matrix_back = [("a", 15), ("b", 20), ("dy", 12), ("da", 15), ("db", 20)];
    let all = [
        ("samples->embeddings", 15),
        ("samples->labels", 3),
        ("samples->weights", 3),
        ("samples->gradient", 15),
        ("loss", 1),
    ];
    let others = [("others->embeddings", 15), ("others->labels", 3), ("others->weights", 3)];
    let cross = [&all[..3], &others, &all[3..4], &[("others->gradient", 15)], &all[4..]].concat();
    // SAFETY: of all calls, pointers into the arena, with room for what the structs say.
    let calls: [(Arguments<'_>, usize, Function<'_>); 8] = unsafe {
        [
            (&forward, 3, &|p| etude_conv1d_forward(cpu, &one, p[0], p[1], p[2], p[3])),
            (&backward, 3, &|p| etude_conv1d_backward(cpu, &one, p[0], p[1], p[2], p[3], p[4], p[5])),
            (&forward2, 3, &|p| etude_conv2d_forward(cpu, &two, p[0], p[1], p[2], p[3])),
            (&backward2, 3, &|p| etude_conv2d_backward(cpu, &two, p[0], p[1], p[2], p[3], p[4], p[5])),
            (&matrix, 2, &|p| etude_similarity_forward(cpu, &s, p[0].cast(), p[1].cast(), p[2])),
            (&matrix_back, 3, &|p| {
                etude_similarity_backward(cpu, &s, p[0].cast(), p[1].cast(), p[2], p[3], p[4])
            }),
            (&all, 3, &|p| etude_contrastive(cpu, &c, &sets([p[0], p[1], p[2], p[3]]), p[4])),
            (&cross, 6, &|p| {
                let (samples, others) = (sets([p[0], p[1], p[2], p[6]]), sets([p[3], p[4], p[5], p[7]]));
                etude_contrastive_cross(cpu, &c, &samples, &others, p[8])
            }),
        ]
    };
    for (arguments, outputs, call) in calls {
        // What another call has written may be no label.
        // SAFETY: the whole arena.
        (0..16 * 64).for_each(|i| unsafe { *base.add(i) = 1.0 });
        let apart: Vec<_> = (0..arguments.len()).map(at).collect();
        ok(call(&apart));
        for written in outputs..arguments.len() {
            for other in (0..arguments.len()).filter(|&other| other != written) {
                let ((name, len), (of, its)) = (arguments[written], arguments[other]);
                // At its start, on its last element, and with the last element on its first.
                for offset in [0, its as isize - 1, 1 - len as isize] {
                    if other == 0 && offset < 0 {
                        continue;
                    }
                    let mut pointers = apart.clone();
                    pointers[written] = at(other).wrapping_offset(offset);
                    refused(call(&pointers), &[name, of, "overlaps", "0x"]);
                }
                // Side by side is apart.
                let mut pointers = apart.clone();
                pointers[written] = at(other).wrapping_add(its);
                ok(call(&pointers));
            }
        }
        // What is only read may be the same memory.
        let mut pointers = apart.clone();
        pointers[1] = pointers[0];
        ok(call(&pointers));
    }
    // Nor may the structs be written.
    let mut conv = one;
    let inside: *mut EtudeConv1d = &mut conv;
    // SAFETY: refused before anything is written.
    refused(
        unsafe { etude_conv1d_forward(cpu, inside, at(0), at(1), null(), inside.cast()) },
        &["y", "conv", "overlaps"],
    );
}

#[test]
fn structs_must_be_aligned() {
    let mut bytes = [0u64; 32];
    let odd: *mut u64 = bytes.as_mut_ptr().wrapping_byte_add(1);
    // SAFETY: refused before anything is read or written.
    unsafe {
        refused(etude_conv1d_output(odd.cast(), bytes.as_mut_ptr().cast()), &["conv: ", "multiple of 8"]);
        let mut conv = etude_conv1d_defaults();
        (conv.batch, conv.cin, conv.length, conv.cout, conv.taps) = (1, 1, 2, 1, 1);
        refused(etude_conv1d_output(&conv, odd.cast()), &["length: ", "multiple of 8"]);
        refused(etude_cpu_new(1, odd.cast()), &["context: ", "multiple of 8"]);
    }
}

#[test]
fn labels_and_weights_are_looked_at() {
    let context = Context::cpu(1);
    let c = EtudeContrastive { d: 1, ..etude_contrastive_defaults() };
    let call = |labels: [f32; 3], weights: Option<[f32; 3]>, cross: bool| {
        let (z, mut gradients, mut loss) = ([0.0f32, 0.5, 2.0], [[NAN; 3]; 2], NAN);
        let [first, second] = gradients.each_mut().map(|g| g.as_mut_ptr());
        let set = EtudeSamples {
            n: 3,
            embeddings: z.as_ptr().cast(),
            labels: labels.as_ptr(),
            weights: weights.as_ref().map_or(null(), |w| w.as_ptr()),
            gradient: second,
        };
        // SAFETY: arrays of three.
        let status = unsafe {
            if cross {
                let fine = EtudeSamples { labels: z.as_ptr(), weights: null(), gradient: first, ..set };
                etude_contrastive_cross(context.0, &c, &fine, &set, &mut loss)
            } else {
                etude_contrastive(context.0, &c, &set, &mut loss)
            }
        };
        (status, loss)
    };
    for (cross, whose) in [(false, "samples->"), (true, "others->")] {
        for bad in [NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (status, _) = call([0.0, bad, 1.0], None, cross);
            refused(status, &[whose, "labels: row 1 is", "finite"]);
            // Masked out, it is no matter.
            let (status, loss) = call([0.0, bad, 1.0], Some([1.0, 0.0, 1.0]), cross);
            ok(status);
            assert!(loss.is_finite());
        }
        for bad in [NAN, f32::INFINITY, -1.0, -f32::MIN_POSITIVE] {
            let (status, _) = call([0.0, 0.5, 1.0], Some([1.0, 1.0, bad]), cross);
            refused(status, &[whose, "weights: row 2 is", "not negative"]);
        }
        let (status, _) = call([0.0, 0.5, 1.0], Some([-0.0, 1.0, 2.0]), cross);
        ok(status);
    }
}

/// Threads do not survive a fork: the child starts its own, and hangs neither in a call nor in freeing its parent's context.
#[test]
#[cfg(unix)]
fn a_forked_child_computes_too() {
    use std::ffi::c_int;
    use std::time::{Duration, Instant};
    unsafe extern "C" {
        fn fork() -> c_int;
        fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn kill(pid: c_int, signal: c_int) -> c_int;
        fn _exit(status: c_int) -> !;
    }
    let (n, d) = (400, 8);
    let (z, labels) = (floats(1, n * d), positive(2, n));
    let mut c = etude_contrastive_defaults();
    c.d = d;
    let compute = |context: *const EtudeContext, gradient: &mut [f32]| {
        let (embeddings, gradient) = (z.as_ptr().cast(), gradient.as_mut_ptr());
        let set = EtudeSamples { n, embeddings, labels: labels.as_ptr(), weights: null(), gradient };
        let mut loss = NAN;
        // SAFETY: vectors of the lengths in the structs.
        let status = unsafe { etude_contrastive(context, &c, &set, &mut loss) };
        (status, loss)
    };
    for threads in [1, 4] {
        let context = std::mem::ManuallyDrop::new(Context::cpu(threads));
        let (mut of_parent, mut of_child) = (vec![NAN; n * d], vec![NAN; n * d]);
        let (status, loss) = compute(context.0, &mut of_parent);
        ok(status);
        // SAFETY: the child calls the library and ends, without unwinding.
        let child = unsafe { fork() };
        if child == 0 {
            let same = compute(context.0, &mut of_child) == (ETUDE_OK, loss) && of_child == of_parent;
            // SAFETY: the context is freed once in this process.
            unsafe {
                etude_context_free(context.0);
                _exit(if same { 0 } else { 3 })
            }
        }
        let (started, mut status) = (Instant::now(), -1);
        // SAFETY: the child is ours; 1 is WNOHANG, 9 is SIGKILL.
        while unsafe { waitpid(child, &mut status, 1) } == 0 {
            if started.elapsed() > Duration::from_secs(30) {
                // SAFETY: as above.
                unsafe { kill(child, 9) };
                panic!("the child hangs, with {threads} threads");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(status, 0, "{threads} threads");
        // The parent's context is as it was.
        assert_eq!(compute(context.0, &mut of_child), (ETUDE_OK, loss));
        drop(std::mem::ManuallyDrop::into_inner(context));
    }
}

/// Asking for too many threads neither takes long nor fails.
#[test]
fn threads_are_clamped() {
    let started = std::time::Instant::now();
    for threads in [100_000, usize::MAX] {
        drop(Context::cpu(threads));
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}
