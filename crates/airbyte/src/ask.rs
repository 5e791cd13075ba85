//! Asking an API: a requester makes requests out of templates, signs them, sends them, and tries again as its error handler says.

mod input;
mod requester;
mod send;

pub use requester::{Asked, Extra, Requester, Setting};
