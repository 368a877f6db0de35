//! The bytes of a model file. Their checksum is made right, so that more than that is looked at; what is a model is made one.
#![no_main]

#[path = "../../tests/common/seal.rs"]
mod seal;

use etude::device::Cpu;
use etude::model::parse;
use etude::net::PcConvNet;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

static CPU: LazyLock<Cpu<f32>> = LazyLock::new(|| Cpu::new(1).expect("one thread"));

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    seal::seal(&mut bytes);
    if let Ok((info, tensors)) = parse(Path::new("model"), &bytes) {
        let net = PcConvNet::new(&*CPU, info.net.clone(), 0).expect("a record that was checked");
        let _ = net.load(&*CPU, &tensors);
        let _ = info.windows();
    }
});
