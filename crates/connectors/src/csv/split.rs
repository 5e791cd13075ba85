//! Splits text into records and fields, RFC 4180 with the common liberties: any delimiter, any quote, lone `\n`, ragged rows.

use memchr::{memchr, memchr2};

/// A field's bytes within the chunk; `raw` includes no quotes. `escaped`: it holds doubled quotes that still must be halved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub start: u32,
    pub end: u32,
    pub quoted: bool,
    pub escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Splitter {
    pub delimiter: u8,
    pub quote: Option<u8>,
}

/// What stands at the start of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record; the next one starts at this offset.
    Record(usize),
    /// The text ends inside a record: more is needed.
    Partial,
    /// The text ends inside a quoted field and no more will come.
    OpenQuote,
}

impl Splitter {
    /// Appends the fields of the record at `from` to `fields`. Offsets are within `text`. A blank line is a record of one empty field.
    pub fn record(&self, text: &[u8], from: usize, last: bool, fields: &mut Vec<Field>) -> Found {
        let mut at = from;
        loop {
            let Some(end) = self.field(text, at, last, fields) else {
                return if last && self.starts_quoted(text, at) { Found::OpenQuote } else { Found::Partial };
            };
            match text.get(end) {
                Some(b) if *b == self.delimiter => at = end + 1,
                Some(b'\n') => return Found::Record(end + 1),
                Some(_) => at = end, // unreachable by construction: a field ends at a delimiter, a line's end or the text's
                None => return Found::Record(end),
            }
        }
    }

    fn starts_quoted(&self, text: &[u8], at: usize) -> bool {
        self.quote.is_some() && text.get(at).copied() == self.quote
    }

    /// The end of the field at `at` (a delimiter, a `\n` or the end of the last text), or nothing when the text ends inside it.
    fn field(&self, text: &[u8], at: usize, last: bool, fields: &mut Vec<Field>) -> Option<usize> {
        if self.starts_quoted(text, at) {
            return self.quoted(text, at + 1, last, fields);
        }
        let end = match memchr2(self.delimiter, b'\n', &text[at..]) {
            Some(n) => at + n,
            None if last => text.len(),
            None => return None,
        };
        let mut stop = end;
        if text.get(end) != Some(&self.delimiter) && stop > at && text[stop - 1] == b'\r' {
            stop -= 1;
        }
        fields.push(Field { start: at as u32, end: stop as u32, quoted: false, escaped: false });
        Some(end)
    }

    fn quoted(&self, text: &[u8], start: usize, last: bool, fields: &mut Vec<Field>) -> Option<usize> {
        let quote = self.quote.unwrap_or(b'"');
        let (mut at, mut escaped) = (start, false);
        loop {
            let close = at + memchr(quote, &text[at..])?;
            match text.get(close + 1) {
                Some(b) if *b == quote => (at, escaped) = (close + 2, true),
                Some(b) if *b == self.delimiter || *b == b'\n' => {
                    fields.push(Field { start: start as u32, end: close as u32, quoted: true, escaped });
                    return Some(close + 1);
                }
                Some(b'\r') if matches!(text.get(close + 2), Some(b'\n')) || (last && close + 2 == text.len()) => {
                    fields.push(Field { start: start as u32, end: close as u32, quoted: true, escaped });
                    return Some(close + 2);
                }
                Some(b'\r') if close + 2 == text.len() => return None,
                // Text after the closing quote belongs to the field as it stands, the quote included: `"a"b` is `a"b`.
                Some(_) => at = close + 1,
                None if last => {
                    fields.push(Field { start: start as u32, end: close as u32, quoted: true, escaped });
                    return Some(close + 1);
                }
                None => return None,
            }
        }
    }
}

/// A field's value: the bytes, or an owned copy where doubled quotes had to be halved.
pub(super) fn unescape<'a>(raw: &'a [u8], escaped: bool, quote: u8, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if !escaped {
        return raw;
    }
    scratch.clear();
    let mut bytes = raw.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        scratch.push(b);
        if b == quote && bytes.peek() == Some(&quote) {
            bytes.next();
        }
    }
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, last: bool) -> (Vec<Vec<String>>, Found) {
        let splitter = Splitter { delimiter: b',', quote: Some(b'"') };
        let (mut rows, mut at) = (vec![], 0);
        loop {
            if at == text.len() {
                return (rows, Found::Record(at));
            }
            let mut fields = vec![];
            match splitter.record(text.as_bytes(), at, last, &mut fields) {
                Found::Record(next) => {
                    let value = |f: &Field| {
                        let mut scratch = vec![];
                        String::from_utf8(
                            unescape(&text.as_bytes()[f.start as usize..f.end as usize], f.escaped, b'"', &mut scratch).to_vec(),
                        )
                        .unwrap()
                    };
                    rows.push(fields.iter().map(value).collect());
                    at = next;
                }
                other => return (rows, other),
            }
        }
    }

    #[test]
    fn records_are_split_as_rfc_4180_says() {
        let (rows, _) = split("a,b\r\n\"x,\"\"y\"\"\",\"l1\nl2\"\r\n,\n\"\",z", true);
        assert_eq!(rows, [vec!["a", "b"], vec!["x,\"y\"", "l1\nl2"], vec!["", ""], vec!["", "z"]]);
    }

    #[test]
    fn a_cut_record_asks_for_more_and_an_open_quote_is_named() {
        assert_eq!(split("a,b\nc,\"d", false), (vec![vec!["a".to_owned(), "b".to_owned()]], Found::Partial));
        assert_eq!(split("a,b\nc,\"d", true).1, Found::OpenQuote);
        assert_eq!(split("a,\"b\"\r", false).1, Found::Partial);
        assert_eq!(split("a", false).1, Found::Partial);
    }

    #[test]
    fn any_cut_of_a_text_splits_the_same() {
        let text = "a,\"b\"\"\r\n\",c\r\n1,,\"\"\n\"q\"\r\nlast,row";
        let (whole, _) = split(text, true);
        for cut in 0..text.len() {
            let splitter = Splitter { delimiter: b',', quote: Some(b'"') };
            let mut fields = vec![];
            let (mut at, mut n) = (0, 0);
            while at < cut
                && let Found::Record(next) = splitter.record(&text.as_bytes()[..cut], at, false, &mut fields)
            {
                (at, n) = (next, n + 1);
            }
            while at < text.len()
                && let Found::Record(next) = splitter.record(text.as_bytes(), at, true, &mut fields)
            {
                (at, n) = (next, n + 1);
            }
            assert_eq!(n, whole.len(), "cut at {cut}");
        }
    }
}
