//! The conformance kit: this program reads every case's manifest beside the goldens of the reference interpreter.
//! Called as `read ..` it is the program under test; otherwise it runs the kit's comparer on itself.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "../examples/manifest.rs"]
mod program;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Cases that pass, of all. Only ever raised.
const PASS: usize = 259;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("read" | "check" | "discover" | "spec") => program::main(),
        // A listing of tests, and filters for others.
        Some("--list") => ExitCode::SUCCESS,
        Some(filter) if !filter.starts_with('-') && !"kit".contains(filter) => ExitCode::SUCCESS,
        _ => kit(),
    }
}

fn kit() -> ExitCode {
    let Some(folder) = folder() else {
        println!("kit: skipped: no conformance kit beside the repository (LINKSPAN_SHARED names its folder)");
        return ExitCode::SUCCESS;
    };
    if Command::new("python3").arg("--version").output().is_err() {
        println!("kit: skipped: its comparer needs python3");
        return ExitCode::SUCCESS;
    }
    let this = std::env::current_exe().expect("the test knows its file");
    let output = Command::new("python3")
        .current_dir(&folder)
        .args(["compare.py", "--cases", "dev.txt", "--no-shim", "--timeout", "60", "--jobs"])
        .arg(std::thread::available_parallelism().map_or(2, usize::from).max(2).to_string())
        .arg("--cmd")
        .arg(format!("{} read --manifest {{manifest}} --config {{config}} --catalog {{catalog}} {{state_arg}}", this.display()))
        .output()
        .expect("the comparer runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().filter(|line| line.starts_with("PASS ")).count();
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    println!("kit: {passed} of {} cases", passed + failed.len());
    failed.iter().for_each(|line| println!("{line}"));
    if passed >= PASS && passed + failed.len() >= 259 {
        return ExitCode::SUCCESS;
    }
    println!("kit: at least {PASS} cases must pass\n{}", String::from_utf8_lossy(&output.stderr));
    ExitCode::FAILURE
}

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("LINKSPAN_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    // A worktree lies one folder deeper than the repository.
    let deeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared");
    shared.into_iter().chain([beside, deeper]).map(|shared| shared.join("lowcode-kit")).find(|kit| kit.join("compare.py").exists())
}
