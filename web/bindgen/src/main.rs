//! `etude-web-bindgen INPUT.wasm DIRECTORY`: writes the module that loads the WebAssembly, and the WebAssembly that it loads.

use anyhow::bail;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let [input, directory] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        bail!("usage: etude-web-bindgen INPUT.wasm DIRECTORY");
    };
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(input)
        .out_name("etude")
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true);
    bindgen.generate(directory)
}
