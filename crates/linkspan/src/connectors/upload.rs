//! `connectors upload`: files from this machine into a connector of the hub.

use std::{path::Path, sync::Arc};

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};
use linkspan_core::{Error, ErrorKind, Result, file_error};
use serde_json::{Value, json};

use crate::{
    cli::{Common, Upload},
    interrupt,
    remote::{Client, Part, Place, escaped},
    terminal::{Terminal, grouped, megabytes},
};

/// One request a file: what came before one that is refused stays.
pub async fn run(args: &Upload, below: &ArgMatches, common: &Common, terminal: &Arc<Terminal>) -> Result<()> {
    if args.name.is_some() && args.files.len() > 1 {
        return Err(Error::new(ErrorKind::ConfigInvalid, "one name cannot stand for several files").fix("leave --name out"));
    }
    let mut parts = Vec::new();
    for path in &args.files {
        parts.push(part(path, args.name.as_deref()).await?);
    }
    let client = Client::open(&Place::of(below)?, common).await?;
    let stop = interrupt::listen(terminal.clone())?;
    let sending = send(&client, &args.connector, parts, terminal);
    let sent = tokio::select! {
        sent = sending => sent,
        () = stop.wait() => Err(Error::new(ErrorKind::Canceled, "interrupted: nothing is kept of the file that was under way")),
    };
    client.close().await;
    let files = sent?;
    terminal.show(&json!({ "connector": args.connector, "files": files }), |paint| {
        let line = |file: &Value| {
            let done = if file["version"].as_u64() > Some(1) { "replaced" } else { "uploaded" };
            let bytes = match file["bytes"].as_u64().unwrap_or(0) {
                few @ ..1_000_000 => format!("{} bytes", grouped(few)),
                many => format!("{} MB", megabytes(many)),
            };
            format!("{} {} ({bytes}, sha256 {})", paint.good(done), word(file, "name"), word(file, "sha256"))
        };
        files.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Opened before anything is sent, so that a misspelt one is told first.
async fn part(path: &Path, name: Option<&str>) -> Result<Part> {
    let failed = |e| file_error("the file cannot be read", path, e);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.is_dir() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "this is a folder, not a file")
            .with("path", path.display())
            .fix("name its files"));
    }
    let own = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    Ok(Part { name: name.unwrap_or(own).to_owned(), path: path.to_owned(), file })
}

async fn send(client: &Client, connector: &str, parts: Vec<Part>, terminal: &Terminal) -> Result<Vec<Value>> {
    let path = format!("/v1/connectors/{}/files", escaped(connector));
    let mut files = Vec::new();
    for part in parts {
        let size = part.file.metadata().await.map_or(0, |m| m.len());
        let bar = bar(&part.name, size, terminal);
        let passed = bar.clone();
        let sent = client.upload(&path, part, move |bytes| passed.inc(bytes)).await;
        bar.finish_and_clear();
        files.extend(sent?["files"].as_array().cloned().unwrap_or_default());
    }
    Ok(files)
}

/// On the screen when a person watches it.
fn bar(name: &str, size: u64, terminal: &Terminal) -> ProgressBar {
    if !terminal.person_watches() || terminal.json() {
        return ProgressBar::hidden();
    }
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let bar = ProgressBar::new(size).with_message(name.to_owned());
    ProgressStyle::with_template(style).map_or(bar.clone(), |style| bar.with_style(style))
}
