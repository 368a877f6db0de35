// One-dimensional convolution and its gradients. conv.wgsl has the formulas, the tiles, who owns what and what it costs.
// with: conv(conv1d), conv_product(fwd), conv_product(bwd_x), conv_weight(conv1d)
//
// Shapes: x, dx [batch, cin, t]; w, dw [cout, cin / groups, k]; b, db [cout]; y, dy [batch, cout, out].

struct Conv1dParams {
    batch: u32,
    cin: u32,
    cout: u32,
    groups: u32,
    t: u32,
    k: u32,
    out: u32,
    stride: u32,
    padding: u32,
    dilation: u32,
    bias: u32,
    splits: u32,
    tf32: u32,
}
@group(1) @binding(0) var<uniform> p: Conv1dParams;

override k: u32 = 1u;
override stride: u32 = 1u;
override dilation: u32 = 1u;

alias Position = u32;

fn area(size: Position) -> u32 {
    return size;
}

fn number_of(position: Position, size: Position) -> u32 {
    return position;
}

fn position_of(number: u32, size: Position) -> Position {
    return number;
}

fn after(position: Position, size: Position) -> Position {
    return position + 1u;
}

fn beyond(position: Position, size: Position) -> bool {
    return position >= size;
}

fn input_size() -> Position {
    return p.t;
}

fn output_size() -> Position {
    return p.out;
}

fn strides() -> Position {
    return stride;
}

fn padding() -> Position {
    return p.padding;
}

fn taps() -> u32 {
    return k;
}

fn steps(tap: u32) -> Position {
    return tap * dilation;
}

alias Phase = Taps;

fn phase_of(start: Position) -> Phase {
    return taps_along(start, k, stride, p.padding, dilation);
}

fn reaching(phase: Phase) -> u32 {
    return phase.count;
}

fn tap_of(phase: Phase, e: u32) -> u32 {
    return phase.first + e * phase.step;
}
