//! Values written as Python writes them.

use std::fmt::Write;

use serde_json::Value;

use super::Literal;

/// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').expect("this format always has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a small integer");
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `repr` of a text: in single quotes, unless it has some and no double ones.
pub fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => escape(&mut out, c),
        }
    }
    out.push(quote);
    out
}

/// Python and Rust call the same classes of characters unprintable. Behind a letter, so that combining marks are not taken for lone ones.
fn printable(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && !['a', c].iter().collect::<String>().escape_debug().any(|c| c == '\\'))
}

fn escape(out: &mut String, c: char) {
    let code = c as u32;
    let written = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.expect("a string takes everything");
}

fn quoted_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    let mut out = format!("b{}", quote as char);
    for &b in bytes {
        match b {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if b == quote => out.extend(['\\', b as char]),
            b' '..=b'~' => out.push(b as char),
            b => escape(&mut out, b as char),
        }
    }
    out.push(quote as char);
    out
}

fn complex_part(value: f64) -> String {
    let text = float_text(value);
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn complex_text(real: f64, imaginary: f64) -> String {
    let imaginary_text = complex_part(imaginary);
    if real == 0.0 && real.is_sign_positive() {
        return imaginary_text + "j";
    }
    let sign = if imaginary_text.starts_with('-') { "" } else { "+" };
    format!("({}{sign}{imaginary_text}j)", complex_part(real))
}

impl Literal {
    /// As Python's `repr` writes it. The order inside a set is the written one, where Python's is by hash.
    pub fn repr(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Ellipsis => "Ellipsis".into(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Int(n) => n.to_string(),
            Self::BigInt(digits) => digits.clone(),
            Self::Float(f) => float_text(*f),
            Self::Complex(real, imaginary) => complex_text(*real, *imaginary),
            Self::Text(text) => quoted(text),
            Self::Bytes(bytes) => quoted_bytes(bytes),
            Self::List(items) => format!("[{}]", joined(items)),
            Self::Tuple(items) if items.len() == 1 => format!("({},)", items[0].repr()),
            Self::Tuple(items) => format!("({})", joined(items)),
            Self::Set(items) if items.is_empty() => "set()".into(),
            Self::Set(items) => format!("{{{}}}", joined(items)),
            Self::Dict(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{}: {}", k.repr(), v.repr())).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }
}

fn joined(items: &[Literal]) -> String {
    items.iter().map(Literal::repr).collect::<Vec<_>>().join(", ")
}

/// `str` of a JSON value, as Python writes the value that it stands for.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            write_repr(&mut out, other);
            out
        }
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            Some(f) => out.push_str(&float_text(f)),
            None => out.push_str(&n.to_string()),
        },
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (key, value)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&quoted(key));
                out.push_str(": ");
                write_repr(out, value);
            }
            out.push('}');
        }
    }
}
