//! Filters over sequences.

use super::{
    access::{item, list_of, pairs},
    arguments::{Given, int, required, text},
    arithmetic::binary,
    order::{equal, hashable, order, sorted},
    syntax::Operator,
    value::{Outcome, Py, Run, other, type_error},
};

/// `a.b.0`: the keys that an attribute's name stands for.
#[derive(Clone)]
pub(super) struct Path<'a> {
    keys: Vec<Py<'a>>,
    default: Option<Py<'a>>,
    folded: bool,
}

impl<'a> Path<'a> {
    pub(super) fn new(attribute: Option<&Py<'a>>, default: Option<Py<'a>>, folded: bool) -> Outcome<Self> {
        let keys = match attribute {
            None | Some(Py::None) => Vec::new(),
            Some(Py::Text(name)) => name.split('.').map(key).collect(),
            Some(other) => vec![other.clone()],
        };
        Ok(Self { keys, default: default.filter(|value| !matches!(value, Py::None)), folded })
    }

    pub(super) fn get(&self, run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
        let mut found = value.clone();
        for key in &self.keys {
            found = item(run, &found, key)?;
            if found.is_undefined()
                && let Some(default) = &self.default
            {
                found = default.clone();
            }
        }
        Ok(if self.folded { folded(found) } else { found })
    }
}

fn key<'a>(part: &str) -> Py<'a> {
    match part.parse::<i128>() {
        Ok(at) if part.bytes().all(|b| b.is_ascii_digit()) => Py::Int(at),
        _ => Py::text(part),
    }
}

/// Texts are compared without their case.
pub(super) fn folded(value: Py<'_>) -> Py<'_> {
    match &value {
        Py::Text(text) => Py::text(text.to_lowercase()),
        _ => value,
    }
}

fn flag(value: Option<Py<'_>>) -> Outcome<bool> {
    value.map_or(Ok(false), |value| value.is_true())
}

pub(super) fn sort<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [reverse, case_sensitive, attribute] = given.places(["reverse", "case_sensitive", "attribute"])?;
    let folded = !flag(case_sensitive)?;
    let paths: Vec<Path<'a>> = match &attribute {
        Some(Py::Text(names)) => names.split(',').map(|name| Path::new(Some(&Py::text(name)), None, folded)).collect::<Outcome<_>>()?,
        other => vec![Path::new(other.as_ref(), None, folded)?],
    };
    let mut keyed = Vec::new();
    for item in list_of(run, value)? {
        let keys = paths.iter().map(|path| path.get(run, &item)).collect::<Outcome<Vec<_>>>()?;
        keyed.push((Py::list(keys), item));
    }
    sorted(run, keyed, flag(reverse)?).map(Py::list)
}

pub(super) fn unique<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [case_sensitive, attribute] = given.places(["case_sensitive", "attribute"])?;
    let path = Path::new(attribute.as_ref(), None, !flag(case_sensitive)?)?;
    let mut seen: Vec<Py<'a>> = Vec::new();
    let mut kept = Vec::new();
    for item in list_of(run, value)? {
        let key = path.get(run, &item)?;
        hashable(&key)?;
        if super::order::position(run, &seen, &key)?.is_none() {
            seen.push(key);
            kept.push(item);
        }
    }
    Ok(Py::iterator("generator", kept))
}

pub(super) fn extreme<'a>(run: &Run, value: &Py<'a>, largest: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let [case_sensitive, attribute] = given.places(["case_sensitive", "attribute"])?;
    let path = Path::new(attribute.as_ref(), None, !flag(case_sensitive)?)?;
    let mut best: Option<(Py<'a>, Py<'a>)> = None;
    for item in list_of(run, value)? {
        let key = path.get(run, &item)?;
        let better = match &best {
            None => true,
            Some((known, _)) if largest => order(run, &key, known, ">")?.is_some_and(|order| order.is_gt()),
            Some((known, _)) => order(run, &key, known, "<")?.is_some_and(|order| order.is_lt()),
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Py::UNDEFINED, |(_, item)| item))
}

