//! Parquet folders and buckets, against real disks, a real S3 server and other tools' readers.

mod commits;
mod files;
mod readers;
mod reading;
mod refusals;
mod s3;
mod types;
mod world;
