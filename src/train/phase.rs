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
}

/// The phases of a run, in order.
pub(super) fn phases(o: &TrainOptions) -> Vec<Phase> {
    let (yes, no, epochs) = (Learn::Yes, Learn::No, o.epochs);
    let one = |name, contrast| Phase { name, mse: true, contrast, encoder: yes, head: yes, epochs };
    match o.protocol {
        Protocol::Mse => vec![one("mse", None)],
        Protocol::Joint => vec![one("joint", Some(o.contrast))],
        Protocol::TwoPhase => {
            let contrast = Some(Contrast { weight: 1.0, ..o.contrast });
            let (name, epochs) = ("encoder", o.encoder_epochs);
            let first = Phase { name, mse: false, contrast, encoder: yes, head: no, epochs };
            let encoder = if o.freeze_encoder { no } else { yes };
            vec![first, Phase { encoder, ..one("head", None) }]
        }
    }
}
