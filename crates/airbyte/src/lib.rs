//! Guests of the house: Airbyte low-code manifests, programs that speak the Airbyte protocol, Singer taps and targets.

#![forbid(unsafe_code)]

mod answer;
pub mod ask;
mod auth;
mod budget;
mod cache;
mod check;
pub mod command;
pub mod component;
pub mod config;
pub mod connector;
pub mod cursor;
pub mod datetime;
mod decode;
pub mod dpath;
mod dynamic;
mod errors;
mod extract;
mod form;
mod hand;
pub mod inject;
mod jinja;
mod looks;
pub mod manifest;
mod normalize;
mod page;
mod page_text;
mod partition;
mod path;
pub mod program;
pub mod protocol;
pub mod python;
mod read;
pub mod record;
pub mod retrieve;
pub mod schema;
pub mod slice;
mod source;
mod stream;
pub mod template;
mod tokens;
mod transform;
mod truth;
pub mod wiring;
pub mod yaml;
