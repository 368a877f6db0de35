//! Named tensors that are learned, in one buffer.

use crate::device::{Buf, Device, Host, block_on};
use crate::graph::{Graph, Var};
use crate::kernel::Elem;
use crate::{Error, Result};

/// Tensors start at multiples of this many elements: a whole number of cache lines, and what GPUs
/// ask of a buffer's offset.
pub const ALIGNMENT: usize = 64;

#[derive(Clone)]
struct Param {
    name: String,
    shape: Vec<usize>,
    value: Buf,
    grad: Buf,
}

/// Named tensors in one flat buffer, with their gradients in another.
pub struct ParamSet {
    params: Vec<Param>,
    theta: Buf,
    grad: Buf,
}

impl ParamSet {
    /// Tensors of the given names and shapes, all zero.
    ///
    /// # Errors
    /// When a name is given twice, a shape has no elements, there is no tensor, or the device has no
    /// memory.
    pub fn new<S: AsRef<str>>(device: &dyn Device, tensors: &[(S, &[usize])]) -> Result<Self> {
        let mut places = Vec::with_capacity(tensors.len());
        let mut total = 0usize;
        for (i, (name, shape)) in tensors.iter().enumerate() {
            let name = name.as_ref();
            if tensors[..i].iter().any(|(other, _)| other.as_ref() == name) {
                return Err(Error::config(format!("two parameters are called `{name}`")));
            }
            let len = shape
                .iter()
                .try_fold(1usize, |n, &d| n.checked_mul(d))
                .filter(|&n| n > 0)
                .and_then(|n| Some((n, total.checked_add(n)?.checked_next_multiple_of(ALIGNMENT)?)));
            let Some((len, end)) = len else {
                return Err(Error::config(format!("parameter `{name}` cannot have shape {shape:?}")));
            };
            places.push((total, len));
            total = end;
        }
        if u32::try_from(total).is_err() || total == 0 {
            return Err(Error::config(format!("a parameter set of {total} elements cannot be optimised")));
        }
        let (theta, grad) = (device.alloc(Elem::Real, total)?, device.alloc(Elem::Real, total)?);
        let params = tensors.iter().zip(places).map(|((name, shape), (at, len))| {
            Ok(Param {
                name: name.as_ref().to_string(),
                shape: shape.to_vec(),
                value: theta.window(at, len)?,
                grad: grad.window(at, len)?,
            })
        });
        Ok(Self { params: params.collect::<Result<_>>()?, theta, grad })
    }

    /// Tensors `range` of the set, sharing its memory: to update a part of a network in one launch.
    ///
    /// # Errors
    /// When the range is empty or reaches beyond the tensors there are.
    pub fn part(&self, range: std::ops::Range<usize>) -> Result<Self> {
        let params = self.params.get(range.clone()).filter(|p| !p.is_empty()).ok_or_else(|| {
            Error::config(format!("no part {range:?} of a parameter set of {} tensors", self.params.len()))
        })?;
        let at = |p: &Param| p.value.offset() - self.theta.offset();
        let (from, to) = (at(&params[0]), self.params.get(range.end).map_or(self.theta.len(), at));
        Ok(Self {
            params: params.to_vec(),
            theta: self.theta.window(from, to - from)?,
            grad: self.grad.window(from, to - from)?,
        })
    }

