//! The sources of all kernels as text, CUDA and WGSL, and what to call in them: for this crate's devices, and for any other
//! runtime. No device feature is needed.
//!
//! A row of [`REGISTRY`] says the rest as plain data: bindings, the params struct, and geometry as functions of the params.
//!
//! **CUDA.** [`Kernel::cuda_source`] is what NVRTC compiles (`--std=c++17`, compute capability 8.0 or newer; `sm_90a` for
//! Hopper), the entry point [`Kernel::name`]. Arguments: a pointer for each binding, the params struct by value where
//! it has members, and [`Cuda::tickets`](crate::kernel::Cuda::tickets) words of zeros where there are any.
//!
//! **WGSL.** [`Kernel::wgsl`] is the module, [`Kernel::wgsl_entry`] the entry point of each stage of
//! [`Kernel::workgroups`]; stages are dispatched in order, all with the same bindings and params. Binding i of group 0 is
//! binding i of the row (read-only for [`Access::In`](crate::kernel::Access::In)), `@group(1) @binding(0)` the params struct
//! as a uniform. A bind group layout may list all of a row's bindings, or the eight at most that the entry point uses.
//! Its `override` constants are to be set to [`Kernel::wgsl_constants`]. A grid `[n, 1, 1]` longer than the 65,535 of
//! WebGPU is folded over y: as many rows of equal length as are needed; one with a side of 0 is left out. Buffers start at
//! the adapter's alignment, and what is written is bound once.
//!
//! ```
//! use etude::kernel::Params;
//! use etude::kernels::elementwise::{ElementwiseParams, SCALE};
//!
//! let params = Params::new(&ElementwiseParams { n: 3000, factor: 0.5 });
//! let module = SCALE.wgsl().expect("every f32 kernel has a shader");
//! assert!(module.source.contains(&format!("fn {}(", SCALE.wgsl_entry(0))));
//! assert_eq!(SCALE.workgroups[0](&params), [3, 1, 1]);
//!
//! let launch = SCALE.cuda;
//! assert!(SCALE.cuda_source().is_some_and(|source| source.contains("scale")));
//! assert_eq!(((launch.grid)(&params), launch.block, (launch.shared)(&params)), ([3, 1, 1], 256, 0));
//! ```

use super::registry::REGISTRY;
use crate::kernel::{Elem, Kernel, Params, Scalar};
use crate::stems::stems;
use std::sync::LazyLock;

macro_rules! shader_text {
    ($name:ident) => {
        include_str!(concat!("../../shaders/", stringify!($name), ".wgsl"))
    };
}
macro_rules! own_texts {
    ($($stem:ident)*) => { &[$(shader_text!($stem)),*] };
}
macro_rules! pieces {
    ($($name:ident)*) => { &[$((stringify!($name), shader_text!($name))),*] };
}

/// The stems' own texts, in the order of the registry.
const OWN: &[&str] = stems!(own_texts);

/// What shaders share or are cut into. A shader says which of them it takes, in a line of its first comment:
/// `// with: pairs, pairs_quads(all)`. The word in parentheses takes the place of a template's `$`.
const PIECES: &[(&str, &str)] = pieces![
    conv conv_block_bwd conv_product conv_weight pairs pairs_norms pairs_quads pairs_tiles similarity_gradients
    similarity_matrix sweep
];

/// The pieces that a shader takes, in order, and the word for the `$` of each, empty where it names none.
fn taken(own: &str) -> impl Iterator<Item = (&str, &str)> {
    let head = own.lines().take_while(|line| line.starts_with("//"));
    let lists = head.filter_map(|line| line.strip_prefix("// with: "));
    lists.flat_map(|list| list.split(", ")).map(|piece| {
        let parts = piece.strip_suffix(')').and_then(|piece| piece.split_once('('));
        parts.unwrap_or((piece, ""))
    })
}

/// A piece by its name.
fn piece(name: &str) -> Option<&'static str> {
    PIECES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// A WGSL module: the shader of a stem for one type of stored elements.
#[derive(Debug)]
pub struct Shader {
    /// The stem.
    pub stem: &'static str,
    /// What its `Stored` is: f32, or f16 where a row of the stem reads it (the module then enables `f16`).
    pub stored: Elem,
    /// The whole source.
    pub source: String,
    /// Names of the `override` constants that it declares.
    pub overrides: Vec<String>,
}

