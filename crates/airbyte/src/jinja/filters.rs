//! What may stand behind `|`.

use super::{
    access::{length, length as length_of, list_of, own_attribute, pairs},
    arguments::{Given, int, required, text},
    arithmetic::negative,
    codes, html, printf, regexes, sequences,
    sequences::Path,
    show::{Dump, dumps, repr, show, shown},
    tests, text_methods,
    value::{Outcome, Py, Run, other, type_error},
    wrap,
};

pub(super) const NAMES: &[&str] = &[
    "abs",
    "attr",
    "base64binascii_decode",
    "base64decode",
    "base64encode",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "hash",
    "hmac",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "regex_replace",
    "regex_search",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

pub(super) fn apply<'a>(run: &Run, name: &str, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    run.step(1)?;
    match name {
        "default" | "d" => default(value, given),
        "first" => given.none().and_then(|()| Ok(list_of(run, value)?.into_iter().next().unwrap_or(Py::UNDEFINED))),
        "last" => given.none().and_then(|()| sequences::last(run, value)),
        "length" | "count" => given.none().and_then(|()| length(value)).map(|n| Py::Int(n as i128)),
        "list" => given.none().and_then(|()| list_of(run, value)).map(Py::list),
        "items" => given.none().and_then(|()| items(value)),
        "sort" => sequences::sort(run, value, given),
        "unique" => sequences::unique(run, value, given),
        "min" | "max" => sequences::extreme(run, value, name == "max", given),
        "groupby" => sequences::group(run, value, given),
        "dictsort" => sequences::dictsort(run, value, given),
        "sum" => sequences::sum(run, value, given),
        "batch" => sequences::batch(run, value, given),
        "slice" => sequences::slice(run, value, given),
        "random" => given.none().and_then(|()| random(run, value)),
        "reverse" => given.none().and_then(|()| sequences::reversed(run, value)),
        "map" => map(run, value, given),
        "select" | "reject" => select(run, value, given, name == "select", false),
        "selectattr" | "rejectattr" => select(run, value, given, name == "selectattr", true),
        "join" => join(run, value, given),
        "int" | "float" | "round" | "abs" => number(run, name, value, given),
        "attr" => {
            let [attribute] = given.places(["name"])?;
            let attribute = shown(run, &required(attribute, "name")?)?;
            Ok(own_attribute(value.defined()?, &attribute)?.unwrap_or(Py::UNDEFINED))
        }
        "tojson" => tojson(run, value, given),
        "urlencode" => given.none().and_then(|()| urlencode(run, value)),
        "hash" | "hmac" | "base64encode" | "base64decode" | "base64binascii_decode" => code(run, name, value, given),
        "regex_search" => {
            let [pattern] = given.places(["regex"])?;
            let pattern = text(&required(pattern, "regex")?)?;
            regexes::search(run, &text(value)?, &pattern).map(Py::text)
        }
        "regex_replace" => {
            let [pattern, replacement] = given.places(["regex", "replacement"])?;
            let (pattern, replacement) = (text(&required(pattern, "regex")?)?, text(&required(replacement, "replacement")?)?);
            regexes::replace(run, &text(value)?, &pattern, &replacement).map(Py::text)
        }
        "string" => given.none().and_then(|()| string(run, value)),
        _ => text_filter(run, name, value, given),
    }
}

fn default<'a>(value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [default, boolean] = given.places(["default_value", "boolean"])?;
    let also_false = boolean.map_or(Ok(false), |value| value.is_true())?;
    if value.is_undefined() || (also_false && !value.is_true()?) {
        return Ok(default.unwrap_or(Py::text("")));
    }
    Ok(value.clone())
}

/// Any one of a sequence's items.
fn random<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    let items = list_of(run, value)?;
    let at = uuid::Uuid::new_v4().as_u128() % items.len().max(1) as u128;
    Ok(items.into_iter().nth(at as usize).unwrap_or(Py::UNDEFINED))
}

