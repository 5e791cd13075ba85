//! A template's text as tokens, the tags' white space already taken away.

/// What may be written between tags, or inside them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Data(String),
    OutputStart,
    OutputEnd,
    BlockStart,
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Sign(&'static str),
    End,
}

/// Longer than any real template.
const LONGEST: usize = 4 << 20;

/// Longer signs first.
const SIGNS: &[&str] = &[
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, String> {
    if source.len() > LONGEST {
        return Err("the template is too long".into());
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // One newline at the very end is no part of the text.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { rest: source, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.piece()?;
    }
    lexer.tokens.push(Token::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    /// Text up to a tag, and the tag.
    fn piece(&mut self) -> Result<(), String> {
        let at = self.rest.as_bytes().windows(2).position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'));
        let Some((at, tag)) = at.map(|at| (at, &self.rest[at..at + 2])) else {
            self.data(self.rest);
            self.rest = "";
            return Ok(());
        };
        let text = &self.rest[..at];
        let after = &self.rest[at + 2..];
        let (text, inside) = match (after.strip_prefix('-'), after.strip_prefix('+')) {
            (Some(inside), _) => (text.trim_end(), inside),
            (_, Some(inside)) => (text, inside),
            _ => (text, after),
        };
        self.data(text);
        self.rest = inside;
        match tag {
            "{#" => self.comment(),
            "{%" if raw_start(inside).is_some() => self.raw(),
            "{%" => self.tag(Token::BlockStart, Token::BlockEnd, "%}"),
            _ => self.tag(Token::OutputStart, Token::OutputEnd, "}}"),
        }
    }

    fn data(&mut self, text: &str) {
        if !text.is_empty() {
            self.tokens.push(Token::Data(text.to_owned()));
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest.find("#}").ok_or("a comment has no end")?;
        let trims = self.rest[..end].ends_with('-');
        self.rest = &self.rest[end + 2..];
        if trims {
            self.rest = self.rest.trim_start();
        }
        Ok(())
    }

    fn raw(&mut self) -> Result<(), String> {
        let start = raw_start(self.rest).unwrap_or_default();
        self.rest = &self.rest[start..];
        let mut from = 0;
        while let Some(at) = self.rest[from..].find("{%").map(|at| at + from) {
            if let Some((length, trims_before, trims_after)) = raw_end(&self.rest[at..]) {
                let text = &self.rest[..at];
                self.data(if trims_before { text.trim_end() } else { text });
                self.rest = &self.rest[at + length..];
                if trims_after {
                    self.rest = self.rest.trim_start();
                }
                return Ok(());
            }
            from = at + 2;
        }
        Err("a raw block has no end".into())
    }

    fn tag(&mut self, start: Token, end: Token, close: &str) -> Result<(), String> {
        self.tokens.push(start);
        let mut open: Vec<char> = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() {
                // The parser says what is missing.
                return Ok(());
            }
            if open.is_empty() {
                let signed = self.rest.strip_prefix(['-', '+'].as_slice()).and_then(|rest| rest.strip_prefix(close));
                let plus = self.rest.starts_with('+') && close == "}}";
                if let Some(rest) = signed.filter(|_| !plus) {
                    self.rest = if self.rest.starts_with('-') { rest.trim_start() } else { rest };
                    self.tokens.push(end);
                    return Ok(());
                }
                if let Some(rest) = self.rest.strip_prefix(close) {
                    self.rest = rest;
                    self.tokens.push(end);
                    return Ok(());
                }
            }
            self.inner(&mut open)?;
        }
    }

    fn inner(&mut self, open: &mut Vec<char>) -> Result<(), String> {
        let first = self.rest.chars().next().unwrap_or_default();
        if first.is_ascii_digit() {
            return self.number();
        }
        if first.is_alphabetic() || first == '_' {
            let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            self.tokens.push(Token::Name(self.rest[..end].to_owned()));
            self.rest = &self.rest[end..];
            return Ok(());
        }
        if first == '\'' || first == '"' {
            return self.text(first);
        }
        let sign = SIGNS.iter().find(|sign| self.rest.starts_with(**sign)).ok_or_else(|| format!("a tag has an unexpected {first:?}"))?;
        match first {
            '{' => open.push('}'),
            '(' => open.push(')'),
            '[' => open.push(']'),
            '}' | ')' | ']' if open.pop() != Some(first) => return Err(format!("a tag has an unexpected {first:?}")),
            _ => {}
        }
        self.rest = &self.rest[sign.len()..];
        self.tokens.push(Token::Sign(sign));
        Ok(())
    }

    fn text(&mut self, quote: char) -> Result<(), String> {
        let mut skip = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if skip => skip = false,
                '\\' => skip = true,
                c if c == quote => {
                    self.tokens.push(Token::Text(unescaped(&self.rest[1..at])?));
                    self.rest = &self.rest[at + 1..];
                    return Ok(());
                }
                _ => {}
            }
        }
        Err("a quoted text in a tag has no end".into())
    }

    fn number(&mut self) -> Result<(), String> {
        let (token, length) = number(self.rest).ok_or("a number in a tag is too large")?;
        self.tokens.push(token);
        self.rest = &self.rest[length..];
        Ok(())
    }
}

