//! Checks the rules of the house (`xtask check`) and generates its documents (`xtask gen`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod circles;
mod documents;
mod floors;
mod orphans;
mod sizes;
mod sources;
mod waivers;

use std::{path::PathBuf, process::ExitCode};

use waivers::Waivers;

/// One broken rule: which rule, about what, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    rule: &'static str,
    about: String,
    what: String,
}

impl Finding {
    fn new(rule: &'static str, about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { rule, about: about.into(), what: what.into() }
    }
}

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    match std::env::args().nth(1).as_deref() {
        Some("check") => check(&root),
        Some("gen") => generate(&root),
        _ => {
            eprintln!(
                "usage: cargo run -p xtask -- check   the rules of the house\n       cargo run -p xtask -- gen     the generated documents"
            );
            ExitCode::from(2)
        }
    }
}

fn check(root: &std::path::Path) -> ExitCode {
    let result = (|| {
        let mut findings = floors::check(root)?;
        findings.extend(circles::check(root)?);
        findings.extend(sizes::check(root)?);
        findings.extend(orphans::check(root)?);
        findings.extend(documents::check(root)?);
        Ok::<_, std::io::Error>(Waivers::read(root)?.apply(findings))
    })();
    match result {
        Ok(findings) if findings.is_empty() => {
            println!("the house is in order");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for f in &findings {
                eprintln!("{}: {}: {}", f.rule, f.about, f.what);
            }
            eprintln!("{} rules broken; a waiver goes into xtask/waivers with its reason", findings.len());
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("the house cannot be read: {e}");
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &std::path::Path) -> ExitCode {
    match documents::write(root) {
        Ok(written) => {
            println!("{written} documents are current");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("the documents could not be written: {e}");
            ExitCode::FAILURE
        }
    }
}
