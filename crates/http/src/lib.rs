//! The one door to HTTP, built of layers around one client.

#![forbid(unsafe_code)]
