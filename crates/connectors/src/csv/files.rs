//! Which files a path means, what they are, and how their bytes become UTF-8 text.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use encoding_rs::{DecoderResult, Encoding, UTF_8};
use linkspan_core::{Error, ErrorKind, Result, file_error};
use serde::{Deserialize, Serialize};

use super::config::{Compression, CsvConfig, Format};

/// What proves that a file is still the one that was read: the length and the hash of its first bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub size: u64,
    pub modified_ms: i64,
    /// FNV-1a of the first `head_len` bytes.
    pub head: u64,
    pub head_len: u64,
}

const HEAD: u64 = 4096;

impl Identity {
    pub fn of(path: &Path) -> Result<Self> {
        let (meta, file) = open(path)?;
        let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let head_len = meta.len().min(HEAD);
        Ok(Self {
            size: meta.len(),
            modified_ms: modified.map_or(0, |d| d.as_millis() as i64),
            head: head_hash(file, head_len, path)?,
            head_len,
        })
    }
    /// Whether `now` is this file with, at most, more at its end.
    pub fn grew_into(&self, now: &Self, path: &Path) -> Result<bool> {
        if now.size < self.size || now.head_len < self.head_len {
            return Ok(false);
        }
        Ok(head_hash(open(path)?.1, self.head_len, path)? == self.head)
    }
}

fn head_hash(file: File, len: u64, path: &Path) -> Result<u64> {
    let mut head = Vec::new();
    file.take(len).read_to_end(&mut head).map_err(|e| file_error("the file cannot be read", path, e))?;
    Ok(head.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

fn open(path: &Path) -> Result<(std::fs::Metadata, File)> {
    let file = File::open(path).map_err(|e| file_error("the file cannot be opened", path, e))?;
    let meta = file.metadata().map_err(|e| file_error("the file cannot be opened", path, e))?;
    if meta.is_dir() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "this is a folder, not a file").with("path", path.display()));
    }
    Ok((meta, file))
}

/// Files that make one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub name: String,
    pub files: Vec<PathBuf>,
}

/// The streams of a path, in name order: one for a file or a pattern, one per file for a folder.
pub(super) fn groups(config: &CsvConfig) -> Result<Vec<Group>> {
    let path = Path::new(&config.path);
    if config.path.contains(['*', '?', '[']) && !path.exists() {
        let files = matching(path)?;
        if files.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no file matches the pattern")
                .with("path", &config.path)
                .fix("check the pattern; quote it so that the shell leaves it alone"));
        }
        let folder =
            path.parent().and_then(Path::file_name).and_then(|n| n.to_str()).filter(|n| !n.contains(['*', '?', '['])).unwrap_or("files");
        return Ok(vec![Group { name: config.stream.clone().unwrap_or_else(|| folder.to_owned()), files }]);
    }
    let meta = std::fs::metadata(path).map_err(|e| file_error("the file cannot be opened", path, e))?;
    if !meta.is_dir() {
        return Ok(vec![Group { name: config.stream.clone().unwrap_or_else(|| stem(path)), files: vec![path.to_owned()] }]);
    }
    let mut files: Vec<PathBuf> = entries(path)?.into_iter().filter(|p| p.is_file() && known(p)).collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the folder holds no text files")
            .with("path", &config.path)
            .fix("name a folder with .csv, .tsv, .jsonl or .xlsx files, or a pattern"));
    }
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let name = stem(&file);
        match groups.iter_mut().find(|g| g.name == name) {
            // `a.csv` and `a.tsv`: the second keeps its full name.
            Some(_) => groups.push(Group { name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(), files: vec![file] }),
            None => groups.push(Group { name, files: vec![file] }),
        }
    }
    Ok(groups)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).map_err(|e| file_error("the folder cannot be read", folder, e))?;
    read.map(|e| e.map(|e| e.path()).map_err(|e| file_error("the folder cannot be read", folder, e))).collect()
}

/// Files that match a pattern whose `*`, `?` and `[..]` may stand in any part of the path.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy().into_owned();
        let mut next = Vec::new();
        for base in &found {
            if !text.contains(['*', '?', '[']) {
                next.push(base.join(&text));
                continue;
            }
            let folder = if base.as_os_str().is_empty() { Path::new(".") } else { base.as_path() };
            for entry in entries(folder).unwrap_or_default() {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.starts_with('.') && glob(text.as_bytes(), name.as_bytes()) {
                    next.push(base.join(name));
                }
            }
        }
        found = next;
    }
    let mut files: Vec<PathBuf> = found.into_iter().filter(|p| p.is_file()).collect();
    files.sort();
    Ok(files)
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|n| glob(rest, &name[n..])),
        [b'?', rest @ ..] => !name.is_empty() && glob(rest, &name[1..]),
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let end = rest.iter().position(|b| *b == b']').unwrap_or(0);
            let (set, after) = (&rest[..end], &rest[end + 1..]);
            let Some((first, tail)) = name.split_first() else { return false };
            let within = set.windows(3).any(|w| w[1] == b'-' && (w[0]..=w[2]).contains(first)) || set.contains(first);
            within && glob(after, tail)
        }
        [b, rest @ ..] => name.first() == Some(b) && glob(rest, &name[1..]),
    }
}

const ENDINGS: [(&str, Format); 8] = [
    (".csv", Format::Csv),
    (".txt", Format::Csv),
    (".tsv", Format::Tsv),
    (".jsonl", Format::Jsonl),
    (".ndjson", Format::Jsonl),
    (".xlsx", Format::Excel),
    (".xls", Format::Excel),
    (".ods", Format::Excel),
];

