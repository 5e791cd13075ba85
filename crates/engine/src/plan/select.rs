//! Which of the discovered streams a list of names and patterns means.

use linkspan_core::{Error, ErrorKind, Result, Stream, StreamName, suggest};

use super::Choice;

/// The streams that the patterns mean, in the order in which they were discovered. No pattern means all of them.
pub fn select<'a>(discovered: &'a [Stream], patterns: &[Choice]) -> Result<Vec<&'a Stream>> {
    if discovered.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the source has no streams that this login can see")
            .fix("check the database or path, and that the login may read there"));
    }
    let mut chosen = vec![patterns.is_empty(); discovered.len()];
    for Choice { name: pattern, .. } in patterns {
        let mut hits: Vec<usize> = (0..discovered.len()).filter(|i| matches(pattern, &discovered[*i].name)).collect();
        // A name in full means that stream, whatever others are called in their namespaces.
        if hits.len() > 1
            && let Some(own) = hits.iter().copied().find(|i| discovered[*i].name.to_string() == *pattern)
        {
            hits = vec![own];
        }
        match hits.as_slice() {
            [] => return Err(not_found(pattern, discovered)),
            [_, _, ..] if !pattern.contains('*') => return Err(ambiguous(pattern, &hits, discovered)),
            hits => hits.iter().for_each(|i| chosen[*i] = true),
        }
    }
    Ok(discovered.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(stream, _)| stream).collect())
}

/// Whether a name or pattern means a stream. Without a dot it is the stream's name in any namespace; `*` stands for any text.
pub fn matches(pattern: &str, stream: &StreamName) -> bool {
    glob(pattern, &stream.to_string()) || (!pattern.contains('.') && glob(pattern, &stream.name))
}

fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn ambiguous(pattern: &str, hits: &[usize], discovered: &[Stream]) -> Error {
    let names: Vec<String> = hits.iter().map(|i| discovered[*i].name.to_string()).collect();
    Error::new(ErrorKind::ConfigInvalid, "several streams have this name")
        .with("stream", pattern)
        .with("streams", names.join(", "))
        .fix(format!("name one of them in full: {}", names.join(", ")))
}

fn not_found(pattern: &str, discovered: &[Stream]) -> Error {
    let names: Vec<String> = discovered.iter().map(|s| s.name.to_string()).collect();
    let all = names.iter().map(String::as_str).chain(discovered.iter().map(|s| &*s.name.name));
    let fix = match suggest::nearest(pattern, all) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the source has: {}{}", names[..names.len().min(20)].join(", "), if names.len() > 20 { ", ..." } else { "" }),
    };
    Error::new(ErrorKind::NotFound, "no stream has this name").with("stream", pattern).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_without_a_dot_mean_any_namespace() {
        let t = StreamName::new(Some("public"), "orders");
        for yes in ["orders", "public.orders", "public.*", "*", "*.orders", "ord*", "*ers", "p*.o*s", "o*d*s"] {
            assert!(matches(yes, &t), "{yes}");
        }
        for no in ["order", "private.*", "Orders", "orders.*", "o*x", "public", "*orderss"] {
            assert!(!matches(no, &t), "{no}");
        }
        assert!(matches("data.csv", &StreamName::new(None, "data.csv")));
    }
}
