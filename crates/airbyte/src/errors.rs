//! What an answer means, and how long to wait before asking again.

mod backoff;
mod filter;
mod handler;
mod meaning;
mod message;

pub use handler::Handler;
pub use meaning::{Action, Blame, Came, Resolution};
