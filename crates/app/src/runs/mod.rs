//! Runs: those that wait, those that go, and what became of the others. What a run does is in [`crate::run`]; here is when it does it,
//! how often it tries, and how it is told.

mod acts;
mod attempt;
mod dispatch;
mod logs;
mod operations;
mod outcome;
mod pages;
mod queue;
mod shown;
mod stats;
mod ticks;

use crate::operation::Operation;

pub use dispatch::{Schedules, drain, see_through, start};
pub use shown::{Shown, StreamShown};

pub fn operations() -> Vec<Operation> {
    acts::operations().into_iter().chain(operations::operations()).collect()
}
