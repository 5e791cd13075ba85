//! How a stream is read incrementally: what was read, and the windows that are still to be read.

mod window;

pub use window::{At, Clamping, Ends, Plan, Seen, Window};
