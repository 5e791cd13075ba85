//! Files on their way in: written down as they come, judged, and made the connector's own in one change of the store.

use std::{fs::File, io::Write, path::PathBuf, sync::Arc};

use bytes::Bytes;
use linkspan_core::{Error, ErrorKind, Result, Uploads, file_error};
use linkspan_store::{Change, Document, Edit};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    super::{
        Connector, discover, find, find_in,
        room::{Room, UPLOAD, UploadedFile, blocking, bytes_of, files_of, holds_files, name_of},
    },
    name::checked,
    operations::{Received, shown},
};
use crate::{
    app::App,
    arriving::Share,
    caller::CallContext,
    commit::once_more,
    identity::hex,
    operation::{Reply, answered_before},
};

/// Written at once.
const BLOCK: usize = 1 << 18;
const MOST_FILES: usize = 1_000;
const ATTEMPTS: u32 = 10;
/// A packed file may hold so many times what a plain one may.
const UNPACKED: u64 = 20;

/// Why a file is not taken, for faces that tell these apart from other mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is too large, packed or unpacked.
    TooLarge,
    /// It says of itself that it is no table.
    OtherMedia,
    Else,
}

#[derive(Debug)]
pub struct Refused {
    pub why: Why,
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { why: Why::Else, error }
    }
}

type Taken<T> = std::result::Result<T, Refused>;

/// One request's files. Dropped before [`Upload::commit`], it leaves nothing behind.
pub struct Upload {
    app: Arc<App>,
    context: CallContext,
    connector: Document,
    takes: Uploads,
    room: Room,
    /// What the project's files had when this began.
    stored: u64,
    share: Share,
    writing: Option<Writing>,
    whole: Vec<Staged>,
}

/// A content in `incoming`, gone with this value unless it was kept.
struct Staged {
    name: String,
    path: PathBuf,
    content: Uuid,
    /// Open, and so locked, as long as it is nobody's.
    file: File,
    bytes: u64,
    sha256: String,
    kept: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

struct Writing {
    staged: Staged,
    block: Vec<u8>,
    hash: Sha256,
}

impl Writing {
    /// Writes the block down and makes room for the next.
    async fn flush(mut self) -> Result<Self> {
        blocking(move || {
            self.hash.update(&self.block);
            let written = self.staged.file.write_all(&self.block);
            written.map_err(|e| file_error("an uploaded file cannot be kept", &self.staged.path, e))?;
            self.block.clear();
            Ok(self)
        })
        .await
    }
}

impl Upload {
    /// Looks whether the connector takes files. Nothing is written yet.
    pub async fn begin(app: &Arc<App>, context: &CallContext, connector: &str) -> Result<Self> {
        let (document, stands) = find(app, context, connector).await?;
        let takes = takes(app, context, &document, &stands).await?;
        let room = Room::of(&app.store, &context.project, document.id);
        let stored = bytes_of(&app.store, &context.project).await?;
        let share = app.arriving.share(&context.project);
        Ok(Self {
            app: app.clone(),
            context: context.clone(),
            connector: document,
            takes,
            room,
            stored,
            share,
            writing: None,
            whole: vec![],
        })
    }

