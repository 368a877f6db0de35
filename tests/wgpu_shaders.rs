//! Every shader checked without a device: parsed, validated, its workgroup memory summed, its bindings and
//! params compared with the registry and the Rust structs.
#![cfg(feature = "wgpu")]

use etude::device::wgpu::shaders::{self, Entry, SHADERS, Shader};
use etude::kernels::{Elem, Params, REGISTRY};
use std::collections::HashMap;
use std::path::Path;

/// WebGPU's defaults.
const WORKGROUP_BYTES: u32 = 16 * 1024;
const THREADS: u32 = 256;
const STORAGE_BUFFERS: usize = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn entries(shader: &Shader) -> Vec<Entry> {
    shaders::reflect(shader.stem, &shader.source).unwrap_or_else(|e| panic!("{e}"))
}

/// What shaders share.
const PIECES: [&str; 4] = ["prelude", "pairs", "quads", "sweep"];

#[test]
fn every_file_is_in_the_table_under_a_stem_of_the_registry() {
    for file in std::fs::read_dir(root().join("shaders")).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
        if path.extension().is_some_and(|e| e == "wgsl") && !PIECES.contains(&stem.as_str()) {
            assert!(shaders::shader(&stem, Elem::Real).is_some(), "add {stem} to `sources!`");
            assert!(REGISTRY.iter().any(|r| r.0 == stem), "{stem} is no stem of the registry");
        }
    }
}

#[test]
fn shaders_keep_to_webgpu_limits() {
    for shader in SHADERS.iter() {
        for entry in entries(shader) {
            assert!(
                entry.workgroup_bytes <= WORKGROUP_BYTES,
                "{}: {} bytes",
                entry.name,
                entry.workgroup_bytes
            );
            assert!(
                entry.workgroup.iter().product::<u32>() <= THREADS,
                "{}: {:?}",
                entry.name,
                entry.workgroup
            );
            assert!(entry.storage.len() <= STORAGE_BUFFERS, "{}: {:?}", entry.name, entry.storage);
        }
    }
}

#[test]
fn shaders_match_their_rows() {
    for shader in SHADERS.iter() {
        let (stem, entries) = (shader.stem, entries(shader));
        let (_, kernels) = REGISTRY.iter().find(|r| r.0 == stem).unwrap();
        let mut names = Vec::new();
        for kernel in kernels.iter().filter(|k| shaders::stored(k) == shader.stored) {
            // A binding that one stage leaves out another may use; all together use every one but those a
            // kernel is bound to and does not read.
            for stage in 0..kernel.groups.len() {
                let name = shaders::entry_point(kernel, stage);
                let entry = entries
                    .iter()
                    .find(|e| e.name == name)
                    .unwrap_or_else(|| panic!("shaders/{stem}.wgsl has no entry point {name}"));
                if let Some(why) = shaders::mismatch(kernel, entry) {
                    panic!("{name}: {why}");
                }
                names.push(name);
            }
            for (i, row) in kernel.bindings.iter().enumerate() {
                let name = shaders::entry_point(kernel, 0);
                let used = entries.iter().filter(|e| e.name.starts_with(&name));
                assert!(
                    used.into_iter().any(|e| e.storage.iter().any(|s| s.binding == i as u32)),
                    "{}: no stage touches `{}`",
                    kernel.name,
                    row.name
                );
            }
        }
        // Rows that none of the stem's f16 kernels serves need none.
        for entry in entries.iter().filter(|_| shader.stored == Elem::Real) {
            assert!(names.contains(&entry.name), "{} serves no kernel", entry.name);
        }
    }
}

/// The `#[repr(C)]` params structs of a kernel's source: name to members and types, in order.
fn rust_structs(stem: &str) -> HashMap<String, Vec<(String, String)>> {
    let text = std::fs::read_to_string(root().join(format!("src/kernels/{stem}.rs"))).unwrap();
    let mut structs = HashMap::new();
    for part in text.split("#[repr(C)]\npub struct ").skip(1) {
        let (name, rest) = part.split_once(" {").unwrap();
        let body = rest.split_once("\n}").unwrap().0;
        let members = body
            .lines()
            .filter_map(|l| l.trim().strip_prefix("pub ")?.strip_suffix(',')?.split_once(": "))
            .map(|(n, t)| (n.to_string(), t.to_string()))
            .collect();
        structs.insert(name.to_string(), members);
    }
    structs
}

#[test]
fn params_are_the_rust_structs() {
    for shader in SHADERS.iter() {
        let (stem, structs) = (shader.stem, rust_structs(shader.stem));
        for entry in entries(shader) {
            let Some(uniform) = entry.params else { continue };
            let wanted = structs.get(&uniform.name).unwrap_or_else(|| {
                panic!("{}: src/kernels/{stem}.rs has no struct {}", entry.name, uniform.name)
            });
            let given: Vec<_> =
                uniform.members.iter().map(|(n, t, _)| (n.clone(), (*t).to_string())).collect();
            assert_eq!(&given, wanted, "{}: members of {}", entry.name, uniform.name);
            // No padding: the same bytes.
            assert!(uniform.members.iter().zip(0..).all(|(m, i)| m.2 == 4 * i), "{}: padded", entry.name);
            assert!(uniform.bytes as usize <= Params::MAX_BYTES);
        }
    }
}

#[test]
fn a_bad_shader_names_the_line() {
    let error = shaders::reflect("bad", "fn f() -> f32 {\n    return 1u;\n}\n").unwrap_err().to_string();
    assert!(error.contains("shaders/bad.wgsl") && error.contains("return 1u"), "{error}");
}
