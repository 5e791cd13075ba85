//! Methods of texts. Places and lengths are in characters, as in Python.

use super::{
    access::{item, list_of, pairs},
    arguments::{Given, int, text},
    order::insert,
    printf::braces,
    value::{Outcome, Py, Run, Text, other, type_error},
};

pub(super) fn call<'a>(run: &Run, value: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    run.bytes(value.len())?;
    let new = |text: String| Ok(Py::text(text));
    match name {
        "lower" | "casefold" => given.none().and_then(|()| new(value.to_lowercase())),
        "upper" => given.none().and_then(|()| new(value.to_uppercase())),
        "capitalize" => given.none().and_then(|()| new(capitalized(value))),
        "title" => given.none().and_then(|()| new(titled(value))),
        "swapcase" => given.none().and_then(|()| new(value.chars().map(swapped).collect())),
        "strip" | "lstrip" | "rstrip" => strip(value, name, given),
        "split" | "rsplit" => split(run, value, name == "rsplit", given),
        "splitlines" => {
            let [keep] = given.places(["keepends"])?;
            let keep = keep.map(|keep| keep.is_true()).transpose()?.unwrap_or(false);
            Ok(Py::list(lines(value, keep).into_iter().map(Py::text).collect()))
        }
        "partition" | "rpartition" => partition(value, name == "rpartition", given),
        "join" => {
            let items = list_of(run, &given.between(1, 1)?[0])?;
            join(run, value, &items).map(Py::text)
        }
        "replace" => replace(run, value, given),
        "startswith" | "endswith" => ends(value, name == "startswith", given),
        "find" | "rfind" | "index" | "rindex" | "count" => find(value, name, given),
        "format" => braces(run, value, &given).map(Py::text),
        "format_map" => {
            let mapping = given.between(1, 1)?.remove(0);
            let named = pairs(&mapping).unwrap_or_default();
            let named = named.into_iter().filter_map(|(key, value)| Some((key.as_text()?.to_owned(), value))).collect();
            braces(run, value, &Given { positional: Vec::new(), named }).map(Py::text)
        }
        "encode" => encode(value, given),
        "zfill" | "center" | "ljust" | "rjust" => pad(run, value, name, given),
        "removeprefix" | "removesuffix" => {
            let end = text(&given.between(1, 1)?[0])?;
            let cut = if name == "removeprefix" { value.strip_prefix(end.as_str()) } else { value.strip_suffix(end.as_str()) };
            new(cut.unwrap_or(value).to_owned())
        }
        "expandtabs" => {
            let given = given.between(0, 1)?;
            let width = given.first().map(int).transpose()?.unwrap_or(8).clamp(0, 1000) as usize;
            new(tabs_expanded(value, width))
        }
        "maketrans" => maketrans(run, given),
        "translate" => translate(run, value, &given.between(1, 1)?[0]).map(Py::text),
        _ => {
            given.none()?;
            Ok(Py::Bool(is(value, name)))
        }
    }
}

fn is(value: &str, name: &str) -> bool {
    let all = |test: fn(char) -> bool| !value.is_empty() && value.chars().all(test);
    let cased = |upper: bool| {
        let has_case = |c: char| c.is_uppercase() || c.is_lowercase();
        value.chars().any(has_case)
            && value.chars().filter(|c| has_case(*c)).all(|c| if upper { c.is_uppercase() } else { c.is_lowercase() })
    };
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => value.is_ascii(),
        "isdecimal" | "isdigit" => all(|c| c.is_ascii_digit()) || (!value.is_ascii() && all(char::is_numeric)),
        "isnumeric" => all(char::is_numeric),
        "isidentifier" => {
            value.starts_with(|c: char| c.is_alphabetic() || c == '_') && value.chars().all(|c| c.is_alphanumeric() || c == '_')
        }
        "islower" => cased(false),
        "isupper" => cased(true),
        "isspace" => all(char::is_whitespace),
        "istitle" => value.chars().any(char::is_alphabetic) && titled(value) == value,
        _ => crate::python::quoted(value).len() == value.len() + 2,
    }
}

fn swapped(c: char) -> char {
    if c.is_uppercase() { c.to_lowercase().next().unwrap_or(c) } else { c.to_uppercase().next().unwrap_or(c) }
}