fn items<'a>(value: &Py<'a>) -> Outcome<Py<'a>> {
    if value.is_undefined() {
        return Ok(Py::iterator("generator", Vec::new()));
    }
    match pairs(value) {
        Some(pairs) => Ok(Py::iterator("generator", pairs.into_iter().map(|(key, value)| Py::tuple(vec![key, value])).collect())),
        None => type_error("Can only get item pairs from a mapping."),
    }
}

fn map<'a>(run: &Run, value: &Py<'a>, mut given: Given<'a>) -> Outcome<Py<'a>> {
    let done = |items| Ok(Py::iterator("generator", items));
    if !value.is_true()? {
        return done(Vec::new());
    }
    let items = list_of(run, value)?;
    if given.positional.is_empty() {
        let [attribute, default] = given.places(["attribute", "default"])?;
        let Some(attribute) = attribute else { return other("map requires a filter argument") };
        let path = Path::new(Some(&attribute), default, false)?;
        return done(items.iter().map(|item| path.get(run, item)).collect::<Outcome<_>>()?);
    }
    let name = text(&given.positional.remove(0))?;
    done(items.iter().map(|item| apply(run, &name, item, given.clone())).collect::<Outcome<_>>()?)
}

fn select<'a>(run: &Run, value: &Py<'a>, mut given: Given<'a>, wanted: bool, by_attribute: bool) -> Outcome<Py<'a>> {
    let mut kept = Vec::new();
    if value.is_true()? {
        let path = match by_attribute {
            true if given.positional.is_empty() => return other("Missing parameter for attribute name"),
            true => Path::new(Some(&given.positional.remove(0)), None, false)?,
            false => Path::new(None, None, false)?,
        };
        let test = if given.positional.is_empty() { None } else { Some(text(&given.positional.remove(0))?) };
        for item in list_of(run, value)? {
            let found = path.get(run, &item)?;
            let fits = match &test {
                Some(test) => tests::is(run, test, &found, given.clone(), NAMES)?,
                None => found.is_true()?,
            };
            if fits == wanted {
                kept.push(item);
            }
        }
    }
    Ok(Py::iterator("generator", kept))
}

fn join<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [separator, attribute] = given.places(["d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |value| shown(run, &value))?;
    let path = Path::new(attribute.as_ref(), None, false)?;
    let mut out = String::new();
    for (at, item) in list_of(run, value)?.iter().enumerate() {
        if at > 0 {
            run.bytes(separator.len())?;
            out.push_str(&separator);
        }
        show(run, &mut out, &path.get(run, item)?)?;
    }
    Ok(Py::text(out))
}

fn number<'a>(run: &Run, name: &str, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    match name {
        "int" => {
            let [default, base] = given.places(["default", "base"])?;
            let base = base.map_or(Ok(10), |base| int(&base))?;
            to_int(value, default.unwrap_or(Py::Int(0)), base)
        }
        "float" => {
            let [default] = given.places(["default"])?;
            value.defined()?;
            Ok(to_float(value).map_or(default.unwrap_or(Py::Float(0.0)), Py::Float))
        }
        "abs" => {
            given.none()?;
            match (value.as_int(), value) {
                (Some(n), _) => Ok(Py::Int(n.abs())),
                (_, Py::Float(f)) => Ok(Py::Float(f.abs())),
                (_, Py::Delta(micros)) if *micros < 0 => negative(value),
                (_, Py::Delta(_)) => Ok(value.clone()),
                _ => {
                    // An undefined value has no absolute one for Python either.
                    type_error(format!("bad operand type for abs(): '{}'", value.kind()))
                }
            }
        }
        _ => {
            let [precision, method] = given.places(["precision", "method"])?;
            let precision = precision.map_or(Ok(0), |precision| int(&precision))?;
            let method = method.map_or(Ok("common".into()), |method| shown(run, &method))?;
            round(value, precision, &method)
        }
    }
}

/// `int(..)` of a value that is no text.
fn plain_int(value: &Py<'_>) -> Outcome<Option<i128>> {
    match value {
        Py::Float(f) if f.is_infinite() => other("cannot convert float infinity to integer"),
        Py::Float(f) if f.is_nan() => Ok(None),
        Py::Float(f) => Ok(Some(f.trunc() as i128)),
        value => Ok(value.as_int()),
    }
}

