//! Operators.

use super::{
    access::list_of,
    html,
    order::insert,
    printf::percent,
    show::shown,
    syntax::Operator,
    times,
    value::{Outcome, Py, Run, other, type_error},
};

pub(super) fn binary<'a>(run: &Run, operator: Operator, a: &Py<'a>, b: &Py<'a>) -> Outcome<Py<'a>> {
    if let (Operator::Mod, Py::Text(format)) = (operator, a) {
        let text = if a.is_markup() { percent(run, format, &html::safe(run, b)?)? } else { percent(run, format, b)? };
        return Ok(a.like(text));
    }
    a.defined()?;
    b.defined()?;
    if let Some(result) = times::arithmetic(operator, a, b)? {
        return Ok(result);
    }
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return integers(operator, a, b);
    }
    if let (Some(a), Some(b)) = (a.as_number(), b.as_number()) {
        return floats(operator, a, b).map(Py::Float);
    }
    match (operator, a, b) {
        (Operator::Add, Py::Text(_), Py::Text(_)) if a.is_markup() || b.is_markup() => {
            let text = html::escaped_once(run, a)? + &html::escaped_once(run, b)?;
            run.bytes(text.len())?;
            Ok(Py::markup(text))
        }
        (Operator::Add, Py::Text(a), Py::Text(b)) => {
            run.bytes(a.len() + b.len())?;
            Ok(Py::text(format!("{}{}", &**a, &**b)))
        }
        (Operator::Add, Py::Tuple(a), Py::Tuple(b)) => Ok(Py::tuple(joined(run, &a.0.borrow(), &b.0.borrow())?)),
        (Operator::Add, Py::List(_) | Py::JsonList(_), Py::List(_) | Py::JsonList(_)) => {
            Ok(Py::list(joined(run, &list_of(run, a)?, &list_of(run, b)?)?))
        }
        (Operator::Mul, repeated, count) | (Operator::Mul, count, repeated) if count.as_int().is_some() && is_repeatable(repeated) => {
            repeat(run, repeated, count.as_int().unwrap_or_default())
        }
        _ => type_error(format!("unsupported operand types: '{}' and '{}'", a.kind(), b.kind())),
    }
}

fn joined<'a>(run: &Run, a: &[Py<'a>], b: &[Py<'a>]) -> Outcome<Vec<Py<'a>>> {
    run.bytes((a.len() + b.len()) * size_of::<Py<'_>>())?;
    Ok(a.iter().chain(b).cloned().collect())
}

fn is_repeatable(value: &Py<'_>) -> bool {
    matches!(value, Py::Text(_) | Py::List(_) | Py::JsonList(_) | Py::Tuple(_))
}

fn repeat<'a>(run: &Run, value: &Py<'a>, count: i128) -> Outcome<Py<'a>> {
    let count = usize::try_from(count.clamp(0, i128::from(u32::MAX))).unwrap_or_default();
    if let Py::Text(text) = value {
        run.bytes(text.len().saturating_mul(count))?;
        return Ok(value.like(text.repeat(count)));
    }
    let items = list_of(run, value)?;
    run.bytes(items.len().saturating_mul(count).saturating_mul(size_of::<Py<'_>>()))?;
    let items = std::iter::repeat_n(items, count).flatten().collect();
    Ok(if matches!(value, Py::Tuple(_)) { Py::tuple(items) } else { Py::list(items) })
}

fn integers<'a>(operator: Operator, a: i128, b: i128) -> Outcome<Py<'a>> {
    let zero = || other("division by zero");
    let value = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mul => a.checked_mul(b),
        Operator::Div if b == 0 => return zero(),
        Operator::Div => return Ok(Py::Float(a as f64 / b as f64)),
        Operator::FloorDiv | Operator::Mod if b == 0 => return zero(),
        Operator::FloorDiv => a.checked_div_euclid(b).map(|_| floor_div(a, b)),
        Operator::Mod => Some(a - b * floor_div(a, b)),
        Operator::Pow if b < 0 && a == 0 => return zero(),
        Operator::Pow if b < 0 => return Ok(Py::Float((a as f64).powf(b as f64))),
        Operator::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    match value {
        Some(value) => Ok(Py::Int(value)),
        None => other("a whole number is too large"),
    }
}

fn floor_div(a: i128, b: i128) -> i128 {
    let quotient = a / b;
    if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

fn floats(operator: Operator, a: f64, b: f64) -> Outcome<f64> {
    if b == 0.0 && matches!(operator, Operator::Div | Operator::FloorDiv | Operator::Mod) {
        return other("float division by zero");
    }
    Ok(match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
        Operator::FloorDiv => (a / b).floor(),
        Operator::Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest.abs().copysign(if rest == 0.0 { b } else { rest }) }
        }
        Operator::Pow if a == 0.0 && b < 0.0 => return other("zero cannot be raised to a negative power"),
        Operator::Pow => a.powf(b),
    })
}

pub(super) fn negative<'a>(value: &Py<'a>) -> Outcome<Py<'a>> {
    value.defined()?;
    match (value, value.as_int()) {
        (_, Some(n)) => Ok(Py::Int(-n)),
        (Py::Float(f), _) => Ok(Py::Float(-f)),
        (Py::Delta(micros), _) => Ok(Py::Delta(-micros)),
        (Py::Months(months), _) => Ok(times::negative_months(months)),
        _ => type_error(format!("bad operand type for unary -: '{}'", value.kind())),
    }
}

pub(super) fn positive<'a>(value: &Py<'a>) -> Outcome<Py<'a>> {
    value.defined()?;
    match (value, value.as_int()) {
        (_, Some(n)) => Ok(Py::Int(n)),
        (Py::Float(_) | Py::Delta(_), _) => Ok(value.clone()),
        _ => type_error(format!("bad operand type for unary +: '{}'", value.kind())),
    }
}

/// The operator `~`.
pub(super) fn concat<'a>(run: &Run, parts: &[Py<'a>]) -> Outcome<Py<'a>> {
    let mut out = String::new();
    for part in parts {
        out += &shown(run, part)?;
    }
    Ok(Py::text(out))
}

/// A dict of written pairs.
pub(super) fn dict<'a>(run: &Run, written: Vec<(Py<'a>, Py<'a>)>) -> Outcome<Py<'a>> {
    let mut pairs = Vec::with_capacity(written.len());
    for (key, value) in written {
        insert(run, &mut pairs, key, value)?;
    }
    Ok(Py::dict(pairs))
}