    /// The next file, under the name and the kind that its sender gave it.
    pub async fn file(&mut self, name: &str, media: Option<&str>) -> Taken<()> {
        let name = checked(name, self.takes.endings)?.to_owned();
        if let Some(media) = media.filter(|m| is_other(m)) {
            let error = Error::new(ErrorKind::ConfigInvalid, "the file is sent as something that is no table").with("content_type", media);
            return Err(Refused { why: Why::OtherMedia, error: error.fix("send it as text/csv or application/octet-stream") });
        }
        if self.whole.iter().any(|file| file.name == name) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "one name comes twice").with("name", name).fix("send each file once").into());
        }
        let (content, room) = (Uuid::now_v7(), self.room.clone());
        let (path, file) = blocking(move || room.receive(content)).await?;
        let staged = Staged { name, path, content, file, bytes: 0, sha256: String::new(), kept: false };
        self.writing = Some(Writing { staged, block: Vec::with_capacity(BLOCK), hash: Sha256::new() });
        Ok(())
    }

    /// More of the file. Refused as soon as it is too much.
    pub async fn write(&mut self, piece: Bytes) -> Taken<()> {
        let limits = self.app.settings.uploads;
        let Some(mut writing) = self.writing.take() else { return Err(nothing_begun().into()) };
        writing.staged.bytes += piece.len() as u64;
        if writing.staged.bytes > limits.file {
            let error = Error::new(ErrorKind::ConfigInvalid, "the file is larger than is taken")
                .with("name", &writing.staged.name)
                .with("limit_bytes", limits.file)
                .fix("send it packed (.csv.gz) or in parts; the operator sets LINKSPAN_UPLOAD_MAX_MB");
            return Err(Refused { why: Why::TooLarge, error });
        }
        if self.stored + self.share.add(piece.len() as u64) > limits.project {
            return Err(full(limits.project).into());
        }
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - writing.block.len()));
            writing.block.extend_from_slice(now);
            rest = later;
            if writing.block.len() == BLOCK {
                writing = writing.flush().await?;
            }
        }
        self.writing = Some(writing);
        Ok(())
    }

    /// The file is here whole: it is made durable and judged.
    pub async fn end(&mut self) -> Taken<()> {
        let Some(writing) = self.writing.take() else { return Err(nothing_begun().into()) };
        let Writing { mut staged, hash, .. } = writing.flush().await?;
        staged.sha256 = hex(&hash.finalize());
        let (judge, most) = (self.takes.judge, self.app.settings.uploads.file.saturating_mul(UNPACKED));
        let judged = blocking(move || {
            staged.file.sync_all().map_err(|e| file_error("an uploaded file cannot be kept", &staged.path, e))?;
            judge(&staged.path, &staged.name, most).map(|()| staged)
        });
        let staged = judged.await.map_err(|error| {
            let too_large = error.context().iter().any(|(k, _)| *k == "unpacked_limit_bytes");
            Refused { why: if too_large { Why::TooLarge } else { Why::Else }, error }
        })?;
        self.app.context.failpoints.hit("upload.staged").await?;
        self.whole.push(staged);
        Ok(())
    }

    /// All files of the request become the connector's, or none. It goes on when the asker leaves.
    pub async fn commit(self) -> Result<Reply<Received>> {
        if self.whole.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the request holds no file").fix("send it as the form's field `file`"));
        }
        let committing = tokio::spawn(self.committed());
        committing.await.map_err(|e| Error::new(ErrorKind::Internal, "the upload broke").because(e))?
    }

    async fn committed(mut self) -> Result<Reply<Received>> {
        let files: Vec<_> = self.whole.iter().map(|f| json!([f.name, f.bytes, f.sha256])).collect();
        let asked = json!({ "connector": self.connector.id, "files": files });
        if let Some(answer) = answered_before(&self.app, &mut self.context, &asked).await? {
            return crate::commit::decoded(answer);
        }
        let mut attempt = 0;
        let reply = loop {
            attempt += 1;
            match self.try_commit().await {
                Err(e) if once_more(&self.context, &e, attempt) => {}
                // Another sender of the same name was first: now there is something to replace.
                Err(e) if e.kind() == ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
                done => break done?,
            }
        };
        // From here on the contents are the documents' matter; they stay open until they are in their place, so that nobody takes them for
        // left behind. What cannot be put there now is when it is read; what has been replaced meanwhile goes.
        let settled = self.room.settle(&self.app.store).await;
        if let Err(e) = &settled {
            tracing::warn!(connector = %self.connector.id, error = %e, "uploaded files wait to be put in their place");
        }
        self.whole.iter_mut().for_each(|staged| staged.kept = settled.is_err());
        self.whole.clear();
        Ok(reply)
    }

    async fn try_commit(&mut self) -> Result<Reply<Received>> {
        let Self { app, context, .. } = self;
        let (connector, stands) = find_in(app, &context.project, &self.connector.id.to_string()).await?;
        takes(app, context, &connector, &stands).await?;
        let now = app.now_ms();
        let known = files_of(&app.store, &context.project, connector.id).await?;
        let mut change = Change::new(now).edit(Edit::Expect { id: connector.id, version: connector.version });
        let (mut files, mut replaced, mut added) = (vec![], 0, 0);
        for staged in &self.whole {
            let file = UploadedFile {
                content: staged.content,
                bytes: staged.bytes,
                sha256: staged.sha256.clone(),
                by: context.caller.name.clone(),
            };
            let document = match known.iter().find(|d| name_of(d) == staged.name) {
                Some(document) => {
                    replaced += document.read::<UploadedFile>()?.bytes;
                    let document = document.clone().revised(&file, now)?;
                    change.edits.push(Edit::update(document.clone()));
                    document
                }
                None => {
                    added += 1;
                    let document = new_document(&connector, &staged.name, &file, now)?;
                    change.edits.push(Edit::insert(document.clone()));
                    document
                }
            };
            files.push(shown(&document, file));
        }
        if known.len() + added > MOST_FILES {
            return Err(Error::new(ErrorKind::StorageFull, "the connector holds no more files")
                .with("limit_files", MOST_FILES)
                .fix("delete some, or make another connector"));
        }
        let limit = app.settings.uploads.project;
        if bytes_of(&app.store, &context.project).await? + self.share.add(0) - replaced > limit {
            return Err(full(limit));
        }
        change.edits.extend(discover::forget(app, &connector).await?);
        // What was seen of other files says nothing of these.
        change.edits.push(Edit::Observe { id: connector.id, merge: json!({ "status": null, "failures": null, "error": null }) });
        let at = format!("/v1/connectors/{}/files", connector.id);
        let reply = Reply::created(at, Received { connector: connector.name.clone().unwrap_or_default(), files });
        app.context.failpoints.hit("upload.commit.before").await?;
        // A change that was asked for may be done though its answer is lost: a content goes only when it surely was not.
        self.whole.iter_mut().for_each(|staged| staged.kept = true);
        let done = app.commit(context, change, reply).await;
        if let Err(e) = &done {
            let refused = !matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal);
            self.whole.iter_mut().for_each(|staged| staged.kept = !refused);
        }
        app.context.failpoints.hit("upload.commit.after").await?;
        done
    }
}

