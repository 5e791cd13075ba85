//! What a platform writes to a destination, as rows of the house: read, gathered, handed to the house's pipe, and acknowledged when
//! it is durable.

mod feed;
mod gate;
mod input;
mod kinds;
mod latest;
mod ledger;
mod messages;
mod names;
mod order;
mod pace;
mod rows;
mod states;

pub use gate::Lenient;
pub use states::Parked;

pub(super) use feed::{Feed, Say, Unfinished, Why, lanes_of};
pub(super) use input::{Input, Next};
pub(super) use ledger::Ledger;
pub(super) use names::column as column_name;
pub(crate) use order::word;
pub(super) use order::{Kept, kept, orders};
pub(super) use pace::{PATIENCE, Pace, Table, full};
pub(super) use rows::{Fields, Gathering, Identity, Marks, Origin, Record, Taken};
pub(super) use states::{Counted, States, Waiting};
