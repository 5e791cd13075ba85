//! Guests of the house: Airbyte low-code manifests, programs that speak the Airbyte protocol, Singer taps and targets.

#![forbid(unsafe_code)]

pub mod component;
pub mod cursor;
pub mod datetime;
pub mod dpath;
pub mod hand;
pub mod manifest;
pub mod protocol;
pub mod python;
pub mod slice;
pub mod template;
pub mod yaml;
