//! How an error looks and which exit code it is. One table, one renderer, for every verb.

use std::fmt::Write as _;

use linkspan_core::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::terminal::{Paint, Terminal};

/// What the process says to its caller. Stable: scripts depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const OK: Self = Self(0);
    pub const INTERNAL: Self = Self(1);
    pub const USAGE: Self = Self(2);
    pub const AUTH: Self = Self(3);
    pub const NOT_FOUND: Self = Self(4);
    pub const UNAVAILABLE: Self = Self(5);
    pub const CONFLICT: Self = Self(6);
    pub const DATA: Self = Self(7);
    pub const STORAGE_FULL: Self = Self(8);
    pub const PARTIAL: Self = Self(9);
    pub const INTERRUPTED: Self = Self(130);

    /// The one table from kinds to exit codes.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConfigInvalid | ErrorKind::Unsupported => Self::USAGE,
            ErrorKind::AuthFailed | ErrorKind::PermissionDenied | ErrorKind::SignatureInvalid => Self::AUTH,
            ErrorKind::NotFound => Self::NOT_FOUND,
            ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable => Self::UNAVAILABLE,
            ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::PositionLost => Self::CONFLICT,
            ErrorKind::SchemaDrift | ErrorKind::DataInvalid => Self::DATA,
            ErrorKind::StorageFull => Self::STORAGE_FULL,
            ErrorKind::Canceled => Self::INTERRUPTED,
            _ => Self::INTERNAL,
        }
    }
}

/// The exit codes as `--help` prints them.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  internal error (please report it)
    2  usage or configuration
    3  authentication or permission
    4  not found
    5  unavailable or timed out
    6  conflict (another run, another owner, a position that is lost)
    7  data invalid or schema drift
    8  storage full
    9  partial: some streams failed, the others are done
  130  interrupted";

/// Prints the error where this run's errors belong and answers its exit code.
pub fn report(error: &Error, terminal: &Terminal) -> Exit {
    let exit = Exit::of(error.kind());
    if terminal.json() {
        terminal.json_line(&to_json(error, exit));
    } else {
        terminal.err(human(error, terminal.paint_err()).trim_end());
    }
    exit
}

/// The machine's form: `{"error": {...}, "exit_code": n}`.
pub fn to_json(error: &Error, exit: Exit) -> Value {
    json!({ "error": error.to_json(), "exit_code": exit.0 })
}

/// `error: ...`, the places, the causes, the fix and the docs, one per line.
pub fn human(error: &Error, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.bad("error:"), error.message());
    details(&mut text, error, paint, "  ");
    text
}

/// The lines below an error's message, each after `indent`.
pub fn details(text: &mut String, error: &Error, paint: Paint, indent: &str) {
    for (key, value) in error.context() {
        let _ = writeln!(text, "{indent}{}{value}", paint.dim(&format!("{}: ", key.replace('_', " "))));
    }
    for cause in causes(error) {
        let _ = writeln!(text, "{indent}{}{cause}", paint.dim("because: "));
    }
    if let Some(fix) = error.suggested_fix() {
        let _ = writeln!(text, "{indent}{} {fix}", paint.good("fix:"));
    }
    if let Some(docs) = error.docs_url() {
        let _ = writeln!(text, "{indent}{}{docs}", paint.dim("docs: "));
    }
}

/// The causes without those that only repeat the one before.
fn causes(error: &Error) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for cause in error.causes() {
        if !kept.last().is_some_and(|last| last.contains(&cause)) {
            kept.push(cause);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_place_cause_and_fix() {
        let error = Error::new(ErrorKind::NotFound, "no such table").with("stream", "public.t").fix("run discover").because("42P01");
        assert_eq!(human(&error, Paint::PLAIN), "error: no such table\n  stream: public.t\n  because: 42P01\n  fix: run discover\n");
        assert_eq!(to_json(&error, Exit::of(error.kind()))["exit_code"], 4);
    }

    #[test]
    fn every_documented_code_is_in_the_help() {
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130] {
            assert!(EXIT_CODES.lines().any(|l| l.trim_start().starts_with(&format!("{code}  "))), "{code}");
        }
    }
}
