//! Equality, order and membership of values.

use std::cmp::Ordering;

use super::value::{Outcome, Py, Run, other, type_error};

const DEEPEST: usize = 200;

/// Python's `==`.
pub(super) fn equal(run: &Run, a: &Py<'_>, b: &Py<'_>) -> Outcome<bool> {
    equal_at(run, a, b, 0)
}

fn equal_at(run: &Run, a: &Py<'_>, b: &Py<'_>, depth: usize) -> Outcome<bool> {
    if depth > DEEPEST {
        return other("a value is nested too deeply");
    }
    run.step(1)?;
    if let (Some(a), Some(b)) = (as_list(a), as_list(b)) {
        return all_equal(run, &a, &b, depth);
    }
    if let (Some(a), Some(b)) = (as_pairs(a), as_pairs(b)) {
        return pairs_equal(run, &a, &b, depth);
    }
    Ok(match (a, b) {
        (Py::Undefined(_), Py::Undefined(_)) | (Py::None, Py::None) => true,
        (Py::Text(a), Py::Text(b)) => **a == **b,
        (Py::Bytes(a), Py::Bytes(b)) => a == b,
        (Py::Tuple(a) | Py::Named(_, a), Py::Tuple(b) | Py::Named(_, b)) => return all_equal(run, &a.0.borrow(), &b.0.borrow(), depth),
        (Py::Set(a) | Py::View("dict_keys", a), Py::Set(b) | Py::View("dict_keys", b)) => {
            let (a, b) = (a.0.borrow(), b.0.borrow());
            a.len() == b.len() && a.iter().try_fold(true, |all, item| Ok(all && position(run, &b, item)?.is_some()))?
        }
        (Py::Moment(a, zoned_a), Py::Moment(b, zoned_b)) => zoned_a == zoned_b && super::times::instant(a) == super::times::instant(b),
        (Py::Date(a), Py::Date(b)) => a == b,
        (Py::Clock(a), Py::Clock(b)) => a == b,
        (Py::Delta(a), Py::Delta(b)) => a == b,
        (Py::Months(a), Py::Months(b)) => a == b,
        (Py::Zone(a), Py::Zone(b)) => a == b,
        (Py::Builtin(a), Py::Builtin(b)) => a == b,
        (a, b) => numbers(a, b) == Some(Ordering::Equal),
    })
}

