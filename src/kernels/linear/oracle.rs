//! The oracle.

use super::params::{LinearParams, RELU, SIGMOID, WANT_B, WANT_W, WANT_X};
use crate::kernel::{Args, Real};
use crate::kernels::dropout::philox4x32;

/// `m` of element `at` of `x` or `dx`. The generator is checked by its published vectors (`tests/kernels/ops_dropout.rs`).
fn masked<F: Real>(p: &LinearParams, state: &[u32], at: usize, v: F) -> F {
    if p.threshold == 0 {
        return v;
    }
    let words = philox4x32([(at / 4) as u32, state[2], p.stream, 0], [state[0], state[1]]);
    if words[at % 4] >= p.threshold { F::of(f64::from(p.scale)) * v } else { F::zero() }
}

/// `f(z)`.
fn activated<F: Real>(p: &LinearParams, z: F) -> F {
    match p.activation {
        RELU if z < F::zero() => F::zero(),
        SIGMOID => F::one() / (F::one() + (-z).exp()),
        _ => z,
    }
}

/// `dz = dy·f'(z)`, from `y = f(z)`.
fn through<F: Real>(p: &LinearParams, y: F, dy: F) -> F {
    match p.activation {
        RELU if y > F::zero() => dy,
        RELU => F::zero(),
        SIGMOID => dy * y * (F::one() - y),
        _ => dy,
    }
}

pub fn fwd<F: Real>(args: Args<'_, F>) {
    let p: LinearParams = args.params();
    let [batch, inputs, outputs] = p.dims();
    let [state, x, w, bias, y] = args.bufs();
    let (state, x, w, bias, y) = (state.index(), x.input(), w.input(), bias.input(), y.output());
    let x: Vec<F> = x.iter().enumerate().map(|(at, &x)| masked(&p, state, at, x)).collect();
    for b in 0..batch {
        for o in 0..outputs {
            let mut z = if p.bias != 0 { bias[o] } else { F::zero() };
            for i in 0..inputs {
                z += x[b * inputs + i] * w[o * inputs + i];
            }
            y[b * outputs + o] = activated(&p, z);
        }
    }
}

pub fn bwd<F: Real>(args: Args<'_, F>) {
    let p: LinearParams = args.params();
    let [batch, inputs, outputs] = p.dims();
    let [state, x, w, y, dy, dx, dw, db] = args.bufs();
    let (state, x, w, y, dy) = (state.index(), x.input(), w.input(), y.input(), dy.input());
    let (dx, dw, db) = (dx.output(), dw.output(), db.output());
    let dz: Vec<F> = y.iter().zip(dy).map(|(&y, &dy)| through(&p, y, dy)).collect();
    for out in [&mut *dx, &mut *dw, &mut *db] {
        out.fill(F::zero());
    }
    for b in 0..batch {
        for i in 0..inputs {
            let at = b * inputs + i;
            if p.wants(WANT_X) {
                let mut sum = F::zero();
                for o in 0..outputs {
                    sum += dz[b * outputs + o] * w[o * inputs + i];
                }
                dx[at] = masked(&p, state, at, sum);
            }
            if p.wants(WANT_W) {
                let x = masked(&p, state, at, x[at]);
                for o in 0..outputs {
                    dw[o * inputs + i] += dz[b * outputs + o] * x;
                }
            }
        }
        if p.wants(WANT_B) {
            for o in 0..outputs {
                db[o] += dz[b * outputs + o];
            }
        }
    }
}