    fn find(&self, name: &str) -> Result<&Param> {
        self.params.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<_> = self.names().collect();
            Error::config(format!("no parameter is called `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.params.iter().map(|p| p.name.as_str())
    }

    /// How many numbers the tensors hold, without what lies between them.
    pub fn count(&self) -> usize {
        self.params.iter().map(|p| p.value.len()).sum()
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.find(name)?.shape)
    }

    /// The memory of a tensor.
    ///
    /// # Errors
    /// As [`ParamSet::shape`].
    pub fn buf(&self, name: &str) -> Result<&Buf> {
        Ok(&self.find(name)?.value)
    }

    /// The memory of a tensor's gradient.
    ///
    /// # Errors
    /// As [`ParamSet::shape`].
    pub fn grad(&self, name: &str) -> Result<&Buf> {
        Ok(&self.find(name)?.grad)
    }

    /// All tensors as they lie in memory, each at a multiple of [`ALIGNMENT`], 0 between them.
    pub fn theta(&self) -> &Buf {
        &self.theta
    }

    /// All gradients, laid out as [`ParamSet::theta`].
    pub fn gradient(&self) -> &Buf {
        &self.grad
    }

    /// Writes a tensor.
    ///
    /// # Errors
    /// When there is none of that name, or the number of values is another.
    pub fn write<'a>(&self, device: &dyn Device, name: &str, values: impl Into<Host<'a>>) -> Result<()> {
        let (param, values) = (self.find(name)?, values.into());
        if values.len() != param.value.len() {
            return Err(Error::config(format!(
                "parameter `{name}` has shape {:?}, was given {} values",
                param.shape,
                values.len()
            )));
        }
        device.write(&param.value, values)
    }

    /// Every tensor's name, shape and values, in order: what a file needs.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read_all(&self, device: &dyn Device) -> Result<Vec<Tensor>> {
        block_on(self.read_all_async(device))
    }

    /// [`ParamSet::read_all`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn read_all_async(&self, device: &dyn Device) -> Result<Vec<Tensor>> {
        let mut all = Vec::with_capacity(self.params.len());
        for Param { name, shape, value, .. } in &self.params {
            let values = device.download_async(value).await?;
            all.push(Tensor { name: name.clone(), shape: shape.clone(), values });
        }
        Ok(all)
    }

    /// Writes back what [`ParamSet::read_all`] gave; the order does not matter.
    ///
    /// # Errors
    /// When a tensor is missing, unknown, given twice or of another shape; then nothing is written.
    pub fn write_all(&self, device: &dyn Device, tensors: &[Tensor]) -> Result<()> {
        for t in tensors {
            let p = self.find(&t.name)?;
            if p.shape != t.shape || p.value.len() != t.values.len() {
                return Err(Error::config(format!(
                    "parameter `{}` has shape {:?}, was given {} values of shape {:?}",
                    t.name,
                    p.shape,
                    t.values.len(),
                    t.shape
                )));
            }
        }
        for p in &self.params {
            match tensors.iter().filter(|t| t.name == p.name).count() {
                1 => {}
                n => return Err(Error::config(format!("parameter `{}` was given {n} times", p.name))),
            }
        }
        tensors.iter().try_for_each(|t| self.write(device, &t.name, &t.values))
    }

    /// Binds every tensor as a leaf of `g` whose gradient is written to its place in the set.
    ///
    /// # Errors
    /// None at present; see [`Graph::leaf`].
    pub fn leaves(&self, g: &mut Graph) -> Result<Leaves> {
        let leaf = |p: &Param| Ok((p.name.clone(), g.leaf(&p.value, Some(&p.grad), &p.shape)?));
        Ok(Leaves(self.params.iter().map(leaf).collect::<Result<_>>()?))
    }

    /// Binds every tensor as a constant of `g`: to evaluate, or to leave a part of a network as it is.
    ///
    /// # Errors
    /// None at present; see [`Graph::bind`].
    pub fn constants(&self, g: &mut Graph) -> Result<Leaves> {
        let bind = |p: &Param| Ok((p.name.clone(), g.bind(&p.value, &p.shape)?));
        Ok(Leaves(self.params.iter().map(bind).collect::<Result<_>>()?))
    }
}

/// A tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, the last dimension fastest.
    pub values: Vec<f32>,
}

/// The tensors of a [`ParamSet`] in one graph.
#[derive(Debug, Clone)]
pub struct Leaves(Vec<(String, Var)>);

impl Leaves {
    /// These and then `other`.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self([&self.0[..], &other.0].concat())
    }

    /// Names and values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), *var))
    }

    /// The value of a tensor.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<Var> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|l| l.1).ok_or_else(|| Error::config(format!("no parameter is called `{name}`")))
    }
}
