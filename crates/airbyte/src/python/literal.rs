//! Python literals in text: what `ast.literal_eval` accepts becomes a value, everything else stays text.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::float_text;

/// Python refuses deeper brackets as well, so the recursion below is bounded.
const DEEPEST: usize = 200;
/// Python refuses longer decimal integers as well.
const MOST_DIGITS: usize = 4300;

/// A value of a Python literal. JSON has fewer kinds, and some rules ask for the kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    None,
    Ellipsis,
    Bool(bool),
    Int(i128),
    /// An integer beyond 128 bits, in decimal digits.
    BigInt(String),
    Float(f64),
    Complex(f64, f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// Reads a whole text as one literal; `None` where Python's `literal_eval` fails. Not known: `\N{names}` and lone surrogates.
pub fn literal(text: &str) -> Option<Literal> {
    let text = text.trim_start_matches([' ', '\t']);
    if text.contains('\0') {
        return None;
    }
    // Only a text that starts like a literal is worth a look: most are plain words.
    if !text.starts_with(|c: char| c.is_ascii() && (!c.is_ascii_alphabetic() || "TFNbBrRuUs".contains(c))) {
        return None;
    }
    let unified;
    let text = match text.contains('\r') {
        true => {
            unified = text.replace("\r\n", "\n").replace('\r', "\n");
            unified.as_str()
        }
        false => text,
    };
    let mut reader = Reader { rest: text, depth: 0 };
    reader.blank_lines()?;
    let node = reader.tuple_or_one(|r| r.rest.is_empty() || r.rest.starts_with(['#', '\n']))?;
    reader.trailing();
    reader.rest.is_empty().then_some(node.value)
}

impl Literal {
    /// The JSON that this becomes; `None` for what JSON does not have: bytes, sets, complex numbers, infinities, keys that are containers.
    pub fn into_json(self) -> Option<Value> {
        Some(match self {
            Self::None => Value::Null,
            Self::Bool(b) => b.into(),
            Self::Int(n) => match (i64::try_from(n), u64::try_from(n)) {
                (Ok(n), _) => n.into(),
                (_, Ok(n)) => n.into(),
                _ => Number::from_f64(n as f64)?.into(),
            },
            Self::BigInt(digits) => Number::from_f64(digits.parse().ok()?)?.into(),
            Self::Float(f) => Number::from_f64(f)?.into(),
            Self::Text(text) => text.into(),
            Self::List(items) | Self::Tuple(items) => items.into_iter().map(Self::into_json).collect::<Option<Vec<_>>>()?.into(),
            Self::Dict(pairs) => {
                let pairs = pairs.into_iter().map(|(k, v)| Some((k.json_key()?, v.into_json()?)));
                pairs.collect::<Option<Map<_, _>>>()?.into()
            }
            Self::Ellipsis | Self::Complex(..) | Self::Bytes(_) | Self::Set(_) => return None,
        })
    }

    fn json_key(self) -> Option<String> {
        Some(match self {
            Self::None => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::BigInt(digits) => digits,
            Self::Float(f) => float_text(f),
            Self::Text(text) => text,
            _ => return None,
        })
    }

    /// The same for values that are equal in Python (1, 1.0 and True are); `None` for what cannot be hashed.
    fn hashed(&self) -> Option<String> {
        Some(match self {
            Self::Bool(b) => u8::from(*b).to_string(),
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 1e38 => (*f as i128).to_string(),
            Self::Complex(real, imaginary) if *imaginary == 0.0 => Self::Float(*real).hashed()?,
            Self::Tuple(items) => format!("({})", items.iter().map(Self::hashed).collect::<Option<Vec<_>>>()?.join(",")),
            Self::List(_) | Self::Set(_) | Self::Dict(_) => return None,
            other => other.repr(),
        })
    }

    fn negated(self) -> Option<Self> {
        Some(match self {
            Self::Int(n) => Self::Int(-n),
            Self::BigInt(digits) => Self::BigInt(format!("-{digits}")),
            Self::Float(f) => Self::Float(-f),
            Self::Complex(real, imaginary) => Self::Complex(-real, -imaginary),
            _ => return None,
        })
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::BigInt(_) | Self::Float(_) | Self::Complex(..))
    }

    fn as_real(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::BigInt(digits) => digits.parse().ok(),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }
}

