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

use crate::{cli::Common, errors::Exit, interrupt, remote::commands::Call, terminal::Terminal};

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
    show::answer(&answer, &terminal);
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

/// The first line of stdin: for secrets that no command line should hold.
pub fn stdin_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::new(ErrorKind::Unavailable, "stdin cannot be read").because(e))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
