//! A prefix in an S3 bucket. Rows go up as parts of multipart uploads, which nobody sees until they are completed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use linkspan_core::{Error, ErrorKind, Http, Result};
use object_store::{
    BackoffConfig, Error as StoreError, GetOptions, GetRange, MultipartId, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore, PartId},
    path::Path,
};
use tokio::task::JoinSet;

use super::{Depth, Item, PartFile, Put, UploadNote, wire::Lent};
use crate::{config::ParquetConfig, errors};

/// All parts but the last have this size: some stores want them equal, all want at least 5 MiB.
const PART: usize = 8 << 20;
/// Parts on their way at once, per file.
const IN_FLIGHT: usize = 3;

pub(crate) struct S3 {
    store: Arc<AmazonS3>,
    bucket: String,
    prefix: String,
}

/// The machine's `AWS_*` variables; but keys of one's own never go with a token of the machine's.
fn from_surroundings(config: &ParquetConfig) -> AmazonS3Builder {
    if config.access_key_id.is_none() || config.secret_access_key.is_none() {
        return AmazonS3Builder::from_env();
    }
    const PLACES: &[&str] = &["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let wanted = PLACES.iter().filter(|name| config.endpoint.is_none() || name.ends_with("REGION"));
    let set = wanted.filter_map(|name| Some((name.to_ascii_lowercase().parse().ok()?, std::env::var(name).ok()?)));
    set.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

impl S3 {
    /// Builds the client; sends nothing.
    pub fn new(config: &ParquetConfig, bucket: &str, prefix: &str, http: Arc<dyn Http>) -> Result<Self> {
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
            max_retries: 4,
            retry_timeout: Duration::from_secs(60),
        };
        let plain = config.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
        let mut builder = from_surroundings(config).with_bucket_name(bucket).with_retry(retry).with_http_connector(Lent(http));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(id) = &config.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &config.secret_access_key {
            builder = builder.with_secret_access_key(secret.expose());
        }
        if let Some(token) = &config.session_token {
            builder = builder.with_token(token.expose());
        }
        let store = builder.with_allow_http(plain || config.allow_http).build().map_err(|_| {
            // The cause may quote the configuration, secrets included.
            Error::new(ErrorKind::ConfigInvalid, "the S3 settings do not go together")
                .fix("give access_key_id and secret_access_key together, and an endpoint that is a URL")
        })?;
        Ok(Self { store: Arc::new(store), bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
    pub fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }
    /// The object as a person would write it.
    fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.describe().trim_end_matches('/'))
    }
    fn key(&self, path: &str) -> Result<Path> {
        let full = match (self.prefix.as_str(), path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}/{path}"),
        };
        Path::parse(&full).map_err(|e| {
            Error::new(ErrorKind::ConfigInvalid, "the path cannot be a key").with("path", full).fix("choose another prefix").because(e)
        })
    }
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let got = match self.store.get(&self.key(path)?).await {
            Ok(got) => got.bytes().await,
            Err(e) => Err(e),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(errors::store("the object cannot be read", &self.shown(path), e)),
        }
    }
    /// A range of an object that must still have this etag.
    pub async fn read_range(&self, path: &str, range: std::ops::Range<u64>, etag: Option<String>) -> Result<Bytes> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), if_match: etag, ..GetOptions::default() };
        let got = match self.store.get_opts(&self.key(path)?, options).await {
            Ok(got) => got.bytes().await,
            Err(e) => Err(e),
        };
        got.map_err(|e| match e {
            StoreError::Precondition { .. } => changed_while_read(path),
            e => errors::store("the object cannot be read", &self.shown(path), e),
        })
    }
    pub async fn head(&self, path: &str) -> Result<Option<Item>> {
        match self.store.head(&self.key(path)?).await {
            Ok(meta) => Ok(Some(item(path.to_owned(), &meta))),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(errors::store("the object cannot be read", &self.shown(path), e)),
        }
    }
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.key(path)?, bytes.into(), options).await {
            Ok(_) => Ok(Put::Done),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(Put::Taken),
            Err(e) => Err(errors::store("the object cannot be written", &self.shown(path), e)),
        }
    }
    pub async fn delete(&self, path: &str) -> Result<()> {
        match self.store.delete(&self.key(path)?).await {
            Err(e) if !is_absent(&e) => Err(errors::store("the object cannot be deleted", &self.shown(path), e)),
            _ => Ok(()),
        }
    }
    pub async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Item>> {
        let key = self.key(folder)?;
        let failed = |e| errors::store("the prefix cannot be listed", &self.shown(folder), e);
        let prefix = (!key.as_ref().is_empty()).then_some(&key);
        let metas: Vec<ObjectMeta> = match depth {
            Depth::One => self.store.list_with_delimiter(prefix).await.map_err(failed)?.objects,
            Depth::Tables => self.store.list(prefix).try_collect().await.map_err(failed)?,
        };
        let items = metas.iter().filter_map(|meta| {
            let path = meta.location.as_ref();
            let path = if self.prefix.is_empty() { path } else { path.strip_prefix(&self.prefix)?.strip_prefix('/')? };
            let hidden = depth == Depth::Tables
                && path
                    .rsplit_once('/')
                    .is_some_and(|(folders, _)| folders.split('/').count() > 2 || folders.split('/').any(|f| f.starts_with(['_', '.'])));
            (!hidden).then(|| item(path.to_owned(), meta))
        });
        Ok(items.collect())
    }
    /// Begins an upload that nobody sees, after its note is written down.
    pub async fn begin(&self, name: &str, note: &str) -> Result<Upload> {
        let key = self.key(name)?;
        let id = self.store.create_multipart(&key).await.map_err(|e| errors::store("the upload cannot be begun", &self.shown(name), e))?;
        let text = serde_json::to_vec(&UploadNote { name: name.to_owned(), upload: id.clone() }).unwrap_or_default();
        self.put_new(note, text.into()).await?;
        Ok(Upload { store: self.store.clone(), key, id, note: note.to_owned(), next: 0, etags: Vec::new(), sending: JoinSet::new() })
    }
    /// Completes an upload. When that fails because it was completed before, the object is there and all is well.
    pub async fn complete(&self, part: &PartFile, id: &str, etags: &[String], note: &str) -> Result<()> {
        let parts = etags.iter().map(|etag| PartId { content_id: etag.clone() }).collect();
        let completed = self.store.complete_multipart(&self.key(&part.name)?, &id.to_owned(), parts).await;
        if let Err(e) = completed {
            let there = self.head(&part.name).await?;
            let noted = self.read(note).await?.is_some();
            match there {
                Some(item) if item.size == part.size => {}
                // Somebody else completed it, took its note, and a reader of the table has since taken the object away.
                None if !noted => {}
                _ if chain_says_gone(&e) => return Err(lost_upload(&part.name)),
                _ => return Err(errors::store("the upload cannot be completed", &self.shown(&part.name), e)),
            }
        }
        self.delete(note).await
    }
    pub async fn abort(&self, name: &str, id: &str, note: &str) -> Result<()> {
        match self.store.abort_multipart(&self.key(name)?, &id.to_owned()).await {
            Err(e) if !chain_says_gone(&e) => {
                // Cleaning up must not stop a run. The note stays, and the next run tries again.
                tracing::warn!(name, error = %errors::store("the upload cannot be aborted", &self.shown(name), e), "an unfinished upload stays");
                Ok(())
            }
            _ => self.delete(note).await,
        }
    }
    pub async fn abort_noted(&self, note: &str) -> Result<()> {
        let Some(text) = self.read(note).await? else { return Ok(()) };
        match serde_json::from_slice::<UploadNote>(&text) {
            Ok(noted) => self.abort(&noted.name, &noted.upload, note).await,
            Err(_) => self.delete(note).await,
        }
    }
}

