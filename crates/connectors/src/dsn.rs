//! The URL of a database server cut into its pieces, and what is said of one that is wrong. The text is never quoted: it holds a password.

use std::time::Duration;

use linkspan_core::{Error, ErrorKind, Result, Secret, suggest};
use percent_encoding::percent_decode_str;

/// `scheme://user:password@host:port/database?name=value&...`, unescaped. What is left out or empty is none.
#[derive(Default)]
pub(crate) struct Dsn {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    /// In their order.
    pub parameters: Vec<(String, String)>,
}

impl Dsn {
    /// `None` when the URL has none of the schemes, which are written with their `://`.
    pub fn parse(url: &str, schemes: &[&str]) -> Result<Option<Self>> {
        let Some(rest) = schemes.iter().find_map(|s| url.strip_prefix(s)) else { return Ok(None) };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
        let end = rest.find('/').unwrap_or(rest.len());
        // A pasted password may hold '/' or '@' unescaped: the last '@' before the path counts, else the last one at all.
        let at = rest[..end].rfind('@').or_else(|| rest.rfind('@'));
        let (login, place) = at.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]));
        let mut dsn = Self::default();
        if let Some(login) = login {
            let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
            dsn.user = some(decoded(user)?);
            dsn.password = password.map(decoded).transpose()?.map(Secret::new);
        }
        let (authority, database) = place.split_once('/').map_or((place, ""), |(a, d)| (a, d));
        dsn.database = some(decoded(database)?);
        dsn.authority(authority)?;
        for pair in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            dsn.parameters.push((key.to_owned(), decoded(value)?));
        }
        Ok(Some(dsn))
    }

    fn authority(&mut self, authority: &str) -> Result<()> {
        if authority.contains(',') {
            return Err(Error::new(ErrorKind::Unsupported, "a URL with several hosts is not supported").fix("name the one host to use"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((v6, port)) => (v6.to_owned(), port.strip_prefix(':')),
            None => {
                let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
                (decoded(host)?, port)
            }
        };
        self.host = some(host);
        self.port = port.filter(|p| !p.is_empty()).map(port_of).transpose()?;
        Ok(())
    }
}

/// The text, unless it is empty.
pub(crate) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(crate) fn port_of(text: &str) -> Result<u16> {
    text.parse().map_err(|_| invalid("not a port").fix("write a number from 1 to 65535 after the host"))
}

/// The `connect_timeout` of a URL, in seconds; 0 is none.
pub(crate) fn timeout_of(text: &str) -> Result<Option<Duration>> {
    let seconds: u64 =
        text.parse().map_err(|_| invalid("connect_timeout is not a number").fix("write whole seconds, as in connect_timeout=10"))?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

pub(crate) fn unknown_parameter(key: &str, known: &[&str]) -> Error {
    let fix = suggest::did_you_mean(key, known.iter().copied()).unwrap_or_else(|| format!("the parameters are: {}", known.join(", ")));
    invalid("the URL has a parameter that is not known").with("parameter", key).fix(fix)
}

/// A server is named by its URL or by fields; these fields were given beside a URL, or not.
pub(crate) fn named_once(given: &[(&'static str, bool)]) -> Result<()> {
    match given.iter().find(|(_, there)| *there) {
        None => Ok(()),
        Some((field, _)) => Err(invalid("the config names the server twice: by url and by fields")
            .with("field", field)
            .fix(format!("remove `url` or remove `{field}`"))),
    }
}

pub(crate) fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(|t| t.into_owned())
        .map_err(|_| invalid("the URL holds an escape that is not UTF-8").fix("percent-encode the URL's parts as UTF-8"))
}
