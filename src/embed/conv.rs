//! Convolutions.

use super::shared::{apart, fits, launch};
use crate::Result;
use crate::device::{Buf, Device};
use crate::kernel::Elem;
use crate::kernels::{conv1d as k1, conv2d as k2};
use crate::ops::conv1d::{self, ConvOptions1d};
use crate::ops::conv2d::{self, ConvOptions2d};

/// What the gradients of a convolution are wanted of.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvGradients<'a> {
    /// By the input.
    pub x: Option<&'a Buf>,
    /// By the weight.
    pub weight: Option<&'a Buf>,
    /// By the bias.
    pub bias: Option<&'a Buf>,
}

macro_rules! conv {
    ($(#[$doc:meta])* $name:ident, $op:ident, $k:ident, $params:ident, $options:ident, $rank:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name {
            p: $k::$params,
            x: [usize; $rank],
            weight: [usize; $rank],
            output: [usize; $rank],
        }

        impl $name {
            const OP: &str = stringify!($op);

            /// For an input and a weight of these shapes.
            ///
            /// # Errors
            /// When shapes and options do not fit together, a dimension is empty, or 32 bits cannot index what they describe.
            pub fn new(x: [usize; $rank], weight: [usize; $rank], options: $options) -> Result<Self> {
                let (p, output) = $op::params(x, weight, None, options)?;
                Ok(Self { p, x, weight, output })
            }

            /// Shape of the output.
            pub fn output(&self) -> [usize; $rank] {
                self.output
            }

            /// The convolution into `y`; `bias` has an element for each output channel.
            ///
            /// # Errors
            /// When a buffer is of another length, or the device fails.
            pub fn forward(
                &self,
                device: &dyn Device,
                x: &Buf,
                weight: &Buf,
                bias: Option<&Buf>,
                y: &Buf,
            ) -> Result<()> {
                fits(Self::OP, "x", x, &self.x)?;
                fits(Self::OP, "weight", weight, &self.weight)?;
                fits(Self::OP, "y", y, &self.output)?;
                if let Some(bias) = bias {
                    fits(Self::OP, "bias", bias, &self.weight[..1])?;
                }
                let p = $k::$params { bias: bias.is_some().into(), ..self.p };
                device.run_once(vec![launch(&$k::FWD, &p, &[x, weight, bias.unwrap_or(weight), y])])
            }

            /// The gradients that are wanted, from that by the output, `dy`.
            ///
            /// # Errors
            /// When a buffer is of another length, a gradient overlaps anything else, or the device fails.
            pub fn backward(
                &self,
                device: &dyn Device,
                x: &Buf,
                weight: &Buf,
                dy: &Buf,
                gradients: ConvGradients<'_>,
            ) -> Result<()> {
                fits(Self::OP, "x", x, &self.x)?;
                fits(Self::OP, "weight", weight, &self.weight)?;
                fits(Self::OP, "dy", dy, &self.output)?;
                let ConvGradients { x: dx, weight: dw, bias: db } = gradients;
                let read = [("x", x), ("weight", weight), ("dy", dy)];
                apart(Self::OP, &read, &[("dx", dx), ("dweight", dw), ("dbias", db)])?;
                let (p, mut launches) = (&self.p, Vec::with_capacity(3));
                if let Some(dx) = dx {
                    fits(Self::OP, "dx", dx, &self.x)?;
                    launches.push(launch(&$k::BWD_X, p, &[dy, weight, dx]));
                }
                if let Some(dw) = dw {
                    fits(Self::OP, "dweight", dw, &self.weight)?;
                    let part = device.alloc(Elem::Real, device.scratch(p.parts()))?;
                    launches.push(launch(&$k::BWD_W, p, &[x, dy, &part, dw]));
                }
                if let Some(db) = db {
                    fits(Self::OP, "dbias", db, &self.weight[..1])?;
                    launches.push(launch(&$k::BWD_B, p, &[dy, db]));
                }
                device.run_once(launches)
            }
        }
    };
}

conv!(
    /// [`conv1d`](crate::ops::conv1d::conv1d): `x` `[batch, cin, t]`, `weight` `[cout, cin/groups, taps]`.
    Conv1d, conv1d, k1, Conv1dParams, ConvOptions1d, 3
);
conv!(
    /// [`conv2d`](crate::ops::conv2d::conv2d): `x` `[batch, cin, h, w]`, `weight` `[cout, cin/groups, kh, kw]`.
    Conv2d, conv2d, k2, Conv2dParams, ConvOptions2d, 4
);
