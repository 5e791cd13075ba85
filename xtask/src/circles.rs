//! No import circle between the modules of a crate, nor between the files of a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Finding,
    sources::{code, crates, files, paths, shown},
};

type Graph = BTreeMap<String, BTreeSet<String>>;

pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = vec![];
    for (_, path) in crates(root)? {
        let src = path.join("src");
        for folder in folders(&src)? {
            for circle in circles(&graph(&src, &folder)?) {
                let about = format!("{}: {}", shown(root, &folder), circle.join(" -> "));
                findings.push(Finding::new("circle", about, "these modules import each other: move what they share below them"));
            }
        }
    }
    Ok(findings)
}

fn folders(src: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files(src)? {
        let mut dir = file.parent();
        while let Some(d) = dir.filter(|d| d.starts_with(src)) {
            all.insert(d.to_path_buf());
            dir = d.parent();
        }
    }
    Ok(all.into_iter().collect())
}

/// Which child module of the folder uses which other one.
fn graph(src: &Path, folder: &Path) -> io::Result<Graph> {
    let prefix: Vec<String> = folder.strip_prefix(src).unwrap_or(Path::new("")).iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let mut children: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files(folder)? {
        let rest = file.strip_prefix(folder).unwrap_or(&file);
        let first = rest.iter().next().map(|p| p.to_string_lossy().trim_end_matches(".rs").to_owned()).unwrap_or_default();
        if !matches!(first.as_str(), "mod" | "lib" | "main") {
            children.entry(first).or_default().push(file);
        }
    }
    let items = reexported(folder, &children)?;
    let mut graph = Graph::new();
    for (child, files) in &children {
        let used = graph.entry(child.clone()).or_default();
        for file in files {
            for name in names_used(&prefix, folder, file)? {
                let target = if children.contains_key(&name) { Some(&name) } else { items.get(&name) };
                if let Some(target) = target.filter(|t| *t != child) {
                    used.insert(target.clone());
                }
            }
        }
    }
    Ok(graph)
}

/// The names that a file takes from the folder: by `crate::<folder>::name`, or by as many `super::` as lead there.
fn names_used(prefix: &[String], folder: &Path, file: &Path) -> io::Result<Vec<String>> {
    let code = code(file)?;
    let mut names = vec![];
    for path in paths(&code, "crate::") {
        let parts: Vec<&str> = path.split("::").collect();
        if parts.len() > prefix.len() && parts.iter().zip(prefix).all(|(a, b)| a == b) {
            names.push(parts[prefix.len()].to_owned());
        }
    }
    let depth = file.strip_prefix(folder).unwrap_or(file).components().count();
    // `mod.rs` stands for its folder, one step up.
    let ups = if file.ends_with("mod.rs") { depth - 1 } else { depth };
    let up = "super::".repeat(ups.max(1));
    names.extend(paths(&code, &up).iter().filter_map(|p| p.split("::").next()).filter(|n| *n != "super").map(str::to_owned));
    Ok(names)
}

/// Items that the folder's `mod.rs` or `lib.rs` shows as its own (`pub use source::*`): name -> the child that has them.
fn reexported(folder: &Path, children: &BTreeMap<String, Vec<PathBuf>>) -> io::Result<BTreeMap<String, String>> {
    let head = ["mod.rs", "lib.rs", "main.rs"].iter().map(|f| folder.join(f)).find(|f| f.is_file());
    let mut items = BTreeMap::new();
    let Some(head) = head else { return Ok(items) };
    let text = code(&head)?;
    for statement in text.split(';').map(str::trim).filter(|s| s.contains("use ")) {
        let Some((_, path)) = statement.split_once("use ") else { continue };
        for path in paths(&format!("crate::{path}"), "crate::") {
            let mut parts = path.split("::").skip_while(|p| *p == "self");
            let (Some(child), Some(last)) = (parts.next(), parts.last()) else { continue };
            let Some(files) = children.get(child) else { continue };
            if last != "*" {
                items.insert(last.to_owned(), child.to_owned());
                continue;
            }
            for file in files {
                items.extend(declared(&fs::read_to_string(file)?).into_iter().map(|name| (name, child.to_owned())));
            }
        }
    }
    Ok(items)
}

/// Names of the public items at the left margin of a file.
fn declared(text: &str) -> Vec<String> {
    let keywords = ["struct ", "enum ", "trait ", "type ", "fn ", "async fn ", "const ", "static ", "unsafe fn "];
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let public = text.lines().filter_map(|l| l.strip_prefix("pub "));
    public.filter_map(|l| keywords.iter().find_map(|k| l.strip_prefix(k)).map(name)).collect()
}

/// Every circle once, from its first member on: strongly connected modules, shown by one way round.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![];
    for start in graph.keys() {
        if found.iter().any(|c| c.contains(start)) {
            continue;
        }
        if let Some(circle) = way_back(graph, start) {
            found.push(circle);
        }
    }
    found
}

/// The shortest way from a module back to itself.
fn way_back(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in graph.get(at).into_iter().flatten() {
            if next == start {
                let mut way = vec![start.to_owned()];
                let mut back = at;
                while back != start {
                    way.insert(1, back.to_owned());
                    back = came_from[back];
                }
                way.push(start.to_owned());
                return Some(way);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_circle_over_three_modules_is_found() {
        let dir = folder(&[
            ("lib.rs", "mod a; mod b; mod c; pub use c::Thing;"),
            ("a.rs", "use crate::b::x;"),
            ("b.rs", "use crate::Thing;"),
            ("c.rs", "use crate::a::y;\npub struct Thing;"),
        ]);
        assert_eq!(circles(&graph(dir.path(), dir.path()).unwrap()), [["a", "b", "c", "a"]]);
    }

    #[test]
    fn tests_and_comments_are_no_imports() {
        let dir = folder(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::x;"),
            ("b.rs", "// crate::a\n#[cfg(test)]\nmod tests { use crate::a; }"),
        ]);
        assert!(circles(&graph(dir.path(), dir.path()).unwrap()).is_empty());
    }

    #[test]
    fn siblings_in_a_folder_are_modules_too() {
        let dir = folder(&[
            ("lib.rs", "mod p;"),
            ("p/mod.rs", "mod a; mod b;"),
            ("p/a.rs", "use super::b::x;"),
            ("p/b.rs", "use crate::p::a::y;"),
        ]);
        assert_eq!(circles(&graph(dir.path(), &dir.path().join("p")).unwrap()), [["a", "b", "a"]]);
    }
}
