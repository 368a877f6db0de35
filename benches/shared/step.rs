//! The training step that is measured: PCConvNet as in the paper, 1000 frames, MSE, SGD.

use etude::Result;
use etude::cases::{normal, uniform};
use etude::device::Device;
use etude::graph::{Graph, Step};
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::Sgd;
use etude::optim::Method;

/// Records a step over one batch that stays where it is.
pub fn record(device: &dyn Device, batch: usize) -> Result<Step> {
    let net = PcConvNet::new(device, NetConfig::paper(1, 1000), 0)?;
    let x = device.upload(&normal(1, batch.div_ceil(16) * 16 * 1000))?;
    let y = device.upload(&uniform(2, batch))?;
    let mut g = Graph::new();
    let vars = net.bind(&mut g, Learn::Yes, Learn::Yes)?;
    let (x, y) = (g.bind(&x, &[batch.div_ceil(16), 1, 1000, 16])?, g.bind(&y, &[batch])?);
    let embedding = net.encode(&mut g, &vars, x, batch, None)?;
    let rating = net.rate(&mut g, &vars, embedding, None)?;
    let loss = mse(&mut g, rating, y, LossOptions::default())?;
    g.backward(loss)?;
    let mut optimizer = net.optimize(device, &mut g, &vars, Method::Sgd(Sgd::default()))?;
    optimizer.before_step(device, 1e-3)?;
    g.compile(device, &[loss])
}
