//! Putting manifests into a project's catalog, and taking them out.

use std::sync::Arc;

use linkspan_airbyte::entry::{self, Entry};
use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    One, TypeShown,
    fetch::{self, Fetched},
    shown_kept,
};
use crate::{
    app::App,
    caller::CallContext,
    commit::once_more,
    connectors::{self, Connector},
    manifests::{self, KIND, Kept, TEXT, Text, VERSIONS, Version, text_name},
    operation::{Nothing, Reply},
};

/// A manifest to be added: its text, a URL, or a name in the registry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    /// The manifest's YAML.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Where the YAML is fetched from.
    #[serde(default)]
    pub url: Option<String>,
    /// A name in the public registry, such as `orders` or `orders@1.2.3`.
    #[serde(default)]
    pub registry: Option<String>,
    /// The type's name; what the file, the URL or the registry calls it when not said.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub title: Option<String>,
    /// Where the text came from, to be shown.
    #[serde(default)]
    pub from: Option<String>,
}

/// What became of it.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Added {
    /// `added`, `updated`, or `unchanged` for a text that stands already.
    pub action: String,
    #[serde(flatten)]
    pub shown: TypeShown,
}

pub(super) async fn add(app: Arc<App>, context: CallContext, asked: Add) -> Result<Reply<Added>> {
    let fetched = fetched(&app, &asked).await?;
    let entry = Entry::read(&fetched.text).map_err(|e| e.with("manifest", &fetched.from))?;
    let name = name(&app, &asked, &fetched)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match add_once(&app, &context, &asked, &fetched, entry.clone(), &name).await {
            // Somebody else added one of the name meanwhile.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && attempt < 3 => {}
            Err(e) if once_more(&context, &e, attempt) => {}
            done => return done,
        }
    }
}

async fn fetched(app: &App, asked: &Add) -> Result<Fetched> {
    match (&asked.manifest, &asked.url, &asked.registry) {
        (Some(text), None, None) => {
            Ok(Fetched { text: text.clone(), name: None, from: asked.from.clone().unwrap_or_else(|| "text".into()) })
        }
        (None, Some(url), None) => fetch::by_url(app, url).await,
        (None, None, Some(name)) => fetch::by_name(app, name).await,
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "a manifest is one of three things")
            .with("field", "manifest")
            .fix("give its text as `manifest`, or its `url`, or its name in the `registry`")),
    }
}

/// A type of the binary keeps its name.
fn name(app: &App, asked: &Add, fetched: &Fetched) -> Result<String> {
    let name = match (&asked.name, &fetched.name) {
        (Some(given), _) => entry::type_name(given)?,
        (None, Some(called)) => called.clone(),
        (None, None) => {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest has no name")
                .with("field", "name")
                .fix("give one: the connector type is called by it (`linkspan catalog add FILE --name orders`)"));
        }
    };
    let taken = app.registry.types().iter().any(|t| t.answers_to(&name));
    Ok(if taken { format!("{name}_manifest") } else { name })
}

async fn add_once(app: &App, context: &CallContext, asked: &Add, fetched: &Fetched, entry: Entry, name: &str) -> Result<Reply<Added>> {
    let now = app.now_ms();
    let stands = manifests::find(&app.store, &context.project, name).await?;
    let digest = blake3::hash(fetched.text.as_bytes()).to_hex().to_string();
    let mut versions = stands.as_ref().map_or_else(Vec::new, |(_, kept)| kept.versions.clone());
    let title = asked.title.clone().or_else(|| stands.as_ref().map(|(_, k)| k.title.clone())).unwrap_or_else(|| entry::title_of(name));
    let is_same_text = versions.last().is_some_and(|v| v.digest == digest);
    let number = versions.last().map_or(1, |v| v.number + u64::from(!is_same_text));
    let mut change = Change::new(now);
    if !is_same_text {
        let from = fetched.from.clone();
        versions.push(Version { number, digest, bytes: fetched.text.len() as u64, from, added_at_ms: now });
    }
    for gone in versions.drain(..versions.len().saturating_sub(VERSIONS)) {
        if let Some(text) = app.store.document(TEXT, &context.project, &text_name(name, gone.number)).await? {
            change.edits.push(Edit::delete(&text));
        }
    }
    // An update of the interpreter may read more out of the same text.
    let kept = Kept::new(title, entry, versions);
    let (action, document) = match stands {
        Some((document, was)) if was == kept => {
            let added = Added { action: "unchanged".into(), shown: shown_kept(name, &kept) };
            return Ok(Reply::ok(added).version(document.version));
        }
        Some((document, _)) => ("updated", document.revised(&kept, now)?),
        None => ("added", Document::new(KIND, &context.project, Some(name), encoded(&kept)?, now)),
    };
    let edit = if action == "added" { Edit::insert(document.clone()) } else { Edit::update(document.clone()) };
    change.edits.insert(0, edit);
    if !is_same_text {
        let text = encoded(&Text { text: fetched.text.clone() })?;
        change.edits.push(Edit::insert(Document::new(TEXT, &context.project, Some(&text_name(name, number)), text, now)));
    }
    let added = Added { action: action.into(), shown: shown_kept(name, &kept) };
    let reply = if action == "added" { Reply::created(format!("/v1/catalog/{name}"), added) } else { Reply::ok(added) };
    app.commit(context, change, reply.version(document.version)).await
}

