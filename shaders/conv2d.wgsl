// Two-dimensional convolution and its gradients. conv.wgsl has the formulas, the tiles, who owns what and what it costs.
// with: conv(conv2d), conv_product(fwd), conv_product(bwd_x), conv_weight(conv2d)
//
// Shapes: x, dx [batch, cin, h, w]; w, dw [cout, cin / groups, kh, kw]; b, db [cout]; y, dy [batch, cout, oh, ow].

struct Conv2dParams {
    batch: u32,
    cin: u32,
    cout: u32,
    groups: u32,
    h: u32,
    w: u32,
    kh: u32,
    kw: u32,
    oh: u32,
    ow: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    bias: u32,
    splits: u32,
    tf32: u32,
}
@group(1) @binding(0) var<uniform> p: Conv2dParams;

override kh: u32 = 1u;
override kw: u32 = 1u;
override stride_h: u32 = 1u;
override stride_w: u32 = 1u;
override dilation_h: u32 = 1u;
override dilation_w: u32 = 1u;

// Row and column.
alias Position = vec2<u32>;

fn area(size: Position) -> u32 {
    return size.x * size.y;
}

fn number_of(position: Position, size: Position) -> u32 {
    return position.x * size.y + position.y;
}

fn position_of(number: u32, size: Position) -> Position {
    return Position(number / size.y, number % size.y);
}

fn after(position: Position, size: Position) -> Position {
    let next = position.y + 1u;
    return select(Position(position.x, next), Position(position.x + 1u, 0u), next == size.y);
}

fn beyond(position: Position, size: Position) -> bool {
    return position.x >= size.x;
}

fn input_size() -> Position {
    return Position(p.h, p.w);
}

fn output_size() -> Position {
    return Position(p.oh, p.ow);
}

fn strides() -> Position {
    return Position(stride_h, stride_w);
}

fn padding() -> Position {
    return Position(p.padding_h, p.padding_w);
}

fn taps() -> u32 {
    return kh * kw;
}

fn steps(tap: u32) -> Position {
    return position_of(tap, Position(kh, kw)) * Position(dilation_h, dilation_w);
}

struct Phase {
    rows: Taps,
    columns: Taps,
}

fn phase_of(start: Position) -> Phase {
    return Phase(
        taps_along(start.x, kh, stride_h, p.padding_h, dilation_h),
        taps_along(start.y, kw, stride_w, p.padding_w, dilation_w),
    );
}

fn reaching(phase: Phase) -> u32 {
    return phase.rows.count * phase.columns.count;
}

fn tap_of(phase: Phase, e: u32) -> u32 {
    let row = phase.rows.first + e / phase.columns.count * phase.rows.step;
    return row * kw + phase.columns.first + e % phase.columns.count * phase.columns.step;
}
