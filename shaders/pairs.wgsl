// What the contrastive loss and the similarity matrices share beside tiles of pairs; appended to both. A module that uses
// this has an override d: the columns of a row.

// Threads that share a row, and rows of a workgroup of 256.
const LANES: u32 = 8u;
const ROWS: u32 = 32u;

// The sum of `part` over the threads of a row; all threads must come here.
fn row_sum(thread: u32, lanes: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / lanes * lanes;
    var sum = 0.0;
    for (var l = 0u; l < lanes; l++) {
        sum += parts[first + l];
    }
    return sum;
}

// The largest of `part` over the threads of a row; all threads must come here.
fn row_max(thread: u32, lanes: u32, part: f32) -> f32 {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    let first = thread / lanes * lanes;
    var most = parts[first];
    for (var l = 1u; l < lanes; l++) {
        most = max(most, parts[first + l]);
    }
    return most;
}

// The gradient by a row from that by its unit vector.
fn projected(v: f32, radial: f32, inverse: f32) -> f32 {
    // On a line the angle is 0 or pi whatever the lengths.
    return select((v - radial) * inverse, 0.0, d == 1u);
}

// 1 / norm from the largest size of an element and the sum of squares over it; 0 for a zero row.
fn inverse_norm(largest: f32, squares: f32) -> f32 {
    return select(0.0, 1.0 / sqrt(squares) / max(largest, 1.2e-38), largest >= 1.2e-38);
}
