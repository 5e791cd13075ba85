//! The router as clients see it, in this process and over a socket.

#![allow(clippy::unwrap_used, reason = "tests")]

mod compat;
mod desk;
mod documents;
mod login;
mod owasp;
mod refusals;
mod rights;
mod security;
mod uploads;
mod wire;