fn to_int<'a>(value: &Py<'a>, default: Py<'a>, base: i128) -> Outcome<Py<'a>> {
    value.defined()?;
    let found = match value {
        Py::Text(text) => text_int(text, base),
        value => plain_int(value)?,
    };
    let found = found.or_else(|| to_float(value).filter(|f| f.is_finite()).map(|f| f.trunc() as i128));
    Ok(found.map_or(default, Py::Int))
}

/// Python's `int(text, base)`.
fn text_int(text: &str, base: i128) -> Option<i128> {
    let base = u32::try_from(base).ok().filter(|base| matches!(base, 0 | 2..=36))?;
    let text = text.trim_matches(text_methods::is_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let marked = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(mark, _)| digits.to_ascii_lowercase().starts_with(mark));
    let (digits, base) = match marked {
        Some((_, radix)) if base == radix || base == 0 => (digits[2..].strip_prefix('_').unwrap_or(&digits[2..]), radix),
        _ if base == 0 => (digits, 10),
        _ => (digits, base),
    };
    let tidy = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__") && !digits.is_empty();
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    if !tidy || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    i128::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// Python's `float(value)`.
fn to_float(value: &Py<'_>) -> Option<f64> {
    let Py::Text(text) = value else { return value.as_number() };
    let text = text.trim_matches(text_methods::is_space);
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let tidy = bytes.iter().enumerate().all(|(at, b)| *b != b'_' || (digit(at.checked_sub(1)) && digit(Some(at + 1))));
    text.replace('_', "").parse().ok().filter(|_| tidy)
}

fn round<'a>(value: &Py<'a>, precision: i128, method: &str) -> Outcome<Py<'a>> {
    if !matches!(method, "common" | "ceil" | "floor") {
        return other("method must be common, ceil or floor");
    }
    if method != "common" {
        value.defined()?;
    }
    let precision = precision.clamp(-300, 300) as i32;
    let scale = 10f64.powi(precision.abs());
    match (value, value.as_number()) {
        (_, None) => type_error(format!("type {} doesn't define __round__ method", value.kind())),
        (Py::Float(f), _) if method == "common" && precision >= 0 => {
            Ok(Py::Float(format!("{f:.*}", precision as usize).parse().unwrap_or(*f)))
        }
        (Py::Float(f), _) if method == "common" => Ok(Py::Float((f / scale).round_ties_even() * scale)),
        (_, Some(f)) if method == "common" => match (precision < 0, value.as_int()) {
            (true, _) => Ok(Py::Int(((f / scale).round_ties_even() * scale) as i128)),
            (false, n) => Ok(Py::Int(n.unwrap_or_default())),
        },
        (_, Some(f)) => {
            let scaled = if precision >= 0 { f * scale } else { f / scale };
            let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Py::Float(if precision >= 0 { whole / scale } else { whole * scale }))
        }
    }
}

fn tojson<'a>(run: &Run, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let [indent] = given.places(["indent"])?;
    let indent = indent.filter(|indent| !matches!(indent, Py::None)).map(|indent| int(&indent)).transpose()?;
    let mut out = String::new();
    dumps(run, &mut out, value, Dump { sorted: true, indent: indent.map(|width| width.max(0) as usize) }, 0)?;
    Ok(Py::markup(out.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027")))
}

/// The language's own filter: what is no text becomes JSON in three quotes, which reads back as a text.
fn string<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    if let Py::Text(_) = value {
        return Ok(value.clone());
    }
    let mut out = String::from("\"\"\"");
    dumps(run, &mut out, value, Dump::default(), 0)?;
    out.push_str("\"\"\"");
    Ok(Py::text(out))
}

fn urlencode<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    let quoted = |value: &Py<'a>| Ok(codes::quoted(&shown(run, value)?, "").replace("%20", "+"));
    let pairs = match value {
        Py::Text(text) => return Ok(Py::text(codes::quoted(text, "/"))),
        Py::JsonDict(_) | Py::Dict(_) => pairs(value).unwrap_or_default(),
        value if list_of(run, value).is_err() => return Ok(Py::text(codes::quoted(&shown(run, value)?, "/"))),
        value => super::access::pairs_of(run, value)?,
    };
    let parts = pairs.iter().map(|(key, value)| Ok(format!("{}={}", quoted(key)?, quoted(value)?))).collect::<Outcome<Vec<String>>>()?;
    Ok(Py::text(parts.join("&")))
}