pub(super) fn group<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [attribute, default, case_sensitive] = given.places(["attribute", "default", "case_sensitive"])?;
    let attribute = required(attribute, "attribute")?;
    let is_folded = !flag(case_sensitive)?;
    let path = Path::new(Some(&attribute), default.clone(), is_folded)?;
    let shown = Path::new(Some(&attribute), default, false)?;
    let mut keyed = Vec::new();
    for item in list_of(run, value)? {
        let key = path.get(run, &item)?;
        keyed.push((key.clone(), (key, item)));
    }
    let mut groups: Vec<(Py<'a>, Vec<Py<'a>>)> = Vec::new();
    for (key, item) in sorted(run, keyed, false)? {
        match groups.last_mut() {
            Some((last, items)) if equal(run, last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (_, items) in groups {
        out.push(Py::tuple(vec![shown.get(run, &items[0])?, Py::list(items)]));
    }
    Ok(Py::list(out))
}

pub(super) fn dictsort<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [case_sensitive, by, reverse] = given.places(["case_sensitive", "by", "reverse"])?;
    let is_folded = !flag(case_sensitive)?;
    let by_value = match by.as_ref().map(text).transpose()?.as_deref() {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return other("You can only sort by either \"key\" or \"value\""),
    };
    let Some(pairs) = pairs(value.defined()?) else { return other("a value without items cannot be sorted by them") };
    let keyed = pairs.into_iter().map(|(key, value)| {
        let by = if by_value { value.clone() } else { key.clone() };
        (if is_folded { folded(by) } else { by }, Py::tuple(vec![key, value]))
    });
    sorted(run, keyed.collect(), flag(reverse)?).map(Py::list)
}

pub(super) fn sum<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [attribute, start] = given.places(["attribute", "start"])?;
    let path = Path::new(attribute.as_ref(), None, false)?;
    let mut total = start.unwrap_or(Py::Int(0));
    for item in list_of(run, value)? {
        total = binary(run, Operator::Add, &total, &path.get(run, &item)?)?;
    }
    Ok(total)
}

pub(super) fn batch<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [count, fill] = given.places(["linecount", "fill_with"])?;
    let count = usize::try_from(int(&required(count, "linecount")?)?).unwrap_or_default();
    let items = list_of(run, value)?;
    if count == 0 {
        return Ok(Py::iterator("generator", if items.is_empty() { Vec::new() } else { vec![Py::list(items)] }));
    }
    let mut rows: Vec<Vec<Py<'a>>> = items.chunks(count).map(<[_]>::to_vec).collect();
    if let (Some(last), Some(fill)) = (rows.last_mut(), fill.filter(|fill| !matches!(fill, Py::None))) {
        run.bytes((count - last.len()).saturating_mul(32))?;
        last.resize(count, fill);
    }
    Ok(Py::iterator("generator", rows.into_iter().map(Py::list).collect()))
}

pub(super) fn slice<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [slices, fill] = given.places(["slices", "fill_with"])?;
    let slices = int(&required(slices, "slices")?)?;
    let items = list_of(run, value)?;
    let Some(slices) = usize::try_from(slices).ok().filter(|slices| *slices > 0) else { return other("a number of slices is expected") };
    run.step(slices)?;
    let (each, extra) = (items.len() / slices, items.len() % slices);
    let mut rows = Vec::new();
    let mut at = 0;
    for row in 0..slices {
        let end = at + each + usize::from(row < extra);
        let mut part = items[at..end].to_vec();
        at = end;
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Py::None) && row >= extra) {
            part.push(fill.clone());
        }
        rows.push(Py::list(part));
    }
    Ok(Py::iterator("generator", rows))
}

pub(super) fn reversed<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    match value {
        Py::Text(text) => {
            run.bytes(text.len())?;
            Ok(Py::text(text.chars().rev().collect::<String>()))
        }
        value => {
            let Ok(mut items) = list_of(run, value) else { return other("argument must be iterable") };
            items.reverse();
            Ok(match value {
                Py::Set(_) | Py::Iterator(..) => Py::list(items),
                _ => Py::iterator("list_reverseiterator", items),
            })
        }
    }
}

/// The last item, which an iterator does not have.
pub(super) fn last<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    if matches!(value, Py::Iterator(..) | Py::Set(_)) {
        return type_error(format!("'{}' object is not reversible", value.kind()));
    }
    Ok(list_of(run, value)?.pop().unwrap_or(Py::UNDEFINED))
}
