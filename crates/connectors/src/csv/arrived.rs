//! Judges a file that somebody sent: is it what its name says, and can it be unpacked without harm. It reads, and writes nothing.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use calamine::{Reader, Xlsx};
use linkspan_core::{Error, ErrorKind, Result, Uploads, file_error};

use super::workbook::{archive, broken, hostile, refuse_sparse};

/// A file may unpack to this much whatever its size; beyond it, to `RATIO` times its size.
const FREE: u64 = 32 << 20;
/// Tables of text pack 5 to 50 times; a bomb packs a thousand times.
const RATIO: u64 = 250;
/// A workbook's texts are read into memory.
const LARGEST_BOOK: u64 = 256 << 20;

pub(super) const UPLOADS: Uploads = Uploads {
    // The other formats of workbooks cannot be measured before they are laid out in memory.
    endings: &[
        ".csv",
        ".tsv",
        ".txt",
        ".jsonl",
        ".ndjson",
        ".csv.gz",
        ".tsv.gz",
        ".txt.gz",
        ".jsonl.gz",
        ".ndjson.gz",
        ".csv.zst",
        ".tsv.zst",
        ".txt.zst",
        ".jsonl.zst",
        ".ndjson.zst",
        ".xlsx",
    ],
    judge,
};

fn judge(file: &Path, name: &str, unpacked: u64) -> Result<()> {
    let cannot = |e| file_error("the file cannot be read", file, e);
    let mut open = File::open(file).map_err(cannot)?;
    let size = open.metadata().map_err(cannot)?.len();
    let limit = limit_of(size, unpacked);
    let first = start(&mut open).map_err(cannot)?;
    if first.is_empty() {
        return Err(Error::new(ErrorKind::DataInvalid, "the file is empty").with("name", name));
    }
    let judged = match name.to_lowercase().ends_with(".xlsx") {
        true => workbook(open, &first, limit.min(LARGEST_BOOK)).and_then(|()| sheets(file)),
        false => text(open, &first, limit),
    };
    judged.map_err(|e| e.with("name", name))
}

/// What a file of this size may unpack to.
fn limit_of(size: u64, most: u64) -> u64 {
    most.min(FREE.max(size.saturating_mul(RATIO)))
}

fn start(file: &mut File) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    file.by_ref().take(1 << 16).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(first)
}

fn not_what_it_says(what: &'static str, fix: &'static str) -> Error {
    Error::new(ErrorKind::DataInvalid, what).fix(fix)
}

fn too_much(limit: u64) -> Error {
    Error::new(ErrorKind::DataInvalid, "the file unpacks to more than is taken")
        .with("unpacked_limit_bytes", limit)
        .fix("send it as plain CSV, in parts")
}

/// Reads on until the end, and no further than the limit.
fn counted(mut from: impl Read, limit: u64, broken: &'static str) -> Result<u64> {
    let read = io::copy(&mut from.by_ref().take(limit + 1), &mut io::sink());
    match read {
        Ok(n) if n > limit => Err(too_much(limit)),
        Ok(n) => Ok(n),
        Err(e) => Err(not_what_it_says(broken, "save it again and send it anew").because(e)),
    }
}

/// Text as it is, or packed; the reader goes by the first bytes too, not by the name.
fn text(file: File, first: &[u8], limit: u64) -> Result<()> {
    const BROKEN: &str = "the compressed file is broken or cut short";
    let packed: Box<dyn Read> = match first {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let unpacked = zstd::stream::read::Decoder::new(file);
            Box::new(unpacked.map_err(|e| not_what_it_says(BROKEN, "save it again and send it anew").because(e))?)
        }
        _ => return is_text(first),
    };
    let mut packed = packed;
    let mut head = Vec::new();
    let read = packed.by_ref().take(1 << 16).read_to_end(&mut head);
    read.map_err(|e| not_what_it_says(BROKEN, "save it again and send it anew").because(e))?;
    counted(packed, limit.saturating_sub(head.len() as u64), BROKEN).map_err(|e| within(e, limit))?;
    is_text(&head)
}

