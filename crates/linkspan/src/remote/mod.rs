//! Operations from the command line: over the wire to a server, or to the same router in this process on a data dir.

mod at;
mod client;
pub mod commands;
mod fields;
mod form;
mod profile;
mod run;
mod show;

use std::{io::BufRead, sync::Arc};

use clap::ArgMatches;
use futures::TryStreamExt;
use linkspan_app::{Operation, Run};
use linkspan_core::{Error, ErrorKind, Result, Secret};
use serde_json::{Map, Value};

use crate::{cli::Common, errors::Exit, interrupt, remote::commands::Call, settings, terminal::Terminal};

pub use self::{
    at::Place,
    client::{Client, escaped},
    form::Part,
};

/// A command that calls an operation, with what says where.
pub struct Remote {
    pub call: Result<Call>,
    pub matches: ArgMatches,
}

pub async fn run(remote: Remote, common: &Common, terminal: Arc<Terminal>) -> Result<Exit> {
    let Call { operation, input } = remote.call?;
    let place = at::Place::of(&remote.matches)?;
    let stop = interrupt::listen(terminal.clone())?;
    let client = Client::open(&place, common).await?;
    let whole = async {
        let answer = called(&client, &operation, input, &terminal).await?;
        if run::began(&answer) && (place.wait || client.app().is_some()) { run::ended(&client, &answer).await } else { Ok(answer) }
    };
    let done = tokio::select! {
        done = whole => done,
        () = stop.wait() => Err(Error::new(ErrorKind::Canceled, "interrupted: what was committed stays")),
    };
    run::rest(&client).await;
    client.close().await;
    let answer = done?;
    if operation.name == "auth.login" {
        return signed_in(&place, &answer, &terminal).map(|()| Exit::OK);
    }
    if operation.name == "auth.logout" && place.kept {
        profile::forget(&place.profile)?;
    }
    // What was watched was shown as it came.
    if !matches!(operation.run, Run::Watch(_)) {
        show::answer(&answer, &terminal);
    }
    Ok(run::exit(&answer))
}

async fn called(client: &Client, operation: &Operation, input: Value, terminal: &Terminal) -> Result<Value> {
    let (path, rest) = addressed(operation, input)?;
    if !matches!(operation.run, Run::Watch(_)) {
        return client.call(&operation.method, &path, &rest).await;
    }
    let mut items = client.watch(&operation.method, &path, &rest).await?;
    while let Some(item) = items.try_next().await? {
        show::item(&item, terminal);
    }
    Ok(Value::Null)
}

/// The path with its placeholders filled, and the fields that are left.
fn addressed(operation: &Operation, input: Value) -> Result<(String, Map<String, Value>)> {
    let Value::Object(mut fields) = input else { return Err(Error::new(ErrorKind::Internal, "an input is an object")) };
    let mut path = operation.path.to_owned();
    for name in operation.placeholders() {
        let value = fields.remove(name).unwrap_or_default();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a name is empty").with("field", name));
        }
        path = path.replace(&format!("{{{name}}}"), &client::escaped(&text));
    }
    Ok((path, fields))
}

/// The token goes into the profile, not onto the screen.
fn signed_in(place: &at::Place, answer: &Value, terminal: &Terminal) -> Result<()> {
    let token = Secret::new(answer["token"].as_str().unwrap_or_default());
    let Some(server) = &place.server else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "there is nothing to sign in to: this data dir is yours already")
            .fix("name a server: linkspan auth login EMAIL --server http://host:8007"));
    };
    let file = profile::keep(&place.profile, &profile::Profile { server: server.clone(), token, project: place.project.clone() })?;
    let shown = serde_json::json!({ "signed_in": true, "server": server, "profile": place.profile, "expires_at": answer["expires_at"] });
    terminal.show(&shown, |paint| {
        let until = answer["expires_at"].as_str().unwrap_or_default();
        format!("{} {server} until {until} (profile {} in {})", paint.good("signed in to"), place.profile, file.display())
    });
    Ok(())
}

/// The credential that commands send, for programs that need one: a kept sign-in, else the admin's key of this machine's data dir.
pub fn token(matches: &ArgMatches, common: &Common, terminal: &Terminal) -> Result<()> {
    let place = at::Place::of(matches)?;
    let nobody = || {
        Error::new(ErrorKind::NotFound, "nobody is signed in here")
            .fix("linkspan auth login EMAIL --server URL, or name the data dir of a server of this machine with --data-dir")
    };
    let token = match (place.credential, place.server) {
        (Some(kept), _) => kept,
        (None, Some(server)) => return Err(nobody().with("server", server)),
        (None, None) => {
            let file = settings::data_dir(common.data_dir.as_ref())?.join("admin.key");
            let key = std::fs::read_to_string(&file).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => nobody().with("data_dir", file.parent().unwrap_or(&file).display()),
                _ => linkspan_core::file_error("the admin's key cannot be read", &file, e),
            })?;
            Secret::new(key.trim())
        }
    };
    terminal.show(&serde_json::json!({ "token": token.expose() }), |_| token.expose().to_owned());
    Ok(())
}

/// The first line of stdin: for secrets that no command line should hold.
pub fn stdin_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::new(ErrorKind::Unavailable, "stdin cannot be read").because(e))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
