//! When connections run by themselves: cron and intervals, jitter, missed ticks. Pure decisions over a time that is handed in,
//! and a ticker that asks the clock. It knows no run, no store and no connector.

mod cron;
mod form;
mod next;
mod ticker;
mod timetable;

pub use cron::Cron;
pub use form::{CatchUp, Form, Schedule, When, duration, spelled};
pub use ticker::{OnTicks, Ticker};
pub use timetable::{Entry, Tick, Timetable};
