//! The one door to HTTP: a client whose connections are guarded, whose waits follow the house's clock and whose redirects are
//! followed only when a request asks for it.

#![forbid(unsafe_code)]

mod broke;
mod client;
mod guard;
mod net;
mod redirect;
mod unzip;

pub use broke::{Broke, broke};
pub use client::{Timeouts, client, client_with};
pub use guard::{Network, Policy};
pub use net::GuardedNet;
pub use redirect::{FinalUrl, Redirects};
