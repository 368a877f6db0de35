//! What the WGSL sources declare, and the checks that need no device.

use crate::kernel::{Access, Elem, Kernel};
use crate::kernels::source::Shader;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use wgpu::naga;

/// One storage buffer of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Its name in the source.
    pub name: String,
    /// Its number in group 0.
    pub binding: u32,
    /// Whether it is declared `read_write`.
    pub written: bool,
    /// Scalar type of its elements: `f32`, `u32`, ...
    pub scalar: &'static str,
}

/// The params struct of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uniform {
    /// The struct's name.
    pub name: String,
    /// Bytes of its members.
    pub bytes: u32,
    /// Name, scalar type and byte offset of each member.
    pub members: Vec<(String, &'static str, u32)>,
}

/// What an entry point declares and uses.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Threads of a workgroup.
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Storage buffers, by binding.
    pub storage: Vec<Storage>,
    /// The params, if it reads them.
    pub params: Option<Uniform>,
    /// Names of the module's `override` constants.
    pub overrides: Vec<String>,
}

fn scalar_name(scalar: naga::Scalar) -> &'static str {
    match (scalar.kind, scalar.width) {
        (naga::ScalarKind::Float, 4) => "f32",
        (naga::ScalarKind::Float, 2) => "f16",
        (naga::ScalarKind::Uint, 4) => "u32",
        (naga::ScalarKind::Sint, 4) => "i32",
        _ => "another scalar",
    }
}

fn scalar_of(module: &naga::Module, ty: naga::Handle<naga::Type>) -> &'static str {
    match module.types[ty].inner {
        naga::TypeInner::Scalar(s) | naga::TypeInner::Atomic(s) => scalar_name(s),
        naga::TypeInner::Vector { scalar, .. } => scalar_name(scalar),
        naga::TypeInner::Array { base, .. } => scalar_of(module, base),
        _ => "no scalar",
    }
}

/// Parses and validates a source and lists its entry points.
///
/// # Errors
/// With the compiler's message, which names the line.
pub fn reflect(stem: &str, source: &str) -> Result<Vec<Entry>> {
    let fault = |message: String| Error::device("wgpu", format!("shaders/{stem}.wgsl: {message}"));
    let module =
        naga::front::wgsl::parse_str(source).map_err(|e| fault(e.emit_to_string_with_path(source, stem)))?;
    let capabilities = naga::valid::Capabilities::SHADER_FLOAT16 | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|e| fault(e.emit_to_string_with_path(source, stem)))?;
    let overrides: Vec<String> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
    let (module, info) = naga::back::pipeline_constants::process_overrides(
        &module,
        &info,
        None,
        &naga::back::PipelineConstants::default(),
    )
    .map_err(|e| fault(format!("override without a default: {e}")))?;
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| fault(e.to_string()))?;
    let mut entries = Vec::new();
    for (i, point) in module.entry_points.iter().enumerate() {
        let used = info.get_entry_point(i);
        let mut entry = Entry {
            name: point.name.clone(),
            workgroup: point.workgroup_size,
            workgroup_bytes: 0,
            storage: Vec::new(),
            params: None,
            overrides: overrides.clone(),
        };
        for (handle, global) in module.global_variables.iter() {
            if used[handle].is_empty() {
                continue;
            }
            let name = global.name.clone().unwrap_or_default();
            let at = global.binding.map(|b| (b.group, b.binding));
            match (global.space, at) {
                (naga::AddressSpace::WorkGroup, _) => {
                    let layout = layouter[global.ty];
                    entry.workgroup_bytes = layout.alignment.round_up(entry.workgroup_bytes) + layout.size;
                }
                (naga::AddressSpace::Storage { access }, Some((0, binding))) => entry.storage.push(Storage {
                    name,
                    binding,
                    written: access.contains(naga::StorageAccess::STORE),
                    scalar: scalar_of(&module, global.ty),
                }),
                (naga::AddressSpace::Uniform, Some((1, 0))) => {
                    let ty = &module.types[global.ty];
                    let naga::TypeInner::Struct { members, .. } = &ty.inner else {
                        return Err(fault(format!("`{name}` is no struct")));
                    };
                    let members: Vec<_> = members
                        .iter()
                        .map(|m| (m.name.clone().unwrap_or_default(), scalar_of(&module, m.ty), m.offset))
                        .collect();
                    entry.params = Some(Uniform {
                        name: ty.name.clone().unwrap_or_default(),
                        bytes: 4 * members.len() as u32,
                        members,
                    });
                }
                (space, at) => {
                    return Err(fault(format!(
                        "{}: `{name}` is {space:?} at {at:?}: storage belongs to group 0, the params to \
                         @group(1) @binding(0)",
                        point.name
                    )));
                }
            }
        }
        entry.storage.sort_by_key(|s| s.binding);
        entries.push(entry);
    }
    Ok(entries)
}

/// Why an entry point does not serve a kernel's row; nothing when it does.
pub fn mismatch(kernel: &Kernel, entry: &Entry) -> Option<String> {
    for storage in &entry.storage {
        let Some(row) = kernel.bindings.get(storage.binding as usize) else {
            return Some(format!(
                "binding {} is beyond the row's {}",
                storage.binding,
                kernel.bindings.len()
            ));
        };
        if storage.written != (row.access != Access::In) {
            return Some(format!(
                "`{}` is {:?} in the row, `{}` in the shader",
                row.name, row.access, storage.name
            ));
        }
        let scalar = match row.elem {
            Elem::Index => "u32",
            Elem::Real => "f32",
            Elem::F16 => "f16",
            Elem::Bf16 => "bf16",
        };
        if storage.scalar != scalar {
            return Some(format!(
                "`{}` has elements of {scalar}, in the shader of {}",
                row.name, storage.scalar
            ));
        }
    }
    None
}

/// The entry points of a shader, parsed once a process.
pub(super) fn entries(shader: &'static Shader) -> Result<&'static [Entry]> {
    type Cache = Mutex<HashMap<(&'static str, Elem), &'static [Entry]>>;
    static CACHE: OnceLock<Cache> = OnceLock::new();
    let mut cache = CACHE.get_or_init(Cache::default).lock().unwrap_or_else(PoisonError::into_inner);
    let key = (shader.stem, shader.stored);
    if let Some(&entries) = cache.get(&key) {
        return Ok(entries);
    }
    let entries: &'static [Entry] = Box::leak(reflect(shader.stem, &shader.source)?.into_boxed_slice());
    cache.insert(key, entries);
    Ok(entries)
}
