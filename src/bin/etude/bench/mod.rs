//! `etude bench`: what a device makes of the kernels.

mod ceilings;
mod check;
pub mod command;
mod kernels;
mod large;
mod page;
mod row;
mod sink;
#[path = "../../../../benches/shared/step.rs"]
mod step;
mod steps;
mod target;
mod timing;
mod workloads;
