//! In-memory stand-ins for the engine's partners: a scripted source, an atomic and a non-atomic destination, a memory, a clock.

mod clock;
mod destination;
mod memory;
mod source;

pub use clock::TestClock;
pub use destination::{Backup, Did, FakeDestination, FakeTable};
pub use memory::{FakeMemory, MemoryBackup};
pub use source::{ScriptLane, ScriptSource, Step};
