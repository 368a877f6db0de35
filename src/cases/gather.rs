use super::case::{Case, Input, Role, normal};
use crate::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};

/// `batch` rows of `channels` over `frames`, a fifth of the frames 0, and windows that reach past the
/// end, are upsampled, downsampled or a plain copy.
fn rows(batch: usize, channels: usize, frames: u32, columns: u32) -> Vec<Input> {
    let row = channels as u32 * frames;
    let mut data = normal(1, 3 * row as usize);
    data.iter_mut().step_by(5).for_each(|v| *v = 0.0);
    let windows = (0..batch as u32).flat_map(|b| {
        let window = [columns, columns / 2 + 1, 2 * columns + 3, frames][b as usize % 4];
        [(b % 3) * row, frames, (b * 7) % frames, window]
    });
    let rows = windows.collect();
    vec![
        Input::real(&[data.len()], data, Role::Constant),
        Input::index(&[batch, 4], rows),
        Input::real(&[batch], normal(2, batch), Role::Constant),
    ]
}

pub fn cases() -> Vec<Case> {
    let exact = "copies, and one addition";
    let mut cases = Vec::new();
    for (batch, channels, frames, columns) in
        [(1, 1, 1, 1), (17, 3, 41, 37), (5, 2, 13, 16), (33, 14, 97, 128)]
    {
        for layout in [Layout::Nct, Layout::Nct16n] {
            let options = WindowOptions { channels, columns, shift_channels: 2, layout };
            let name = format!("window b{batch} c{channels} t{columns} {layout:?}").to_lowercase();
            let case =
                Case::new("gather", name, rows(batch, channels, frames, columns as u32), move |g, v| {
                    gather_window(g, v[0], v[1], v[2], options)
                });
            cases.push(case.within(1e-6, exact));
        }
    }
    // The paper's batch: plain windows, pitch shifted.
    for (window, name) in [(1000, "copy"), (1100, "resampled")] {
        let (batch, frames) = (512, 4000);
        let inputs = vec![
            Input::real(&[16 * frames], normal(1, 16 * frames), Role::Constant),
            Input::index(
                &[batch, 4],
                (0..batch as u32)
                    .flat_map(|b| [(b % 16) * frames as u32, frames as u32, 5 * b, window])
                    .collect(),
            ),
            Input::real(&[batch], normal(2, batch), Role::Constant),
        ];
        let options = WindowOptions { channels: 1, columns: 1000, shift_channels: 1, layout: Layout::Nct16n };
        let case = Case::new("gather", format!("window b512 c1 t1000 nct16n {name}"), inputs, move |g, v| {
            gather_window(g, v[0], v[1], v[2], options)
        });
        cases.push(case.within(1e-6, exact).timed());
    }
    for (s, width, b) in [(1, 1, 1), (7, 1, 31), (11, 5, 13)] {
        let indices = (0..b as u32).map(|i| (i * 5) % (s as u32 + 1)).collect();
        let inputs =
            vec![Input::real(&[s, width], normal(3, s * width), Role::Constant), Input::index(&[b], indices)];
        let name = format!("rows s{s} width{width} b{b}");
        cases
            .push(Case::new("gather", name, inputs, |g, v| gather_rows(g, v[0], v[1])).within(0.0, "copies"));
    }
    cases
}
