//! The smallest data and network that there is something to train with.

use etude::data::{Contents, SplitIndices};
use etude::data::{Example, InputKind, Inputs, Row};
use etude::net::{LayerConfig, NetConfig};
use etude::train::TrainOptions;

/// Six takes of some frames by as many performers, four of them to train on.
pub fn inputs() -> (Inputs, SplitIndices) {
    let example = |i: usize| {
        let data: Vec<f32> = (0..20 + i).map(|t| ((7 * t + i) % 11) as f32 / 11.0).collect();
        Example {
            id: format!("take {i}"),
            performer: format!("p{i}"),
            melody: None,
            rating: i as f32 / 5.0,
            ratings: Vec::new(),
            grades: Vec::new(),
            pass: Some(i > 2),
            split: None,
            contents: Contents { contour: i as u64, references: 0 },
            rows: vec![Row { len: data.len(), data }],
            features: Vec::new(),
        }
    };
    let inputs = Inputs {
        channels: 1,
        kind: InputKind::Contour,
        criteria: vec!["overall".into()],
        graders: None,
        examples: (0..6).map(example).collect(),
        notes: Vec::new(),
        degraded: Vec::new(),
    };
    (inputs, SplitIndices { train: vec![0, 2, 3, 5], val: vec![1], test: vec![4] })
}

/// Two epochs of two steps.
pub fn options() -> TrainOptions {
    let mut options = TrainOptions::for_inputs(InputKind::Contour, 1.0 / 127.0);
    let layers = vec![LayerConfig { channels: 3, taps: 5, stride: 2 }];
    options.net = NetConfig { layers, hidden: 2, ..NetConfig::paper(1, 16) };
    (options.epochs, options.batch) = (2, 2);
    options
}