fn is_text(first: &[u8]) -> Result<()> {
    const WIDE: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];
    const OTHERS: [&[u8]; 4] = [b"PK\x03\x04", b"%PDF-", &[0xd0, 0xcf, 0x11, 0xe0], &[0x1f, 0x8b]];
    let wide = WIDE.iter().any(|mark| first.starts_with(mark));
    let is_page = {
        let plain = first.trim_ascii_start();
        let begins = |word: &[u8]| plain.get(..word.len()).is_some_and(|p| p.eq_ignore_ascii_case(word));
        begins(b"<!doctype html") || begins(b"<html")
    };
    if is_page || OTHERS.iter().any(|other| first.starts_with(other)) || (!wide && first.contains(&0)) {
        return Err(not_what_it_says(
            "the file's name says text, and its content is something else",
            "send it under the name of what it is",
        ));
    }
    Ok(())
}

fn workbook(file: File, first: &[u8], limit: u64) -> Result<()> {
    match first {
        [b'P', b'K', 3, 4, ..] => {}
        [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            return Err(not_what_it_says(
                "the workbook is protected by a password, or is an old .xls",
                "save it as .xlsx without a password",
            ));
        }
        _ => return Err(not_what_it_says("the file's name says workbook, and its content is something else", "save it as .xlsx or .csv")),
    }
    let mut archive = archive(file)?;
    if archive.has_duplicate_names() || archive.has_overlapping_entries().map_err(broken)? {
        return Err(hostile("parts that lie over each other"));
    }
    let (mut left, mut found) = (limit, false);
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        if name.contains(['\\', '\0'])
            || name.starts_with('/')
            || entry.enclosed_name().is_none()
            || name.split('/').any(|p| p == "..")
            || entry.is_symlink()
        {
            return Err(hostile("a part that leads out of it"));
        }
        found |= name.starts_with("xl/");
        left -= counted(entry, left, "the workbook is broken").map_err(|e| within(e, limit))?;
    }
    if found { Ok(()) } else { Err(not_what_it_says("the archive holds no workbook", "save it from a spreadsheet program as .xlsx")) }
}

/// Whether every sheet can be read without harm.
fn sheets(file: &Path) -> Result<()> {
    let open = File::open(file).map_err(|e| file_error("the file cannot be read", file, e))?;
    let book = Xlsx::new(BufReader::new(open));
    let mut book =
        book.map_err(|e| not_what_it_says("the workbook cannot be read", "open it in a spreadsheet program and save it again").because(e))?;
    book.sheet_names().iter().try_for_each(|sheet| refuse_sparse(&mut book, sheet))
}

