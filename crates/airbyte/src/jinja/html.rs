//! Texts for HTML: MarkupSafe's escapes, and Jinja's filters that make tags. Nothing is escaped that nobody asked to be.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::{
    access::{list_of, pairs},
    arguments::{Given, int, text},
    show::shown,
    text_methods,
    value::{Outcome, Py, Run, other, type_error},
};

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('>', "&gt;").replace('<', "&lt;").replace('\'', "&#39;").replace('"', "&#34;")
}

/// The text of a value, escaped unless it is so already.
pub(super) fn escaped_once(run: &Run, value: &Py<'_>) -> Outcome<String> {
    let text = shown(run, value)?;
    Ok(if value.is_markup() { text } else { escaped(&text) })
}

/// What a format of the kind Markup puts in: texts are escaped, numbers are as they are.
pub(super) fn safe<'a>(run: &Run, value: &Py<'a>) -> Outcome<Py<'a>> {
    Ok(match value {
        Py::Undefined(_) | Py::None | Py::Bool(_) | Py::Int(_) | Py::Float(_) => value.clone(),
        Py::Tuple(items) => Py::tuple(items.0.borrow().iter().map(|item| safe(run, item)).collect::<Outcome<_>>()?),
        Py::JsonDict(_) | Py::Dict(_) | Py::Record(_) | Py::Slice(_) => {
            let all = pairs(value).unwrap_or_default();
            Py::dict(all.into_iter().map(|(key, value)| Ok((key, safe(run, &value)?))).collect::<Outcome<_>>()?)
        }
        value => Py::markup(escaped_once(run, value)?),
    })
}

/// A method of a text of the kind Markup: what comes in is escaped, what comes out is of the same kind.
pub(super) fn call<'a>(run: &Run, object: &Py<'a>, name: &'static str, mut given: Given<'a>) -> Outcome<Py<'a>> {
    let Py::Text(value) = object else { return type_error("a text is expected") };
    match name {
        "join" => {
            let items = list_of(run, &given.between(1, 1)?[0])?;
            let items = items.iter().map(|item| escaped_once(run, item).map(Py::text)).collect::<Outcome<_>>()?;
            given = Given { positional: vec![Py::list(items)], named: Vec::new() };
        }
        "replace" if given.positional.len() > 1 => given.positional[1] = Py::text(escaped_once(run, &given.positional[1])?),
        "format" => {
            given.positional = given.positional.iter().map(|value| safe(run, value)).collect::<Outcome<_>>()?;
            given.named = given.named.iter().map(|(name, value)| Ok((name.clone(), safe(run, value)?))).collect::<Outcome<_>>()?;
        }
        _ => {}
    }
    Ok(marked(text_methods::call(run, value, name, given)?))
}

fn marked(value: Py<'_>) -> Py<'_> {
    match &value {
        Py::Text(text) => Py::markup(&**text),
        Py::List(items) => Py::list(items.0.borrow().iter().cloned().map(marked).collect()),
        Py::Tuple(items) => Py::tuple(items.0.borrow().iter().cloned().map(marked).collect()),
        _ => value,
    }
}

pub(super) fn without_tags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let end = if rest[at..].starts_with("<!--") { rest[at..].find("-->").map(|e| e + 3) } else { rest[at..].find('>').map(|e| e + 1) };
        let Some(end) = end else {
            out.push_str(&rest[at..]);
            rest = "";
            break;
        };
        rest = &rest[at + end..];
    }
    out.push_str(rest);
    let text = out.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#39;", "'")
        .replace("&#34;", "\"")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// `xmlattr`: the attributes of a tag.
pub(super) fn attributes(run: &Run, value: &Py<'_>, given: Given<'_>) -> Outcome<String> {
    let [space] = given.places(["autospace"])?;
    let space = space.map_or(Ok(true), |space| space.is_true())?;
    value.defined()?;
    let Some(pairs) = pairs(value) else { return other(format!("'{}' object has no attribute 'items'", value.kind())) };
    let mut parts = Vec::new();
    for (key, value) in pairs {
        if matches!(value, Py::None | Py::Undefined(_)) {
            continue;
        }
        if text(&key)?.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=')) {
            return other("invalid character in an attribute's name");
        }
        parts.push(format!("{}=\"{}\"", escaped_once(run, &key)?, escaped_once(run, &value)?));
    }
    let out = parts.join(" ");
    Ok(if space && !out.is_empty() { format!(" {out}") } else { out })
}

