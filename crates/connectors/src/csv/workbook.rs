//! What is asked of a workbook before anything of it is laid out in memory: how many parts its archive has, how large its sheets are.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use calamine::Xlsx;
use linkspan_core::{Error, ErrorKind, Result};
use zip::ZipArchive;

/// A workbook has a dozen parts and one for each sheet, picture and note.
pub(super) const MOST_PARTS: u64 = 10_000;
const DIRECTORY: u64 = 8 << 20;
/// What an archive's end record and its comment take at most.
const TAIL: u64 = (1 << 16) + 22;
/// A sheet may span so many cells whatever it holds, and above that so many times those it has filled.
const FREE_CELLS: u64 = 4 << 20;
const EMPTY_TO_FILLED: u64 = 8;
const MOST_CELLS: u64 = 64 << 20;

/// Refuses a sheet that would be laid out far larger than it is filled: every cell between the outermost two takes memory, so that two
/// cells in opposite corners would take all there is.
pub(super) fn refuse_sparse<R: Read + Seek>(book: &mut Xlsx<R>, sheet: &str) -> Result<()> {
    let unreadable = |e: calamine::XlsxError| {
        let error = Error::new(ErrorKind::DataInvalid, "the workbook cannot be read").with("sheet", sheet);
        error.fix("open it in a spreadsheet program and save it again").because(e)
    };
    let mut cells = match book.worksheet_cells_reader(sheet) {
        // A chart has no cells.
        Err(calamine::XlsxError::NotAWorksheet(_)) => return Ok(()),
        reader => reader.map_err(unreadable)?,
    };
    let (mut filled, mut first, mut last) = (0u64, (u32::MAX, u32::MAX), (0, 0));
    while let Some(cell) = cells.next_cell().map_err(unreadable)? {
        let (row, column) = cell.get_position();
        filled += 1;
        first = (first.0.min(row), first.1.min(column));
        last = (last.0.max(row), last.1.max(column));
    }
    let span = |first: u32, last: u32| (u64::from(last) + 1).saturating_sub(first.into());
    let laid_out = if filled == 0 { 0 } else { span(first.0, last.0).saturating_mul(span(first.1, last.1)) };
    if laid_out > FREE_CELLS.max(filled * EMPTY_TO_FILLED) || laid_out > MOST_CELLS {
        return Err(Error::new(ErrorKind::DataInvalid, "the sheet is too large or too empty to be read as a table")
            .with("sheet", sheet)
            .with("cells", laid_out)
            .with("filled", filled)
            .fix("remove what stands far away from the table, or save the sheet as CSV"));
    }
    Ok(())
}

/// Opens it after a look at how many parts its end record claims: the directory is read into memory.
pub(super) fn archive(mut file: File) -> Result<ZipArchive<BufReader<File>>> {
    let tail = tail(&mut file).map_err(|e| broken(e.into()))?;
    let ends = memchr::memmem::find_iter(&tail, b"PK\x05\x06");
    for end in ends {
        let Some(record) = tail.get(end..end + 22) else { continue };
        let parts = u64::from(u16::from_le_bytes([record[10], record[11]]));
        let directory = u64::from(u32::from_le_bytes([record[12], record[13], record[14], record[15]]));
        if parts > MOST_PARTS || directory > DIRECTORY {
            return Err(hostile("more parts than a workbook has"));
        }
    }
    let archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    if archive.len() as u64 > MOST_PARTS { Err(hostile("more parts than a workbook has")) } else { Ok(archive) }
}

fn tail(file: &mut File) -> io::Result<Vec<u8>> {
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(tail)
}

pub(super) fn broken(e: zip::result::ZipError) -> Error {
    let error = Error::new(ErrorKind::DataInvalid, "the workbook is broken");
    error.fix("open it in a spreadsheet program and save it again").because(e)
}

pub(super) fn hostile(what: &'static str) -> Error {
    Error::new(ErrorKind::DataInvalid, "the archive is not taken").with("has", what).fix("save it from a spreadsheet program as .xlsx")
}
