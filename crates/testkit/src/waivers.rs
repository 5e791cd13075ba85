//! `waivers.toml` at the repository's root: which trial a connector may fail, and why.

use std::{collections::BTreeMap, path::PathBuf};

/// Where the repository is: testkit is always built from within it.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The waivers of one connector: `source/xyz` -> reason.
pub fn of(connector: &str) -> BTreeMap<String, String> {
    all().remove(connector).unwrap_or_default()
}

/// Every waiver: connector -> (trial -> reason).
pub fn all() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(repository().join("waivers.toml")).unwrap_or_default();
    parse(&text).unwrap_or_else(|e| panic!("waivers.toml: {e}"))
}

/// The one form that waivers take: `[connector]` and `"suite/trial" = "reason"`. An empty reason is refused.
fn parse(text: &str) -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = None;
    for (number, line) in text.lines().enumerate().map(|(n, l)| (n + 1, l.trim())).filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = Some(name.trim_matches('"').to_owned());
            continue;
        }
        let parts: Vec<&str> = line.splitn(5, '"').collect();
        let (Some(section), [_, trial, _, reason, rest]) = (&section, parts.as_slice()) else {
            return Err(format!("line {number}: write \"suite/trial\" = \"reason\" below a [connector]"));
        };
        if reason.trim().len() < 10 || !rest.trim().is_empty() {
            return Err(format!("line {number}: a waiver needs a reason of one sentence"));
        }
        all.entry(section.clone()).or_default().insert((*trial).to_owned(), (*reason).to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiver_needs_a_reason() {
        let good = parse("# c\n[acme]\n\"source/x\" = \"the vendor ignores unknown cursors\"\n").unwrap();
        assert_eq!(good["acme"]["source/x"], "the vendor ignores unknown cursors");
        assert!(parse("[acme]\n\"source/x\" = \"\"").is_err());
        assert!(parse("\"source/x\" = \"no connector above\"").is_err());
    }
}
