//! Attributes, items, slices, and reading a value one by one.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::{
    attributes,
    order::{equal, hashable, position},
    value::{Missing, Outcome, Pairs, Py, Run, Text, other, type_error},
};

/// `value.name`: an attribute before an item.
pub(super) fn attribute<'a>(run: &Run, value: &Py<'a>, name: &str) -> Outcome<Py<'a>> {
    run.step(1)?;
    value.defined()?;
    if let Some(found) = own_attribute(value, name)? {
        return Ok(found);
    }
    Ok(item_of(run, value, &Py::text(name))?.unwrap_or(Py::UNDEFINED))
}

/// `value[key]`: an item before an attribute.
pub(super) fn item<'a>(run: &Run, value: &Py<'a>, key: &Py<'_>) -> Outcome<Py<'a>> {
    run.step(1)?;
    value.defined()?;
    if let Some(found) = item_of(run, value, key)? {
        return Ok(found);
    }
    match key.as_text() {
        Some(name) => Ok(own_attribute(value, name)?.unwrap_or(Py::UNDEFINED)),
        None => Ok(Py::UNDEFINED),
    }
}

/// An attribute of the object itself; those that begin with an underscore are hidden.
pub(super) fn own_attribute<'a>(value: &Py<'a>, name: &str) -> Outcome<Option<Py<'a>>> {
    if name.starts_with('_') {
        return Ok(hidden(value, name));
    }
    Ok(match value {
        Py::Slice(slice) => match name {
            "partition" => Some(Py::JsonDict(slice.partition())),
            "cursor_slice" => Some(Py::JsonDict(slice.cursor())),
            "extra_fields" => Some(Py::JsonDict(slice.extra())),
            _ => attributes::method(value, name),
        },
        Py::Record(fields) if name == "data" => Some(Py::JsonDict(fields)),
        Py::Record(_) if name == "associated_slice" || name == "file_reference" => Some(Py::None),
        Py::Named(names, items) => match names.fields.iter().position(|known| *known == name) {
            Some(at) => items.0.borrow().get(at).cloned(),
            None => attributes::method(value, name),
        },
        Py::Namespace(fields) => fields.borrow().iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        Py::Loop(_) => attributes::loop_attribute(value, name),
        Py::Int(_) | Py::Bool(_) | Py::Float(_) => number_attribute(value, name),
        Py::Moment(..) | Py::Date(_) | Py::Clock(_) | Py::Delta(_) | Py::Months(_) => {
            attributes::time_attribute(value, name).or_else(|| attributes::method(value, name))
        }
        Py::Cycler(inside) if name == "current" => inside.0.get(inside.1.get()).cloned(),
        Py::Macro(inside) if name == "name" => Some(Py::text(inside.body.name.as_str())),
        _ => attributes::method(value, name),
    })
}

fn hidden<'a>(value: &Py<'a>, name: &str) -> Option<Py<'a>> {
    match value {
        Py::Slice(slice) if name == "_partition" => Some(Py::JsonDict(slice.partition())),
        // Everything has these in Python; any other name is looked for among the items.
        _ if matches!(name, "__class__" | "__doc__" | "__init__" | "__dict__" | "__len__" | "__getitem__" | "__str__" | "__eq__") => {
            Some(Py::Undefined(Missing::Hidden))
        }
        Py::Slice(_) if matches!(name, "_cursor_slice" | "_extra_fields" | "_stream_slice") => Some(Py::Undefined(Missing::Hidden)),
        _ => None,
    }
}

fn number_attribute<'a>(value: &Py<'a>, name: &str) -> Option<Py<'a>> {
    match (name, value) {
        ("real" | "numerator", Py::Int(_) | Py::Bool(_)) => value.as_int().map(Py::Int),
        ("real", Py::Float(f)) => Some(Py::Float(*f)),
        ("imag", Py::Float(_)) => Some(Py::Float(0.0)),
        ("imag", _) => Some(Py::Int(0)),
        ("denominator", Py::Int(_) | Py::Bool(_)) => Some(Py::Int(1)),
        _ => attributes::method(value, name),
    }
}

