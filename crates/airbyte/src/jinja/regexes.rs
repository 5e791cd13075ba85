//! Python's regular expressions, on an engine with look-around whose backtracking is limited.

use fancy_regex::{Regex, RegexBuilder};

use super::value::{Outcome, Run, other};

fn compiled(pattern: &str) -> Outcome<Regex> {
    // What Python writes in another way.
    let pattern = pattern.replace("\\Z", "\\z");
    match RegexBuilder::new(&pattern).backtrack_limit(200_000).delegate_size_limit(1 << 20).build() {
        Ok(regex) => Ok(regex),
        Err(_) => other("the regular expression is wrong, or not supported"),
    }
}

/// The first group of the first match; an empty text when there is no match or no group.
pub(super) fn search(run: &Run, value: &str, pattern: &str) -> Outcome<String> {
    run.step(1000)?;
    let regex = compiled(pattern)?;
    match regex.captures(value) {
        Ok(Some(found)) if found.len() > 1 => Ok(found.get(1).map_or_else(|| "None".to_owned(), |group| group.as_str().to_owned())),
        Ok(_) => Ok(String::new()),
        Err(_) => other("the regular expression takes too long"),
    }
}

/// `re.sub`.
pub(super) fn replace(run: &Run, value: &str, pattern: &str, replacement: &str) -> Outcome<String> {
    run.step(1000)?;
    let regex = compiled(pattern)?;
    let mut out = String::new();
    let mut copied = 0;
    for found in regex.captures_iter(value) {
        let Ok(found) = found else { return other("the regular expression takes too long") };
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&value[copied..whole.start()]);
        expand(&mut out, replacement, &found)?;
        run.bytes(out.len())?;
        copied = whole.end();
    }
    out.push_str(&value[copied..]);
    Ok(out)
}

/// Groups in the replacement: `\1`, `\g<1>`, `\g<name>`.
fn expand(out: &mut String, replacement: &str, found: &fancy_regex::Captures<'_, str>) -> Outcome<()> {
    let mut rest = replacement;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { return other("bad escape at the end of the replacement") };
        if let Some(after) = rest.strip_prefix("g<") {
            let Some((name, after)) = after.split_once('>') else { return other("missing group name") };
            let group = name.parse().map_or_else(|_| found.name(name), |at: usize| found.get(at));
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '1'..='9' => {
                let at = c.to_digit(10).unwrap_or_default() as usize;
                if at >= found.len() {
                    return other("invalid group reference");
                }
                out.push_str(found.get(at).map_or("", |group| group.as_str()));
            }
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '\\' => out.push('\\'),
            c if c.is_ascii_alphabetic() => return other("bad escape in the replacement"),
            c => out.extend(['\\', c]),
        }
    }
    out.push_str(rest);
    Ok(())
}
