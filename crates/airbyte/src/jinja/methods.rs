//! Calls of methods.

use std::rc::Rc;

use super::{
    access::{contains, header, item, list_of, pairs, pairs_of},
    arguments::{Given, int, required, text},
    html,
    order::{equal, insert, position, sorted},
    text_methods, time_methods,
    value::{Outcome, Pairs, Py, Run, other, type_error},
};

pub(super) fn call<'a>(run: &Run, object: &Py<'a>, name: &'static str, given: Given<'a>) -> Outcome<Py<'a>> {
    run.step(1)?;
    match object {
        Py::Text(_) if object.is_markup() => html::call(run, object, name, given),
        Py::Text(value) => text_methods::call(run, value, name, given),
        Py::JsonList(_) | Py::Tuple(_) | Py::Named(..) => read_list(run, object, name, given),
        Py::List(items) => match name {
            "count" | "index" | "copy" => read_list(run, object, name, given),
            _ => change_list(run, &items.0, name, given),
        },
        Py::JsonDict(_) | Py::Record(_) | Py::Slice(_) | Py::Headers(_) => read_dict(run, object, name, given),
        Py::Dict(fields) => match name {
            "get" | "items" | "keys" | "values" | "copy" | "fromkeys" => read_dict(run, object, name, given),
            _ => change_dict(run, &fields.0, name, given),
        },
        Py::Set(items) => set(run, object, &items.0, name, given),
        Py::Bytes(bytes) => bytes_method(bytes, name, given),
        Py::Int(_) | Py::Bool(_) | Py::Float(_) => number(object, name, given),
        Py::Loop(inside) => {
            let given = given.plain()?;
            if name == "changed" {
                return changed(run, inside, given);
            }
            match given.len() {
                0 => type_error("no items for cycling given"),
                length => Ok(given[inside.at.get() % length].clone()),
            }
        }
        Py::Cycler(inside) => {
            given.none()?;
            let at = inside.1.get();
            inside.1.set(if name == "next" { (at + 1) % inside.0.len().max(1) } else { 0 });
            Ok(if name == "next" { inside.0.get(at).cloned().unwrap_or(Py::None) } else { Py::None })
        }
        _ => time_methods::call(run, object, name, given),
    }
}

fn changed<'a>(run: &Run, inside: &super::value::Loop<'a>, given: Vec<Py<'a>>) -> Outcome<Py<'a>> {
    let mut last = inside.changed.borrow_mut();
    let same = match last.as_ref() {
        Some(last) => equal(run, &Py::tuple(last.clone()), &Py::tuple(given.clone()))?,
        None => false,
    };
    *last = Some(given);
    Ok(Py::Bool(!same))
}

fn read_list<'a>(run: &Run, object: &Py<'a>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let items = list_of(run, object)?;
    match name {
        "copy" => given.none().map(|()| Py::list(items)),
        "count" => {
            let wanted = given.between(1, 1)?;
            let mut count = 0;
            for item in &items {
                count += i128::from(equal(run, item, &wanted[0])?);
            }
            Ok(Py::Int(count))
        }
        "index" => {
            let wanted = given.between(1, 3)?;
            match position(run, &items, &wanted[0])? {
                Some(at) => Ok(Py::Int(at as i128)),
                None => other("the value is not in the list"),
            }
        }
        // The reference changes the configuration or the response itself, which nothing here may.
        _ => other("a list of the configuration or of a response cannot be changed; copy it first, as in (value | list)"),
    }
}

