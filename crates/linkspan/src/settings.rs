//! `linkspan.toml`: what the options are where neither a flag nor the environment says it. Its keys are the options' own names, so that
//! the command line is the one description of both.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use linkspan_core::{Error, ErrorKind, Result, file_error, suggest};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The file read where `LINKSPAN_CONFIG` names no other.
const FILE: &str = "linkspan.toml";

/// The command line with the settings of the file as its defaults.
pub fn with_file(command: Command) -> Result<Command> {
    let named = std::env::var_os("LINKSPAN_CONFIG").filter(|p| !p.is_empty()).map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => Settings { text: &text, path: &path }.apply(command),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(command),
        Err(e) => Err(file_error("the settings file cannot be read", &path, e)),
    }
}

struct Settings<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Settings<'_> {
    fn apply(&self, command: Command) -> Result<Command> {
        let table = DeTable::parse(self.text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            self.error(at, e.message().trim().to_owned()).fix("write it as TOML: `name = \"value\"`, with texts in quotes")
        })?;
        self.level(command, table.get_ref())
    }

    /// Options of one verb; a table holds those of a verb below it.
    fn level(&self, mut command: Command, table: &DeTable<'_>) -> Result<Command> {
        for (key, value) in table {
            let name = key.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(inner) if command.find_subcommand(&name).is_some() => {
                    let mut below = Ok(());
                    command = command.mut_subcommand(&name, |verb| {
                        let unchanged = verb.clone();
                        self.level(verb, inner).unwrap_or_else(|e| {
                            below = Err(e);
                            unchanged
                        })
                    });
                    below?;
                }
                _ => {
                    let id = self.option(&command, &name, key)?;
                    let text = self.value(&id, value)?;
                    command = command.mut_arg(&id, |arg| arg.default_value(text));
                }
            }
        }
        Ok(command)
    }

    /// The option that a key names, in either spelling.
    fn option(&self, command: &Command, name: &str, key: &Spanned<toml::de::DeString<'_>>) -> Result<String> {
        let id = name.replace('-', "_");
        let is_option = |arg: &&Arg| arg.get_long().is_some() && matches!(arg.get_action(), ArgAction::Set);
        let options = || command.get_arguments().filter(is_option).map(|a| a.get_id().as_str());
        if options().any(|known| known == id) {
            return Ok(id);
        }
        let known: Vec<&str> = options().chain(command.get_subcommands().map(Command::get_name)).collect();
        let fix = suggest::did_you_mean(&id, known.iter().copied()).unwrap_or_else(|| format!("use one of: {}", known.join(", ")));
        Err(self.error(key.span().start, format!("unknown setting `{name}`")).with("field", name).fix(fix))
    }

    fn value(&self, id: &str, value: &Spanned<DeValue<'_>>) -> Result<String> {
        match value.get_ref() {
            // A relative path means the file's folder, wherever one stands.
            DeValue::String(text) if id == "data_dir" => {
                Ok(self.path.parent().unwrap_or(Path::new("")).join(&**text).display().to_string())
            }
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => Ok(self.text[value.span()].replace('_', "")),
            _ => Err(self.error(value.span().start, "a setting is a text, a number, true or false").fix("give one value")),
        }
    }

    fn error(&self, at: usize, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let (line, column) = (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
        Error::new(ErrorKind::ConfigInvalid, message).with("place", format!("{}:{line}:{column}", self.path.display()))
    }
}

/// Where this user's positions, runs and logs are.
pub fn data_dir(asked: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        return Ok(dir.clone());
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .filter(|d| d.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("linkspan"))
        .ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "there is no place for the data dir: HOME is not set")
                .fix("give one: --data-dir DIR, or set LINKSPAN_DATA_DIR")
        })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::{Cli, Verb};

    fn read(text: &str, args: &[&str]) -> Result<Cli> {
        let command = Settings { text, path: Path::new("/etc/linkspan/linkspan.toml") }.apply(Cli::command())?;
        Ok(Cli::from_arg_matches(&command.get_matches_from(args)).unwrap())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_default() {
        let text = "data_dir = \"state\"\n\n[sync]\nconcurrency = 3\nmemory = 1_28\n";
        let cli = read(text, &["linkspan", "sync", "a", "b", "--memory", "7"]).unwrap();
        assert_eq!(cli.common.data_dir, Some(PathBuf::from("/etc/linkspan/state")));
        let Verb::Sync(sync) = cli.verb else { panic!("a sync") };
        assert_eq!((sync.concurrency, sync.memory), (Some(3), Some(7)));
    }

    #[test]
    fn mistakes_are_placed() {
        for (text, fix, place) in [
            ("data_dri = \"x\"", "did you mean \"data_dir\"?", ":1:1"),
            ("[sync]\nconcurency = 3", "did you mean \"concurrency\"?", ":2:1"),
            ("[snyc]\nmemory = 3", "did you mean \"sync\"?", ":1:2"),
            ("[sink]\nmemory = 3", "use one of: output, ", ":1:2"),
            ("output = [1]", "give one value", ":1:10"),
            ("output = json", "in quotes", ":1:10"),
        ] {
            let e = read(text, &["linkspan", "demo"]).unwrap_err();
            assert!(e.suggested_fix().unwrap_or_default().contains(fix), "{text}: {e:?}");
            assert!(e.context().iter().any(|(k, v)| *k == "place" && v.ends_with(place)), "{text}: {e:?}");
        }
    }
}
