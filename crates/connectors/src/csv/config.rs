//! What a user can say about text files. Everything but the path is detected unless it is said.

use linkspan_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CsvConfig {
    /// A file, a folder (each file is a stream) or a pattern such as `logs/*.csv` (all its files are one stream). A hub's connector
    /// without one reads the files that were uploaded into it.
    #[serde(default)]
    pub path: String,
    /// What the files are; by default their name's ending tells.
    #[serde(default)]
    pub format: Format,
    /// The field separator, one byte; detected from `,` `;` tab and `|` when not given. `\t` is a tab.
    pub delimiter: Option<String>,
    /// The quote character, one byte; `"` by default. Empty: nothing is quoted.
    #[serde(default = "CsvConfig::quote")]
    pub quote: String,
    /// Whether the first line names the columns; detected when not given.
    #[serde(default)]
    pub header: Header,
    /// The text's encoding (`utf-8`, `utf-16le`, `windows-1252`, ... as in the WHATWG Encoding Standard). A byte order mark wins.
    pub encoding: Option<String>,
    /// How the files are compressed; by default their name's ending and first bytes tell.
    #[serde(default)]
    pub compression: Compression,
    /// The sheet of a workbook to read; all sheets, each a stream, by default.
    pub sheet: Option<String>,
    /// What happens to a row that cannot be read: too few or too many fields, bytes that are not text.
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Unquoted texts that mean null, besides the empty one: `NULL`, `NA`, `\N`.
    #[serde(default)]
    pub null_values: Vec<String>,
    /// Every column is text: nothing is inferred.
    #[serde(default)]
    pub all_text: bool,
    /// How many rows the types are inferred from. A later value that does not fit widens its column.
    #[serde(default = "CsvConfig::sample_rows")]
    pub sample_rows: usize,
    /// The name of the stream that a pattern makes; by default the name of the pattern's folder.
    pub stream: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    #[default]
    Auto,
    Csv,
    Tsv,
    Jsonl,
    Excel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Header {
    #[default]
    Auto,
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Compression {
    #[default]
    Auto,
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BadRows {
    /// The read stops and names file and line.
    #[default]
    Fail,
    /// The row is left out and recorded with file and line.
    Skip,
    /// Missing fields are null and surplus ones are left off, recorded with file and line; undecodable rows are left out.
    Null,
}

impl CsvConfig {
    fn quote() -> String {
        "\"".to_owned()
    }
    fn sample_rows() -> usize {
        20_000
    }
    /// What the schema cannot say. No I/O.
    pub fn validate(&self) -> Result<()> {
        self.delimiter_byte()?;
        self.quote_byte()?;
        if let Some(name) = &self.encoding
            && encoding_rs::Encoding::for_label(name.as_bytes()).is_none()
        {
            return Err(invalid("encoding", "the encoding is not known")
                .fix("write utf-8, utf-16le, utf-16be, windows-1252, iso-8859-1, shift_jis, ..."));
        }
        if self.path.is_empty() {
            return Err(invalid("path", "there is no path")
                .fix("name a file, a folder or a pattern; or save the connector in a hub and upload files"));
        }
        Ok(())
    }
    pub fn delimiter_byte(&self) -> Result<Option<u8>> {
        match self.delimiter.as_deref() {
            None => Ok(None),
            Some("\\t" | "tab") => Ok(Some(b'\t')),
            Some(text) => one_byte("delimiter", text).map(Some),
        }
    }
    /// `None`: nothing is quoted.
    pub fn quote_byte(&self) -> Result<Option<u8>> {
        if self.quote.is_empty() { Ok(None) } else { one_byte("quote", &self.quote).map(Some) }
    }
}

fn one_byte(field: &'static str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [b] if b.is_ascii() && !matches!(b, b'\n' | b'\r') => Ok(*b),
        _ => Err(invalid(field, "it must be one ASCII character")
            .fix(format!("write one character as `{field}`, for instance \";\" or \"\\t\""))),
    }
}

fn invalid(field: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("field", field)
}
