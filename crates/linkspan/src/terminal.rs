//! The one way to stdout and stderr: human text or JSON lines, coloured where a person looks.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use linkspan_app::secrets::hidden;
use linkspan_core::{Error, ErrorKind, Result};
use owo_colors::OwoColorize;
use serde_json::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputChoice {
    #[default]
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// Where a command's words go.
pub struct Terminal {
    output: OutputChoice,
    color: ColorChoice,
    /// Whether stdout is the destination of rows: then nothing else may go there.
    stdout_taken: AtomicBool,
}

/// Stdout for a program that speaks a protocol there: nothing else goes to it.
pub fn lines() -> impl io::Write + Send + 'static {
    io::stdout()
}

impl Terminal {
    pub fn new(output: OutputChoice, color: ColorChoice) -> Self {
        Self { output, color, stdout_taken: AtomicBool::new(false) }
    }
    /// From now on stdout belongs to rows; results and JSON lines go to stderr.
    pub fn give_stdout_away(&self) {
        self.stdout_taken.store(true, Ordering::Relaxed);
    }
    pub fn stdout_is_taken(&self) -> bool {
        self.stdout_taken.load(Ordering::Relaxed)
    }
    pub fn json(&self) -> bool {
        self.output == OutputChoice::Json
    }
    /// A result: a table, a document.
    pub fn out(&self, text: &str) {
        if self.stdout_is_taken() { write_line(io::stderr().lock(), text) } else { write_line(io::stdout().lock(), text) }
    }
    /// A word to the person: progress, notes, errors. Never data.
    pub fn err(&self, text: &str) {
        write_line(io::stderr().lock(), text);
    }
    /// One line of JSON.
    pub fn json_line(&self, value: &Value) {
        self.out(&value.to_string());
    }
    /// A document: indented JSON, or what `human` makes of it.
    pub fn show(&self, value: &Value, human: impl FnOnce(Paint) -> String) {
        if self.json() {
            self.out(&format!("{value:#}"));
        } else {
            self.out(human(self.paint_out()).trim_end());
        }
    }
    pub fn paint_out(&self) -> Paint {
        Paint(self.colours(io::stdout().is_terminal() && !self.stdout_is_taken()))
    }
    pub fn paint_err(&self) -> Paint {
        Paint(self.colours(io::stderr().is_terminal()))
    }
    /// Whether a person watches stderr, so that bars may move there.
    pub fn person_watches(&self) -> bool {
        io::stderr().is_terminal() && !dumb()
    }
    fn colours(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !dumb(),
        }
    }
}

/// What a person types unseen; nothing where nobody can be asked.
pub fn typed_unseen(prompt: &str) -> Result<Option<String>> {
    let screen = console::Term::stderr();
    if !io::stdin().is_terminal() || !screen.is_term() {
        return Ok(None);
    }
    let typed = screen.write_str(prompt).and_then(|()| screen.read_secure_line());
    typed.map(Some).map_err(|e| Error::new(ErrorKind::Unavailable, "the terminal cannot be read").because(e))
}

fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|t| t == "dumb")
}

/// A reader that went away (`| head`) is no error: the rest is simply not said.
fn write_line(mut to: impl Write, text: &str) {
    // An error may hold another system's words, and those may hold what it was sent.
    let text = hidden::without(text);
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.write_all(b"\n")).and_then(|()| to.flush());
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    #[cfg(test)]
    pub const PLAIN: Self = Self(false);

    pub fn bad(self, text: &str) -> String {
        if self.0 { text.red().bold().to_string() } else { text.to_owned() }
    }
    pub fn good(self, text: &str) -> String {
        if self.0 { text.green().bold().to_string() } else { text.to_owned() }
    }
    pub fn warn(self, text: &str) -> String {
        if self.0 { text.yellow().bold().to_string() } else { text.to_owned() }
    }
    pub fn bold(self, text: &str) -> String {
        if self.0 { text.bold().to_string() } else { text.to_owned() }
    }
    pub fn dim(self, text: &str) -> String {
        if self.0 { text.dimmed().to_string() } else { text.to_owned() }
    }
}

/// A table that lines up; columns named in `right` are numbers.
pub fn table(headers: &[&str], right: &[&str], rows: Vec<Vec<String>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    if !paint.0 {
        table.load_preset(presets::NOTHING);
    }
    table.set_header(headers.iter().map(|h| (*h).to_owned()));
    table.add_rows(rows);
    for (i, header) in headers.iter().enumerate() {
        if right.contains(header)
            && let Some(column) = table.column_mut(i)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if !paint.0 {
        return table.lines().map(|line| line[1.min(line.len())..].trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    }
    table.to_string()
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes as megabytes with one decimal.
pub fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{}", grouped(tenths / 10), tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!((grouped(0), grouped(999), grouped(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(megabytes(12_345_678), "12.3");
    }

    #[test]
    fn tables_line_up() {
        let text =
            table(&["stream", "rows"], &["rows"], vec![vec!["a".into(), "1".into()], vec!["bb".into(), "1,000".into()]], Paint::PLAIN);
        let ends: Vec<usize> = text.lines().map(|l| l.trim_end().len()).collect();
        assert!(ends.windows(2).all(|w| w[0] == w[1]), "{text}");
    }
}