pub(super) fn capitalized(value: &str) -> String {
    let mut chars = value.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

fn titled(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut inside = false;
    for c in value.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Python's white space: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn strip<'a>(value: &str, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(0, 1)?;
    let chars: Option<Vec<char>> = match given.first() {
        None | Some(Py::None) => None,
        Some(chars) => Some(text(chars)?.chars().collect()),
    };
    let taken = |c: char| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(&c));
    let mut rest = value;
    if name != "rstrip" {
        rest = rest.trim_start_matches(taken);
    }
    if name != "lstrip" {
        rest = rest.trim_end_matches(taken);
    }
    Ok(Py::text(rest))
}

fn split<'a>(run: &Run, value: &str, from_end: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let [separator, most] = given.places(["sep", "maxsplit"])?;
    let most = most.map(|most| int(&most)).transpose()?.unwrap_or(-1);
    let most = usize::try_from(most).unwrap_or(usize::MAX - 1);
    let separator = match separator {
        None | Some(Py::None) => None,
        Some(separator) => Some(text(&separator)?),
    };
    let mut parts: Vec<&str> = match &separator {
        Some(separator) if separator.is_empty() => return other("empty separator"),
        Some(separator) if from_end => value.rsplitn(most.saturating_add(1), separator.as_str()).collect(),
        Some(separator) => value.splitn(most.saturating_add(1), separator.as_str()).collect(),
        None => words(value, most, from_end),
    };
    if from_end {
        parts.reverse();
    }
    run.step(parts.len())?;
    run.bytes(parts.len() * 48)?;
    Ok(Py::list(parts.into_iter().map(Py::text).collect()))
}

fn words(value: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = value.trim_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let at = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = at else {
            parts.push(rest);
            break;
        };
        let width = rest[at..].chars().next().map_or(1, char::len_utf8);
        let (word, left) = if from_end {
            (&rest[at + width..], rest[..at].trim_end_matches(is_space))
        } else {
            (&rest[..at], rest[at..].trim_start_matches(is_space))
        };
        parts.push(word);
        rest = left;
    }
    parts
}

pub(super) fn lines(value: &str, keep: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if !matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            line.push(c);
            continue;
        }
        let pair = c == '\r' && chars.peek() == Some(&'\n');
        if keep {
            line.push(c);
        }
        if pair {
            chars.next();
            if keep {
                line.push('\n');
            }
        }
        lines.push(std::mem::take(&mut line));
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn partition<'a>(value: &str, from_end: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let separator = text(&given.between(1, 1)?[0])?;
    if separator.is_empty() {
        return other("empty separator");
    }
    let found = if from_end { value.rsplit_once(separator.as_str()) } else { value.split_once(separator.as_str()) };
    let parts = match found {
        Some((before, after)) => [before, &separator, after],
        None if from_end => ["", "", value],
        None => [value, "", ""],
    };
    Ok(Py::tuple(parts.into_iter().map(Py::text).collect()))
}

fn join(run: &Run, separator: &str, items: &[Py<'_>]) -> Outcome<String> {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        let Py::Text(item) = item else {
            return type_error(format!("sequence item {at}: expected str instance, {} found", item.kind()));
        };
        run.bytes(separator.len() + item.len())?;
        if at > 0 {
            out.push_str(separator);
        }
        out.push_str(item);
    }
    Ok(out)
}

fn replace<'a>(run: &Run, value: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(2, 3)?;
    let (old, new) = (text(&given[0])?, text(&given[1])?);
    let count = given.get(2).map(int).transpose()?.unwrap_or(-1);
    replaced(run, value, &old, &new, count).map(Py::text)
}

pub(super) fn replaced(run: &Run, value: &str, old: &str, new: &str, count: i128) -> Outcome<String> {
    let found = if old.is_empty() { value.chars().count() + 1 } else { value.matches(old).count() };
    run.bytes(value.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(match usize::try_from(count) {
        Ok(count) => value.replacen(old, new, count),
        Err(_) => value.replace(old, new),
    })
}

/// The part that `start` and `stop` name, and the place where it begins; none when it begins beyond the end.
fn part<'t>(value: &'t str, given: &[Py<'_>]) -> Outcome<Option<(&'t str, usize)>> {
    let length = value.chars().count() as i128;
    let bound = |at: usize, default: i128| -> Outcome<i128> {
        match given.get(at) {
            None | Some(Py::None) => Ok(default),
            Some(place) => {
                let place = int(place)?;
                Ok(if place < 0 { (place + length).max(0) } else { place })
            }
        }
    };
    let (start, stop) = (bound(1, 0)?, bound(2, length)?.min(length));
    if start > length || start > stop {
        return Ok(None);
    }
    let place = |at: i128| value.char_indices().nth(at as usize).map_or(value.len(), |(byte, _)| byte);
    Ok(Some((&value[place(start)..place(stop)], start as usize)))
}

fn ends<'a>(value: &str, at_start: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(1, 3)?;
    let Some((part, _)) = part(value, &given)? else { return Ok(Py::Bool(false)) };
    let fits = |end: &str| if at_start { part.starts_with(end) } else { part.ends_with(end) };
    Ok(Py::Bool(match &given[0] {
        Py::Text(end) => fits(end),
        Py::Tuple(all) => {
            let all = all.0.borrow();
            let all = all.iter().map(text).collect::<Outcome<Vec<_>>>()?;
            all.iter().any(|end| fits(end))
        }
        other => return type_error(format!("first arg must be str or a tuple of str, not {}", other.kind())),
    }))
}

