//! XML as an object: attributes as `@name`, texts as `#text`, elements that repeat as lists, empty ones as null.

use serde_json::{Map, Value};

/// Nested deeper than this a document is refused.
const DEEPEST: usize = 256;

/// The document by the name of its root; `None` when it is no well-formed XML.
pub fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.strip_prefix('\u{FEFF}').unwrap_or(text) };
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<(String, Value)> = None;
    while let Some(token) = reader.next()? {
        match token {
            Token::Text(text) if open.is_empty() => {
                if !text.trim().is_empty() {
                    return None;
                }
            }
            Token::Text(text) => open.last_mut()?.text.push_str(&text),
            Token::Open { name, attributes, is_empty } => {
                if (open.is_empty() && root.is_some()) || open.len() >= DEEPEST {
                    return None;
                }
                open.push(Element { name, fields: attributes, text: String::new() });
                if is_empty {
                    close(&mut open, &mut root)?;
                }
            }
            Token::Close(name) => {
                if open.last()?.name != name {
                    return None;
                }
                close(&mut open, &mut root)?;
            }
        }
    }
    let (name, value) = root.filter(|_| open.is_empty())?;
    Some(Value::Object([(name, value)].into_iter().collect()))
}

struct Element {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

fn close(open: &mut Vec<Element>, root: &mut Option<(String, Value)>) -> Option<()> {
    let Element { name, mut fields, text } = open.pop()?;
    let text = text.trim();
    let value = match (fields.is_empty(), text.is_empty()) {
        (true, true) => Value::Null,
        (true, false) => text.into(),
        (false, empty) => {
            if !empty {
                add(&mut fields, "#text".into(), text.into());
            }
            fields.into()
        }
    };
    match open.last_mut() {
        Some(parent) => add(&mut parent.fields, name, value),
        None => *root = Some((name, value)),
    }
    Some(())
}

/// A name that comes again becomes a list.
fn add(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        Some(Value::Array(items)) => items.push(value),
        Some(one) => *one = vec![one.take(), value].into(),
        None => {
            fields.insert(name, value);
        }
    }
}

enum Token {
    Text(String),
    Open { name: String, attributes: Map<String, Value>, is_empty: bool },
    Close(String),
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// `None` for what is malformed, `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<Token>> {
        loop {
            if self.rest.is_empty() {
                return Some(None);
            }
            if !self.rest.starts_with('<') {
                let (text, rest) = self.rest.split_at(self.rest.find('<').unwrap_or(self.rest.len()));
                self.rest = rest;
                return Some(Some(Token::Text(resolved(text)?)));
            }
            if let Some(rest) = self.rest.strip_prefix("<![CDATA[") {
                let (text, rest) = rest.split_once("]]>")?;
                self.rest = rest;
                return Some(Some(Token::Text(text.replace("\r\n", "\n"))));
            }
            let skipped = [("<!--", "-->"), ("<?", "?>")].into_iter().find(|(start, _)| self.rest.starts_with(start));
            if let Some((start, end)) = skipped {
                self.rest = self.rest[start.len()..].split_once(end)?.1;
                continue;
            }
            if self.rest.starts_with("<!DOCTYPE") {
                self.skip_doctype()?;
                continue;
            }
            return self.tag().map(Some);
        }
    }

    fn skip_doctype(&mut self) -> Option<()> {
        let end = self.rest.find(['>', '['])?;
        let (_, rest) = match &self.rest[end..=end] {
            ">" => self.rest.split_at(end + 1),
            // Declarations of the document's own are passed over: what they would define stays unknown.
            _ => {
                let close = self.rest.find("]>")?;
                self.rest.split_at(close + 2)
            }
        };
        self.rest = rest;
        Some(())
    }

    fn tag(&mut self) -> Option<Token> {
        let body = self.rest.strip_prefix('<')?;
        if let Some(body) = body.strip_prefix('/') {
            let (name, rest) = body.split_once('>')?;
            self.rest = rest;
            return Some(Token::Close(name.trim_end().to_owned()));
        }
        let end = body.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'))?;
        let (name, mut rest) = body.split_at(end);
        if name.is_empty() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == ':') {
            return None;
        }
        let mut attributes = Map::new();
        loop {
            rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix("/>") {
                self.rest = rest;
                return Some(Token::Open { name: name.to_owned(), attributes, is_empty: true });
            }
            if let Some(rest) = rest.strip_prefix('>') {
                self.rest = rest;
                return Some(Token::Open { name: name.to_owned(), attributes, is_empty: false });
            }
            let (key, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, after) = after[1..].split_once(quote)?;
            let key = key.trim_end();
            if key.is_empty() || value.contains('<') || key.contains(|c: char| c.is_whitespace() || c == '>') {
                return None;
            }
            let value = resolved(value)?.replace(['\n', '\t'], " ");
            if attributes.insert(format!("@{key}"), value.into()).is_some() {
                return None;
            }
            rest = after;
        }
    }
}

/// A text with its entities replaced; `None` for one that nobody defined.
fn resolved(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    if !text.contains('&') {
        return Some(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = after.split_once(';')?;
        out.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            name => {
                let digits = name.strip_prefix('#')?;
                let number = match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                char::from_u32(number)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_what_the_reference_makes_of_it() {
        let text = r#"<?xml version="1.0"?><!-- c --><!DOCTYPE a><a x="1 &amp; 2">
            <b>one</b><b/><b c='d'>  two &lt;3&#33; </b><e><![CDATA[<raw>]]></e> tail </a>"#;
        let wanted = json!({"a": {"@x": "1 & 2", "b": ["one", null, {"@c": "d", "#text": "two <3!"}], "e": "<raw>", "#text": "tail"}});
        assert_eq!(parse(text), Some(wanted));
        assert_eq!(parse("<ns:a xmlns:ns='u'><ns:b/></ns:a>"), Some(json!({"ns:a": {"@xmlns:ns": "u", "ns:b": null}})));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in ["", "<a>", "<a></b>", "<a/><b/>", "text", "<a>&bomb;</a>", "<a b=c/>", "<a b='1' b='2'/>", "<1/>", "{\"a\": 1}"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000)), None);
    }
}