/// Every shader: the stem's own source, then the pieces that it takes, the prelude last, so that line numbers of the
/// stem's own stay right.
pub static SHADERS: LazyLock<Vec<Shader>> = LazyLock::new(|| {
    let mut shaders = Vec::new();
    for (&(stem, kernels), own) in REGISTRY.iter().zip(OWN) {
        let halves = kernels.iter().any(|k| k.bindings.iter().any(|b| b.elem == Elem::F16));
        for stored in [Elem::Real, Elem::F16].into_iter().take(1 + usize::from(halves)) {
            let (enable, alias) = match stored {
                Elem::F16 => ("enable f16; ", "alias Stored = f16;\n"),
                _ => ("", "alias Stored = f32;\n"),
            };
            let mut source = [enable, own].concat();
            for (name, word) in taken(own) {
                // A piece that is unknown is the tests' to find; here it leaves its names undefined, which compilers report.
                source += &piece(name).unwrap_or_default().replace('$', word);
            }
            source += alias;
            source += shader_text!(prelude);
            let declared = source.lines().filter_map(|line| line.strip_prefix("override "));
            let overrides = declared.filter_map(|line| line.split(':').next()).map(String::from).collect();
            shaders.push(Shader { stem, stored, source, overrides });
        }
    }
    shaders
});

/// The shader of a stem over elements stored as `stored`.
pub fn shader(stem: &str, stored: Elem) -> Option<&'static Shader> {
    SHADERS.iter().find(|s| s.stem == stem && s.stored == stored)
}

include!(concat!(env!("OUT_DIR"), "/cuda_sources.rs"));

impl Kernel {
    /// The stem that it is named after; none where no source has such a name.
    pub fn stem(&self) -> Option<&'static str> {
        let named = |stem: &&str| self.name.strip_prefix(*stem).is_some_and(|rest| rest.starts_with('_'));
        CUDA.iter().map(|source| source.0).filter(named).max_by_key(|stem| stem.len())
    }

    /// What its rows are stored as: f32, or 16 bits where a binding says so.
    pub fn stored(&self) -> Elem {
        let half = |e: &Elem| matches!(e, Elem::F16 | Elem::Bf16);
        self.bindings.iter().map(|b| b.elem).find(half).unwrap_or(Elem::Real)
    }

    /// The module of its WGSL twin; none for rows in bf16, which WGSL does not have.
    pub fn wgsl(&self) -> Option<&'static Shader> {
        shader(self.stem()?, self.stored())
    }

    /// The entry point of a stage of its WGSL twin, counted from 0: that of the f32 row, whatever the elements are stored as.
    pub fn wgsl_entry(&self, stage: usize) -> String {
        let name = self.name.strip_suffix("_f16").unwrap_or(self.name);
        match stage {
            0 => name.to_string(),
            _ => format!("{name}_{}", stage + 1),
        }
    }

    /// The values of its module's `override` constants in a launch with `params`, by name: the params' members of these names.
    pub fn wgsl_constants(&self, params: &Params) -> Vec<(&'static str, f64)> {
        let Some(shader) = self.wgsl() else { return Vec::new() };
        let words: &[u32] = bytemuck::cast_slice(params.as_bytes());
        let members = self.params.members.iter().zip(words);
        let set = members.filter(|((name, _), _)| shader.overrides.iter().any(|declared| declared == name));
        set.map(|(&(name, scalar), &word)| match scalar {
            Scalar::U32 => (name, f64::from(word)),
            Scalar::F32 => (name, f64::from(f32::from_bits(word))),
        })
        .collect()
    }

    /// The source of its CUDA twin, one text with its headers in place; none where it is not in the registry.
    pub fn cuda_source(&self) -> Option<&'static str> {
        cuda(self.stem()?)
    }
}

/// The CUDA source of a stem, one text with its headers in place.
pub fn cuda(stem: &str) -> Option<&'static str> {
    CUDA.iter().find(|s| s.0 == stem).map(|s| s.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shaders_take_pieces_that_there_are() {
        for (&(stem, _), own) in REGISTRY.iter().zip(OWN) {
            for (name, word) in taken(own) {
                let text =
                    piece(name).unwrap_or_else(|| panic!("shaders/{stem}.wgsl: there is no piece `{name}`"));
                let template = text.contains('$');
                assert_eq!(template, !word.is_empty(), "shaders/{stem}.wgsl: whether `{name}` is a template");
            }
        }
    }
}