/// How long ` raw %}` is behind a tag's start.
fn raw_start(inside: &str) -> Option<usize> {
    let rest = inside.trim_start().strip_prefix("raw")?.trim_start();
    let rest = match rest.strip_prefix("-%}") {
        Some(rest) => rest.trim_start(),
        None => rest.strip_prefix("%}")?,
    };
    Some(inside.len() - rest.len())
}

/// The length of `{% endraw %}`, and whether it takes white space before and behind it.
fn raw_end(text: &str) -> Option<(usize, bool, bool)> {
    let inside = text.strip_prefix("{%")?;
    let trims_before = inside.starts_with('-');
    let inside = inside.strip_prefix(['-', '+'].as_slice()).unwrap_or(inside);
    let rest = inside.trim_start().strip_prefix("endraw")?.trim_start();
    let trims_after = rest.starts_with('-');
    let rest = rest.strip_prefix(['-', '+'].as_slice()).unwrap_or(rest).strip_prefix("%}")?;
    Some((text.len() - rest.len(), trims_before, trims_after))
}

/// Digits with single underscores between them: how long they are.
fn digits(text: &str, radix: u32) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while length < bytes.len() {
        let is_digit = (bytes[length] as char).is_digit(radix);
        let joins = bytes[length] == b'_' && length > 0 && bytes.get(length + 1).is_some_and(|b| (*b as char).is_digit(radix));
        if !is_digit && !joins {
            break;
        }
        length += 1;
    }
    length
}

fn number(text: &str) -> Option<(Token, usize)> {
    for (mark, radix) in [("0b", 2), ("0o", 8), ("0x", 16)] {
        if text.len() > 2 && text.is_char_boundary(2) && text[..2].eq_ignore_ascii_case(mark) {
            let skip = if text[2..].starts_with('_') { 3 } else { 2 };
            let length = digits(&text[skip..], radix);
            if length > 0 {
                let value = i128::from_str_radix(&text[skip..skip + length].replace('_', ""), radix).ok()?;
                return Some((Token::Int(value), skip + length));
            }
        }
    }
    let whole = digits(text, 10);
    let mut length = whole;
    let fraction = text[length..].strip_prefix('.').map_or(0, |rest| digits(rest, 10));
    if fraction > 0 {
        length += 1 + fraction;
    }
    let exponent = exponent(&text[length..]);
    length += exponent;
    let written = text[..length].replace('_', "");
    if fraction > 0 || exponent > 0 {
        return Some((Token::Float(written.parse().ok()?), length));
    }
    // A zero does not begin a longer number: `007` is three of them.
    if written.starts_with('0') && written.bytes().any(|b| b != b'0') {
        let zeros = text.bytes().take_while(|b| *b == b'0' || *b == b'_').count();
        return Some((Token::Int(0), text[..zeros].trim_end_matches('_').len()));
    }
    Some((Token::Int(written.parse().ok()?), length))
}

fn exponent(text: &str) -> usize {
    let Some(rest) = text.strip_prefix(['e', 'E'].as_slice()) else { return 0 };
    let sign = usize::from(rest.starts_with(['+', '-'].as_slice()));
    match digits(&rest[sign..], 10) {
        0 => 0,
        length => 1 + sign + length,
    }
}

/// Python's escapes.
fn unescaped(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let wrong = || "a quoted text in a tag has a wrong escape".to_owned();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next().ok_or_else(wrong)? {
            '\n' => {}
            c @ ('\\' | '\'' | '"') => out.push(c),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            c @ '0'..='7' => {
                let more = rest.as_str().chars().take(2).take_while(|c| c.is_digit(8)).count();
                let code: String = std::iter::once(c).chain(rest.by_ref().take(more)).collect();
                out.push(u32::from_str_radix(&code, 8).ok().and_then(char::from_u32).ok_or_else(wrong)?);
            }
            'x' => out.push(coded(&mut rest, 2).ok_or_else(wrong)?),
            'u' => out.push(coded(&mut rest, 4).ok_or_else(wrong)?),
            'U' => out.push(coded(&mut rest, 8).ok_or_else(wrong)?),
            'N' => return Err(wrong()),
            c => out.extend(['\\', c]),
        }
    }
    Ok(out)
}

fn coded(rest: &mut std::str::Chars<'_>, length: usize) -> Option<char> {
    let code: String = rest.take(length).collect();
    (code.len() == length).then(|| u32::from_str_radix(&code, 16).ok()).flatten().and_then(char::from_u32)
}