/// How a value was written: a sign may stand only before a bare number, a sum only between two numbers.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Bare,
    Signed,
    Whole,
}

struct Node {
    value: Literal,
    form: Form,
}

impl Node {
    fn whole(value: Literal) -> Self {
        Self { value, form: Form::Whole }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    /// Empty lines and comments before the first expression; that one must not be indented.
    fn blank_lines(&mut self) -> Option<()> {
        let mut first = true;
        loop {
            let line = self.rest.trim_start_matches([' ', '\t', '\x0c']);
            let indented = !first && line.len() != self.rest.len();
            match line.strip_prefix('\n') {
                Some(next) => self.rest = next,
                None if line.starts_with('#') => self.rest = &line[line.find('\n')? + 1..],
                None if indented => return None,
                None => {
                    self.rest = line;
                    return Some(());
                }
            }
            first = false;
        }
    }

    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\x0c']);
            if let Some(next) = self.rest.strip_prefix("\\\n") {
                self.rest = next;
            } else if self.depth > 0 && self.rest.starts_with('\n') {
                self.rest = &self.rest[1..];
            } else if self.depth > 0 && self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            } else {
                return;
            }
        }
    }

    /// Empty lines and comments behind the expression; a last line of spaces only would be an indented block.
    fn trailing(&mut self) {
        let lines = self.rest;
        self.depth = 1;
        self.space();
        let last = lines.rfind('\n').map_or("", |at| &lines[at + 1..]);
        // A form feed sets the column back.
        let last = last.rsplit('\x0c').next().unwrap_or_default();
        if self.rest.is_empty() && !last.is_empty() && last.trim_matches([' ', '\t']).is_empty() {
            self.rest = last;
        }
    }

    fn eat(&mut self, mark: char) -> bool {
        self.space();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One expression, or several with commas between them, which are a tuple.
    fn tuple_or_one(&mut self, ends: impl Fn(&Self) -> bool) -> Option<Node> {
        let first = self.sum()?;
        if !self.eat(',') {
            return Some(first);
        }
        let mut items = vec![first.value];
        loop {
            self.space();
            if ends(self) {
                break;
            }
            items.push(self.sum()?.value);
            if !self.eat(',') {
                break;
            }
        }
        Some(Node::whole(Literal::Tuple(items)))
    }

    /// A value, or a real number plus or minus an imaginary one.
    fn sum(&mut self) -> Option<Node> {
        let left = self.signed()?;
        let minus = match () {
            () if self.eat('+') => false,
            () if self.eat('-') => true,
            () => return Some(left),
        };
        let right = self.atom()?;
        let (Form::Bare, Literal::Complex(zero, imaginary)) = (right.form, right.value) else { return None };
        let real = left.value.as_real().filter(|_| left.form != Form::Whole)?;
        let value = if minus { Literal::Complex(real - zero, 0.0 - imaginary) } else { Literal::Complex(real + zero, imaginary) };
        Some(Node::whole(value))
    }

    fn signed(&mut self) -> Option<Node> {
        let minus = match () {
            () if self.eat('-') => true,
            () if self.eat('+') => false,
            () => return self.atom(),
        };
        let operand = self.atom()?;
        if operand.form != Form::Bare || !operand.value.is_number() {
            return None;
        }
        let value = if minus { operand.value.negated()? } else { operand.value };
        Some(Node { value, form: Form::Signed })
    }

    fn atom(&mut self) -> Option<Node> {
        self.space();
        let first = self.rest.chars().next()?;
        match first {
            '0'..='9' => self.number(),
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.rest = self.rest.strip_prefix("...")?;
                Some(Node::whole(Literal::Ellipsis))
            }
            '(' => self.inside(Self::parenthesis),
            '[' => self.inside(|r| Some(Node::whole(Literal::List(r.items(']')?)))),
            '{' => self.inside(Self::braces),
            '\'' | '"' => self.texts(),
            c if c.is_ascii_alphabetic() => self.word(),
            _ => None,
        }
    }

    fn inside(&mut self, read: impl FnOnce(&mut Self) -> Option<Node>) -> Option<Node> {
        self.rest = &self.rest[1..];
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let node = read(self)?;
        self.depth -= 1;
        Some(node)
    }

    fn parenthesis(&mut self) -> Option<Node> {
        if self.eat(')') {
            return Some(Node::whole(Literal::Tuple(Vec::new())));
        }
        let node = self.tuple_or_one(|r| r.rest.starts_with(')'))?;
        self.eat(')').then_some(node)
    }

    fn items(&mut self, end: char) -> Option<Vec<Literal>> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(self.sum()?.value);
            if !self.eat(',') {
                return self.eat(end).then_some(items);
            }
        }
        Some(items)
    }

    fn braces(&mut self) -> Option<Node> {
        if self.eat('}') {
            return Some(Node::whole(Literal::Dict(Vec::new())));
        }
        let first = self.sum()?.value;
        if !self.eat(':') {
            return self.set(first);
        }
        let mut pairs: Vec<(Literal, Literal)> = Vec::new();
        let mut places = HashMap::new();
        let mut key = first;
        loop {
            let value = self.sum()?.value;
            let place = *places.entry(key.hashed()?).or_insert(pairs.len());
            match pairs.get_mut(place) {
                Some(pair) => pair.1 = value,
                None => pairs.push((key, value)),
            }
            let more = self.eat(',');
            if self.eat('}') {
                return Some(Node::whole(Literal::Dict(pairs)));
            }
            if !more {
                return None;
            }
            key = self.sum()?.value;
            if !self.eat(':') {
                return None;
            }
        }
    }

    fn set(&mut self, first: Literal) -> Option<Node> {
        let mut all = vec![first];
        if self.eat(',') {
            all.extend(self.items('}')?);
        } else if !self.eat('}') {
            return None;
        }
        let mut seen = std::collections::HashSet::new();
        let mut members = Vec::new();
        for member in all {
            if seen.insert(member.hashed()?) {
                members.push(member);
            }
        }
        Some(Node::whole(Literal::Set(members)))
    }

    fn word(&mut self) -> Option<Node> {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at(end);
        if after.starts_with(['\'', '"']) && word.len() <= 2 {
            return self.texts();
        }
        let value = match word {
            "True" => Literal::Bool(true),
            "False" => Literal::Bool(false),
            "None" => Literal::None,
            "set" => {
                self.rest = after;
                let call = self.eat('(') && self.eat(')');
                return call.then_some(Node::whole(Literal::Set(Vec::new())));
            }
            _ => return None,
        };
        self.rest = after;
        Some(Node::whole(value))
    }

    fn number(&mut self) -> Option<Node> {
        let (value, length) = number(self.rest)?;
        self.rest = &self.rest[length..];
        if self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        Some(Node { value, form: Form::Bare })
    }

    /// Strings beside each other are one; bytes and text do not mix.
    fn texts(&mut self) -> Option<Node> {
        let mut whole: Option<Literal> = None;
        loop {
            let (piece, length) = string(self.rest)?;
            self.rest = &self.rest[length..];
            whole = Some(match (whole, piece) {
                (None, piece) => piece,
                (Some(Literal::Text(a)), Literal::Text(b)) => Literal::Text(a + &b),
                (Some(Literal::Bytes(a)), Literal::Bytes(b)) => Literal::Bytes([a, b].concat()),
                _ => return None,
            });
            self.space();
            let quote = self.rest.find(['\'', '"']).filter(|at| *at <= 2);
            if quote.is_none_or(|at| !self.rest[..at].chars().all(|c| c.is_ascii_alphabetic())) {
                return whole.map(Node::whole);
            }
        }
    }
}

