//! Results that are files: tables, packed or not, whose cells stay texts.

use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{answer::Answer, record::Record};

/// A file may grow to this when it is unpacked.
const LARGEST: u64 = 1 << 30;
/// Texts that stand for a missing value.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None",
    "n/a", "nan", "null",
];

/// The rows of an answer. With `keeps_na` only empty cells are missing values.
pub fn rows(answer: &Answer, keeps_na: bool) -> Result<Vec<Record>> {
    if !answer.is_ok() {
        return Ok(Vec::new());
    }
    let text = unpacked(&answer.body)?;
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_slice());
    let mut head = ByteRecord::new();
    if !reader.read_byte_record(&mut head).map_err(no_table)? {
        return Ok(Vec::new());
    }
    let names = names(&head);
    let missing = |text: &str| if keeps_na { text.is_empty() } else { MISSING.contains(&text) };
    let (mut rows, mut row) = (Vec::new(), ByteRecord::new());
    while reader.read_byte_record(&mut row).map_err(no_table)? {
        if row.len() > names.len() {
            return Err(Error::new(ErrorKind::DataInvalid, "a row of the result has more cells than the head").with("row", rows.len() + 2));
        }
        let mut object = Map::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let cell = row.get(at).map(String::from_utf8_lossy).filter(|text| !missing(text));
            object.insert(name.clone(), cell.map_or(Value::Null, Value::from));
        }
        rows.push(Value::Object(object).into());
    }
    Ok(rows)
}

/// Gzip and zlib are opened; anything else is read as it is, without null bytes.
fn unpacked(body: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let is_zlib = body.len() > 2 && body[0] & 0x0F == 8 && u16::from_be_bytes([body[0], body[1]]).is_multiple_of(31);
    let read = match body {
        [0x1F, 0x8B, ..] => MultiGzDecoder::new(body).take(LARGEST + 1).read_to_end(&mut text),
        _ if is_zlib => ZlibDecoder::new(body).take(LARGEST + 1).read_to_end(&mut text),
        _ => return Ok(body.iter().copied().filter(|b| *b != 0).collect()),
    };
    read.map_err(|e| Error::new(ErrorKind::DataInvalid, "the result cannot be unpacked").because(e))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::new(ErrorKind::DataInvalid, "the result is larger than allowed").with("limit_bytes", LARGEST));
    }
    Ok(text)
}

/// Names that repeat are numbered; a cell without one is `Unnamed`.
fn names(head: &ByteRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(head.len());
    for (at, name) in head.iter().enumerate() {
        let name = String::from_utf8_lossy(name);
        let name = if name.is_empty() { format!("Unnamed: {at}") } else { name.into_owned() };
        let mut shown = name.clone();
        let mut count = 0;
        while names.contains(&shown) {
            count += 1;
            shown = format!("{name}.{count}");
        }
        names.push(shown);
    }
    names
}

fn no_table(e: csv::Error) -> Error {
    Error::new(ErrorKind::DataInvalid, "the result is no table").because(e)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use serde_json::json;

    use super::*;

    fn read(body: &[u8], keeps_na: bool) -> Vec<Value> {
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), "", Bytes::copy_from_slice(body));
        rows(&answer, keeps_na).unwrap().into_iter().map(Record::into_value).collect()
    }

    #[test]
    fn cells_stay_texts_and_missing_ones_are_null() {
        let table = b"id,a,a,\n1,NA,\"x\"\"y\",z\n\n02,,null\n";
        assert_eq!(
            read(table, false),
            [
                json!({"id": "1", "a": null, "a.1": "x\"y", "Unnamed: 3": "z"}),
                json!({"id": "02", "a": null, "a.1": null, "Unnamed: 3": null})
            ]
        );
        assert_eq!(read(table, true)[1], json!({"id": "02", "a": null, "a.1": "null", "Unnamed: 3": null}));
        assert_eq!(read(b"", false), Vec::<Value>::new());
    }

    #[test]
    fn packed_files_are_opened() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"a\n1\n").unwrap();
        assert_eq!(read(&gzip.finish().unwrap(), false), [json!({"a": "1"})]);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(b"a\n2\n").unwrap();
        assert_eq!(read(&zlib.finish().unwrap(), false), [json!({"a": "2"})]);
    }
}
