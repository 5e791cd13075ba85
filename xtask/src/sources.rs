//! The Rust files of the house, and their text without what is not code.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Every `.rs` file below a folder, sorted.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The crates of the workspace: name of the folder and its path.
pub fn crates(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut all = vec![];
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            all.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    all.sort();
    Ok(all)
}

/// The code of a file up to its tests, without comments.
pub fn code(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().take_while(|l| l.trim() != "#[cfg(test)]").filter(|l| !l.trim_start().starts_with("//"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A path as the findings show it: from the root, with slashes.
pub fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Every path that starts with `prefix` (`crate::`, `super::`), groups spelled out: `crate::{a::B, c}` gives `a::B` and `c`.
pub fn paths(code: &str, prefix: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        expand(&code[at + prefix.len()..], "", &mut found);
    }
    found
}

/// Reads one path or group at the start of `text`; answers how many bytes it took.
fn expand(text: &str, base: &str, found: &mut Vec<String>) -> usize {
    let mut at = 0;
    let mut path = base.to_owned();
    loop {
        let rest = &text[at..];
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '*').len();
        path.push_str(&rest[..word]);
        at += word;
        let rest = &text[at..];
        if rest.starts_with("::") && !rest.starts_with("::<") {
            path.push_str("::");
            at += 2;
        } else if rest.starts_with('{') && path.ends_with("::") || rest.starts_with('{') && path == base {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
                if text[at..].is_empty() || text[at..].starts_with('}') {
                    return at + 1;
                }
                let step = expand(&text[at..], &path, found);
                // ` as name`, or what is no path at all: skip to the next entry.
                at += step;
                at += text[at..].find([',', '}']).unwrap_or(text[at..].len());
            }
        } else {
            if path != base {
                found.push(path);
            }
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spelled_out() {
        let code = "use crate::{a::{B, C as D}, e, f::*};\nlet x = crate::g::h(1); othercrate::z;";
        assert_eq!(paths(code, "crate::"), ["a::B", "a::C", "e", "f::*", "g::h"]);
    }
}