fn encoded<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::Internal, "a manifest could not be encoded").because(e))
}

/// Takes a manifest out, with its texts. `Conflict` while connectors are of its type.
pub(super) async fn remove(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Nothing>> {
    if app.registry.named(&one.name, ErrorKind::NotFound).is_ok() {
        return Err(Error::new(ErrorKind::Conflict, "this type is part of the program").with("type", one.name));
    }
    let found = manifests::find(&app.store, &context.project, &one.name).await?;
    let (document, kept) = found.ok_or_else(|| nothing(&one.name))?;
    context.check_version(document.version)?;
    let name = document.name.clone().unwrap_or_default();
    refuse_used(&app, &context.project, &name).await?;
    let mut change = Change::new(app.now_ms()).edit(Edit::delete(&document));
    for version in &kept.versions {
        if let Some(text) = app.store.document(TEXT, &context.project, &text_name(&name, version.number)).await? {
            change.edits.push(Edit::delete(&text));
        }
    }
    app.commit(&context, change, Reply::empty(Nothing {})).await
}

pub(super) fn nothing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the catalog has no such manifest").with("type", name).fix("`linkspan catalog list` shows the types")
}

async fn refuse_used(app: &App, project: &str, name: &str) -> Result<()> {
    let mut filter = DocumentFilter { limit: Some(1000), ..DocumentFilter::of(connectors::KIND, project) };
    loop {
        let page = app.store.documents(filter.clone()).await?;
        for document in &page {
            if document.read::<Connector>()?.kind == name {
                let connector = document.name.clone().unwrap_or_default();
                return Err(Error::new(ErrorKind::Conflict, "a connector is of this type")
                    .with("type", name)
                    .with("connector", &connector)
                    .fix(format!("delete it first: linkspan connectors delete '{connector}'")));
            }
        }
        match page.last() {
            Some(last) if page.len() == 1000 => filter.after = Some(last.seq),
            _ => return Ok(()),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichText {
    /// The type's name.
    #[serde(rename = "type")]
    pub name: String,
    /// The number of one of its versions; the newest when not said.
    #[serde(default)]
    pub number: Option<u64>,
}

/// The text of one version.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct TextShown {
    #[serde(rename = "type")]
    pub name: String,
    pub version: u64,
    /// YAML, as it was added.
    pub manifest: String,
}

pub(super) async fn manifest(app: Arc<App>, context: CallContext, which: WhichText) -> Result<Reply<TextShown>> {
    let found = manifests::find(&app.store, &context.project, &which.name).await?;
    let (document, kept) = found.ok_or_else(|| nothing(&which.name))?;
    let name = document.name.unwrap_or_default();
    let version = which.number.map_or_else(|| kept.newest().map(|v| v.number), Ok)?;
    let manifest = manifests::text(&app.store, &context.project, &name, version).await?;
    Ok(Reply::ok(TextShown { name, version, manifest }))
}

/// The input that a command makes of a file.
pub fn from_file(text: String, path: &str, name: Option<&str>) -> Value {
    let name = name.map(str::to_owned).or_else(|| fetch::name_of_path(path));
    let mut input = json!({ "manifest": text, "from": path });
    if let Some(name) = name {
        input["name"] = name.into();
    }
    input
}
