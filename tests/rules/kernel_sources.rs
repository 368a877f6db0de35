//! What `etude::kernels` says of its kernels as plain data, without any device of a GPU: every row has its sources, and its
//! geometry fits what the case table launches.

use crate::source::{code, texts};
use etude::cases;
use etude::device::Cpu;
use etude::kernel::{Elem, Kernel};
use etude::kernels::{REGISTRY, source};
use std::collections::HashSet;

fn kernels() -> impl Iterator<Item = (&'static str, &'static Kernel)> {
    REGISTRY.iter().flat_map(|(stem, kernels)| kernels.iter().map(move |k| (*stem, *k)))
}

#[test]
fn every_row_has_its_sources() {
    for (stem, kernel) in kernels() {
        let name = kernel.name;
        assert_eq!(kernel.stem(), Some(stem), "{name}");
        match kernel.wgsl() {
            // WGSL has no bf16.
            None => assert_eq!(kernel.stored(), Elem::Bf16, "{name} has no shader"),
            Some(shader) => {
                assert_eq!((shader.stem, shader.stored), (stem, kernel.stored()), "{name}");
                assert!(!kernel.workgroups.is_empty(), "{name} has a shader and no stage");
                for entry in (0..kernel.workgroups.len()).map(|stage| kernel.wgsl_entry(stage)) {
                    assert!(
                        shader.source.contains(&format!("fn {entry}(")),
                        "shaders/{stem}.wgsl has no {entry}"
                    );
                }
            }
        }
        let text = kernel.cuda_source().unwrap_or_else(|| panic!("no kernels/{stem}.cu"));
        assert!(text.contains(&format!("{name}(")), "kernels/{stem}.cu has no {name}");
        // Headers are in place: NVRTC needs no file.
        assert!(!text.lines().any(|line| line.starts_with("#include")), "kernels/{stem}.cu includes");
        assert!(
            kernel.params.members.iter().all(|m| text_has_member(kernel, m.0)),
            "{name}: {:?}",
            kernel.params
        );
    }
}

/// Whether a member of the params is declared in the WGSL struct.
fn text_has_member(kernel: &Kernel, member: &str) -> bool {
    let Some(shader) = source::shader(kernel.stem().unwrap_or_default(), Elem::Real) else { return false };
    let declared = shader.source.split(&format!("struct {} {{", kernel.params.name)).nth(1);
    declared.is_some_and(|body| body.split('}').next().is_some_and(|b| b.contains(&format!("{member}: "))))
}

#[test]
fn geometry_fits_every_launch_of_the_case_table() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let mut seen = HashSet::new();
    for case in cases::all() {
        let prepared = case.prepare(&cpu).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for launch in prepared.step.recorded() {
            let (kernel, p) = (launch.kernel, &launch.params);
            let at = format!("{} in {}", kernel.name, case.name);
            seen.insert(kernel.name);
            assert_eq!(p.as_bytes().len(), kernel.params.bytes(), "{at}");
            // A grid with a side of 0 has nothing to do.
            for groups in kernel.workgroups {
                let [x, y, z] = groups(p);
                let sides = [if (y, z) == (1, 1) { 0 } else { x }, y, z];
                assert!(sides.iter().all(|&side| side <= 65_535), "{at}: {x} x {y} x {z} workgroups");
            }
            assert!(
                kernel.workgroups.is_empty() || kernel.workgroups.iter().any(|g| !g(p).contains(&0)),
                "{at}: no workgroup"
            );
            let cuda = &kernel.cuda;
            let [x, y, z] = (cuda.grid)(p);
            assert!(x > 0 && [y, z].iter().all(|s| (1..=65_535).contains(s)), "{at}: {x} x {y} x {z} blocks");
            assert!(cuda.block.is_multiple_of(32) && cuda.block <= 1024, "{at}: {} threads", cuda.block);
            // The most that a block of compute capability 8.0 can ask for.
            assert!((cuda.shared)(p) <= 163 * 1024, "{at}: {} bytes shared", (cuda.shared)(p));
            assert!(cuda.tickets.is_none_or(|tickets| tickets(p) >= 1), "{at}: no tickets");
        }
    }
    let unseen: Vec<_> = kernels().map(|(_, k)| k.name).filter(|name| !seen.contains(name)).collect();
    assert!(unseen.is_empty(), "no case launches {unseen:?}");
}

