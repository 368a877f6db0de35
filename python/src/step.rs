//! The training step that `etude.bench` times: the one that the crate's own benchmarks time.

#[path = "../../benches/shared/step.rs"]
mod shared;

use crate::{Device, raised};
use etude::cases::{normal, uniform};
use etude::device::{Buf, Launch};
use etude::graph::Step as Recorded;
use etude::net::{NetConfig, PcConvNet};
use pyo3::prelude::*;
use std::sync::{Mutex, PoisonError};

/// A training step of PCConvNet over one batch that stays on the device, recorded once.
#[pyclass(frozen, module = "etude._native")]
pub struct Step {
    device: Py<Device>,
    recorded: Mutex<Recorded>,
    loss: Buf,
    /// Name, shape and values of each parameter before the first step.
    #[pyo3(get)]
    parameters: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// The batch: `[batch / 16 rounded up, 1000, 16]`, sixteen samples side by side.
    #[pyo3(get)]
    x: Vec<f64>,
    /// Its ratings `[batch]`.
    #[pyo3(get)]
    ratings: Vec<f64>,
}

#[pymethods]
impl Step {
    #[new]
    fn new(device: &Bound<'_, Device>, batch: usize) -> PyResult<Self> {
        let on = device.get().0.device();
        let record = || {
            // What `record` starts from.
            let net = PcConvNet::new(on, NetConfig::paper(1, 1000), 0)?;
            Ok((net.params.read_all(on)?, shared::record(on, batch)?))
        };
        let (parameters, recorded) = record().map_err(raised)?;
        Ok(Self {
            device: device.clone().unbind(),
            loss: loss(&recorded).map_err(raised)?,
            recorded: Mutex::new(recorded),
            parameters: parameters.into_iter().map(|t| (t.name, t.shape, t.values)).collect(),
            x: normal(1, batch.div_ceil(16) * 16 * 1000),
            ratings: uniform(2, batch),
        })
    }

    /// Trains once; the loss before.
    fn run(&self, py: Python<'_>) -> PyResult<f32> {
        let on = self.device.get().0.device();
        py.detach(|| {
            self.recorded.lock().unwrap_or_else(PoisonError::into_inner).run()?;
            Ok(on.download(&self.loss)?[0])
        })
        .map_err(raised)
    }
}

/// What some launch writes as `loss`.
fn loss(recorded: &Recorded) -> etude::Result<Buf> {
    let bound = |launch: &Launch| {
        launch.kernel.bindings.iter().position(|b| b.name == "loss").map(|i| launch.bufs[i].clone())
    };
    let found = recorded.recorded().iter().find_map(bound);
    found.ok_or_else(|| etude::Error::config("the step has no loss"))
}