fn all_equal(run: &Run, a: &[Py<'_>], b: &[Py<'_>], depth: usize) -> Outcome<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.iter().zip(b) {
        if !equal_at(run, a, b, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn pairs_equal(run: &Run, a: &[(Py<'_>, Py<'_>)], b: &[(Py<'_>, Py<'_>)], depth: usize) -> Outcome<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in a {
        let mut found = false;
        for (other_key, other_value) in b {
            if equal_at(run, key, other_key, depth + 1)? {
                found = equal_at(run, value, other_value, depth + 1)?;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn as_list<'a>(value: &Py<'a>) -> Option<Vec<Py<'a>>> {
    match value {
        Py::JsonList(items) => Some(items.iter().map(Py::json).collect()),
        Py::List(items) => Some(items.0.borrow().clone()),
        _ => None,
    }
}

fn as_pairs<'a>(value: &Py<'a>) -> Option<super::value::Pairs<'a>> {
    let text = |key: &'a String| Py::Text(super::value::Text::Borrowed(key));
    match value {
        Py::JsonDict(fields) => Some(fields.iter().map(|(k, v)| (text(k), Py::json(v))).collect()),
        Py::Slice(slice) => Some(slice.iter().map(|(k, v)| (text(k), Py::json(v))).collect()),
        Py::Dict(fields) => Some(fields.0.borrow().clone()),
        _ => None,
    }
}

/// Numbers and booleans beside each other; none when one is neither, or not a number.
fn numbers(a: &Py<'_>, b: &Py<'_>) -> Option<Ordering> {
    match (a.as_int(), b.as_int()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => int_float(a, b.as_number()?),
        (None, Some(b)) => int_float(b, a.as_number()?).map(Ordering::reverse),
        (None, None) => a.as_number()?.partial_cmp(&b.as_number()?),
    }
}

/// Exact, where a float would round the integer.
fn int_float(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() >= 1e38 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    Some(a.cmp(&(b.trunc() as i128)).then(0.0f64.partial_cmp(&b.fract())?))
}

/// Python's order; `sign` is the operator, for the words of the TypeError. None: not a number beside a number.
pub(super) fn order(run: &Run, a: &Py<'_>, b: &Py<'_>, sign: &str) -> Outcome<Option<Ordering>> {
    run.step(1)?;
    a.defined()?;
    b.defined()?;
    if let (Some(a), Some(b)) = (as_list(a), as_list(b)) {
        return in_turn(run, &a, &b, sign);
    }
    Ok(match (a, b) {
        (Py::Text(a), Py::Text(b)) => Some((**a).cmp(&**b)),
        (Py::Bytes(a), Py::Bytes(b)) => Some(a.cmp(b)),
        (Py::Tuple(a) | Py::Named(_, a), Py::Tuple(b) | Py::Named(_, b)) => return in_turn(run, &a.0.borrow(), &b.0.borrow(), sign),
        (Py::Moment(a, zoned_a), Py::Moment(b, zoned_b)) if zoned_a == zoned_b => {
            Some(super::times::instant(a).cmp(&super::times::instant(b)))
        }
        (Py::Moment(..), Py::Moment(..)) => return type_error("can't compare offset-naive and offset-aware datetimes"),
        (Py::Date(a), Py::Date(b)) => Some(a.cmp(b)),
        (Py::Clock(a), Py::Clock(b)) => Some(a.cmp(b)),
        (Py::Delta(a), Py::Delta(b)) => Some(a.cmp(b)),
        (a, b) if a.as_number().is_some() && b.as_number().is_some() => numbers(a, b),
        (a, b) => return type_error(format!("'{sign}' not supported between instances of '{}' and '{}'", a.kind(), b.kind())),
    })
}

fn in_turn(run: &Run, a: &[Py<'_>], b: &[Py<'_>], sign: &str) -> Outcome<Option<Ordering>> {
    for (a, b) in a.iter().zip(b) {
        if !equal(run, a, b)? {
            return order(run, a, b, sign);
        }
    }
    Ok(Some(a.len().cmp(&b.len())))
}

/// A stable sort by keys; the first pair without an order is the error.
pub(super) fn sorted<'a, T>(run: &Run, mut items: Vec<(Py<'a>, T)>, reverse: bool) -> Outcome<Vec<T>> {
    let mut fault = None;
    if reverse {
        items.reverse();
    }
    items.sort_by(|(a, _), (b, _)| match order(run, a, b, "<") {
        Ok(order) => order.unwrap_or(Ordering::Equal),
        Err(e) => {
            fault.get_or_insert(e);
            Ordering::Equal
        }
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    if reverse {
        items.reverse();
    }
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn position<'a>(run: &Run, items: &[Py<'a>], wanted: &Py<'_>) -> Outcome<Option<usize>> {
    for (at, item) in items.iter().enumerate() {
        if equal(run, item, wanted)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Containers cannot be keys.
pub(super) fn hashable(value: &Py<'_>) -> Outcome<()> {
    match value {
        Py::List(_) | Py::JsonList(_) | Py::Dict(_) | Py::JsonDict(_) | Py::Set(_) => {
            type_error(format!("unhashable type: '{}'", value.kind()))
        }
        Py::Tuple(items) | Py::Named(_, items) => items.0.borrow().iter().try_for_each(hashable),
        _ => Ok(()),
    }
}

/// Sets a key of a dict, in its place when it is there.
pub(super) fn insert<'a>(run: &Run, pairs: &mut super::value::Pairs<'a>, key: Py<'a>, value: Py<'a>) -> Outcome<()> {
    hashable(&key)?;
    for (known, old) in pairs.iter_mut() {
        if equal(run, known, &key)? {
            *old = value;
            return Ok(());
        }
    }
    run.bytes(32)?;
    pairs.push((key, value));
    Ok(())
}
