//! What the low-code language takes from Python: literals as `ast.literal_eval` reads them, and how values are written as text.

mod literal;
mod repr;

pub use literal::{Literal, literal};
pub use repr::{float_text, quoted, text};
