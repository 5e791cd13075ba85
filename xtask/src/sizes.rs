//! No file over 800 lines.

use std::{fs, io, path::Path};

use crate::{
    Finding,
    sources::{files, shown},
};

const LIMIT: usize = 800;

pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = vec![];
    for place in ["crates", "xtask", "benches"] {
        for file in files(&root.join(place))? {
            let lines = fs::read_to_string(&file)?.lines().count();
            if lines > LIMIT {
                findings.push(Finding::new("size", shown(root, &file), format!("{lines} lines; {LIMIT} is the limit, 600 the aim")));
            }
        }
    }
    Ok(findings)
}
