//! Every WGSL module, and the pipelines that the case table makes of it, as JSON on standard output: for compilers and runtimes
//! that are not Rust. `scripts/tint-check` hands it to the browsers' compiler.
//!
//!     cargo run --no-default-features --example wgsl_modules

use etude::cases;
use etude::device::Cpu;
use etude::kernels::source::SHADERS;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // By module, the entry points and the values of the override constants, each pair once.
    let mut pipelines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let cpu = Cpu::<f64>::new(1)?;
    for case in cases::all() {
        for launch in case.prepare(&cpu)?.step.recorded() {
            let Some(shader) = launch.kernel.wgsl() else { continue };
            let constants = launch.kernel.wgsl_constants(&launch.params);
            let constants: Map<_, Value> = constants.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
            for entry in (0..launch.kernel.workgroups.len()).map(|stage| launch.kernel.wgsl_entry(stage)) {
                let pipeline = json!({ "entry": entry, "constants": constants });
                pipelines.entry(name(shader)).or_default().insert(pipeline.to_string());
            }
        }
    }
    let mut modules = Vec::new();
    for shader in SHADERS.iter() {
        let of_module = pipelines.remove(&name(shader)).unwrap_or_default();
        let of_module: Result<Vec<Value>, _> = of_module.iter().map(|p| serde_json::from_str(p)).collect();
        modules.push(json!({ "name": name(shader), "source": shader.source, "pipelines": of_module? }));
    }
    println!("{}", Value::from(modules));
    Ok(())
}

/// A stem, with `_f16` where it reads these.
fn name(shader: &etude::kernels::source::Shader) -> String {
    format!("{}{}", shader.stem, if shader.stored == etude::kernel::Elem::F16 { "_f16" } else { "" })
}
