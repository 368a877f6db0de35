//! The float a twin is generic over.

use super::{Args, CpuTwin};

/// `f32` or `f64`.
pub trait Real:
    num_traits::Float
    + num_traits::NumAssign
    + bytemuck::Pod
    + std::iter::Sum
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// From double precision, rounded.
    fn of(v: f64) -> Self;
    /// To double precision, exact.
    fn get(self) -> f64;
    /// The twin's instance for this float.
    fn twin(twin: &CpuTwin) -> fn(Args<'_, Self>);
}

impl Real for f32 {
    fn of(v: f64) -> Self {
        v as f32
    }
    fn get(self) -> f64 {
        f64::from(self)
    }
    fn twin(twin: &CpuTwin) -> fn(Args<'_, Self>) {
        twin.f32
    }
}

impl Real for f64 {
    fn of(v: f64) -> Self {
        v
    }
    fn get(self) -> f64 {
        self
    }
    fn twin(twin: &CpuTwin) -> fn(Args<'_, Self>) {
        twin.f64
    }
}
