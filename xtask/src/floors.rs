//! A floor imports only lower floors, and connectors never import each other.

use std::{fs, io, path::Path};

use crate::{
    Finding,
    sources::{code, crates, files, paths, shown},
};

/// The floors of the house, in tens so that a mezzanine finds room; a crate that is not here has no place yet.
const FLOORS: &[(&str, u8)] = &[
    ("core", 10),
    ("http", 15),
    ("store", 20),
    ("strand", 20),
    ("lake-files", 20),
    ("lake-sql", 20),
    ("connectors", 20),
    ("airbyte", 20),
    ("engine", 30),
    ("app", 40),
    ("server", 50),
    ("linkspan", 60),
];

pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = vec![];
    for (name, path) in crates(root)? {
        let manifest = fs::read_to_string(path.join("Cargo.toml"))?;
        findings.extend(check_manifest(&name, &manifest));
    }
    findings.extend(check_connectors(root)?);
    Ok(findings)
}

fn floor(name: &str) -> Option<u8> {
    // A heavy driver's own crate lives on the connectors' floor.
    let heavy = name.starts_with("connector-");
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f).or(heavy.then_some(20))
}

fn check_manifest(name: &str, manifest: &str) -> Vec<Finding> {
    let mut findings = vec![];
    let own = if name == "testkit" { Some(20) } else { floor(name) };
    let Some(own) = own else {
        return vec![Finding::new("floor", name, "the crate has no floor: give it one in xtask/src/floors.rs")];
    };
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            continue;
        }
        let dependency = line.split(['.', '=', ' ']).next().unwrap_or_default();
        let Some(other) = dependency.strip_prefix("linkspan-") else { continue };
        let about = format!("{name} -> {other}");
        match (section, other, floor(other)) {
            ("dev-dependencies", "testkit", _) => {}
            (_, "testkit", _) => findings.push(Finding::new("floor", about, "testkit is a dev-dependency only")),
            (_, _, None) => findings.push(Finding::new("floor", about, "an unknown crate")),
            (_, _, Some(f)) if f >= own => {
                findings.push(Finding::new("floor", about, format!("floor {own} imports floor {f}: a floor imports only lower ones")));
            }
            _ => {}
        }
    }
    findings
}

/// A connector is a folder (or file) of `crates/connectors/src` with a `docs.md`; shared rooms have none.
fn check_connectors(root: &Path) -> io::Result<Vec<Finding>> {
    let src = root.join("crates/connectors/src");
    let mut names = vec![];
    for entry in fs::read_dir(&src)? {
        let path = entry?.path();
        if path.is_dir() && path.join("docs.md").is_file() {
            names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut findings = vec![];
    for name in &names {
        for file in files(&src.join(name))? {
            let used: Vec<String> =
                paths(&code(&file)?, "crate::").iter().filter_map(|p| p.split("::").next().map(str::to_owned)).collect();
            for other in names.iter().filter(|o| *o != name && used.contains(o)) {
                findings.push(Finding::new("floor", shown(root, &file), format!("the connector {name} imports the connector {other}")));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_imports_only_lower_ones() {
        let manifest = |line: &str| format!("[dependencies]\n{line}\n[dev-dependencies]\nlinkspan-testkit.workspace = true\n");
        assert!(check_manifest("store", &manifest("linkspan-core.workspace = true")).is_empty());
        assert_eq!(check_manifest("connectors", &manifest("linkspan-store.workspace = true")).len(), 1);
        assert_eq!(check_manifest("core", &manifest("linkspan-engine = { path = \"x\" }")).len(), 1);
        assert_eq!(check_manifest("store", &manifest("linkspan-testkit.workspace = true")).len(), 1);
        assert_eq!(check_manifest("garage", "").len(), 1);
    }
}
