//! The plain twins of both convolutions: the sum of the formula, term by term.
//!
//! In f64 they are the oracle; in f32 they do the rare shapes that the fast twins leave to them.

use super::geometry::Geometry;
use crate::kernel::{Args, Real};

/// Calls `f` with the places in `y`, `w` and `x` of every term, one output after the other.
fn each_term(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let [vertical, horizontal] = &g.axes;
    let [[h, w], [oh, ow]] = g.planes();
    let (cin, cout) = (g.groups * g.cin, g.groups * g.cout);
    for n in 0..g.batch {
        for c in 0..cout {
            for (o, p) in (0..oh).flat_map(|o| (0..ow).map(move |p| (o, p))) {
                for i in 0..g.cin {
                    let from = c / g.cout * g.cin + i;
                    for k in 0..vertical.kernel {
                        let Some(row) = vertical.under(o, k) else { continue };
                        for l in 0..horizontal.kernel {
                            let Some(column) = horizontal.under(p, l) else { continue };
                            f(
                                ((n * cout + c) * oh + o) * ow + p,
                                ((c * g.cin + i) * vertical.kernel + k) * horizontal.kernel + l,
                                ((n * cin + from) * h + row) * w + column,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The convolution.
pub fn fwd<F: Real>(args: Args<'_, F>, g: &Geometry) {
    let [x, w, b, y] = args.bufs();
    let (x, w, b, y) = (x.input(), w.input(), b.input(), y.output());
    for (plane, y) in y.chunks_mut(g.outputs()).enumerate() {
        y.fill(if g.bias { b[plane % g.channels()] } else { F::zero() });
    }
    each_term(g, |at_y, at_w, at_x| y[at_y] += w[at_w] * x[at_x]);
}

/// The gradient of the input.
pub fn bwd_x<F: Real>(args: Args<'_, F>, g: &Geometry) {
    let [dy, w, dx] = args.bufs();
    let (dy, w, dx) = (dy.input(), w.input(), dx.output());
    dx.fill(F::zero());
    each_term(g, |at_y, at_w, at_x| dx[at_x] += w[at_w] * dy[at_y]);
}

/// The gradient of the weight.
pub fn bwd_w<F: Real>(args: Args<'_, F>, g: &Geometry) {
    let [x, dy, _, dw] = args.bufs();
    let (x, dy, dw) = (x.input(), dy.input(), dw.output());
    dw.fill(F::zero());
    each_term(g, |at_y, at_w, at_x| dw[at_w] += x[at_x] * dy[at_y]);
}

/// The gradient of the bias.
pub fn bwd_b<F: Real>(args: Args<'_, F>, g: &Geometry) {
    let [dy, db] = args.bufs();
    let db = db.output();
    db.fill(F::zero());
    for (plane, dy) in dy.input().chunks(g.outputs()).enumerate() {
        db[plane % g.channels()] += dy.iter().copied().sum::<F>();
    }
}
