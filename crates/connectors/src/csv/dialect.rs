//! Finds out how a text is written: its delimiter, and whether its first record names the columns.

use arrow_schema::DataType;
use linkspan_core::Result;

use super::{
    config::{CsvConfig, Format, Header},
    infer::{Kind, type_of},
    split::{Field, Found, Splitter, unescape},
};

const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records that are looked at.
const LOOK: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub splitter: Splitter,
    pub header: bool,
    /// The names of the columns, made up where there is no header; all different.
    pub names: Vec<String>,
}

/// `last`: the sample is the whole text.
pub(super) fn detect(sample: &[u8], last: bool, config: &CsvConfig, format: Format) -> Result<Dialect> {
    let quote = config.quote_byte()?;
    let delimiter = match config.delimiter_byte()? {
        Some(byte) => byte,
        None if format == Format::Tsv => b'\t',
        None => delimiter(sample, last, quote),
    };
    let splitter = Splitter { delimiter, quote };
    let rows = records(sample, last, &splitter);
    let header = match config.header {
        Header::Yes => true,
        Header::No => false,
        Header::Auto => has_header(&rows),
    };
    let width = rows.first().map_or(0, Vec::len);
    let names = if header { unique(rows.first().cloned().unwrap_or_default()) } else { unique(vec![String::new(); width]) };
    Ok(Dialect { splitter, header, names })
}

/// The one that cuts most records into the same number of fields, more than one; the comma when none does.
fn delimiter(sample: &[u8], last: bool, quote: Option<u8>) -> u8 {
    let score = |delimiter: u8| {
        let rows = records(sample, last, &Splitter { delimiter, quote });
        let width = rows.first().map_or(0, Vec::len);
        let same = rows.iter().filter(|r| r.len() == width).count();
        if width < 2 { (0, 0) } else { (same * 100 / rows.len().max(1), width) }
    };
    CANDIDATES.into_iter().rev().max_by_key(|d| score(*d)).filter(|d| score(*d).1 > 1).unwrap_or(b',')
}

fn records(sample: &[u8], last: bool, splitter: &Splitter) -> Vec<Vec<String>> {
    let (mut rows, mut at, mut fields, mut scratch) = (Vec::new(), 0, Vec::new(), Vec::new());
    while at < sample.len() && rows.len() < LOOK {
        fields.clear();
        let Found::Record(next) = splitter.record(sample, at, last, &mut fields) else { break };
        let value = |f: &Field, scratch: &mut Vec<u8>| {
            let raw = &sample[f.start as usize..f.end as usize];
            String::from_utf8_lossy(unescape(raw, f.escaped, splitter.quote.unwrap_or(b'"'), scratch)).into_owned()
        };
        let row: Vec<String> = fields.iter().map(|f| value(f, &mut scratch)).collect();
        if row.len() > 1 || !row[0].is_empty() {
            rows.push(row);
        }
        at = next;
    }
    rows
}

/// A header is a first record of different, non-empty texts that are no values; a file of texts only is taken to have one.
pub(super) fn has_header(rows: &[Vec<String>]) -> bool {
    let Some(first) = rows.first() else { return false };
    let named = first.iter().all(|n| !n.trim().is_empty() && type_of(n.as_bytes(), Kind::Plain) == DataType::Utf8 && n.len() < 256);
    let different = first.iter().collect::<std::collections::HashSet<_>>().len() == first.len();
    named && different
}

/// Names for every column: `column_N` for an empty one, `name_2` for the second of a name.
pub(super) fn unique(names: Vec<String>) -> Vec<String> {
    let mut taken = std::collections::HashSet::new();
    let mut out = Vec::with_capacity(names.len());
    for (i, name) in names.into_iter().enumerate() {
        let base = if name.trim().is_empty() { format!("column_{}", i + 1) } else { name.trim().to_owned() };
        let mut candidate = base.clone();
        let mut n = 2;
        while !taken.insert(candidate.clone()) {
            candidate = format!("{base}_{n}");
            n += 1;
        }
        out.push(candidate);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dialect(text: &str) -> Dialect {
        let config: CsvConfig = serde_json::from_value(json!({"path": "x"})).unwrap();
        detect(text.as_bytes(), true, &config, Format::Csv).unwrap()
    }

    #[test]
    fn delimiter_and_header_are_found() {
        for (text, delimiter, header, names) in [
            ("id,name\n1,a\n", b',', true, vec!["id", "name"]),
            ("id;amount\n1;2,5\n2;3,5\n", b';', true, vec!["id", "amount"]),
            ("1\t2\n3\t4\n", b'\t', false, vec!["column_1", "column_2"]),
            ("a|a|\nx|y|z\n", b'|', false, vec!["column_1", "column_2", "column_3"]),
            ("\"id, all\",b\n1,2\n", b',', true, vec!["id, all", "b"]),
            ("name\nanna\n", b',', true, vec!["name"]),
        ] {
            let d = dialect(text);
            assert_eq!(
                (d.splitter.delimiter, d.header, d.names),
                (delimiter, header, names.into_iter().map(String::from).collect()),
                "{text}"
            );
        }
    }
}
