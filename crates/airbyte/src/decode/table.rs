//! Delimited tables, as Python's reader of rows with a head reads them.

use std::borrow::Cow;

use csv::{ByteRecord, ReaderBuilder};
use linkspan_core::Result;
use serde_json::{Map, Value};

use super::{
    Elements,
    body::{Source, invalid, whole},
    text::Encoding,
};
use crate::component::Component;

pub struct Table {
    encoding: Encoding,
    delimiter: u8,
    /// Texts that stand for nothing.
    nulls: Vec<String>,
}

impl Table {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let text = component.text("delimiter")?.unwrap_or(",");
        let delimiter = match text {
            "\\t" => b'\t',
            "\\n" => b'\n',
            text => match text.as_bytes() {
                [] => b',',
                [one] => *one,
                _ => return Err(component.error("a delimiter is one ASCII character").with("delimiter", text)),
            },
        };
        let nulls = component.texts("set_values_to_none")?.unwrap_or_default();
        Ok(Self { encoding: Encoding::of(component)?, delimiter, nulls: nulls.into_iter().map(Into::into).collect() })
    }

    /// Rows as objects by the names of the first row. Texts stay texts.
    pub fn rows<'a>(&'a self, source: Source<'a>) -> Result<Elements<'a>> {
        let text = self.encoding.decoded(&whole(source)?)?;
        let text = one_line_break(&text).into_owned();
        // The reader would leave out a mark that belongs to the first name.
        let (text, mark) = text.strip_prefix('\u{FEFF}').map_or((text.as_str(), ""), |rest| (rest, "\u{FEFF}"));
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(std::io::Cursor::new(text.to_owned()));
        let mut head = ByteRecord::new();
        if !reader.read_byte_record(&mut head).map_err(|e| invalid("the answer is no table").because(e))? {
            return Ok(Box::new(std::iter::empty()));
        }
        let names: Vec<String> = head
            .iter()
            .enumerate()
            .map(|(at, name)| format!("{}{}", if at == 0 { mark } else { "" }, String::from_utf8_lossy(name)))
            .collect();
        let mut row = ByteRecord::new();
        Ok(Box::new(std::iter::from_fn(move || match reader.read_byte_record(&mut row) {
            Ok(true) => Some(Ok(self.object(&names, &row))),
            Ok(false) => None,
            Err(e) => Some(Err(invalid("the answer is no table").because(e))),
        })))
    }

    fn object(&self, names: &[String], row: &ByteRecord) -> Value {
        let shown = |cell: &[u8]| {
            let text = String::from_utf8_lossy(cell);
            if self.nulls.iter().any(|n| *n == text) { Value::Null } else { text.into() }
        };
        let mut object = Map::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            object.insert(name.clone(), row.get(at).map_or(Value::Null, shown));
        }
        if row.len() > names.len() {
            // Cells without a name come together under none.
            object.insert("null".into(), row.iter().skip(names.len()).map(|c| Value::from(String::from_utf8_lossy(c))).collect());
        }
        object.into()
    }
}

fn one_line_break(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
}
