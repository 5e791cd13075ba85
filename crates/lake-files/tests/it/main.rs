//! Parquet folders and buckets, against real disks, a real S3 server and other tools' readers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may fail where it stands, and says when it is skipped"
)]

mod commits;
mod files;
mod kills;
mod merges;
mod readers;
mod reading;
mod refusals;
mod s3;
mod suites;
mod types;
mod world;