fn new_document(connector: &Document, name: &str, file: &UploadedFile, now: i64) -> Result<Document> {
    let body = serde_json::to_value(file).map_err(|e| Error::new(ErrorKind::Internal, "a file could not be described").because(e))?;
    let mut document = Document::new(UPLOAD, &connector.project, Some(&format!("{}/{name}", connector.id)), body, now);
    document.facet = connector.id.to_string();
    Ok(document)
}

/// What the connector takes, or why it takes nothing.
async fn takes(app: &App, context: &CallContext, document: &Document, connector: &Connector) -> Result<Uploads> {
    let name = document.name.clone().unwrap_or_default();
    let kind = app.kind(&context.project, &connector.kind, ErrorKind::Unsupported).await?;
    let Some(takes) = kind.spec.uploads else {
        return Err(Error::new(ErrorKind::Unsupported, format!("{} takes no files", kind.spec.title))
            .with("connector", &name)
            .with("connector_type", &kind.spec.name)
            .fix("make a connector of type csv for them: `linkspan connectors create NAME --type csv`"));
    };
    if !holds_files(&kind, &connector.config) {
        return Err(Error::new(ErrorKind::Conflict, "the connector reads another place, which its config names")
            .with("connector", &name)
            .with("field", "path")
            .fix("make one without `path` for uploaded files, or take `path` out of this one's config"));
    }
    Ok(takes)
}

/// Kinds that no table is sent as. What else is said does not matter: browsers guess it from the name.
fn is_other(media: &str) -> bool {
    const OTHERS: [&str; 7] = ["image/", "audio/", "video/", "font/", "text/html", "application/pdf", "application/x-msdownload"];
    let media = media.trim().to_ascii_lowercase();
    OTHERS.iter().any(|other| media.starts_with(other))
}

fn full(limit: u64) -> Error {
    Error::new(ErrorKind::StorageFull, "the project has no room for more files")
        .with("limit_bytes", limit)
        .fix("delete files that are no longer needed; the operator sets LINKSPAN_UPLOAD_QUOTA_MB")
}

fn nothing_begun() -> Error {
    Error::new(ErrorKind::Internal, "bytes came before the name of their file")
}