fn change_list<'a>(run: &Run, items: &std::cell::RefCell<Vec<Py<'a>>>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    run.bytes(32)?;
    match name {
        "append" => {
            let value = given.between(1, 1)?.remove(0);
            items.borrow_mut().push(value);
        }
        "extend" => {
            let more = list_of(run, &given.between(1, 1)?[0])?;
            items.borrow_mut().extend(more);
        }
        "insert" => {
            let mut given = given.between(2, 2)?;
            let at = int(&given[0])?;
            let length = items.borrow().len() as i128;
            let at = if at < 0 { (at + length).max(0) } else { at.min(length) };
            items.borrow_mut().insert(at as usize, given.remove(1));
        }
        "pop" => {
            let given = given.between(0, 1)?;
            let length = items.borrow().len() as i128;
            let at = given.first().map(int).transpose()?.unwrap_or(-1);
            let at = if at < 0 { at + length } else { at };
            if !(0..length).contains(&at) {
                return other("pop from an empty list, or beyond its end");
            }
            return Ok(items.borrow_mut().remove(at as usize));
        }
        "remove" => {
            let wanted = given.between(1, 1)?;
            let at = position(run, &items.borrow(), &wanted[0])?;
            match at {
                Some(at) => drop(items.borrow_mut().remove(at)),
                None => return other("the value is not in the list"),
            }
        }
        "reverse" => {
            given.none()?;
            items.borrow_mut().reverse();
        }
        "clear" => {
            given.none()?;
            items.borrow_mut().clear();
        }
        _ => {
            let [key, reverse] = Given { positional: Vec::new(), ..given }.places(["key", "reverse"])?;
            if key.is_some_and(|key| !matches!(key, Py::None)) {
                return other("sorting by a function is not supported");
            }
            let reverse = reverse.map(|value| value.is_true()).transpose()?.unwrap_or(false);
            let all = items.borrow().iter().map(|item| (item.clone(), item.clone())).collect();
            *items.borrow_mut() = sorted(run, all, reverse)?;
        }
    }
    Ok(Py::None)
}

fn read_dict<'a>(run: &Run, object: &Py<'a>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    if name == "get" {
        return get(run, object, given);
    }
    if name == "fromkeys" {
        let given = given.between(1, 2)?;
        let value = given.get(1).cloned().unwrap_or(Py::None);
        let mut fresh = Pairs::new();
        for key in list_of(run, &given[0])? {
            insert(run, &mut fresh, key, value.clone())?;
        }
        return Ok(Py::dict(fresh));
    }
    let pairs = pairs(object).unwrap_or_default();
    run.step(pairs.len())?;
    run.bytes(pairs.len() * 2 * size_of::<Py<'_>>())?;
    let lowered = |pairs: Pairs<'a>| {
        pairs.into_iter().map(|(k, v)| Py::tuple(vec![Py::text(k.as_text().unwrap_or_default().to_lowercase()), v])).collect()
    };
    let view = match name {
        "keys" => Py::view("dict_keys", pairs.into_iter().map(|(key, _)| key).collect()),
        "values" => Py::view("dict_values", pairs.into_iter().map(|(_, value)| value).collect()),
        "items" => Py::view("dict_items", pairs.into_iter().map(|(key, value)| Py::tuple(vec![key, value])).collect()),
        "lower_items" => Py::iterator("generator", lowered(pairs)),
        "copy" => Py::dict(pairs),
        _ => return other("a dict of the configuration or of a response cannot be changed; copy it first, as in dict(value)"),
    };
    given.none().map(|()| view)
}

fn get<'a>(run: &Run, object: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    // The reference's own mappings take the names of these arguments, a plain dict does not.
    let named = matches!(object, Py::Slice(_) | Py::Record(_) | Py::Headers(_));
    let [key, default] = match named {
        true => given.places(["key", "default"])?,
        false => {
            let mut given = given.between(1, 2)?.into_iter();
            [given.next(), given.next()]
        }
    };
    let key = required(key, "key")?;
    super::order::hashable(&key)?;
    let default = default.unwrap_or(Py::None);
    let found = match object {
        Py::Headers(fields) => key.as_text().and_then(|key| header(fields, key)).map(Py::json),
        _ if contains(run, object, &key)? => Some(item(run, object, &key)?),
        _ => None,
    };
    Ok(found.unwrap_or(default))
}

fn change_dict<'a>(run: &Run, fields: &std::cell::RefCell<Pairs<'a>>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    match name {
        "update" => {
            let named = given.named.iter().map(|(name, value)| (Py::text(name.as_str()), value.clone())).collect::<Vec<_>>();
            let mut more = match given.positional.as_slice() {
                [] => Vec::new(),
                [one] => pairs_of(run, one)?,
                _ => return type_error("update expected at most 1 argument"),
            };
            more.extend(named);
            for (key, value) in more {
                insert(run, &mut fields.borrow_mut(), key, value)?;
            }
            Ok(Py::None)
        }
        "setdefault" | "pop" => {
            let given = given.between(1, 2)?;
            super::order::hashable(&given[0])?;
            let keys: Vec<Py<'a>> = fields.borrow().iter().map(|(key, _)| key.clone()).collect();
            match (position(run, &keys, &given[0])?, name) {
                (Some(at), "pop") => Ok(fields.borrow_mut().remove(at).1),
                (Some(at), _) => Ok(fields.borrow()[at].1.clone()),
                (None, "pop") => given.get(1).cloned().ok_or_else(|| super::value::Fault::Other("the key is not in the dict".into())),
                (None, _) => {
                    let value = given.get(1).cloned().unwrap_or(Py::None);
                    insert(run, &mut fields.borrow_mut(), given[0].clone(), value.clone())?;
                    Ok(value)
                }
            }
        }
        "popitem" => match fields.borrow_mut().pop() {
            Some((key, value)) => Ok(Py::tuple(vec![key, value])),
            None => other("the dict is empty"),
        },
        _ => {
            given.none()?;
            fields.borrow_mut().clear();
            Ok(Py::None)
        }
    }
}

