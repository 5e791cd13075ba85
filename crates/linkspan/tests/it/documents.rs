//! The five reference documents that other hubs published: every call, command and answer that they print is read from the documents
//! and sent as it stands there, to a real server with real databases behind it. Only hosts, tokens and ids are put in.

mod acme;
mod honeyframe;
mod print;
mod qanatix;
mod reactor;
mod sapix;
mod stage;

pub use self::stage::Stage;
