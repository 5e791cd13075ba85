//! The jsonl connector.
