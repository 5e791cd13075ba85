//! Formats of dates and the texts that they read: the first line is the format. What was read is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linkspan_airbyte::datetime::Format;

fuzz_target!(|text: &str| {
    let (format, text) = text.split_once('\n').unwrap_or((text, ""));
    let format = Format::new(format);
    if let Ok(moment) = format.parse(text) {
        let _ = format.parse(&format.format(&moment));
    }
});