/// The digits at the start, single underscores between them allowed: (digits without underscores, length).
fn digits(text: &str, radix: u32) -> Option<(String, usize)> {
    let mut found = String::new();
    let mut length = 0;
    for (at, c) in text.char_indices() {
        if c.is_digit(radix) {
            found.push(c);
            length = at + 1;
        } else if c != '_' || at != length || found.is_empty() {
            break;
        }
    }
    (!found.is_empty()).then_some((found, length))
}

fn number(text: &str) -> Option<(Literal, usize)> {
    for (mark, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(mark)) {
            let skip = if text[2..].starts_with('_') { 3 } else { 2 };
            let (found, length) = digits(&text[skip..], radix)?;
            return Some((integer(&found, radix)?, skip + length));
        }
    }
    let (mut written, mut at) = digits(text, 10).unwrap_or_default();
    let mut float = false;
    if text[at..].starts_with('.') {
        float = true;
        at += 1;
        written.push('.');
        if let Some((fraction, length)) = text[at..].starts_with(|c: char| c.is_ascii_digit()).then(|| digits(&text[at..], 10)).flatten() {
            written += &fraction;
            at += length;
        }
    }
    if let Some(exponent) = text[at..].strip_prefix(['e', 'E']) {
        let sign = exponent.starts_with(['+', '-']) as usize;
        if let Some((found, length)) =
            exponent[sign..].starts_with(|c: char| c.is_ascii_digit()).then(|| digits(&exponent[sign..], 10)).flatten()
        {
            float = true;
            written += &format!("e{}{found}", &exponent[..sign]);
            at += 1 + sign + length;
        }
    }
    if text[at..].starts_with(['j', 'J']) {
        return Some((Literal::Complex(0.0, written.parse().ok()?), at + 1));
    }
    if float {
        return Some((Literal::Float(written.parse().ok()?), at));
    }
    if written.len() > 1 && written.starts_with('0') && written.bytes().any(|b| b != b'0') {
        return None;
    }
    if written.len() > MOST_DIGITS {
        return None;
    }
    Some((integer(&written, 10)?, at))
}