/// Fails with the lines of code that are `bad` in the sources under `folders`.
fn no_line(folders: &[&str], bad: impl Fn(&str) -> bool) {
    let mut faults = Vec::new();
    for (file, text) in texts(folders, &[".cu", ".cuh", ".h", ".cpp", ".wgsl", ".rs"]) {
        let code = code(&text);
        let lines = code.lines().zip(1..).filter(|(line, _)| bad(line));
        faults.extend(lines.map(|(line, number)| format!("{file}:{number}: {line}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The sizes of the decimal numbers of a line.
fn numbers(line: &str) -> impl Iterator<Item = f64> + '_ {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)));
    words.filter_map(|word| {
        let text = word.trim_start_matches('-').trim_end_matches(['f', 'F', 'h']).trim_end_matches("_f3");
        text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse().ok())?
    })
}

/// Cards flush what is smaller than any normal number to zero: `largest >= 1e-38` is then true of a row of zeros.
#[test]
fn no_constant_is_smaller_than_any_normal_number() {
    let small = |v: f64| v > 0.0 && v < f64::from(f32::MIN_POSITIVE);
    assert!(numbers("if x >= 1e-38f && y < -0.00001e-34 {").filter(|v| small(*v)).count() == 2);
    no_line(&["kernels", "shaders", "src/kernels", "src/simd"], |line| numbers(line).any(small));
}

/// A shader's compiler may take it that there is no NaN and no infinity: what tells one, or makes one, goes by bits, in the
/// prelude's `is_nan` and `nan_if`; and browsers refuse a constant that is none.
#[test]
fn no_shader_rests_on_a_nan() {
    let same = |line: &str| {
        ["!=", "=="].iter().any(|op| {
            let sides: Vec<_> = line.split(op).collect();
            let [left, right] = sides[..] else { return false };
            let word = |c: char| !(c.is_alphanumeric() || "_.[]".contains(c));
            let left = left.trim_end().rsplit(word).next().unwrap_or_default();
            !left.is_empty() && Some(left) == right.trim_start().split(word).next()
        })
    };
    let rests =
        |line: &str| same(line) || line.contains("bitcast<f32>(") || numbers(line).any(|v| v > 3.4e38);
    for bad in ["if key >= -3.4028234e38 {", "x = bitcast<f32>(NAN_BITS);", "if v.x != v.x {"] {
        assert!(rests(bad), "{bad}");
    }
    let nan_if = "return bitcast<f32>(select(bitcast<u32>(v), 0x7fc00000u, bad));";
    no_line(&["shaders"], |line| line.trim() != nan_if && rests(line));
}

/// `as` of the prelude alone makes wider pointers: the CPU run checks there that an address fits.
#[test]
fn pointers_are_cast_in_one_place() {
    let casts = |line: &str| line.contains("reinterpret_cast<");
    for (file, text) in texts(&["kernels"], &[".cu", ".cuh"]) {
        let allowed = file.ends_with("prelude.cuh") || file.contains("on_cpu");
        let found = code(&text).lines().any(casts);
        assert!(allowed || !found, "{file}: use `as`, `is_aligned` or `align16` of the prelude");
    }
}

/// What a last block reads is written with `__stcg`, else the CPU run could not tell whether it may be read.
#[test]
fn what_blocks_hand_on_is_marked() {
    for (stem, rows) in REGISTRY {
        if rows.iter().any(|row| row.cuda.tickets.is_some()) {
            let text = source::cuda(stem).unwrap();
            for call in ["last_block(", "__stcg(", "__ldcg("] {
                assert!(text.contains(call), "kernels/{stem}.cu draws tickets without {call}..)");
            }
        }
    }
}

/// nvcc 13.0 unrolled a loop of unknown length by three without the rest: six convolution gradients were wrong on a card alone.
/// Powers of two are right.
#[test]
fn loops_are_unrolled_by_powers_of_two() {
    no_line(&["kernels"], |line| {
        let by = line.trim().strip_prefix("#pragma unroll").and_then(|by| by.trim().parse::<u32>().ok());
        by.is_some_and(|by| !by.is_power_of_two())
    });
}
