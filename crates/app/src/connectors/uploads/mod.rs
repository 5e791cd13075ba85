//! Files that people send into a connector, for it to read. They come piece by piece, are judged when they are whole, and are there for
//! everybody in one step.

mod incoming;
mod name;
mod operations;

pub use self::{
    incoming::{Refused, Upload, Why},
    operations::{Received, UploadShown, operations},
};
