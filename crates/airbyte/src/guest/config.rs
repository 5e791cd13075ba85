//! What is to be started, with which config and within which limits.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use linkspan_core::{Error, ErrorKind, Result, WriteMode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{container, language::Language};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecConfig {
    /// The program and its first arguments. It is started without a shell.
    #[serde(default)]
    pub(super) command: Vec<String>,
    /// A container image instead of a command, where LINKSPAN_CONTAINERS names the client that runs it.
    pub(super) image: Option<String>,
    /// What the program speaks.
    #[serde(default)]
    pub(super) speaks: Language,
    /// What the program is, for its check: connections know it by the end at which it stands.
    #[serde(default)]
    pub(super) is: Part,
    /// A destination: how rows may be written to it. Left out: an Airbyte destination is asked for what it supports, a Singer target
    /// appends and merges.
    #[serde(default)]
    pub(super) writes: Vec<WriteMode>,
    /// Where the rows of a replace wait until all of them are there; the folder for temporary files when left out.
    pub(super) spool_folder: Option<PathBuf>,
    /// The program's own config, as its spec describes it. Never shown.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    pub(super) config: Map<String, Value>,
    /// A JSON file with the program's own config, instead of `config`. A config that the program changes (a rotated token) is kept there.
    pub(super) config_file: Option<PathBuf>,
    /// Variables of the program's environment. Of this one's it gets only the path, the home, the language and the like.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    pub(super) env: BTreeMap<String, String>,
    /// How long the program may say nothing before it is ended, in seconds.
    #[serde(default = "ExecConfig::silence")]
    pub(super) silence_seconds: u64,
    /// The longest line that is taken from the program, in MB.
    #[serde(default = "ExecConfig::line")]
    pub(super) line_mb: u32,
}

/// The end of a connection at which a program stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    #[default]
    Source,
    Destination,
}

impl ExecConfig {
    fn silence() -> u64 {
        3_600
    }
    fn line() -> u32 {
        64
    }
    pub(super) fn check(&self) -> Result<()> {
        if let Some(image) = &self.image {
            container::check(image)?;
            if !self.command.is_empty() {
                return Err(Error::new(ErrorKind::ConfigInvalid, "the program is given twice")
                    .with("field", "image")
                    .fix("give `command` or `image`"));
            }
        } else if self.command.first().is_none_or(String::is_empty) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "there is no program to start")
                .with("field", "command")
                .fix("write it as a list: `command: [/opt/venv/bin/source-faker]`"));
        }
        if self.config_file.is_some() && !self.config.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the program's config is given twice")
                .with("field", "config_file")
                .fix("give `config` or `config_file`"));
        }
        if self.silence_seconds == 0 || self.line_mb == 0 {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a limit of zero would end every program").fix("leave it out, or give more"));
        }
        Ok(())
    }
    pub(super) fn silence_time(&self) -> Duration {
        Duration::from_secs(self.silence_seconds)
    }
    pub(super) fn line_bytes(&self) -> usize {
        self.line_mb as usize * 1_000_000
    }
}

/// `exec:/opt/venv/bin/source-faker?config=./faker.json`; arguments of the program follow it, parted by blanks.
pub(super) fn of_url(url: &str) -> Result<Value> {
    let rest = url.strip_prefix("exec:").unwrap_or(url);
    let (command, query) = rest.split_once('?').map_or((rest, ""), |(command, query)| (command, query));
    let command: Vec<&str> = command.split_ascii_whitespace().collect();
    let mut config = json!({ "command": command });
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("config", path)) => config["config_file"] = path.into(),
            Some(("speaks", language @ ("airbyte" | "singer"))) => config["speaks"] = language.into(),
            _ => {
                return Err(Error::new(ErrorKind::ConfigInvalid, "an exec: URL has only `config`, `speaks` and `is`")
                    .fix("exec:/path/to/program?config=./config.json, with `&speaks=singer` for a tap; what else there is to say fits into a project file"));
            }
        }
    }
    Ok(config)
}