/// An item by key or index; none where Python raises a TypeError or a LookupError.
fn item_of<'a>(run: &Run, value: &Py<'a>, key: &Py<'_>) -> Outcome<Option<Py<'a>>> {
    match value {
        Py::JsonDict(fields) | Py::Record(fields) => Ok(key.as_text().and_then(|key| fields.get(key)).map(Py::json)),
        Py::Headers(fields) => match key.as_text() {
            Some(key) => Ok(header(fields, key).map(Py::json)),
            None => other("a header's name is a text"),
        },
        Py::Slice(slice) => Ok(key.as_text().and_then(|key| slice.get(key)).map(Py::json)),
        Py::Dict(fields) => {
            if hashable(key).is_err() {
                return Ok(None);
            }
            for (known, value) in fields.0.borrow().iter() {
                if equal(run, known, key)? {
                    return Ok(Some(value.clone()));
                }
            }
            Ok(None)
        }
        Py::Text(text) => Ok(index(key, || text.chars().count()).and_then(|at| text.chars().nth(at)).map(|c| value.like(c.to_string()))),
        Py::Bytes(bytes) => Ok(index(key, || bytes.len()).and_then(|at| bytes.get(at)).map(|b| Py::Int((*b).into()))),
        Py::JsonList(items) => Ok(index(key, || items.len()).and_then(|at| items.get(at)).map(Py::json)),
        Py::List(items) | Py::Tuple(items) | Py::Named(_, items) => {
            let items = items.0.borrow();
            Ok(index(key, || items.len()).and_then(|at| items.get(at)).cloned())
        }
        _ => Ok(None),
    }
}

pub(super) fn header<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn index(key: &Py<'_>, length: impl FnOnce() -> usize) -> Option<usize> {
    let at = key.as_int()?;
    let length = length() as i128;
    let at = if at < 0 { at + length } else { at };
    (0..length).contains(&at).then_some(at as usize)
}

/// `value[start:stop:step]`.
pub(super) fn slice<'a>(run: &Run, value: &Py<'a>, parts: [Option<Py<'a>>; 3]) -> Outcome<Py<'a>> {
    value.defined()?;
    let mut bounds = [None; 3];
    for (bound, part) in bounds.iter_mut().zip(&parts) {
        *bound = match part {
            None | Some(Py::None) => None,
            Some(part) => match part.as_int() {
                Some(n) => Some(n),
                None => return type_error("slice indices must be integers or None or have an __index__ method"),
            },
        };
    }
    if bounds[2] == Some(0) {
        return other("slice step cannot be zero");
    }
    match value {
        Py::Text(text) => {
            run.bytes(text.len())?;
            let chars: Vec<char> = text.chars().collect();
            Ok(value.like(picked(chars.len(), bounds).map(|at| chars[at]).collect::<String>()))
        }
        Py::List(_) | Py::JsonList(_) | Py::Tuple(_) | Py::Named(..) => {
            let items = list_of(run, value)?;
            let items = picked(items.len(), bounds).map(|at| items[at].clone()).collect();
            Ok(if matches!(value, Py::Tuple(_) | Py::Named(..)) { Py::tuple(items) } else { Py::list(items) })
        }
        // Jinja hands a slice to the value itself; any other wrong subscript is only undefined.
        _ => type_error(format!("'{}' object is not subscriptable", value.kind())),
    }
}

/// The places that a slice takes from a sequence.
fn picked(length: usize, [start, stop, step]: [Option<i128>; 3]) -> impl Iterator<Item = usize> {
    let length = length as i128;
    let step = step.unwrap_or(1);
    let (lowest, highest) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let bound = |at: Option<i128>, default: i128| match at {
        None => default,
        Some(at) if at < 0 => (at + length).max(lowest),
        Some(at) => at.min(highest),
    };
    let (first, last) = if step < 0 { (highest, lowest) } else { (lowest, highest) };
    let (start, stop) = (bound(start, first), bound(stop, last));
    let mut at = start;
    std::iter::from_fn(move || {
        let goes_on = if step < 0 { at > stop } else { at < stop };
        let place = at;
        at = at.saturating_add(step);
        goes_on.then_some(place as usize)
    })
}

/// Everything that iterating over a value gives. An iterator is empty afterwards.
pub(super) fn list_of<'a>(run: &Run, value: &Py<'a>) -> Outcome<Vec<Py<'a>>> {
    let keys = |fields: &'a Map<String, Value>| fields.keys().map(|key| Py::Text(Text::Borrowed(key))).collect::<Vec<_>>();
    let items: Vec<Py<'a>> = match value {
        Py::Undefined(_) => Vec::new(),
        Py::Text(text) => text.chars().map(|c| Py::text(c.to_string())).collect(),
        Py::Bytes(bytes) => bytes.iter().map(|b| Py::Int((*b).into())).collect(),
        Py::JsonList(items) => items.iter().map(Py::json).collect(),
        Py::JsonDict(fields) | Py::Record(fields) | Py::Headers(fields) => keys(fields),
        Py::Slice(slice) => slice.iter().map(|(key, _)| Py::Text(Text::Borrowed(key))).collect(),
        Py::List(items) | Py::Tuple(items) | Py::Named(_, items) | Py::Set(items) | Py::View(_, items) => items.0.borrow().clone(),
        Py::Dict(fields) => fields.0.borrow().iter().map(|(key, _)| key.clone()).collect(),
        Py::Iterator(_, items) => std::mem::take::<VecDeque<_>>(&mut items.borrow_mut()).into(),
        other => return type_error(format!("'{}' object is not iterable", other.kind())),
    };
    run.step(items.len())?;
    run.bytes(items.len() * size_of::<Py<'_>>())?;
    Ok(items)
}