fn uncompressed_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".gz", ".zst", ".zstd"].iter().find_map(|e| name.strip_suffix(e)).map_or(name.clone(), str::to_owned)
}

fn known(path: &Path) -> bool {
    let name = uncompressed_name(path);
    !name.starts_with('.') && ENDINGS.iter().any(|(e, _)| name.ends_with(e))
}

pub(super) fn format_of(path: &Path, config: &CsvConfig) -> Format {
    if config.format != Format::Auto {
        return config.format;
    }
    let name = uncompressed_name(path);
    ENDINGS.iter().find(|(e, _)| name.ends_with(e)).map_or(Format::Csv, |(_, f)| *f)
}

/// The file's name without the endings that say what it is.
fn stem(path: &Path) -> String {
    let full = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut name = full.as_str();
    // One ending of each list: `a.txt.csv` is called `a.txt`.
    for list in [&[".gz", ".zst", ".zstd"][..], &ENDINGS.map(|(e, _)| e)[..]] {
        if let Some(ending) = list.iter().find(|e| name.len() > e.len() && name.to_lowercase().ends_with(**e)) {
            name = &name[..name.len() - ending.len()];
        }
    }
    name.to_owned()
}

/// Opens a file as UTF-8 text from `offset` on (in bytes of that text). Bytes that are no text in the encoding come out as 0xFF,
/// which is never UTF-8, so that the row they stand in is bad and not quietly mended.
pub(super) fn text(path: &Path, config: &CsvConfig, offset: u64) -> Result<Box<dyn Read + Send>> {
    let broken = |e| file_error("the file cannot be read", path, e);
    let (_, mut file) = open(path)?;
    let mut first = [0u8; 4];
    let n = read_up_to(&mut file, &mut first).map_err(broken)?;
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let compression = match config.compression {
        Compression::Auto if first[..n].starts_with(&[0x1f, 0x8b]) => Compression::Gzip,
        Compression::Auto if first[..n].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => Compression::Zstd,
        Compression::Auto => Compression::None,
        chosen => chosen,
    };
    let mut bytes: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file).map_err(broken)?),
        _ => {
            let bom = if first[..n].starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
            let plain = bom == 3 || (Encoding::for_bom(&first[..n]).is_none() && encoding(config) == UTF_8);
            if plain {
                file.seek(SeekFrom::Start(offset + bom)).map_err(broken)?;
                return Ok(Box::new(file));
            }
            Box::new(file)
        }
    };
    let n = read_up_to(&mut bytes, &mut first).map_err(broken)?;
    let (encoding, bom) = Encoding::for_bom(&first[..n]).unwrap_or((encoding(config), 0));
    let all = io::Cursor::new(first[bom..n].to_vec()).chain(bytes);
    let mut text: Box<dyn Read + Send> = if encoding == UTF_8 { Box::new(all) } else { Box::new(Decoded::new(all, encoding)) };
    io::copy(&mut (&mut text).take(offset), &mut io::sink()).map_err(broken)?;
    Ok(text)
}

fn encoding(config: &CsvConfig) -> &'static Encoding {
    config.encoding.as_deref().and_then(|n| Encoding::for_label(n.as_bytes())).unwrap_or(UTF_8)
}

fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < into.len() {
        match from.read(&mut into[n..])? {
            0 => break,
            m => n += m,
        }
    }
    Ok(n)
}

/// Another encoding as UTF-8.
struct Decoded<R> {
    bytes: R,
    decoder: encoding_rs::Decoder,
    input: Vec<u8>,
    output: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    fn new(bytes: R, encoding: &'static Encoding) -> Self {
        Self { bytes, decoder: encoding.new_decoder_without_bom_handling(), input: Vec::new(), output: Vec::new(), at: 0, ended: false }
    }
    fn fill(&mut self) -> io::Result<()> {
        self.input.resize(1 << 16, 0);
        let n = read_up_to(&mut self.bytes, &mut self.input)?;
        self.ended = n < self.input.len();
        self.output.clear();
        self.at = 0;
        let mut from = 0;
        loop {
            let mut piece = vec![0u8; self.decoder.max_utf8_buffer_length_without_replacement(n - from).unwrap_or(1 << 18) + 16];
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(&self.input[from..n], &mut piece, self.ended);
            self.output.extend_from_slice(&piece[..written]);
            from += read;
            match result {
                DecoderResult::InputEmpty => return Ok(()),
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.output.push(0xff),
            }
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.output.len() && !self.ended {
            self.fill()?;
        }
        let n = (self.output.len() - self.at).min(into.len());
        into[..n].copy_from_slice(&self.output[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name, is) in
            [("*.csv", "a.csv", true), ("a?.csv", "a1.csv", true), ("[0-9]*", "7x", true), ("[ab]", "c", false), ("*", "", true)]
        {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
    }

    #[test]
    fn stems_lose_what_says_the_format() {
        for (name, is) in [("a.csv", "a"), ("a.b.csv.gz", "a.b"), ("a.txt.csv", "a.txt"), ("a", "a"), (".csv", ".csv"), ("X.TSV.ZST", "X")]
        {
            assert_eq!(stem(Path::new(name)), is);
        }
    }

    #[test]
    fn another_encoding_becomes_utf_8_and_what_is_no_text_stays_bad() {
        let mut out = Vec::new();
        Decoded::new(&b"caf\xe9"[..], encoding_rs::WINDOWS_1252).read_to_end(&mut out).unwrap();
        assert_eq!(out, "café".as_bytes());
        let mut out = Vec::new();
        Decoded::new(&b"a\x81\xffb"[..], encoding_rs::SHIFT_JIS).read_to_end(&mut out).unwrap();
        assert!(std::str::from_utf8(&out).is_err());
    }
}
