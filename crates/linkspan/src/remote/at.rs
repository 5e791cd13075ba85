//! Where an operation is called: the options that every such command has.

use clap::{Arg, ArgMatches};
use linkspan_core::{Error, ErrorKind, Result, Secret};

use super::profile;

pub const SERVER: &str = "at.server";
pub const WAIT: &str = "at.wait";
const KEY: &str = "at.key";
const PROJECT: &str = "at.project";
const PROFILE: &str = "at.profile";
const HEADING: &str = "Where";

pub fn args() -> [Arg; 4] {
    let arg = |id: &'static str, long: &'static str, env: &'static str| {
        Arg::new(id).long(long).env(env).hide_env_values(true).help_heading(HEADING)
    };
    [
        arg(SERVER, "server", "LINKSPAN_SERVER").value_name("URL").help("The server to ask; without one, this machine's data dir"),
        arg(KEY, "api-key", "LINKSPAN_API_KEY").value_name("KEY").help("An API key or token for it; without one, that of the profile"),
        arg(PROJECT, "project", "LINKSPAN_PROJECT").value_name("NAME").help("The project that the call is about"),
        arg(PROFILE, "profile", "LINKSPAN_PROFILE").value_name("NAME").help("A sign-in that `auth login` kept [default: default]"),
    ]
}

/// A server with credentials, or none: then it is the data dir.
pub struct Place {
    pub server: Option<String>,
    pub credential: Option<Secret>,
    pub project: Option<String>,
    pub profile: String,
    /// Whether the credential is that of the profile.
    pub kept: bool,
    /// Whether a run that was begun is waited for.
    pub wait: bool,
}

impl Place {
    /// Options and environment first; a kept sign-in where they name no server and no data dir was named either.
    pub fn of(matches: &ArgMatches) -> Result<Self> {
        let text = |id: &str| matches.get_one::<String>(id).filter(|t| !t.is_empty()).cloned();
        let asked = text(PROFILE);
        let mut place = Self {
            server: text(SERVER).map(|url| url.trim_end_matches('/').to_owned()),
            credential: text(KEY).map(Secret::new),
            project: text(PROJECT),
            wait: matches.try_get_one::<bool>(WAIT).ok().flatten().copied().unwrap_or(false),
            profile: asked.clone().unwrap_or_else(|| "default".into()),
            kept: false,
        };
        let own_dir = matches.try_contains_id("data_dir").unwrap_or(false) && matches.get_one::<std::path::PathBuf>("data_dir").is_some();
        if place.server.is_none() && own_dir && asked.is_none() {
            return Ok(place);
        }
        match profile::read(&place.profile)? {
            Some(kept) if place.server.as_ref().is_none_or(|server| *server == kept.server) => {
                place.server.get_or_insert(kept.server);
                place.kept = place.credential.is_none();
                place.credential.get_or_insert(kept.token);
                place.project = place.project.or(kept.project);
            }
            None if asked.is_some() && place.server.is_none() => {
                return Err(Error::new(ErrorKind::NotFound, "there is no such profile")
                    .with("profile", &place.profile)
                    .fix("make it: linkspan auth login EMAIL --server URL --profile NAME"));
            }
            _ => {}
        }
        Ok(place)
    }
}
