//! What an answer means, and how long to wait before asking again.

mod backoff;
mod filter;
mod handler;
mod meaning;
mod message;
mod paging;

pub use handler::Handler;
pub use meaning::{Action, Blame, Came, Resolution};
pub(crate) use paging::{REDUCES, SPLITS, answers_with, reject_paging_actions};
