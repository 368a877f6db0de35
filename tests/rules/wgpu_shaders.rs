//! Every shader checked without a device: parsed, validated, its workgroup memory summed, its bindings and
//! params compared with the registry and the Rust structs.

use etude::device::wgpu::shaders::{self, Entry};
use etude::kernel::{Elem, Kernel, Params, Scalar};
use etude::kernels::REGISTRY;
use etude::kernels::source::{SHADERS, Shader, shader};
use std::path::Path;

/// WebGPU's defaults.
const WORKGROUP_BYTES: u32 = 16 * 1024;
const THREADS: u32 = 256;
const STORAGE_BUFFERS: usize = 8;

fn entries(shader: &Shader) -> Vec<Entry> {
    shaders::reflect(shader.stem, &shader.source).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_file_is_in_the_table_under_a_stem_of_the_registry() {
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            // A template is there with a word in place of each `$`.
            let text = std::fs::read_to_string(&path).unwrap();
            let there = |s: &Shader| text.split('$').all(|part| s.source.contains(part));
            assert!(SHADERS.iter().any(there), "no shader takes {}", path.display());
        }
    }
    for (stem, _) in REGISTRY {
        assert!(shader(stem, Elem::Real).is_some(), "{stem} has no shader");
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
        for kernel in kernels.iter().filter(|k| k.stored() == shader.stored) {
            // A binding that one stage leaves out another may use; all together use every one but those a
            // kernel is bound to and does not read.
            for stage in 0..kernel.workgroups.len() {
                let name = kernel.wgsl_entry(stage);
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
                let name = kernel.wgsl_entry(0);
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

#[test]
fn params_are_the_rows() {
    for shader in SHADERS.iter() {
        let (_, kernels) = REGISTRY.iter().find(|r| r.0 == shader.stem).unwrap();
        for entry in entries(shader) {
            let Some(uniform) = entry.params else { continue };
            // `<name>_2` is a stage of `<name>`.
            let of = |k: &&&Kernel| (0..k.workgroups.len()).any(|stage| k.wgsl_entry(stage) == entry.name);
            let kernel = kernels.iter().find(of).unwrap_or_else(|| panic!("{} serves no kernel", entry.name));
            let scalar = |s: Scalar| if s == Scalar::U32 { "u32" } else { "f32" };
            let wanted: Vec<_> = kernel.params.members.iter().map(|&(n, s)| (n, scalar(s))).collect();
            let given: Vec<_> = uniform.members.iter().map(|(n, t, _)| (n.as_str(), *t)).collect();
            assert_eq!((uniform.name.as_str(), given), (kernel.params.name, wanted), "{}", entry.name);
            // No padding: the same bytes.
            assert!(uniform.members.iter().zip(0..).all(|(m, i)| m.2 == 4 * i), "{}: padded", entry.name);
            assert!(
                uniform.bytes as usize == kernel.params.bytes()
                    && uniform.bytes as usize <= Params::MAX_BYTES
            );
        }
    }
}

#[test]
fn overrides_are_those_that_the_module_declares() {
    for shader in SHADERS.iter() {
        let declared = &entries(shader)[0].overrides;
        assert_eq!(&shader.overrides, declared, "{}", shader.stem);
    }
}

/// What Metal and DirectX are given, from every entry point.
#[test]
fn metal_and_directx_have_every_shader() {
    use naga::back::{hlsl, msl, pipeline_constants};
    // Of both the oldest with f16.
    let of_metal = msl::Options { lang_version: (2, 0), ..Default::default() };
    let of_directx = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let mut validator = naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::SHADER_FLOAT16 | naga::valid::Capabilities::SUBGROUP,
    );
    for shader in SHADERS.iter() {
        let module = naga::front::wgsl::parse_str(&shader.source).unwrap();
        let info = validator.validate(&module).unwrap();
        let (module, info) =
            pipeline_constants::process_overrides(&module, &info, None, &Default::default()).unwrap();
        let (metal, made) = msl::write_string(&module, &info, &of_metal, &Default::default())
            .unwrap_or_else(|e| panic!("{}: {e}", shader.stem));
        let mut directx = String::new();
        let reflection = hlsl::Writer::new(&mut directx, &of_directx, &Default::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{}: {e}", shader.stem));
        for (i, entry) in module.entry_points.iter().enumerate() {
            let name = made.entry_point_names[i].as_ref().unwrap();
            assert!(metal.contains(&format!("kernel void {name}(")), "{}: {name}", entry.name);
            let name = reflection.entry_point_names[i].as_ref().unwrap();
            assert!(directx.contains(&format!("void {name}(")), "{}: {name}", entry.name);
        }
    }
}

#[test]
fn a_bad_shader_names_the_line() {
    let error = shaders::reflect("bad", "fn f() -> f32 {\n    return 1u;\n}\n").unwrap_err().to_string();
    assert!(error.contains("shaders/bad.wgsl") && error.contains("return 1u"), "{error}");
}