fn code<'a>(run: &Run, name: &str, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    let result = match name {
        "hash" => {
            let [kind, salt] = given.places(["hash_type", "salt"])?;
            let kind = kind.map_or(Ok("md5".into()), |kind| text(&kind))?;
            let salt = match salt {
                Some(salt) if salt.is_true()? => shown(run, &salt)?,
                _ => String::new(),
            };
            codes::hash(&shown(run, value)?, &kind, &salt)?
        }
        "hmac" => {
            let [key, kind] = given.places(["key", "hash_type"])?;
            let key = shown(run, &required(key, "key")?)?;
            let kind = kind.map_or(Ok("sha256".into()), |kind| text(&kind))?;
            codes::hmac(&shown(run, value)?, &key, &kind)?
        }
        _ => {
            given.none()?;
            let value = match value {
                Py::Text(text) => text,
                value => {
                    value.defined()?;
                    return other(format!("'{}' object has no attribute 'encode'", value.kind()));
                }
            };
            match name {
                "base64decode" => codes::base64_decoded(value)?,
                "base64binascii_decode" if !value.is_ascii() => return other("the text has letters beyond ASCII"),
                // The reference encodes here as well, whatever the name says.
                _ => codes::base64(value),
            }
        }
    };
    Ok(Py::text(result))
}

/// Filters that make a text of the value first.
fn text_filter<'a>(run: &Run, name: &str, value: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
    if !NAMES.contains(&name) {
        return other(format!("No filter named '{name}'."));
    }
    let text = shown(run, value)?;
    let like = |text: String| value.like(text);
    let result = match name {
        "lower" => given.none().map(|()| text.to_lowercase()).map(like)?,
        "upper" => given.none().map(|()| text.to_uppercase()).map(like)?,
        "capitalize" => given.none().map(|()| text_methods::capitalized(&text)).map(like)?,
        "title" => given.none().map(|()| title(&text)).map(Py::text)?,
        "trim" => {
            let [chars] = given.places(["chars"])?;
            let chars: Option<Vec<char>> = match chars {
                None | Some(Py::None) => None,
                Some(chars) => Some(super::arguments::text(&chars)?.chars().collect()),
            };
            like(text.trim_matches(|c| chars.as_ref().map_or_else(|| text_methods::is_space(c), |chars| chars.contains(&c))).to_owned())
        }
        "replace" => {
            let [old, new, count] = given.places(["old", "new", "count"])?;
            let (old, new) = (shown(run, &required(old, "old")?)?, shown(run, &required(new, "new")?)?);
            let count = match count {
                None | Some(Py::None) => -1,
                Some(count) => int(&count)?,
            };
            Py::text(text_methods::replaced(run, &text, &old, &new, count)?)
        }
        "center" => {
            let [width] = given.places(["width"])?;
            let width = width.map_or(Ok(80), |width| int(&width))?;
            like(text_methods::padded(run, &text, name, usize::try_from(width).unwrap_or_default(), ' ')?)
        }
        "format" if value.is_markup() => {
            let positional = given.positional.iter().map(|value| html::safe(run, value)).collect::<Outcome<_>>()?;
            let named = given.named.into_iter().map(|(name, value)| Ok((name, html::safe(run, &value)?))).collect::<Outcome<_>>()?;
            like(printf::percent_filter(run, &text, Given { positional, named })?)
        }
        "format" => Py::text(printf::percent_filter(run, &text, given)?),
        "truncate" => truncate(value, text, given)?,
        "indent" => like(indent(run, value, given)?),
        "wordwrap" => Py::text(wrap::wrap(run, value, given)?),
        "wordcount" => {
            given.none()?;
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count();
            Py::Int(words as i128)
        }
        "escape" | "e" => given.none().and_then(|()| html::escaped_once(run, value)).map(Py::markup)?,
        "forceescape" => given.none().map(|()| Py::markup(html::escaped(&text)))?,
        "safe" => given.none().map(|()| Py::markup(text))?,
        "striptags" => given.none().map(|()| Py::text(html::without_tags(&text)))?,
        "urlize" => Py::text(html::links(run, value, given)?),
        "xmlattr" => Py::text(html::attributes(run, value, given)?),
        "filesizeformat" => Py::text(file_size(value, given)?),
        "pprint" => {
            given.none()?;
            let mut out = String::new();
            repr(run, &mut out, value, 0)?;
            Py::text(out)
        }
        _ => return other(format!("the filter {name} is not supported")),
    };
    Ok(result)
}