fn find<'a>(value: &str, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(1, 3)?;
    let wanted = text(&given[0])?;
    let part = part(value, &given)?;
    if name == "count" {
        let count = part.map_or(0, |(part, _)| if wanted.is_empty() { part.chars().count() + 1 } else { part.matches(&wanted).count() });
        return Ok(Py::Int(count as i128));
    }
    let place = part.and_then(|(part, start)| {
        let byte = if name.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
        byte.map(|byte| start + part[..byte].chars().count())
    });
    match place {
        Some(place) => Ok(Py::Int(place as i128)),
        None if name.ends_with("find") => Ok(Py::Int(-1)),
        None => other("substring not found"),
    }
}

fn encode<'a>(value: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let [encoding, errors] = given.places(["encoding", "errors"])?;
    let encoding = encoding.map(|value| text(&value)).transpose()?.unwrap_or("utf-8".into()).to_lowercase().replace('_', "-");
    let ignore = errors.map(|value| text(&value)).transpose()?.is_some_and(|errors| errors == "ignore");
    let most = match encoding.as_str() {
        "utf-8" | "utf8" => return Ok(Py::Bytes(value.as_bytes().into())),
        "ascii" | "us-ascii" => 0x7f,
        "latin-1" | "iso-8859-1" | "latin1" => 0xff,
        _ => return other(format!("the encoding {encoding:?} is not supported")),
    };
    let fits = |c: char| u32::from(c) <= most;
    if !ignore && !value.chars().all(fits) {
        return other("the text cannot be encoded");
    }
    Ok(Py::Bytes(value.chars().filter(|c| fits(*c)).map(|c| u32::from(c) as u8).collect::<Vec<_>>().into()))
}

fn pad<'a>(run: &Run, value: &str, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(1, if name == "zfill" { 1 } else { 2 })?;
    let width = usize::try_from(int(&given[0])?.max(0)).unwrap_or(usize::MAX);
    let fill = match given.get(1) {
        None => {
            if name == "zfill" {
                '0'
            } else {
                ' '
            }
        }
        Some(fill) => {
            let fill = text(fill)?;
            let mut chars = fill.chars();
            match (chars.next(), chars.next()) {
                (Some(fill), None) => fill,
                _ => return type_error("The fill character must be exactly one character long"),
            }
        }
    };
    padded(run, value, name, width, fill).map(Py::text)
}

pub(super) fn padded(run: &Run, value: &str, name: &str, width: usize, fill: char) -> Outcome<String> {
    let missing = width.saturating_sub(value.chars().count());
    run.bytes(missing.saturating_mul(fill.len_utf8()))?;
    let fills = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match name {
        "zfill" => match value.strip_prefix(['+', '-'].as_slice()) {
            Some(rest) => value[..1].to_owned() + &fills(missing) + rest,
            None => fills(missing) + value,
        },
        "rjust" => fills(missing) + value,
        "ljust" => value.to_owned() + &fills(missing),
        _ => {
            // An odd place goes to the left when the width is odd.
            let left = missing / 2 + (missing & width & 1);
            fills(left) + value + &fills(missing - left)
        }
    })
}

/// The table that `translate` takes: code points, and what stands for them.
fn maketrans<'a>(run: &Run, given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(1, 3)?;
    let code = |c: char| Py::Int(u32::from(c).into());
    let mut table = Vec::new();
    if given.len() == 1 {
        let Some(pairs) = pairs(&given[0]) else { return type_error("if you give only one argument to maketrans it must be a dict") };
        for (key, value) in pairs {
            let key = match key.as_text().map(|text| text.chars().collect::<Vec<_>>()) {
                Some(chars) if chars.len() == 1 => code(chars[0]),
                Some(_) => return other("string keys in translate table must be of length 1"),
                None => Py::Int(int(&key)?),
            };
            insert(run, &mut table, key, value)?;
        }
        return Ok(Py::dict(table));
    }
    let (from, to) = (text(&given[0])?, text(&given[1])?);
    if from.chars().count() != to.chars().count() {
        return other("the first two maketrans arguments must have equal length");
    }
    for (from, to) in from.chars().zip(to.chars()) {
        insert(run, &mut table, code(from), code(to))?;
    }
    for gone in given.get(2).map(text).transpose()?.unwrap_or_default().chars() {
        insert(run, &mut table, code(gone), Py::None)?;
    }
    Ok(Py::dict(table))
}

fn translate(run: &Run, value: &str, table: &Py<'_>) -> Outcome<String> {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        run.step(1)?;
        match item(run, table, &Py::Int(u32::from(c).into()))? {
            Py::Undefined(_) => out.push(c),
            Py::None => {}
            Py::Text(text) => {
                run.bytes(text.len())?;
                out.push_str(&text);
            }
            code => match u32::try_from(int(&code)?).ok().and_then(char::from_u32) {
                Some(c) => out.push(c),
                None => return other("character mapping must be in range(0x110000)"),
            },
        }
    }
    Ok(out)
}

fn tabs_expanded(value: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for c in value.chars() {
        if c == '\t' {
            let spaces = if width == 0 { 0 } else { width - column % width };
            out.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else {
            column = if c == '\n' || c == '\r' { 0 } else { column + 1 };
            out.push(c);
        }
    }
    out
}
