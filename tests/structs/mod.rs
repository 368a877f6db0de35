//! The params structs of the kernels, read from their sources.

use std::collections::HashMap;
use std::path::Path;

/// Members of a struct in order: name and Rust type.
pub type Members = Vec<(String, String)>;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The `#[repr(C)]` params structs of `src/kernels/<stem>.rs`, by name.
pub fn rust_structs(stem: &str) -> HashMap<String, Members> {
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
