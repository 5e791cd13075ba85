//! The binary in a folder of its own, and what it said.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// A folder with its own data dir; the program runs in it and sees nothing of the developer's environment.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a finished program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
        command.args(args);
        self.at_home(&mut command);
        command
    }
    /// A line for the shell in which `linkspan` is the program.
    pub fn shell(&self, line: &str) -> Said {
        let mut command = Command::new("sh");
        command.args(["-c", &line.replace("linkspan ", &format!("{} ", env!("CARGO_BIN_EXE_linkspan")))]);
        self.at_home(&mut command);
        said(&mut command)
    }
    fn at_home(&self, command: &mut Command) {
        for (name, _) in std::env::vars() {
            if name.starts_with("LINKSPAN_") || name.starts_with("PG") || name.starts_with("OTEL_") || name == "NO_COLOR" {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).env_remove("XDG_DATA_HOME").env_remove("COLUMNS");
        command.env("LINKSPAN_DATA_DIR", self.path("data"));
    }
    pub fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }
    /// One query's answer from an SQLite file, rows joined by lines and columns by `|`.
    pub fn sqlite(&self, name: &str, sql: &str) -> String {
        let db = rusqlite::Connection::open(self.path(name)).unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns).map(|i| row.get::<_, rusqlite::types::Value>(i).map(|v| shown(&v))).collect::<Result<Vec<_>, _>>()
        });
        rows.unwrap().map(|r| r.unwrap().join("|")).collect::<Vec<_>>().join("\n")
    }
}

fn shown(value: &rusqlite::types::Value) -> String {
    use rusqlite::types::Value as V;
    match value {
        V::Null => "null".into(),
        V::Integer(n) => n.to_string(),
        V::Real(x) => x.to_string(),
        V::Text(t) => t.clone(),
        V::Blob(b) => format!("{b:?}"),
    }
}

pub fn said(command: &mut Command) -> Said {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
    /// An error that a user can act on: this exit code, these words, and a fix.
    #[track_caller]
    pub fn refuses(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains("fix:"), "no fix is suggested: {self:#?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not said: {self:#?}");
        }
        self
    }
    /// Standard output as JSON lines.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
    /// The summary of a sync with `--output json`.
    #[track_caller]
    pub fn summary(&self) -> Value {
        self.lines().into_iter().rfind(|l| l["event"] == "summary").unwrap_or_else(|| panic!("no summary: {self:#?}"))
    }
}

/// A summary's counts of one stream: read, written.
pub fn counts(summary: &Value, stream: &str) -> (u64, u64) {
    let found = summary["streams"].as_array().unwrap().iter().find(|s| s["stream"] == stream).unwrap_or_else(|| panic!("{summary:#}"));
    (found["rows_read"].as_u64().unwrap(), found["written"].as_u64().unwrap())
}