fn integer(found: &str, radix: u32) -> Option<Literal> {
    if let Ok(n) = i128::from_str_radix(found, radix) {
        return Some(Literal::Int(n));
    }
    if found.len() > 4 * MOST_DIGITS {
        return None;
    }
    // Limbs of nine decimal digits, the lowest first.
    let mut limbs: Vec<u64> = vec![0];
    for digit in found.chars().filter_map(|c| c.to_digit(radix)) {
        let mut carry = u64::from(digit);
        for limb in &mut limbs {
            let next = *limb * u64::from(radix) + carry;
            (*limb, carry) = (next % 1_000_000_000, next / 1_000_000_000);
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let mut text = limbs.last()?.to_string();
    text.extend(limbs.iter().rev().skip(1).map(|limb| format!("{limb:09}")));
    Some(Literal::BigInt(text))
}

/// One quoted string with its prefix, and how long it is written.
fn string(text: &str) -> Option<(Literal, usize)> {
    let at = text.find(['\'', '"'])?;
    let prefix = text[..at].to_ascii_lowercase();
    let (raw, bytes) = match prefix.as_str() {
        "" | "u" => (false, false),
        "r" => (true, false),
        "b" => (false, true),
        "rb" | "br" => (true, true),
        _ => return None,
    };
    let body = &text[at..];
    let quote = &body[..1];
    let long = body.starts_with(&quote.repeat(3));
    let fence = if long { quote.repeat(3) } else { quote.to_owned() };
    let inner = &body[fence.len()..];
    let end = closing(inner, &fence, long)?;
    let inner = &inner[..end];
    if bytes && !inner.is_ascii() {
        return None;
    }
    let value = match (raw, bytes) {
        (true, false) => Literal::Text(inner.to_owned()),
        (true, true) => Literal::Bytes(inner.as_bytes().to_vec()),
        (false, false) => Literal::Text(unescaped(inner, false)?.into_iter().collect()),
        (false, true) => Literal::Bytes(unescaped(inner, true)?.into_iter().map(|c| c as u32 as u8).collect()),
    };
    Some((value, at + 2 * fence.len() + end))
}

fn closing(inner: &str, fence: &str, long: bool) -> Option<usize> {
    let mut skip = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            '\n' if !long => return None,
            _ if inner[at..].starts_with(fence) => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str, bytes: bool) -> Option<Vec<char>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let next = rest.next()?;
        match next {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(next),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            '0'..='7' => {
                let more = rest.as_str().chars().take(2).take_while(|c| c.is_digit(8)).count();
                let code = format!("{next}{}", rest.by_ref().take(more).collect::<String>());
                let code = u32::from_str_radix(&code, 8).ok()?;
                out.push(char::from_u32(if bytes { code & 0xff } else { code })?);
            }
            'x' => out.push(coded(&mut rest, 2)?),
            'u' if !bytes => out.push(coded(&mut rest, 4)?),
            'U' if !bytes => out.push(coded(&mut rest, 8)?),
            'N' if !bytes => return None,
            other => out.extend(['\\', other]),
        }
    }
    Some(out)
}

fn coded(rest: &mut std::str::Chars<'_>, length: usize) -> Option<char> {
    let code: String = rest.take(length).collect();
    let good = code.len() == length && code.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u32::from_str_radix(&code, 16).ok()).flatten().and_then(char::from_u32)
}
