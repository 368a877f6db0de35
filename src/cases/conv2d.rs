use super::{Case, Input};
use crate::ops::conv2d::{ConvOptions2d, Precision, conv2d};

/// `[batch, cin, h, w]`, `[cout, kh, kw]`, stride, padding, dilation, groups.
fn case(x: [usize; 4], w: [usize; 3], o: [[usize; 2]; 3], groups: usize, bias: bool) -> Case {
    precise(Precision::F32, x, w, o, groups, bias).within(
        2e-6,
        "f32 sums in 16 lanes and register tiles: rounding grows with the root of their length, \
         a few units in the last place (6e-8) for up to a thousand terms, three times that where the CPU takes tiles",
    )
}

/// The same with factors that may be rounded to tf32.
fn tf32(x: [usize; 4], w: [usize; 3], o: [[usize; 2]; 3], groups: usize, bias: bool) -> Case {
    precise(Precision::Tf32, x, w, o, groups, bias).within(super::TF32, super::TF32_FACTORS)
}

fn precise(
    precision: Precision,
    x: [usize; 4],
    w: [usize; 3],
    o: [[usize; 2]; 3],
    groups: usize,
    bias: bool,
) -> Case {
    let [stride, padding, dilation] = o;
    let weight = [w[0], x[1] / groups, w[1], w[2]];
    let name = format!(
        "x{x:?} w{weight:?} stride {stride:?} padding {padding:?} dilation {dilation:?} groups {groups}{}{}",
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
    let options = ConvOptions2d { stride, padding, dilation, groups, precision };
    Case::new("conv2d", name, inputs, move |g, v| conv2d(g, v[0], v[1], v.get(2).copied(), options))
}

/// All gradients of the convolution, its own output for an upstream gradient, and out of them one value: their convolution.
fn gradients(x: [usize; 4], w: [usize; 3], o: [[usize; 2]; 3], groups: usize, bias: bool) -> Case {
    let [stride, padding, dilation] = o;
    let options = ConvOptions2d { stride, padding, dilation, groups, precision: Precision::F32 };
    let case = case(x, w, o, groups, bias);
    let name = format!("gradients {}", case.name);
    Case::new("conv2d", name, case.inputs, move |g, v| {
        let y = conv2d(g, v[0], v[1], v.get(2).copied(), options)?;
        let by = g.gradients(y, Some(y), v)?;
        conv2d(g, by[0], by[1], by.get(2).copied(), options)
    })
}

pub fn cases() -> Vec<Case> {
    const PLAIN: [[usize; 2]; 3] = [[1, 1], [0, 0], [1, 1]];
    const SAME: [[usize; 2]; 3] = [[1, 1], [1, 1], [1, 1]];
    vec![
        case([1, 1, 1, 1], [1, 1, 1], PLAIN, 1, true),
        case([1, 1, 1, 1], [1, 1, 1], PLAIN, 1, false),
        // A kernel exactly as large as the input; one that only padding makes room for.
        case([3, 2, 4, 5], [3, 4, 5], PLAIN, 1, true),
        case([2, 2, 1, 2], [3, 5, 3], [[2, 1], [2, 1], [1, 1]], 1, true),
        // Primes throughout, the axes unlike each other, stride with dilation.
        case([3, 5, 17, 13], [7, 3, 2], [[2, 3], [1, 2], [3, 2]], 1, true),
        case([2, 3, 19, 23], [5, 3, 5], [[4, 6], [3, 5], [6, 4]], 1, false),
        // Strides beyond the kernel: input that no output sees, inside and at the tail.
        case([2, 3, 13, 14], [4, 2, 1], [[5, 3], [0, 0], [1, 1]], 1, true),
        // Padding beyond what keeps the size; outputs that see nothing but padding.
        case([2, 2, 5, 4], [3, 3, 3], [[1, 2], [6, 5], [1, 2]], 1, true),
        // Groups, to depthwise with one and with several outputs a channel.
        case([3, 6, 7, 9], [9, 3, 3], SAME, 3, true),
        case([2, 8, 11, 10], [8, 3, 3], [[2, 2], [1, 1], [1, 1]], 8, true),
        case([1, 5, 11, 10], [10, 3, 3], [[1, 1], [2, 2], [2, 2]], 5, false),
        // One tap; one sample, cut in tiles; one row, one column.
        case([4, 9, 6, 5], [13, 1, 1], PLAIN, 1, true),
        case([1, 3, 37, 41], [5, 3, 3], SAME, 1, true),
        case([17, 3, 1, 29], [4, 1, 5], [[1, 2], [0, 2], [1, 1]], 1, true),
        case([17, 3, 29, 1], [4, 5, 1], [[2, 1], [2, 0], [1, 1]], 1, true),
        case([16, 4, 20, 20], [8, 3, 3], SAME, 1, true).timed(),
        case([1, 32, 16, 16], [32, 3, 3], SAME, 1, true).timed(),
        // Wide, on the CPU in tiles of products, along both axes and one; each term for itself.
        case([2, 49, 17, 19], [48, 3, 3], SAME, 1, true),
        case([2, 48, 9, 31], [64, 1, 5], [[1, 1], [0, 2], [1, 1]], 1, false),
        precise(Precision::Exact, [2, 48, 9, 31], [64, 1, 5], [[1, 1], [0, 2], [1, 1]], 1, true),
        tf32([2, 9, 7, 9], [35, 2, 3], [[2, 1], [1, 2], [1, 2]], 1, true),
        tf32([1, 32, 16, 16], [32, 3, 3], SAME, 1, true).timed(),
        // Differentiated twice.
        gradients([2, 4, 7, 9], [6, 3, 2], [[2, 1], [1, 2], [1, 2]], 2, true),
        gradients([2, 3, 8, 5], [5, 2, 3], PLAIN, 1, false),
    ]
}
