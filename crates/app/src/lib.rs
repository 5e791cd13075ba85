//! What a user can do. One table of operations, from which HTTP, OpenAPI, the command line and the docs are read.

#![forbid(unsafe_code)]