/// A capital behind white space, a hyphen or an opening bracket.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        if c.is_whitespace() || "-({[<".contains(c) {
            at_start = true;
            out.push(c);
        } else if std::mem::replace(&mut at_start, false) {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn truncate<'a>(value: &Py<'a>, text: String, given: Given<'a>) -> Outcome<Py<'a>> {
    let [length, kill_words, end, leeway] = given.places(["length", "killwords", "end", "leeway"])?;
    let size = |value: Option<Py<'_>>, default: i128| match value {
        None | Some(Py::None) => Ok(default),
        Some(value) => int(&value),
    };
    let (length, leeway) = (size(length, 255)?, size(leeway, 5)?);
    let end = end.map_or(Ok("...".into()), |end| super::arguments::text(&end))?;
    let tail = end.chars().count() as i128;
    if length < tail || leeway < 0 {
        return other("the length is less than that of the end");
    }
    // The length of any value is asked for, but only a text can be cut.
    if length_of(value)? as i128 <= length + leeway {
        return Ok(value.clone());
    }
    let Py::Text(_) = value else { return other("only a text can be cut") };
    let end = if value.is_markup() { html::escaped(&end) } else { end };
    let cut: String = text.chars().take((length - tail) as usize).collect();
    if kill_words.map_or(Ok(false), |kill| kill.is_true())? {
        return Ok(value.like(cut + &end));
    }
    Ok(value.like(cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before).to_owned() + &end))
}

fn indent(run: &Run, value: &Py<'_>, given: Given<'_>) -> Outcome<String> {
    let [width, first, blank] = given.places(["width", "first", "blank"])?;
    if matches!(value, Py::List(_) | Py::JsonList(_)) {
        return other("'list' object has no attribute 'splitlines'");
    }
    let text = text(value)? + "\n";
    let prefix = match width {
        None => "    ".to_owned(),
        Some(Py::Text(prefix)) => prefix.to_string(),
        Some(width) => " ".repeat(usize::try_from(int(&width)?).unwrap_or_default().min(10_000)),
    };
    let flag = |value: Option<Py<'_>>| value.map_or(Ok(false), |value| value.is_true());
    let (first, blank) = (flag(first)?, flag(blank)?);
    let lines = text_methods::lines(&text, false);
    run.bytes(lines.len() * prefix.len())?;
    let indented = |(at, line): (usize, &String)| match at {
        0 => line.clone(),
        _ if blank || !line.is_empty() => format!("{prefix}{line}"),
        _ => line.clone(),
    };
    let out = lines.iter().enumerate().map(indented).collect::<Vec<_>>().join("\n");
    Ok(if first { prefix + &out } else { out })
}

fn file_size(value: &Py<'_>, given: Given<'_>) -> Outcome<String> {
    let [binary] = given.places(["binary"])?;
    let binary = binary.map_or(Ok(false), |binary| binary.is_true())?;
    value.defined()?;
    let Some(bytes) = to_float(value) else {
        return match value {
            Py::Text(_) => other("could not convert the text to a number"),
            value => type_error(format!("float() argument must be a string or a real number, not '{}'", value.kind())),
        };
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let letters = if binary { ["K", "M", "G", "T", "P", "E", "Z", "Y"] } else { ["k", "M", "G", "T", "P", "E", "Z", "Y"] };
    let at = (0..8).find(|at| bytes < base.powi(at + 2)).unwrap_or(7);
    Ok(format!("{:.1} {}{}B", base * bytes / base.powi(at + 2), letters[at as usize], if binary { "i" } else { "" }))
}
