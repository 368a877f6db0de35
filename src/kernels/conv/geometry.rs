//! The shape of a convolution, in the form that every twin takes it in.
//!
//! A convolution over sequences is one over images a row high: its first axis is [`Axis::ONE`].

/// One axis of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Axis {
    /// The axis that a one-dimensional convolution lacks.
    pub const ONE: Self = Self { input: 1, output: 1, kernel: 1, stride: 1, padding: 0, dilation: 1 };

    /// The input position under `tap` of output position `at`, unless it is padding.
    pub fn under(&self, at: usize, tap: usize) -> Option<usize> {
        let padded = at * self.stride + tap * self.dilation;
        padded.checked_sub(self.padding).filter(|&at| at < self.input)
    }
}

/// A convolution: rows, then columns.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    pub batch: usize,
    pub groups: usize,
    /// Input channels of a group.
    pub cin: usize,
    /// Output channels of a group.
    pub cout: usize,
    pub axes: [Axis; 2],
    pub bias: bool,
    /// Whether each term is to be a product of its own.
    pub exact: bool,
    /// Runs of positions that GPUs sum the gradient of the weight in.
    pub splits: u32,
}

impl Geometry {
    /// The product over the axes of what `of` says of each.
    pub fn product(&self, of: impl Fn(&Axis) -> usize) -> usize {
        self.axes.iter().map(of).product()
    }
    /// Positions of an input channel.
    pub fn inputs(&self) -> usize {
        self.product(|a| a.input)
    }
    /// Positions of an output channel.
    pub fn outputs(&self) -> usize {
        self.product(|a| a.output)
    }
    /// Weights of an output channel: the terms of each sum.
    pub fn terms(&self) -> usize {
        self.cin * self.product(|a| a.kernel)
    }
    /// Output channels of all groups.
    pub fn channels(&self) -> usize {
        self.groups * self.cout
    }
    /// Elements of the input, the weight and the output.
    pub fn elements(&self) -> [usize; 3] {
        let samples = self.batch * self.groups;
        [
            samples * self.cin * self.inputs(),
            self.channels() * self.terms(),
            samples * self.cout * self.outputs(),
        ]
    }
    /// Rows and columns of an input channel, and of an output channel.
    pub fn planes(&self) -> [[usize; 2]; 2] {
        [self.axes.map(|a| a.input), self.axes.map(|a| a.output)]
    }
}

/// The greatest common divisor.
pub fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
