//! YAML 1.1, `$ref`, `$parameters` and the table of components: any text is a manifest or an error, in bounded time and memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = linkspan_airbyte::manifest::opened(text);
});
