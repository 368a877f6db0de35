//! The case table on every device, and what each device is to do beyond it.

/// Tests in processes of their own.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod child;
/// A driver that plays a card.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[path = "../common/driver.rs"]
mod driver;
/// The devices that tests run on.
mod gpu;
/// A launch to try a device with.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod launch;
/// A graph for any bytes.
#[path = "../common/random_graph.rs"]
mod random_graph;
/// Buffers that begin where no alignment does.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod shifted;
/// What every case of the table gives on each device, run once.
mod table;
/// What short training runs give on each device, run once.
mod trained;
/// A small set to train on.
#[path = "../common/training.rs"]
mod training;

/// The case table on the CPU: gradients, and f32 against the oracle.
mod cases;
/// The case table and training, bit for bit as recorded.
mod fingerprint;

/// Each wrapper of an instruction by itself: first on a card.
#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod instructions;

/// Convolutions on GPUs: tiles, shapes and options.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod conv;
/// Calls on a caller's memory.
mod embed;
/// Pair kernels on GPUs: options at random.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod pairs;

/// Graphs made of random bytes.
mod random_graphs;

/// The CUDA device on a card.
#[cfg(feature = "cuda")]
mod cuda_device;
/// What the CUDA device asks of the driver.
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda_driver;
/// The network's CUDA kernels at odd shapes.
#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod cuda_network;
/// The small CUDA kernels at odd shapes.
#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
mod cuda_odd_shapes;
/// The case table through the CUDA sources on the CPU.
#[cfg(feature = "cuda-on-cpu")]
mod cuda_on_cpu;
/// Indices beyond 2^32.
#[cfg(feature = "cuda-on-cpu")]
mod far;
/// The last of nearly 2^32 elements of a layer.
#[cfg(feature = "cuda-on-cpu")]
mod far_layers;
/// Indices beyond 2^32 in the kernels over pairs of rows.
#[cfg(feature = "cuda-on-cpu")]
mod far_pairs;

/// The WGSL device: errors, a caller's device, windows of memory.
#[cfg(feature = "wgpu")]
mod wgpu_device;
/// The WGSL pair kernels at extremes.
#[cfg(feature = "wgpu")]
mod wgpu_pairs;
/// The case table on the WGSL device.
#[cfg(feature = "wgpu")]
mod wgpu_parity;
/// Training on the WGSL device.
#[cfg(feature = "wgpu")]
mod wgpu_train;