/// An address of a page, as `urlize` knows one: a scheme or `www.` before a name with a plausible end, a name with a known end, or numbers.
static PAGE: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"(?:https?://|www\.)(?:[\w%-]+\.)*(?:xn--[\w%]{2,59}|[a-z]{2,63})";
    let known = r"(?:[\w%-]{2,63}\.)+(?:com|net|int|edu|gov|org|info|mil)";
    let number = r"https?://(?:\d{1,3}(?:\.\d{1,3}){3}|\[(?:[\da-f]{0,4}:){2}(?:[\da-f]{0,4}:?){1,6}\])";
    Regex::new(&format!(r"(?i)\A(?:{name}|{known}|{number})(?::\d{{1,5}})?(?:[/?#]\S*)?\n?\z")).expect("the pattern is a constant")
});
static MAIL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A\S+@\w[\w.-]*\.\w+\n?\z").expect("the pattern is a constant"));

fn given_one(value: Option<Py<'_>>) -> Option<Py<'_>> {
    value.filter(|value| !matches!(value, Py::None))
}

/// `urlize`: addresses become links, the rest is escaped.
pub(super) fn links(run: &Run, value: &Py<'_>, given: Given<'_>) -> Outcome<String> {
    let [limit, no_follow, target, rel, schemes] = given.places(["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"])?;
    let limit = given_one(limit).map(|limit| int(&limit)).transpose()?;
    let rel = given_one(rel).map(|rel| text(&rel)).transpose()?.unwrap_or_default();
    let mut rels: std::collections::BTreeSet<&str> = rel.split_whitespace().collect();
    rels.insert("noopener");
    if no_follow.map_or(Ok(false), |value| value.is_true())? {
        rels.insert("nofollow");
    }
    let rel = rels.into_iter().collect::<Vec<_>>().join(" ");
    let mut more = format!(" rel=\"{}\"", escaped(&rel));
    if let Some(target) = given_one(target).map(|target| text(&target)).transpose()?.filter(|target| !target.is_empty()) {
        more += &format!(" target=\"{}\"", escaped(&target));
    }
    let schemes = match given_one(schemes) {
        Some(schemes) => list_of(run, &schemes)?.iter().map(text).collect::<Outcome<Vec<_>>>()?,
        None => Vec::new(),
    };
    let all = escaped_once(run, value)?;
    run.bytes(all.len())?;
    let mut out = String::new();
    let mut rest = all.as_str();
    while !rest.is_empty() {
        let end = rest.find(text_methods::is_space).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        linked(&mut out, word, limit, &more, &schemes);
        let spaces = after.find(|c| !text_methods::is_space(c)).unwrap_or(after.len());
        out.push_str(&after[..spaces]);
        rest = &after[spaces..];
    }
    run.bytes(out.len())?;
    Ok(out)
}

fn linked(out: &mut String, word: &str, limit: Option<i128>, more: &str, schemes: &[String]) {
    let mut middle = word;
    while let Some(rest) = middle.strip_prefix(['(', '<'].as_slice()).or_else(|| middle.strip_prefix("&lt;")) {
        middle = rest;
    }
    let head = &word[..word.len() - middle.len()];
    let whole = middle;
    while let Some(rest) = middle.strip_suffix([')', '>', '.', ','].as_slice()).or_else(|| middle.strip_suffix("&gt;")) {
        middle = rest;
    }
    // A closing bracket belongs to the address when its opening one does.
    let mut length = middle.len();
    for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
        let opened = whole[..length].matches(open).count();
        if opened <= whole[..length].matches(close).count() {
            continue;
        }
        for _ in 0..opened.min(whole[length..].matches(close).count()) {
            length += whole[length..].find(close).map_or(0, |at| at + close.len());
        }
    }
    let (middle, tail) = whole.split_at(length);
    let fits = |pattern: &Regex, text: &str| pattern.is_match(text).unwrap_or(false);
    let shown = match limit {
        Some(limit) if middle.chars().count() as i128 > limit => {
            middle.chars().take(usize::try_from(limit).unwrap_or_default()).collect::<String>() + "..."
        }
        _ => middle.to_owned(),
    };
    out.push_str(head);
    if fits(&PAGE, middle) {
        let scheme = if middle.starts_with("https://") || middle.starts_with("http://") { "" } else { "https://" };
        out.push_str(&format!("<a href=\"{scheme}{middle}\"{more}>{shown}</a>"));
    } else if let Some(mail) = middle.strip_prefix("mailto:").filter(|mail| fits(&MAIL, mail)) {
        out.push_str(&format!("<a href=\"{middle}\">{mail}</a>"));
    } else if middle.contains('@')
        && !middle.starts_with("www.")
        && !middle.starts_with('@')
        && !middle.contains(':')
        && fits(&MAIL, middle)
    {
        out.push_str(&format!("<a href=\"mailto:{middle}\">{middle}</a>"));
    } else if schemes.iter().any(|scheme| middle != scheme && middle.starts_with(scheme.as_str())) {
        out.push_str(&format!("<a href=\"{middle}\"{more}>{middle}</a>"));
    } else {
        out.push_str(middle);
    }
    out.push_str(tail);
}
