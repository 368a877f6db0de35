//! Every op refuses what it does not take with an error that names the op, the argument and both shapes.
//! (Convolutions, similarity and the contrastive loss have refusals of their own beside their other tests.)

use etude::Result;
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::conv_block::{ConvBlock, Features, Mode, conv_block, mean_over_time};
use etude::ops::dropout::{DropoutOptions, dropout};
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, bce, bce_with_logits, mse};
use etude::ops::pool::{masked_mean_time, mean_time};
use etude::ops::{activation, add, fill, reshape, scale};

/// Records `op` over floats of the given shapes, the first a leaf, and expects it to fail with all of
/// `words` in the message.
fn refuses<T>(shapes: &[&[usize]], words: &[&str], op: impl Fn(&mut Graph, &[Var]) -> Result<T>) {
    typed(&shapes.iter().map(|s| (*s, Elem::Real)).collect::<Vec<_>>(), words, op);
}

fn typed<T>(shapes: &[(&[usize], Elem)], words: &[&str], op: impl Fn(&mut Graph, &[Var]) -> Result<T>) {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let vars: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(i, (shape, elem))| {
            let buf = device.alloc(*elem, shape.iter().product()).unwrap();
            match elem {
                Elem::Real if i == 0 => g.leaf(&buf, None, shape).unwrap(),
                _ => g.bind(&buf, shape).unwrap(),
            }
        })
        .collect();
    let message = match op(&mut g, &vars) {
        Ok(_) => panic!("{shapes:?} was taken; expected a refusal with {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn elementwise() {
    refuses(&[&[2, 3], &[3, 2]], &["add", "b", "[2, 3]", "[3, 2]"], |g, v| add(g, v[0], v[1]));
    refuses(&[&[2, 3]], &["reshape", "[2, 3]", "[7]"], |g, v| reshape(g, v[0], &[7]));
    refuses(&[&[2]], &["scale", "factor", "inf"], |g, v| scale(g, v[0], f32::INFINITY));
    refuses(&[&[2]], &["leaky_relu", "slope", "NaN"], |g, v| activation::leaky_relu(g, v[0], f32::NAN));
}

/// Kernels count elements in 32 bits. A value that no launch has run for takes no memory, however large.
#[test]
fn more_elements_than_32_bits_count() {
    for shape in [[1 << 16, 1 << 16], [usize::MAX, usize::MAX]] {
        let holds = |op: &str, argument: &str, record: &dyn Fn(&mut Graph, Var) -> Result<Var>| {
            let mut g = Graph::new();
            let x = g.temp(&shape);
            let message = match record(&mut g, x) {
                Ok(_) => panic!("{op} took {shape:?}"),
                Err(error) => error.to_string(),
            };
            for word in [op, argument, "2^32 - 1", &format!("{shape:?}")] {
                assert!(message.contains(word), "{word:?} is not in: {message}");
            }
        };
        holds("relu", "x", &|g, x| activation::relu(g, x));
        holds("leaky_relu", "x", &|g, x| activation::leaky_relu(g, x, 0.1));
        holds("sigmoid", "x", &|g, x| activation::sigmoid(g, x));
        holds("add", "a", &|g, x| add(g, x, x));
        holds("scale", "x", &|g, x| scale(g, x, 2.0));
        holds("fill", "shape", &|g, x| {
            let shape = g.shape(x).to_vec();
            fill(g, &shape, 1.0)
        });
    }
}

#[test]
fn linear_layer() {
    let op = |g: &mut Graph, v: &[Var]| linear(g, v[0], v[1], Some(v[2]), Activation::None);
    refuses(&[&[4, 3], &[2, 5], &[2]], &["linear", "w", "[4, 3]", "[2, 5]"], op);
    refuses(&[&[4, 3], &[2, 3], &[4]], &["linear", "b", "[4]", "[2, 3]"], op);
    refuses(&[&[4, 3, 1], &[2, 3], &[2]], &["linear", "x", "[4, 3, 1]"], op);
    refuses(&[&[0, 3], &[2, 3], &[2]], &["linear", "x"], op);
}

#[test]
fn losses() {
    let o = LossOptions::default();
    refuses(&[&[4], &[5]], &["mse", "target", "[4]", "[5]"], |g, v| mse(g, v[0], v[1], o));
    refuses(&[&[4], &[5]], &["bce", "target", "[4]", "[5]"], |g, v| bce(g, v[0], v[1], o));
    refuses(&[&[4], &[5]], &["bce_with_logits", "target"], |g, v| bce_with_logits(g, v[0], v[1], o));
    refuses(&[&[4], &[4]], &["mse", "weight"], |g, v| mse(g, v[0], v[1], LossOptions { weight: f32::NAN }));
}

#[test]
fn normalisation_and_pooling() {
    let op = |g: &mut Graph, v: &[Var]| {
        let [gamma, beta, running_mean, running_var] = [v[1], v[2], v[3], v[4]];
        batch_norm(
            g,
            v[0],
            BatchNormVars { gamma, beta, running_mean, running_var },
            BatchNormOptions::default(),
        )
    };
    let c: &[usize] = &[3];
    refuses(&[&[4, 3, 5], &[2], c, c, c], &["batch_norm", "gamma", "[2]", "[4, 3, 5]"], op);
    refuses(&[&[4, 3, 5], c, c, c, &[2]], &["batch_norm", "running_var", "[2]"], op);
    refuses(&[&[1, 3], c, c, c, c], &["batch_norm", "x", "[1, 3]"], op);
    refuses(&[&[4, 3]], &["mean_time", "x", "[4, 3]"], |g, v| mean_time(g, v[0]));
    refuses(&[&[4, 3, 0]], &["mean_time", "x"], |g, v| mean_time(g, v[0]));
    let lengths = [(&[4, 3, 5][..], Elem::Real), (&[3][..], Elem::Index)];
    typed(&lengths, &["lengths", "[3]", "[4, 3, 5]"], |g, v| masked_mean_time(g, v[0], v[1]));
    let reals = [(&[4, 3, 5][..], Elem::Real), (&[4][..], Elem::Real)];
    typed(&reals, &["lengths"], |g, v| masked_mean_time(g, v[0], v[1]));
}

#[test]
fn gathering_and_dropout() {
    let window = |columns| WindowOptions { channels: 1, columns, shift_channels: 0, layout: Layout::Nct };
    let data = (&[100][..], Elem::Index);
    typed(&[data, (&[4, 3], Elem::Index), (&[4], Elem::Real)], &["gather_window"], |g, v| {
        gather_window(g, v[0], v[1], v[2], window(10))
    });
    let fixed = |rows: &'static [usize], shift: &'static [usize], words: &[&str], columns: usize| {
        let cpu = Cpu::<f32>::new(1).unwrap();
        let device: &dyn Device = &cpu;
        let mut g = Graph::new();
        let mut bind = |elem, shape: &[usize]| {
            let buf = device.alloc(elem, shape.iter().product()).unwrap();
            g.bind(&buf, shape).unwrap()
        };
        let (d, r, s) = (bind(Elem::Real, &[100]), bind(Elem::Index, rows), bind(Elem::Real, shift));
        let message = gather_window(&mut g, d, r, s, window(columns)).unwrap_err().to_string();
        words.iter().for_each(|w| assert!(message.contains(w), "{w:?} is not in: {message}"));
    };
    fixed(&[4, 3], &[4], &["gather_window", "rows", "[4, 3]"], 10);
    fixed(&[4, 4], &[5], &["gather_window", "shift", "[5]", "[4, 4]"], 10);
    fixed(&[4, 4], &[4], &["gather_window", "columns", "1000000"], 1_000_000);
    refuses(&[&[4, 2], &[3]], &["gather_rows", "indices"], |g, v| gather_rows(g, v[0], v[1]));
    let options = |probability| DropoutOptions { probability, stream: 0 };
    let state = [(&[6][..], Elem::Real), (&[3][..], Elem::Index)];
    typed(&state, &["dropout", "probability", "1"], |g, v| dropout(g, v[0], v[1], options(1.0)));
    let short = [(&[6][..], Elem::Real), (&[2][..], Elem::Index)];
    typed(&short, &["dropout", "state", "[2]"], |g, v| dropout(g, v[0], v[1], options(0.5)));
}

#[test]
fn the_fused_layer() {
    let block = |batch: usize, stride: usize, mode: Mode| {
        move |g: &mut Graph, v: &[Var]| {
            let x = Features::input(g, v[0], batch)?;
            let [weight, gamma, beta, running_mean, running_var] = [v[1], v[2], v[3], v[4], v[5]];
            let layer = ConvBlock {
                weight,
                gamma,
                beta,
                running_mean,
                running_var,
                stride,
                eps: 1e-5,
                momentum: 0.1,
            };
            let y = conv_block(g, x, &layer, mode)?;
            mean_over_time(g, y, None)
        }
    };
    let c: &[usize] = &[3];
    let x: &[usize] = &[2, 1, 9, 16];
    refuses(
        &[&[2, 1, 9, 8], &[3, 1, 2], c, c, c, c],
        &["conv_block", "x", "[2, 1, 9, 8]"],
        block(20, 1, Mode::Train),
    );
    refuses(
        &[x, &[3, 1, 2], c, c, c, c],
        &["conv_block", "x", "[2, 1, 9, 16]", "40"],
        block(40, 1, Mode::Train),
    );
    refuses(
        &[x, &[3, 2, 2], c, c, c, c],
        &["conv_block", "weight", "[3, 2, 2]", "1"],
        block(20, 1, Mode::Train),
    );
    refuses(
        &[x, &[3, 1, 2], c, &[4], c, c],
        &["conv_block", "beta", "[4]", "[3, 1, 2]"],
        block(20, 1, Mode::Train),
    );
    refuses(&[x, &[3, 1, 10], c, c, c, c], &["conv_block", "9", "10"], block(20, 1, Mode::Train));
    for stride in [0, 1 << 32] {
        refuses(&[x, &[3, 1, 2], c, c, c, c], &["conv_block", "stride"], block(20, stride, Mode::Train));
    }
    let one: &[usize] = &[1, 1, 2, 16];
    refuses(&[one, &[3, 1, 2], c, c, c, c], &["conv_block", "more than one"], block(1, 1, Mode::Train));
    refuses(&[x], &["mean_over_time", "input"], |g, v| {
        let x = Features::input(g, v[0], 20)?;
        mean_over_time(g, x, None)
    });
    // A gradient through running statistics is not defined here.
    refuses(&[x, &[3, 1, 2], c, c, c, c], &["mode", "evaluation"], |g, v| {
        let y = block(20, 1, Mode::Eval)(g, v)?;
        let up = g.temp_like(y);
        g.backward_from(y, up)
    });
}

#[test]
fn the_graph_itself() {
    refuses(&[&[2, 3]], &["backward", "loss", "[2, 3]"], |g, v| g.backward(v[0]));
    let constant = [(&[1][..], Elem::Index)];
    typed(&constant, &["backward", "loss", "no leaf"], |g, v| g.backward(v[0]));
    refuses(&[&[1]], &["backward", "before"], |g, v| {
        let y = add(g, v[0], v[0])?;
        g.backward(y)?;
        g.backward(y)
    });
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let mut g = Graph::new();
    let never = g.temp(&[3]);
    let y = add(&mut g, never, never).unwrap();
    let message = g.compile(device, &[y]).err().unwrap().to_string();
    assert!(message.contains("elementwise_add") && message.contains("before any launch"), "{message}");
    // Buffers of another device, or of another length.
    let other = Cpu::<f64>::new(1).unwrap();
    let foreign = other.alloc(Elem::Real, 3).unwrap();
    let message = device.download(&foreign).unwrap_err().to_string();
    assert!(message.contains("another device"), "{message}");
    let buf = device.alloc(Elem::Real, 3).unwrap();
    assert!(device.write(&buf, (&[1.0f32; 4]).into()).is_err());
    assert!(device.write(&buf, (&[1u32; 3]).into()).is_err());
    assert!(buf.window(2, 2).is_err());
    assert!(g.bind(&buf, &[2, 2]).is_err());
}
