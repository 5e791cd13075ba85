//! Values as text: Python's `str` and `repr`, and JSON as `json.dumps` writes it.

use serde_json::Value;

use super::value::{Outcome, Py, Run, Text, other, type_error};
use crate::python::{float_text, quoted};

/// Python stops near here as well.
const DEEPEST: usize = 200;

/// `str` of a value, added to `out`.
pub(super) fn show(run: &Run, out: &mut String, value: &Py<'_>) -> Outcome<()> {
    let before = out.len();
    match value {
        Py::Text(text) => out.push_str(text),
        Py::Undefined(_) => {}
        Py::Moment(moment, zoned) => out.push_str(&super::times::isoformat(moment, *zoned, " ")),
        Py::Date(date) => out.push_str(&date.to_string()),
        Py::Clock(time) => out.push_str(&super::times::clock_text(*time)),
        Py::Delta(micros) => out.push_str(&super::times::delta_text(*micros)),
        Py::Months(months) => out.push_str(&super::times::months_text(months)),
        Py::Zone(offset) => out.push_str(&super::times::zone_text(*offset)),
        other => return repr(run, out, other, 0),
    }
    run.bytes(out.len() - before)
}

pub(super) fn shown(run: &Run, value: &Py<'_>) -> Outcome<String> {
    let mut out = String::new();
    show(run, &mut out, value)?;
    Ok(out)
}

/// `repr` of a value.
pub(super) fn repr(run: &Run, out: &mut String, value: &Py<'_>, depth: usize) -> Outcome<()> {
    if depth > DEEPEST {
        return other("a value is nested too deeply");
    }
    run.step(1)?;
    let before = out.len();
    match value {
        Py::Undefined(_) => out.push_str("Undefined"),
        Py::None => out.push_str("None"),
        Py::Bool(true) => out.push_str("True"),
        Py::Bool(false) => out.push_str("False"),
        Py::Int(n) => out.push_str(&n.to_string()),
        Py::Float(f) => out.push_str(&float_text(*f)),
        Py::Text(Text::Markup(text)) => out.push_str(&format!("Markup({})", quoted(text))),
        Py::Text(text) => out.push_str(&quoted(text)),
        Py::Bytes(bytes) => out.push_str(&crate::python::Literal::Bytes(bytes.to_vec()).repr()),
        Py::JsonList(items) => return many(run, out, ["[", "]"], items.iter().map(Py::json), depth),
        Py::JsonDict(fields) | Py::Record(fields) | Py::Headers(fields) => return json_pairs(run, out, fields.iter(), depth),
        Py::Slice(slice) => return json_pairs(run, out, slice.iter(), depth),
        Py::List(items) => return many(run, out, ["[", "]"], items.0.borrow().iter().cloned(), depth),
        Py::Tuple(items) => {
            let items = items.0.borrow();
            let ends = if items.len() == 1 { ["(", ",)"] } else { ["(", ")"] };
            return many(run, out, ends, items.iter().cloned(), depth);
        }
        Py::Set(items) if items.0.borrow().is_empty() => out.push_str("set()"),
        Py::Named(names, items) => {
            let items = items.0.borrow();
            out.push_str(names.kind);
            for (at, (name, item)) in names.fields.iter().zip(items.iter()).enumerate() {
                out.push_str(if at == 0 { "(" } else { ", " });
                out.push_str(name);
                out.push('=');
                repr(run, out, item, depth + 1)?;
            }
            out.push(')');
        }
        Py::Set(items) => return many(run, out, ["{", "}"], items.0.borrow().iter().cloned(), depth),
        Py::View(kind, items) => {
            out.push_str(kind);
            return many(run, out, ["([", "])"], items.0.borrow().iter().cloned(), depth);
        }
        Py::Dict(fields) => return pairs(run, out, fields.0.borrow().iter().cloned(), depth),
        Py::Moment(moment, zoned) => out.push_str(&super::times::moment_repr(moment, *zoned)),
        Py::Date(date) => out.push_str(&format!("datetime.date({}, {}, {})", date.year(), date.month(), date.day())),
        Py::Delta(micros) => out.push_str(&super::times::delta_repr(*micros)),
        Py::Months(months) => out.push_str(&super::times::months_repr(months)),
        Py::Clock(_) | Py::Zone(_) => show(run, out, value)?,
        // Python shows an address, which differs from run to run.
        Py::Method(object, name) => out.push_str(&format!("<built-in method {name} of {} object at 0x7f0000000000>", object.kind())),
        Py::Builtin(name) => out.push_str(&format!("<function {name} at 0x7f0000000000>")),
        Py::Iterator(kind, _) => out.push_str(&format!("<{kind} object at 0x7f0000000000>")),
        Py::Macro(body) => out.push_str(&format!("<Macro {}>", quoted(&body.body.name))),
        Py::Namespace(_) => out.push_str("<Namespace>"),
        Py::Loop(inside) => out.push_str(&format!("<LoopContext {}/{}>", inside.at.get() + 1, inside.items.len())),
        Py::Cycler(_) | Py::Joiner(_) => out.push_str(&format!("<jinja2.utils.{} object at 0x7f0000000000>", value.kind())),
    }
    run.bytes(out.len() - before)
}

