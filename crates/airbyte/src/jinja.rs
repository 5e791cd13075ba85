//! Jinja as the reference renders it: Jinja's syntax over Python's values. No input and no output beyond the values handed in; steps and bytes are limited.

mod access;
mod arguments;
mod arithmetic;
mod attributes;
mod builtins;
mod codes;
mod eval;
mod filters;
mod html;
mod lexer;
mod methods;
mod names;
mod order;
mod parser;
mod printf;
mod regexes;
mod sequences;
mod show;
mod statements;
mod stops;
mod syntax;
mod tests;
mod text_methods;
mod time_methods;
mod times;
mod value;
mod wrap;

pub(crate) use eval::render;
pub(crate) use statements::Program;
pub(crate) use value::{Fault, Names, Py};
