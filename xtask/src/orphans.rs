//! No `.rs` file that nothing compiles: each is reached from a root of its crate by `mod`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Finding,
    sources::{crates, files, shown},
};

pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let root = &flat(root);
    let packages = crates(root)?.into_iter().map(|(_, path)| path).chain([root.join("xtask")]);
    // A crate may use a file of another one, by `#[path]`.
    let (mut all, mut reached) = (vec![], BTreeSet::new());
    for package in packages {
        all.extend(files(&package)?);
        for start in roots(&package)? {
            follow(&start, &mut reached)?;
        }
    }
    let orphan =
        |file: &PathBuf| Finding::new("orphan", shown(root, file), "no `mod` leads to it: name it in its folder's file, or delete it");
    Ok(all.iter().filter(|file| !reached.contains(*file)).map(orphan).collect())
}

/// The files that cargo itself finds.
fn roots(package: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        ["src/lib.rs", "src/main.rs", "build.rs"].iter().map(|f| package.join(f)).filter(|f| f.is_file()).collect();
    for folder in ["tests", "examples", "benches", "src/bin"] {
        let Ok(entries) = fs::read_dir(package.join(folder)) else { continue };
        for entry in entries {
            let path = entry?.path();
            let main = path.join("main.rs");
            if main.is_file() {
                found.push(main);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Adds a file and all that its `mod`s lead to.
fn follow(file: &Path, reached: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let mut open = vec![(file.to_owned(), true)];
    while let Some((file, is_root)) = open.pop() {
        if !reached.insert(file.clone()) {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        // `mod.rs` and a crate's root stand for their folder; another file has one of its own name.
        let own = if is_root || file.ends_with("mod.rs") { folder.clone() } else { file.with_extension("") };
        for Named { name, path } in named(&text) {
            let candidates = match path {
                Some(path) => vec![flat(&folder.join(path))],
                None => vec![own.join(format!("{name}.rs")), own.join(&name).join("mod.rs")],
            };
            open.extend(candidates.into_iter().filter(|c| c.is_file()).map(|c| (c, false)));
        }
    }
    Ok(())
}

/// `mod name;`, and what `#[path]` says of it.
struct Named {
    name: String,
    path: Option<String>,
}

fn named(text: &str) -> Vec<Named> {
    let mut found = vec![];
    let mut path = None;
    for mut line in text.lines().map(str::trim) {
        while let Some((attribute, rest)) = line.strip_prefix("#[").and_then(|l| l.split_once(']')) {
            path = attribute.strip_prefix("path = ").map(|p| p.trim_matches('"').to_owned()).or(path);
            line = rest.trim();
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let declared = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(").and_then(|l| l.split_once(") ")).map(|(_, l)| l));
        let name = declared.unwrap_or(line).strip_prefix("mod ").and_then(|rest| rest.split(';').next().filter(|_| rest.contains(';')));
        if let Some(name) = name.filter(|n| !n.contains(['{', ' '])) {
            found.push(Named { name: name.to_owned(), path: path.take() });
        }
        path = None;
    }
    found
}

/// Without `..`, so that it is the path under which the file is listed.
fn flat(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut so_far, part| {
        match part {
            std::path::Component::ParentDir if so_far.file_name().is_some() => drop(so_far.pop()),
            part => so_far.push(part),
        }
        so_far
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_mod_leads_to_is_found_and_all_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("xtask/src/main.rs", "mod a;");
        write("xtask/src/a.rs", "");
        write("crates/x/Cargo.toml", "");
        write("crates/x/src/lib.rs", "mod a;\npub(crate) mod b;\npub mod inline { }\n// mod gone;\n");
        write("crates/x/src/a.rs", "mod below;");
        write("crates/x/src/a/below.rs", "");
        write("crates/x/src/a/forgotten.rs", "");
        write("crates/x/src/b/mod.rs", "#[cfg(test)] mod tests;");
        write("crates/x/src/b/tests.rs", "");
        write("crates/x/src/gone.rs", "");
        write("crates/x/tests/it/main.rs", "mod one;");
        write("crates/x/tests/it/one.rs", "");
        write("crates/x/tests/it/two.rs", "");
        write("crates/y/Cargo.toml", "");
        write("crates/y/src/lib.rs", "");
        write("crates/y/tests/it/main.rs", "#[allow(dead_code)]\n#[path = \"../../../x/tests/it/two.rs\"]\nmod two;");
        let found: Vec<String> = check(dir.path()).unwrap().into_iter().map(|f| f.about).collect();
        assert_eq!(found, ["crates/x/src/a/forgotten.rs", "crates/x/src/gone.rs"]);
    }
}