fn set<'a>(run: &Run, object: &Py<'a>, items: &std::cell::RefCell<Vec<Py<'a>>>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.plain()?;
    let others = given.iter().map(|value| list_of(run, value)).collect::<Outcome<Vec<_>>>();
    let unite = |mut all: Vec<Py<'a>>, more: Vec<Py<'a>>| -> Outcome<Vec<Py<'a>>> {
        for item in more {
            super::order::hashable(&item)?;
            if position(run, &all, &item)?.is_none() {
                all.push(item);
            }
        }
        Ok(all)
    };
    let own = list_of(run, object)?;
    let first = |others: Vec<Vec<Py<'a>>>| others.into_iter().flatten().collect::<Vec<_>>();
    let kept = |own: Vec<Py<'a>>, others: &[Py<'a>], inside: bool| -> Outcome<Vec<Py<'a>>> {
        let mut kept = Vec::new();
        for item in own {
            if position(run, others, &item)?.is_some() == inside {
                kept.push(item);
            }
        }
        Ok(kept)
    };
    match name {
        "copy" => Ok(Py::set(own)),
        "add" => {
            *items.borrow_mut() = unite(own, given)?;
            Ok(Py::None)
        }
        "update" => {
            *items.borrow_mut() = unite(own, first(others?))?;
            Ok(Py::None)
        }
        "discard" | "remove" => {
            *items.borrow_mut() = kept(own, &given, false)?;
            Ok(Py::None)
        }
        "union" => unite(own, first(others?)).map(Py::set),
        "difference" => kept(own, &first(others?), false).map(Py::set),
        "intersection" => kept(own, &first(others?), true).map(Py::set),
        "isdisjoint" => Ok(Py::Bool(kept(own, &first(others?), true)?.is_empty())),
        "issubset" => Ok(Py::Bool(kept(own, &first(others?), false)?.is_empty())),
        _ => Ok(Py::Bool(kept(first(others?), &own, false)?.is_empty())),
    }
}

fn bytes_method<'a>(bytes: &Rc<[u8]>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    if name == "hex" {
        return given.none().map(|()| Py::text(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()));
    }
    let [encoding, errors] = given.places(["encoding", "errors"])?;
    let encoding = encoding.map(|value| text(&value)).transpose()?.unwrap_or("utf-8".into()).to_lowercase().replace('_', "-");
    let lenient = errors.map(|value| text(&value)).transpose()?.is_some_and(|errors| errors != "strict");
    match encoding.as_str() {
        "utf-8" | "utf8" | "ascii" => match std::str::from_utf8(bytes) {
            Ok(text) if encoding != "ascii" || text.is_ascii() => Ok(Py::text(text)),
            _ if lenient => Ok(Py::text(String::from_utf8_lossy(bytes).into_owned())),
            _ => other("the bytes cannot be decoded"),
        },
        "latin-1" | "iso-8859-1" | "latin1" => Ok(Py::text(bytes.iter().map(|b| char::from(*b)).collect::<String>())),
        _ => other(format!("the encoding {encoding:?} is not supported")),
    }
}

fn number<'a>(object: &Py<'a>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    given.none()?;
    match (object, name) {
        (Py::Float(f), "is_integer") => Ok(Py::Bool(f.fract() == 0.0)),
        (_, "is_integer") => Ok(Py::Bool(true)),
        (_, "conjugate") => Ok(object.clone()),
        (Py::Int(_) | Py::Bool(_), "as_integer_ratio") => Ok(Py::tuple(vec![Py::Int(object.as_int().unwrap_or_default()), Py::Int(1)])),
        (_, "bit_length") => Ok(Py::Int((128 - object.as_int().unwrap_or_default().unsigned_abs().leading_zeros()).into())),
        _ => other(format!("the method {name} is not supported")),
    }
}
