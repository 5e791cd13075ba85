//! Cases of our own beside what the reference interpreter answered to them (`reference/play.py` says how a case is written).
//! Called with a verb it is the program under test; otherwise it runs the comparer on itself.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "../examples/manifest.rs"]
mod program;

use std::{
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("read" | "check" | "discover" | "spec") => program::main(),
        // A listing of tests, and filters for others.
        Some("--list") => ExitCode::SUCCESS,
        Some(filter) if !filter.starts_with('-') && !"reference".contains(filter) => ExitCode::SUCCESS,
        _ => cases(),
    }
}

fn cases() -> ExitCode {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("reference: skipped: its comparer needs python3");
        return ExitCode::SUCCESS;
    }
    let this = std::env::current_exe().expect("the test knows its file");
    let jobs = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/compare.py"))
        .args(["--jobs", &jobs.to_string(), "--cmd"])
        .arg(format!("'{}'", this.display()))
        .output()
        .expect("the comparer runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().filter(|line| line.starts_with("PASS ")).count();
    text.lines().filter(|line| !line.starts_with("PASS ")).for_each(|line| println!("reference: {line}"));
    if output.status.success() && passed > 0 {
        return ExitCode::SUCCESS;
    }
    println!("{}", String::from_utf8_lossy(&output.stderr));
    ExitCode::FAILURE
}
