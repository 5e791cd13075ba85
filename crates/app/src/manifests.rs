//! Manifests as a project keeps them: a small document that lists and forms are drawn from, and the texts of the last versions beside it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use linkspan_airbyte::entry::{self, Entry};
use linkspan_core::{ConnectorType, Error, ErrorKind, Result};
use linkspan_store::{Document, DocumentFilter, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) const KIND: &str = "manifest";
pub(crate) const TEXT: &str = "manifest_text";
/// Texts of earlier versions that stay.
pub(crate) const VERSIONS: usize = 10;
/// Types that stay open in memory.
const OPEN: usize = 256;
const PAGE: u32 = 1000;
/// The public registry; `LINKSPAN_MANIFEST_REGISTRY` names another one of the same layout.
pub const REGISTRY: &str = "https://connectors.airbyte.com/files";

/// One manifest of the catalog; its name is the document's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub title: String,
    pub config_schema: Value,
    pub streams: Vec<String>,
    #[serde(default)]
    pub docs_url: Option<String>,
    #[serde(default)]
    pub language: Option<String>,
    /// Oldest first; the last one is what connectors use.
    pub versions: Vec<Version>,
}

/// One text that the manifest had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// 1 for the first.
    pub number: u64,
    /// BLAKE3 of the text.
    pub digest: String,
    pub bytes: u64,
    /// Where it came from: a file's name, a URL, `registry:NAME`.
    pub from: String,
    pub added_at_ms: i64,
}

/// What a version's text is stored in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Text {
    pub text: String,
}

impl Kept {
    pub(crate) fn new(title: String, entry: Entry, versions: Vec<Version>) -> Self {
        let Entry { config_schema, streams, docs_url, language } = entry;
        Self { title, config_schema, streams, docs_url, language, versions }
    }
    pub(crate) fn newest(&self) -> Result<&Version> {
        self.versions.last().ok_or_else(|| Error::new(ErrorKind::DataInvalid, "a manifest of the catalog has no version"))
    }
    fn entry(&self) -> Entry {
        Entry {
            config_schema: self.config_schema.clone(),
            streams: self.streams.clone(),
            docs_url: self.docs_url.clone(),
            language: self.language.clone(),
        }
    }
    /// The type as lists and forms need it, and as connectors are opened when its text is there.
    pub(crate) fn connector_type(&self, name: &str, text: Arc<str>) -> ConnectorType {
        entry::connector_type(name.to_owned(), self.title.clone(), &self.entry(), move || text.clone())
    }
    /// The type as it is shown: it opens nothing.
    pub(crate) fn described(&self, name: &str) -> ConnectorType {
        self.connector_type(name, Arc::from(""))
    }
}

pub(crate) fn text_name(name: &str, number: u64) -> String {
    format!("{name}@{number}")
}

/// Types that were opened, by project and name, with the digest that they were made from.
#[derive(Default)]
pub struct Types(Mutex<HashMap<(String, String), (String, ConnectorType)>>);

impl Types {
    pub(crate) fn get(&self, key: &(String, String), digest: &str) -> Option<ConnectorType> {
        let types = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        types.get(key).filter(|(made_from, _)| made_from == digest).map(|(_, kind)| kind.clone())
    }
    pub(crate) fn put(&self, key: (String, String), digest: String, kind: ConnectorType) {
        let mut types = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if types.len() >= OPEN {
            types.clear();
        }
        types.insert(key, (digest, kind));
    }
}

/// A project's manifest by name, also by what its author calls it (`source-orders` for `orders`).
pub(crate) async fn find(store: &Store, project: &str, name: &str) -> Result<Option<(Document, Kept)>> {
    let found = match store.document(KIND, project, name).await? {
        Some(found) => Some(found),
        None => match entry::type_name(name) {
            Ok(own) if own != name => store.document(KIND, project, &own).await?,
            _ => None,
        },
    };
    found.map(|document| document.read().map(|kept| (document, kept))).transpose()
}

/// All of a project, by name.
pub(crate) async fn all(store: &Store, project: &str) -> Result<Vec<(String, Kept)>> {
    let mut filter = DocumentFilter { limit: Some(PAGE), ..DocumentFilter::of(KIND, project) };
    let mut all = Vec::new();
    loop {
        let page = store.documents(filter.clone()).await?;
        filter.after = page.last().map(|d| d.seq);
        let is_last = page.len() < PAGE as usize;
        for document in page {
            all.push((document.name.clone().unwrap_or_default(), document.read()?));
        }
        if is_last {
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(all);
        }
    }
}

/// A version's text.
pub(crate) async fn text(store: &Store, project: &str, name: &str, number: u64) -> Result<String> {
    let found = store.document(TEXT, project, &text_name(name, number)).await?;
    let document = found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "this version of the manifest is no longer kept")
            .with("type", name)
            .with("version", number)
            .fix(format!("the last {VERSIONS} are: `linkspan catalog show {name}`"))
    })?;
    document.read::<Text>().map(|t| t.text)
}

/// A type of a project's catalog, ready to be opened; none when the project has no such manifest.
pub async fn kept_type(store: &Store, project: &str, name: &str) -> Result<Option<ConnectorType>> {
    let Some((document, kept)) = find(store, project, name).await? else { return Ok(None) };
    ready(store, &document, &kept).await.map(Some)
}

pub(crate) async fn ready(store: &Store, document: &Document, kept: &Kept) -> Result<ConnectorType> {
    let name = document.name.clone().unwrap_or_default();
    let text = text(store, &document.project, &name, kept.newest()?.number).await?;
    Ok(kept.connector_type(&name, text.into()))
}