fn item(path: String, meta: &ObjectMeta) -> Item {
    let identity = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
    Item { path, size: meta.size, identity, etag: meta.e_tag.clone() }
}

fn is_absent(e: &StoreError) -> bool {
    matches!(e, StoreError::NotFound { .. }) && !format!("{e:?}").contains("NoSuchBucket")
}

fn chain_says_gone(e: &StoreError) -> bool {
    let text = format!("{e:?}");
    text.contains("NoSuchUpload") || matches!(e, StoreError::NotFound { .. })
}

fn lost_upload(name: &str) -> Error {
    Error::new(ErrorKind::DataInvalid, "an upload that the commit log counts on was aborted by somebody else")
        .with("file", name)
        .fix("reset the connection and read in full again; let a bucket rule abort unfinished uploads only after several days")
}

pub(crate) fn changed_while_read(path: &str) -> Error {
    Error::new(ErrorKind::PositionLost, "a file changed while it was read").with("file", path).fix("run again: the read starts anew")
}

/// A multipart upload under way. Dropped, it sends no more; its note lets the next run abort it.
pub(crate) struct Upload {
    store: Arc<AmazonS3>,
    key: Path,
    id: MultipartId,
    note: String,
    next: usize,
    etags: Vec<(usize, String)>,
    sending: JoinSet<Result<(usize, String)>>,
}

impl Upload {
    /// Takes whole parts out of the buffer and sends them; what is less than one part stays.
    pub async fn take_full(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        if buffer.len() < PART {
            return Ok(());
        }
        let mut all = Bytes::from(std::mem::take(buffer));
        while all.len() >= PART {
            self.send(all.split_to(PART)).await?;
        }
        buffer.extend_from_slice(&all);
        Ok(())
    }
    /// Sends the rest and waits until everything is there. Answers (upload id, etags in order, note).
    pub async fn finish(mut self, buffer: Vec<u8>) -> Result<(String, Vec<String>, String)> {
        let mut rest = Bytes::from(buffer);
        while !rest.is_empty() {
            let n = rest.len().min(PART);
            self.send(rest.split_to(n)).await?;
        }
        while let Some(sent) = self.sending.join_next().await {
            self.note_sent(sent)?;
        }
        self.etags.sort_unstable();
        Ok((self.id, self.etags.into_iter().map(|(_, etag)| etag).collect(), self.note))
    }
    /// Stops sending. The note leads to what was sent.
    pub fn into_note(self) -> String {
        self.note
    }
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        while self.sending.len() >= IN_FLIGHT {
            if let Some(sent) = self.sending.join_next().await {
                self.note_sent(sent)?;
            }
        }
        let (store, key, id, index) = (self.store.clone(), self.key.clone(), self.id.clone(), self.next);
        self.next += 1;
        self.sending.spawn(async move {
            let part = store
                .put_part(&key, &id, index, PutPayload::from(bytes))
                .await
                .map_err(|e| errors::store("a part cannot be uploaded", key.as_ref(), e))?;
            Ok((index, part.content_id))
        });
        Ok(())
    }
    fn note_sent(&mut self, sent: Result<Result<(usize, String)>, tokio::task::JoinError>) -> Result<()> {
        let part = sent.map_err(|e| Error::new(ErrorKind::Internal, "an upload task died").because(e))??;
        self.etags.push(part);
        Ok(())
    }
}
