// Rows of numbers in the plane: their two principal components.

/** Looks from the same side at rows that change little by little: each time begins where the last one ended. */
export class Plane {
  #directions = [];

  /** The two coordinates of each row of `values`, which has `count` of them. */
  of(values, count) {
    const width = values.length / count;
    const rows = Float64Array.from(values);
    for (let column = 0; column < width; column++) {
      let mean = 0;
      for (let row = 0; row < count; row++) mean += rows[row * width + column] / count;
      for (let row = 0; row < count; row++) rows[row * width + column] -= mean;
    }
    const axes = [];
    for (let axis = 0; axis < 2; axis++) {
      const before = this.#directions[axis];
      let direction =
        before?.length === width ? before : Float64Array.from({ length: width }, (_, i) => Math.cos(i * (axis + 1)));
      for (let round = 0; round < 30; round++) direction = improved(rows, count, width, direction, axes);
      axes.push(direction);
    }
    this.#directions = axes;
    return axes.map((direction) => Float64Array.from({ length: count }, (_, row) => dot(rows, row * width, direction)));
  }
}

function dot(values, from, direction) {
  let sum = 0;
  for (let i = 0; i < direction.length; i++) sum += values[from + i] * direction[i];
  return sum;
}

/** A round of the power method on the rows' covariance, at right angles to the axes that are found. */
function improved(rows, count, width, direction, axes) {
  const next = new Float64Array(width);
  for (let row = 0; row < count; row++) {
    const along = dot(rows, row * width, direction);
    for (let i = 0; i < width; i++) next[i] += along * rows[row * width + i];
  }
  for (const axis of axes) {
    const along = dot(next, 0, axis);
    for (let i = 0; i < width; i++) next[i] -= along * axis[i];
  }
  const length = Math.hypot(...next);
  return length > 0 ? next.map((value) => value / length) : direction;
}
