use super::{Case, Input};
use crate::ops::conv1d::{ConvOptions1d, Precision, conv1d};

/// `[batch, cin, t]`, `[cout, taps]`, `[stride, padding, dilation, groups]`.
fn case(x: [usize; 3], w: [usize; 2], o: [usize; 4], bias: bool) -> Case {
    precise(Precision::F32, x, w, o, bias).within(
        2e-6,
        "f32 sums in 16 lanes and register tiles: rounding grows with the root of their length, \
         a few units in the last place (6e-8) for up to a thousand terms, three times that where the CPU takes tiles",
    )
}

/// The same with factors that may be rounded to tf32.
fn tf32(x: [usize; 3], w: [usize; 2], o: [usize; 4], bias: bool) -> Case {
    precise(Precision::Tf32, x, w, o, bias).within(super::TF32, super::TF32_FACTORS)
}

fn precise(precision: Precision, x: [usize; 3], w: [usize; 2], o: [usize; 4], bias: bool) -> Case {
    let [stride, padding, dilation, groups] = o;
    let weight = [w[0], x[1] / groups, w[1]];
    let name = format!(
        "x{x:?} w{weight:?} stride {stride} padding {padding} dilation {dilation} groups {groups}{}{}",
        if bias { "" } else { " no bias" },
        match precision {
            Precision::F32 => "",
            Precision::Tf32 => " tf32",
            Precision::Exact => " exact",
        }
    );
    let mut inputs = vec![Input::normal(1, &x), Input::normal(2, &weight)];
    if bias {
        inputs.push(Input::normal(3, &[w[0]]));
    }
    let options = ConvOptions1d { stride, padding, dilation, groups, precision };
    Case::new("conv1d", name, inputs, move |g, v| conv1d(g, v[0], v[1], v.get(2).copied(), options))
}

/// All gradients of the convolution, its own output for an upstream gradient, and out of them one value: their convolution.
fn gradients(x: [usize; 3], w: [usize; 2], o: [usize; 4], bias: bool) -> Case {
    let [stride, padding, dilation, groups] = o;
    let options = ConvOptions1d { stride, padding, dilation, groups, precision: Precision::F32 };
    let case = case(x, w, o, bias);
    let name = format!("gradients {}", case.name);
    Case::new("conv1d", name, case.inputs, move |g, v| {
        let y = conv1d(g, v[0], v[1], v.get(2).copied(), options)?;
        let by = g.gradients(y, Some(y), v)?;
        conv1d(g, by[0], by[1], by.get(2).copied(), options)
    })
}

pub fn cases() -> Vec<Case> {
    vec![
        case([1, 1, 1], [1, 1], [1, 0, 1, 1], true),
        case([1, 1, 1], [1, 1], [1, 0, 1, 1], false),
        // A kernel exactly as long as the input; one that only padding makes room for.
        case([3, 2, 7], [4, 7], [1, 0, 1, 1], true),
        case([2, 2, 1], [3, 7], [2, 3, 1, 1], true),
        // Primes throughout, stride with dilation, common factors and none.
        case([3, 5, 53], [7, 3], [2, 1, 3, 1], true),
        case([5, 3, 61], [11, 5], [3, 4, 2, 1], false),
        case([2, 3, 67], [5, 5], [4, 3, 6, 1], true),
        case([2, 3, 41], [5, 3], [6, 2, 3, 1], true),
        // Strides beyond the kernel: input that no output sees, inside and at the tail.
        case([2, 3, 43], [4, 2], [5, 0, 1, 1], true),
        case([17, 2, 30], [3, 7], [3, 0, 1, 1], true),
        // Padding beyond what keeps the length; outputs that see nothing but padding.
        case([2, 3, 11], [4, 3], [1, 9, 1, 1], true),
        case([2, 3, 11], [4, 3], [3, 7, 2, 1], false),
        // Groups, to depthwise with one and with several outputs a channel.
        case([3, 6, 29], [9, 3], [1, 1, 1, 3], true),
        case([2, 8, 37], [8, 5], [2, 2, 1, 8], true),
        case([2, 7, 37], [21, 3], [1, 2, 2, 7], false),
        // One tap; one sample, long enough to be cut in stretches, and wide.
        case([4, 19, 23], [13, 1], [1, 0, 1, 1], true),
        case([1, 1, 1009], [4, 7], [3, 0, 1, 1], true),
        case([1, 24, 211], [17, 3], [1, 1, 1, 1], false),
        case([1, 2, 300], [3, 4], [2, 50, 31, 1], true),
        // The network's three layers, on 1000 frames.
        case([64, 1, 1000], [4, 7], [3, 0, 1, 1], true).timed(),
        case([64, 4, 332], [8, 7], [3, 0, 1, 1], true).timed(),
        case([64, 8, 109], [16, 7], [3, 0, 1, 1], true).timed(),
        case([2, 64, 128], [128, 5], [1, 2, 1, 1], true).timed(),
        // Wide, on the CPU in tiles of products: of lengths and channels that end early in one; each term for itself.
        case([5, 48, 67], [64, 5], [1, 3, 1, 1], true),
        case([3, 64, 203], [67, 3], [1, 1, 1, 1], false),
        precise(Precision::Exact, [5, 48, 67], [64, 5], [1, 3, 1, 1], true),
        // tf32, on the tiles of every width, at their edges, and with groups.
        tf32([2, 5, 61], [7, 3], [2, 1, 1, 1], true),
        tf32([2, 35, 67], [33, 3], [2, 3, 2, 1], false),
        tf32([1, 40, 131], [66, 3], [1, 1, 1, 2], true),
        tf32([2, 64, 128], [128, 5], [1, 2, 1, 1], true).timed(),
        // Differentiated twice.
        gradients([3, 5, 23], [7, 3], [2, 1, 3, 1], true),
        gradients([2, 6, 19], [9, 4], [1, 2, 1, 3], true),
        gradients([2, 3, 20], [4, 2], [5, 0, 1, 1], false),
        gradients([2, 48, 35], [48, 3], [1, 1, 1, 1], true),
    ]
}
