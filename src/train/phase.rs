//! The phases of a protocol.

use super::options::{Contrast, Protocol, TrainOptions};
use crate::net::Learn;

/// What a phase minimises and what it changes.
pub(super) struct Phase {
    pub name: &'static str,
    /// Whether ratings are trained, by their mean squared error.
    pub mse: bool,
    pub contrast: Option<Contrast>,
    pub encoder: Learn,
    pub head: Learn,
    /// Most epochs.
    pub epochs: usize,
    /// Whether it sees degraded takes alone.
    pub degraded: bool,
}

/// The phases of a run, in order.
pub(super) fn phases(o: &TrainOptions) -> Vec<Phase> {
    let (yes, no, epochs) = (Learn::Yes, Learn::No, o.epochs);
    let one = |name, contrast| Phase {
        name,
        mse: true,
        contrast,
        encoder: yes,
        head: yes,
        epochs,
        degraded: false,
    };
    let mut phases = Vec::new();
    if o.trial.degraded_epochs > 0 {
        phases.push(Phase { epochs: o.trial.degraded_epochs, degraded: true, ..one("degraded", None) });
    }
    phases.extend(match o.protocol {
        Protocol::Mse => vec![one("mse", None)],
        Protocol::Joint => vec![one("joint", Some(o.contrast))],
        Protocol::TwoPhase => {
            let contrast = Some(Contrast { weight: 1.0, ..o.contrast });
            let (name, epochs) = ("encoder", o.encoder_epochs);
            let first = Phase { name, mse: false, contrast, encoder: yes, head: no, epochs, degraded: false };
            let encoder = if o.freeze_encoder { no } else { yes };
            vec![first, Phase { encoder, ..one("head", None) }]
        }
    });
    phases
}
