//! The points that polynomials are evaluated at, and what the transforms need of them.
//!
//! All are 0, pairs ±a and ∞, so that a transform works on even and odd halves. The rounding error of a nested transform is the
//! product of its axes', so that two axes take six points near 1, and a single one eight (points after Barabasz, Anderson,
//! Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020:
//! small, near 1, each with its negative, dyadic so that the tables are exact in f32).

/// The most points of an axis.
pub const MOST: usize = 8;

/// `0, ±a₁, …, ±a_P, ∞`, in this order.
pub struct Points<const P: usize> {
    /// The positive ones.
    pub at: [f32; P],
    /// Coefficients of `Π (z − a²)` over all pairs, without the leading 1.
    pub all: [f32; P],
    /// The same over the pairs other than each; the last is not used.
    pub others: [[f32; P]; P],
    /// Powers of each.
    pub powers: [[f32; MOST]; P],
}

pub const SIX: Points<2> = Points::new([0.75, 1.5]);
pub const EIGHT: Points<3> = Points::new([0.5, 1.0, 2.0]);

impl<const P: usize> Points<P> {
    const fn new(at: [f64; P]) -> Self {
        let mut points =
            Self { at: [0.0; P], all: product(&at, P), others: [[0.0; P]; P], powers: [[1.0; MOST]; P] };
        let mut i = 0;
        while i < P {
            points.at[i] = at[i] as f32;
            points.others[i] = product(&at, i);
            let mut n = 1;
            while n < MOST {
                points.powers[i][n] = points.powers[i][n - 1] * points.at[i];
                n += 1;
            }
            i += 1;
        }
        points
    }
}

/// Coefficients of `Π (z − a²)` over all of `at` but number `without`, lowest first, without the leading 1.
const fn product<const P: usize>(at: &[f64; P], without: usize) -> [f32; P] {
    let mut c = [0.0f64; MOST];
    c[0] = 1.0;
    let (mut i, mut degree) = (0, 0);
    while i < P {
        if i != without {
            degree += 1;
            let mut n = degree;
            while n > 0 {
                c[n] = c[n - 1] - at[i] * at[i] * c[n];
                n -= 1;
            }
            c[0] *= -at[i] * at[i];
        }
        i += 1;
    }
    let mut out = [0.0; P];
    let mut n = 0;
    while n < degree {
        out[n] = c[n] as f32;
        n += 1;
    }
    out
}

/// The kernel's transform: row `p` is `[1, a, a², …] / Π_{q≠p} (a_p − a_q)`, of ∞ the last tap. One point is the identity.
pub fn kernel_matrix(points: usize, taps: usize) -> [[f64; MOST]; MOST] {
    let mut rows = [[0.0; MOST]; MOST];
    let pairs: &[f32] = match points {
        1 => {
            rows[0][0] = 1.0;
            return rows;
        }
        6 => &SIX.at,
        _ => &EIGHT.at,
    };
    let finite = |p: usize| match p {
        0 => 0.0,
        _ if p % 2 == 1 => f64::from(pairs[p / 2]),
        _ => -f64::from(pairs[p / 2 - 1]),
    };
    for (p, row) in rows.iter_mut().enumerate().take(points - 1) {
        let others = (0..points - 1).filter(|&q| q != p);
        let norm: f64 = others.map(|q| finite(p) - finite(q)).product();
        for (tap, v) in row.iter_mut().enumerate().take(taps) {
            *v = finite(p).powi(tap as i32) / norm;
        }
    }
    rows[points - 1][taps - 1] = 1.0;
    rows
}