fn many<'a>(run: &Run, out: &mut String, ends: [&str; 2], items: impl Iterator<Item = Py<'a>>, depth: usize) -> Outcome<()> {
    out.push_str(ends[0]);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        repr(run, out, &item, depth + 1)?;
    }
    out.push_str(ends[1]);
    Ok(())
}

fn json_pairs<'a>(run: &Run, out: &mut String, fields: impl Iterator<Item = (&'a String, &'a Value)>, depth: usize) -> Outcome<()> {
    pairs(run, out, fields.map(|(k, v)| (Py::Text(Text::Borrowed(k)), Py::json(v))), depth)
}

fn pairs<'a>(run: &Run, out: &mut String, pairs: impl Iterator<Item = (Py<'a>, Py<'a>)>, depth: usize) -> Outcome<()> {
    out.push('{');
    for (at, (key, value)) in pairs.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        repr(run, out, &key, depth + 1)?;
        out.push_str(": ");
        repr(run, out, &value, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// How `json.dumps` is asked to write.
#[derive(Clone, Copy, Default)]
pub(super) struct Dump {
    pub(super) sorted: bool,
    pub(super) indent: Option<usize>,
}

/// A value as JSON text with Python's separators and escapes; a value that JSON does not have is a TypeError.
pub(super) fn dumps(run: &Run, out: &mut String, value: &Py<'_>, how: Dump, depth: usize) -> Outcome<()> {
    if depth > DEEPEST {
        return other("a value is nested too deeply");
    }
    run.step(1)?;
    let before = out.len();
    match value {
        Py::None => out.push_str("null"),
        Py::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Py::Int(n) => out.push_str(&n.to_string()),
        Py::Float(f) => out.push_str(&json_float(*f)),
        Py::Text(text) => json_text(out, text),
        Py::JsonList(items) => return json_list(run, out, items.iter().map(Py::json).collect(), how, depth),
        Py::List(items) | Py::Tuple(items) | Py::Named(_, items) => return json_list(run, out, items.0.borrow().clone(), how, depth),
        Py::JsonDict(fields) => {
            let pairs = fields.iter().map(|(k, v)| (k.clone(), Py::json(v))).collect();
            return json_dict(run, out, pairs, how, depth);
        }
        Py::Dict(fields) => {
            let pairs = fields.0.borrow().iter().map(|(k, v)| Ok((json_key(k)?, v.clone()))).collect::<Outcome<Vec<_>>>()?;
            return json_dict(run, out, pairs, how, depth);
        }
        other => return type_error(format!("Object of type {} is not JSON serializable", other.kind())),
    }
    run.bytes(out.len() - before)
}

fn json_float(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => float_text(value),
    }
}

fn json_key(key: &Py<'_>) -> Outcome<String> {
    Ok(match key {
        Py::Text(text) => text.to_string(),
        Py::None => "null".into(),
        Py::Bool(b) => b.to_string(),
        Py::Int(n) => n.to_string(),
        Py::Float(f) => json_float(*f),
        other => return type_error(format!("keys must be str, int, float, bool or None, not {}", other.kind())),
    })
}

fn line(out: &mut String, how: Dump, depth: usize) {
    if let Some(width) = how.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width.min(64) * depth));
    }
}

fn json_list(run: &Run, out: &mut String, items: Vec<Py<'_>>, how: Dump, depth: usize) -> Outcome<()> {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(if how.indent.is_some() { "," } else { ", " });
        }
        line(out, how, depth + 1);
        dumps(run, out, item, how, depth + 1)?;
    }
    if !items.is_empty() {
        line(out, how, depth);
    }
    out.push(']');
    Ok(())
}

fn json_dict(run: &Run, out: &mut String, mut pairs: Vec<(String, Py<'_>)>, how: Dump, depth: usize) -> Outcome<()> {
    if how.sorted {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
    }
    out.push('{');
    for (at, (key, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push_str(if how.indent.is_some() { "," } else { ", " });
        }
        line(out, how, depth + 1);
        json_text(out, key);
        out.push_str(": ");
        dumps(run, out, value, how, depth + 1)?;
    }
    if !pairs.is_empty() {
        line(out, how, depth);
    }
    out.push('}');
    Ok(())
}

/// Beyond ASCII everything is escaped.
fn json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out.push('"');
}