pub(super) fn length(value: &Py<'_>) -> Outcome<usize> {
    Ok(match value {
        Py::Undefined(_) => 0,
        Py::Text(text) => text.chars().count(),
        Py::Bytes(bytes) => bytes.len(),
        Py::JsonList(items) => items.len(),
        Py::JsonDict(fields) | Py::Record(fields) | Py::Headers(fields) => fields.len(),
        Py::Slice(slice) => slice.len(),
        Py::List(items) | Py::Tuple(items) | Py::Named(_, items) | Py::Set(items) | Py::View(_, items) => items.0.borrow().len(),
        Py::Dict(fields) => fields.0.borrow().len(),
        Py::Loop(inside) => inside.items.len(),
        other => return type_error(format!("object of type '{}' has no len()", other.kind())),
    })
}

/// Python's `in`.
pub(super) fn contains(run: &Run, inside: &Py<'_>, wanted: &Py<'_>) -> Outcome<bool> {
    Ok(match inside {
        Py::Text(text) => match wanted {
            Py::Text(wanted) => text.contains(&**wanted),
            other => return type_error(format!("'in <string>' requires string as left operand, not {}", other.kind())),
        },
        Py::JsonDict(_) | Py::Record(_) | Py::Slice(_) | Py::Dict(_) => {
            hashable(wanted)?;
            match (inside, wanted.as_text()) {
                (Py::JsonDict(fields) | Py::Record(fields), Some(key)) => fields.contains_key(key),
                (Py::Slice(slice), Some(key)) => slice.get(key).is_some(),
                (Py::Dict(fields), _) => {
                    let fields = fields.0.borrow();
                    let mut found = false;
                    for (key, _) in fields.iter() {
                        found = found || equal(run, key, wanted)?;
                    }
                    found
                }
                _ => false,
            }
        }
        Py::Headers(fields) => match wanted.as_text() {
            Some(key) => header(fields, key).is_some(),
            None => return other("a header's name is a text"),
        },
        Py::JsonList(items) => match wanted {
            Py::Text(wanted) => items.iter().any(|item| item.as_str() == Some(wanted)),
            _ => position(run, &list_of(run, inside)?, wanted)?.is_some(),
        },
        Py::List(items) | Py::Tuple(items) | Py::Named(_, items) | Py::Set(items) | Py::View(_, items) => {
            position(run, &items.0.borrow(), wanted)?.is_some()
        }
        Py::Undefined(_) => false,
        Py::Iterator(..) => position(run, &list_of(run, inside)?, wanted)?.is_some(),
        other => return type_error(format!("argument of type '{}' is not iterable", other.kind())),
    })
}

/// The pairs of anything like a dict.
pub(super) fn pairs<'a>(value: &Py<'a>) -> Option<Pairs<'a>> {
    let text = |key: &'a String| Py::Text(Text::Borrowed(key));
    match value {
        Py::JsonDict(fields) | Py::Record(fields) | Py::Headers(fields) => {
            Some(fields.iter().map(|(k, v)| (text(k), Py::json(v))).collect())
        }
        Py::Slice(slice) => Some(slice.iter().map(|(k, v)| (text(k), Py::json(v))).collect()),
        Py::Dict(fields) => Some(fields.0.borrow().clone()),
        _ => None,
    }
}

/// What `dict(..)` and `update(..)` take: a mapping, or pairs.
pub(super) fn pairs_of<'a>(run: &Run, value: &Py<'a>) -> Outcome<Pairs<'a>> {
    if let Some(pairs) = pairs(value) {
        return Ok(pairs);
    }
    let mut found = Vec::new();
    for one in list_of(run, value)? {
        let mut pair = list_of(run, &one)?;
        if pair.len() != 2 {
            return other("a pair is expected");
        }
        let value = pair.remove(1);
        found.push((pair.remove(0), value));
    }
    Ok(found)
}
