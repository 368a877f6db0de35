//! Second derivatives of whatever the case table has, on the oracle: right, or refused.

use etude::cases::{Case, Data, Role, all, normal};
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Step, Var};
use etude::kernel::Elem;
use etude::ops::activation::sigmoid;
use etude::ops::contrastive::{ContrastiveOptions, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::similarity::{Similarity, similarity};
use etude::ops::{add, fill, reshape, scale};
use etude::{Error, Result};

/// Whether the case's ops say how gradients flow through their gradients.
fn twice(case: &Case) -> bool {
    let halves = case.inputs.iter().any(|i| matches!(i.data, Data::Half(..)));
    !halves
        && match case.stem {
            "contrastive" => !case.name.starts_with("halves"),
            "activation" => case.name.contains("relu"),
            "loss" => case.name.starts_with("mse "),
            // Second derivatives themselves, but for those of products.
            "similarity_hvp" => case.name.starts_with("Dot gradient"),
            "conv1d" | "conv2d" => true,
            "dropout" | "elementwise" | "pool" | "similarity" => true,
            _ => false,
        }
}

/// `Σ a·b`, `[1]`.
fn product(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    let row = [1, g.shape(a).iter().product::<usize>()];
    let (a, b) = (reshape(g, a, &row)?, reshape(g, b, &row)?);
    let product = similarity(g, a, b, Similarity::Dot)?;
    reshape(g, product, &[1])
}

/// The products of all of a case's gradients with given values, summed, and that sum's own gradients.
struct Second {
    step: Step,
    total: Var,
    /// What is moved, and the gradient by it: the case's inputs, and the upstream gradient.
    by: Vec<(Buf, Var)>,
}

fn record(case: &Case, device: &dyn Device) -> Result<Second> {
    let mut g = Graph::new();
    let (mut vars, mut by) = (Vec::new(), Vec::new());
    for input in &case.inputs {
        let buf = match &input.data {
            Data::Real(v) => device.upload(v)?,
            Data::Index(v) => device.upload(v)?,
            Data::Half(elem, v) => {
                let buf = device.alloc(*elem, v.len())?;
                device.write(&buf, v.into())?;
                buf
            }
        };
        vars.push(match input.role {
            Role::Grad => g.leaf(&buf, None, &input.shape)?,
            _ => g.bind(&buf, &input.shape)?,
        });
        if input.role == Role::Grad {
            by.push((buf, vars[vars.len() - 1]));
        }
    }
    let y = (case.build)(&mut g, &vars)?;
    let shape = g.shape(y).to_vec();
    let upstream = device.upload(&normal(71, shape.iter().product()))?;
    let up = g.leaf(&upstream, None, &shape)?;
    let gradients = g.gradients(y, Some(up), &by.iter().map(|of| of.1).collect::<Vec<_>>())?;
    let mut total = fill(&mut g, &[1], 0.0)?;
    for (i, gradient) in gradients.into_iter().enumerate() {
        let shape = g.shape(gradient).to_vec();
        let along = device.upload(&normal(72 + i as u64, shape.iter().product()))?;
        let along = g.bind(&along, &shape)?;
        let part = product(&mut g, gradient, along)?;
        total = add(&mut g, total, part)?;
    }
    g.backward(total)?;
    by.push((upstream, up));
    for (_, var) in &mut by {
        // A gradient that is linear in an input does not depend on it.
        let shape = g.shape(*var).to_vec();
        *var = g.grad(*var).map_or_else(|| fill(&mut g, &shape, 0.0), Ok)?;
    }
    let keep: Vec<Var> = std::iter::once(total).chain(by.iter().map(|of| of.1)).collect();
    let step = g.compile(device, &keep)?;
    Ok(Second { step, total, by })
}

/// How far a sum's gradients by the values of some buffers are off its central differences, along one direction of all of them;
/// and the size of what is summed along it.
fn off_along(device: &dyn Device, step: &mut Step, total: Var, by: Vec<(Buf, Vec<f64>)>) -> Result<[f64; 2]> {
    let (mut exact, mut size) = (0.0, 0.0);
    let mut moving = Vec::with_capacity(by.len());
    for (i, (buf, gradient)) in by.into_iter().enumerate() {
        let (values, direction) = (device.download_f64(&buf)?, normal(90 + i as u64, buf.len()));
        for (d, v) in gradient.iter().zip(&direction) {
            exact += d * v;
            size += (d * v).abs();
        }
        moving.push((buf, values, direction));
    }
    let mut at = |by: f64| -> Result<f64> {
        for (buf, values, direction) in &moving {
            let moved: Vec<f64> = values.iter().zip(direction).map(|(x, v)| x + by * v).collect();
            device.write(buf, (&moved).into())?;
        }
        step.run()?;
        Ok(device.download_f64(step.buf(total)?)?[0])
    };
    let h = 1e-6;
    let numeric = (at(h)? - at(-h)?) / (2.0 * h);
    Ok([(exact - numeric).abs(), size])
}

/// The relative error of the second derivatives along one direction of all inputs and the upstream gradient; `None` where they
/// are refused.
fn error_of(case: &Case) -> Result<Option<f64>> {
    let oracle = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &oracle;
    let Second { mut step, total, by } = match record(case, device) {
        Err(Error::Shape { message, .. }) if message.contains("differentiated once only") => return Ok(None),
        recorded => recorded?,
    };
    step.run()?;
    let gradient = |(buf, var): &(Buf, Var)| Ok((buf.clone(), device.download_f64(step.buf(*var)?)?));
    let by = by.iter().map(gradient).collect::<Result<Vec<_>>>()?;
    let [off, size] = off_along(device, &mut step, total, by)?;
    // Where all but nothing is summed the differences' own rounding is what is off.
    Ok(Some(off / size.max(1e-3)))
}

#[test]
fn second_derivatives_of_every_case_are_right_or_refused() {
    let (mut right, mut refused) = (0, 0);
    for case in all() {
        let elements: usize = case.inputs.iter().map(|i| i.shape.iter().product::<usize>()).sum();
        // Small enough for an oracle of plain loops.
        if !case.inputs.iter().any(|i| i.role == Role::Grad) || elements > 20_000 {
            continue;
        }
        match error_of(&case) {
            Ok(Some(error)) => {
                assert!(twice(&case), "{} {}: is differentiated twice", case.stem, case.name);
                // Central differences, of a step of 1e-6, of what f64 holds to 1e-16.
                assert!(error < 1e-6, "{} {}: {error}", case.stem, case.name);
                right += 1;
            }
            Ok(None) => {
                assert!(!twice(&case), "{} {}: refused", case.stem, case.name);
                refused += 1;
            }
            Err(error) => panic!("{} {}: {error}", case.stem, case.name),
        }
    }
    println!("{right} right, {refused} refused");
    assert!(right > 100 && refused > 50, "{right} right, {refused} refused");
}

/// The relative error of a scalar's gradients, which lie in memory named for them, along one direction of all leaves.
fn error_of_leaves(shapes: &[&[usize]], build: impl Fn(&mut Graph, &[Var]) -> Result<Var>) -> Result<f64> {
    let oracle = Cpu::<f64>::new(1)?;
    let device: &dyn Device = &oracle;
    let mut g = Graph::new();
    let (mut leaves, mut vars) = (Vec::new(), Vec::new());
    for (i, shape) in shapes.iter().enumerate() {
        let values = normal(1 + i as u64, shape.iter().product());
        let (buf, home) = (device.upload(&values)?, device.alloc(Elem::Real, values.len())?);
        vars.push(g.leaf(&buf, Some(&home), shape)?);
        leaves.push((buf, home));
    }
    let total = build(&mut g, &vars)?;
    g.backward(total)?;
    let mut step = g.compile(device, &[total])?;
    step.poison(device)?;
    step.run()?;
    let gradient = |(buf, home): (Buf, Buf)| Ok((buf, device.download_f64(&home)?));
    let by = leaves.into_iter().map(gradient).collect::<Result<Vec<_>>>()?;
    let [off, size] = off_along(device, &mut step, total, by)?;
    Ok(off / size)
}

/// A loss and a penalty on its gradient by the embedding, which comes from a convolution: both add to the same leaves.
#[test]
fn a_penalty_on_gradients_adds_to_a_loss() {
    let labels = [0.0, 1.0, 1.0, 3.0, 0.0, 2.0];
    let error = error_of_leaves(&[&[6, 2, 9], &[4, 2, 3], &[4]], |g, v| {
        let y = conv1d(g, v[0], v[1], Some(v[2]), ConvOptions1d { stride: 2, ..Default::default() })?;
        let z = reshape(g, y, &[6, 16])?;
        let oracle = Cpu::<f64>::new(1)?;
        let device: &dyn Device = &oracle;
        let labels = g.bind(&device.upload(&labels)?, &[6])?;
        let loss = contrastive(g, z, labels, ContrastiveOptions { margin: 9.0, ..Default::default() })?;
        let by = g.gradients(loss, None, &[z, v[1]])?;
        let mut total = scale(g, loss, 0.5)?;
        for gradient in by {
            let shape = g.shape(gradient).to_vec();
            let zeros = fill(g, &shape, 0.0)?;
            let penalty = mse(g, gradient, zeros, LossOptions { weight: 3.0 })?;
            total = add(g, total, penalty)?;
        }
        Ok(total)
    });
    let error = error.unwrap();
    assert!(error < 1e-7, "{error}");
}

/// Gradients of gradients of gradients.
#[test]
fn convolutions_are_differentiated_as_often_as_anyone_asks() {
    let error = error_of_leaves(&[&[2, 4, 9], &[6, 2, 3], &[6]], |g, v| {
        let options = ConvOptions1d { stride: 2, padding: 1, groups: 2, ..Default::default() };
        let y = conv1d(g, v[0], v[1], Some(v[2]), options)?;
        let by = g.gradients(y, Some(y), v)?;
        let first = product(g, by[0], v[0])?;
        let of_bias = product(g, by[2], by[2])?;
        let total = add(g, first, of_bias)?;
        let by = g.gradients(total, None, &[v[1], v[2]])?;
        let second = product(g, by[0], by[0])?;
        let by = g.gradients(second, None, &[v[0]])?;
        product(g, by[0], by[0])
    });
    let error = error.unwrap();
    assert!(error < 1e-7, "{error}");
}

/// Of a value that two take, whichever of its gradients depends on it.
#[test]
fn gradients_of_what_several_take_add_up() {
    for linear_first in [true, false] {
        let error = error_of_leaves(&[&[1, 5]], |g, v| {
            let linear = |g: &mut Graph| {
                let ones = fill(g, &[1, 5], 1.0)?;
                product(g, v[0], ones)
            };
            let (a, b) = if linear_first {
                (linear(g)?, product(g, v[0], v[0])?)
            } else {
                let square = product(g, v[0], v[0])?;
                (linear(g)?, square)
            };
            let sum = add(g, a, b)?;
            let by = g.gradients(sum, None, &[v[0]])?[0];
            product(g, by, by)
        });
        let error = error.unwrap();
        assert!(error < 1e-8, "{error}");
    }
}

/// What is not differentiated again is an error where a gradient would come to it, and only there.
#[test]
fn what_is_differentiated_once_says_so() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let leaf =
        |g: &mut Graph, n: usize| g.leaf(&device.upload(&vec![0.5; n]).unwrap(), None, &[1, n]).unwrap();
    let mut g = Graph::new();
    let x = leaf(&mut g, 3);
    let y = sigmoid(&mut g, x).unwrap();
    let by = g.gradients(y, Some(y), &[x]).unwrap()[0];
    let sum = product(&mut g, by, by).unwrap();
    let message = g.backward(sum).unwrap_err().to_string();
    assert!(message.contains("sigmoid_bwd") && message.contains("differentiated once only"), "{message}");

    // The value of a gradient may be used: as a constant of what depends on it in no other way nothing is lost.
    let mut g = Graph::new();
    let x = leaf(&mut g, 3);
    let y = sigmoid(&mut g, x).unwrap();
    let by = g.gradients(y, Some(x), &[x]).unwrap()[0];
    g.backward_from(y, by).unwrap();
    g.compile(device, &[g.grad(x).unwrap()]).unwrap().run().unwrap();

    let mut g = Graph::new();
    let (x, other) = (leaf(&mut g, 3), leaf(&mut g, 3));
    let y = scale(&mut g, x, 2.0).unwrap();
    let message = g.gradients(y, Some(x), &[x, other]).unwrap_err().to_string();
    assert!(message.contains("depends not on value 1"), "{message}");
    assert!(g.gradients(y, None, &[x]).unwrap_err().to_string().contains("needs a scalar"));
    g.backward_from(y, x).unwrap();
    assert!(g.gradients(y, Some(x), &[x]).unwrap_err().to_string().contains("went backward before"));
}
