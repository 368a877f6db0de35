//! x
use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use burn_cubecl::CubeBackend;
#[allow(unused_imports)]
use burn_cubecl::cubecl::wgpu::{AutoCompiler, WgpuServer};