/// What was left when it was too much says nothing; the whole limit does.
fn within(e: Error, limit: u64) -> Error {
    if e.context().iter().any(|(k, _)| *k == "unpacked_limit_bytes") { too_much(limit) } else { e }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::{super::workbook::MOST_PARTS, *};

    const MOST: u64 = 4 << 30;

    fn book(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            zip.start_file(*name, SimpleFileOptions::default().compression_level(Some(1))).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }
    /// A workbook of one sheet with these rows.
    fn sheet(rows: &str) -> Vec<u8> {
        const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        const RELS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
        const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let workbook =
            format!(r#"<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>"#);
        let rel = |kind: &str, target: &str| {
            format!(r#"<Relationships xmlns="{RELS}"><Relationship Id="rId1" Type="{OFFICE}/{kind}" Target="{target}"/></Relationships>"#)
        };
        let (top, below) = (rel("officeDocument", "xl/workbook.xml"), rel("worksheet", "worksheets/sheet1.xml"));
        let sheet = format!(r#"<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>"#);
        book(&[
            ("[Content_Types].xml", b"<Types/>"),
            ("_rels/.rels", top.as_bytes()),
            ("xl/workbook.xml", workbook.as_bytes()),
            ("xl/_rels/workbook.xml.rels", below.as_bytes()),
            ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
        ])
    }
    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(content).unwrap();
        gz.finish().unwrap()
    }
    fn judged(name: &str, content: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        judge(file.path(), name, MOST)
    }
    fn refused(name: &str, content: &[u8]) -> Error {
        let e = judged(name, content).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::DataInvalid, "{name}: {e:?}");
        e
    }

    #[test]
    fn what_is_what_its_name_says_is_taken() {
        judged("a.csv", b"id,name\n1,x\n").unwrap();
        judged("a.csv", b"\xff\xfei\0d\0\n\0").unwrap();
        judged("a.tsv.gz", &gzip(b"id\tname\n1\tx\n")).unwrap();
        judged("a.CSV", &gzip(b"id\n1\n")).unwrap();
        judged("a.csv.zst", &zstd::encode_all(&b"id\n1\n"[..], 1).unwrap()).unwrap();
        judged("a.xlsx", &sheet(r#"<row r="1"><c r="A1"><v>1</v></c><c r="B1"><v>2</v></c></row>"#)).unwrap();
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for (name, content) in [
            ("a.csv", &b""[..]),
            ("a.csv", b"id\0,name\n"),
            ("a.csv", b"PK\x03\x04rest"),
            ("a.csv", b"%PDF-1.7"),
            ("a.txt", b" <!DOCTYPE HTML><html>"),
            ("a.xlsx", b"id,name\n"),
            ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
            ("a.xlsx", b"PK\x03\x04cut"),
            ("a.csv.gz", &gzip(&gzip(b"a,b\n"))),
            ("a.csv.gz", &gzip(b"id,name\n1,x\n")[..20]),
            ("a.xlsx", &book(&[("word/document.xml", b"<x/>")])),
        ] {
            refused(name, content);
        }
    }

    #[test]
    fn a_file_unpacks_to_what_tables_unpack_to() {
        assert_eq!(limit_of(65_000, MOST), FREE, "64 MB in 64 kB are none");
        assert_eq!(limit_of(1 << 20, MOST), 250 << 20);
        assert_eq!(limit_of(200 << 20, MOST), MOST);
        assert_eq!(limit_of(1 << 20, 5 << 20), 5 << 20);
    }

    #[test]
    fn bombs_are_refused_at_their_limit() {
        const LIMIT: u64 = 1 << 20;
        let zeros = "0,".repeat(1 << 20);
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = |content: &[u8]| {
            std::fs::write(file.path(), content).unwrap();
            File::open(file.path()).unwrap()
        };
        let (gz, zst) = (gzip(zeros.as_bytes()), zstd::encode_all(zeros.as_bytes(), 1).unwrap());
        let xlsx = book(&[("xl/workbook.xml", b"<x/>"), ("xl/worksheets/sheet1.xml", zeros.as_bytes())]);
        for (name, refused) in [
            ("gzip", text(opened(&gz), &gz, LIMIT)),
            ("zstd", text(opened(&zst), &zst, LIMIT)),
            ("xlsx", workbook(opened(&xlsx), &xlsx, LIMIT)),
        ] {
            let e = refused.expect_err(name);
            assert!(e.context().iter().any(|(k, v)| *k == "unpacked_limit_bytes" && *v == LIMIT.to_string()), "{name}: {e:?}");
        }
    }

    #[test]
    fn two_cells_in_opposite_corners_are_refused_before_they_take_all_memory() {
        let corners = r#"<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>"#;
        let e = refused("a.xlsx", &sheet(corners));
        assert!(e.message().contains("too empty"), "{e:?}");
        // So is such a file that was not uploaded but named.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.xlsx"), sheet(corners)).unwrap();
        let config = serde_json::json!({ "path": dir.path().join("a.xlsx") });
        let opened = super::super::connector_type().open(config, linkspan_core::Context::real()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(opened.source().unwrap().discover());
        assert_eq!(found.expect_err("refused").kind(), ErrorKind::DataInvalid);
    }

    #[test]
    fn an_archive_that_leads_out_or_has_no_end_is_refused() {
        for part in ["../xl/evil.xml", "/etc/passwd", "xl\\..\\..\\evil", "xl/../../evil"] {
            // The writer writes no such names: one of the same length is written over.
            let plain = "x".repeat(part.len());
            let mut bytes = book(&[("xl/workbook.xml", b"<x/>"), (&plain, b"y")]);
            let places: Vec<usize> = memchr::memmem::find_iter(&bytes, plain.as_bytes()).collect();
            assert_eq!(places.len(), 2, "in the part's head and in the directory");
            places.iter().for_each(|at| bytes[*at..at + part.len()].copy_from_slice(part.as_bytes()));
            refused("a.xlsx", &bytes);
        }
        let names: Vec<String> = (0..=MOST_PARTS).map(|n| format!("xl/{n}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
        let e = refused("a.xlsx", &book(&many));
        assert!(e.context().iter().any(|(_, v)| v.contains("more parts")), "{e:?}");
    }
}
