//! What may stand behind `is`.

use super::{
    access::{contains, length, list_of},
    arguments::Given,
    arithmetic::binary,
    attributes::is_callable,
    order::{equal, order},
    show::shown,
    syntax::Operator,
    value::{Outcome, Py, Run, other, type_error},
};

const NAMES: &[&str] = &[
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

pub(super) fn is<'a>(run: &Run, name: &str, value: &Py<'a>, given: Given<'a>, filters: &[&str]) -> Outcome<bool> {
    run.step(1)?;
    if !NAMES.contains(&name) {
        return other(format!("No test named '{name}'."));
    }
    if let Some(result) = comparison(run, name, value, &given)? {
        return Ok(result);
    }
    given.none()?;
    Ok(match name {
        "odd" | "even" => equal(run, &binary(run, Operator::Mod, value, &Py::Int(2))?, &Py::Int((name == "odd").into()))?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" | "test" => {
            super::order::hashable(value)?;
            let all = if name == "filter" { filters } else { NAMES };
            value.as_text().is_some_and(|name| all.contains(&name))
        }
        "none" => matches!(value, Py::None),
        "boolean" => matches!(value, Py::Bool(_)),
        "false" => matches!(value, Py::Bool(false)),
        "true" => matches!(value, Py::Bool(true)),
        "integer" => matches!(value, Py::Int(_)),
        "float" => matches!(value, Py::Float(_)),
        "lower" => {
            let text = shown(run, value)?;
            text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
        }
        "upper" => {
            let text = shown(run, value)?;
            text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
        }
        "string" => matches!(value, Py::Text(_)),
        "mapping" => matches!(value, Py::Dict(_) | Py::JsonDict(_) | Py::Slice(_) | Py::Record(_) | Py::Headers(_)),
        "number" => value.as_number().is_some(),
        "sequence" => length(value).is_ok() && !matches!(value, Py::Set(_) | Py::View(..) | Py::Loop(_)),
        "iterable" => matches!(value, Py::Iterator(..)) || list_of(run, value).is_ok(),
        "callable" => is_callable(value)?,
        "escaped" => value.is_markup(),
        _ => false,
    })
}

/// Tests with one argument.
fn comparison<'a>(run: &Run, name: &str, value: &Py<'a>, given: &Given<'a>) -> Outcome<Option<bool>> {
    let sign = match name {
        "==" | "eq" | "equalto" => "==",
        "!=" | "ne" => "!=",
        ">" | "gt" | "greaterthan" => ">",
        ">=" | "ge" => ">=",
        "<" | "lt" | "lessthan" => "<",
        "<=" | "le" => "<=",
        "divisibleby" | "sameas" | "in" => name,
        _ => return Ok(None),
    };
    let all: Vec<&Py<'a>> = given.positional.iter().chain(given.named.iter().map(|(_, value)| value)).collect();
    let [other] = all.as_slice() else { return type_error("one argument is expected") };
    Ok(Some(match sign {
        "==" => equal(run, value, other)?,
        "!=" => !equal(run, value, other)?,
        "divisibleby" => equal(run, &binary(run, Operator::Mod, value, other)?, &Py::Int(0))?,
        "in" => contains(run, other, value)?,
        "sameas" => same(value, other),
        _ => compared(run, value, other, sign)?,
    }))
}

fn same<'a>(a: &Py<'a>, b: &Py<'a>) -> bool {
    match (a, b) {
        (Py::None, Py::None) => true,
        (Py::Bool(a), Py::Bool(b)) => a == b,
        (Py::Int(a), Py::Int(b)) => a == b && (-5..=256).contains(a),
        // Python keeps one object for equal short texts of a template.
        (Py::Text(a), Py::Text(b)) => **a == **b,
        (Py::List(a), Py::List(b)) => std::rc::Rc::ptr_eq(a, b),
        (Py::Dict(a), Py::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
        (Py::JsonDict(a), Py::JsonDict(b)) => std::ptr::eq(*a, *b),
        (Py::JsonList(a), Py::JsonList(b)) => std::ptr::eq(*a, *b),
        _ => false,
    }
}

/// The operators of order.
pub(super) fn compared(run: &Run, a: &Py<'_>, b: &Py<'_>, sign: &str) -> Outcome<bool> {
    let order = order(run, a, b, sign)?;
    Ok(order.is_some_and(|order| match sign {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }))
}
