//! What is seen of uploaded files, and their removal. How they come in is a face's matter, for it reads a form.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{
    discover, find,
    room::{Room, UploadedFile, files_of, name_of},
};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    moment::moment,
    operation::{Operation, Reply},
};

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "connectors.files",
            "/v1/connectors/{connector}/files",
            Access::Scoped(Scope::ConnectorsRead),
            "The files that were uploaded into a connector.",
        )
        .cli("connectors files", &["connector"])
        .call(list),
        Operation::delete(
            "connectors.delete_file",
            "/v1/connectors/{connector}/files/{file}",
            Access::Scoped(Scope::FilesWrite),
            "Deletes an uploaded file. What was read from it stays where it is.",
        )
        .cli("connectors delete-file", &["connector", "file"])
        .call(delete),
    ]
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadShown {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
    /// Who sent it.
    pub uploaded_by: String,
    pub uploaded_at: String,
    /// How often the name was sent: 1 for a file that replaced none.
    pub version: u64,
}

/// What is answered to files that came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    pub connector: String,
    pub files: Vec<UploadShown>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Files {
    files: Vec<UploadShown>,
    /// Of all of them.
    bytes_count: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Of {
    /// Id or name.
    connector: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Id or name.
    connector: String,
    /// Its name.
    file: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Deleted {
    deleted: bool,
    name: String,
}

pub(super) fn shown(document: &Document, file: UploadedFile) -> UploadShown {
    UploadShown {
        name: name_of(document).to_owned(),
        bytes: file.bytes,
        sha256: file.sha256,
        uploaded_by: file.by,
        uploaded_at: moment(document.updated_at_ms),
        version: document.version,
    }
}

async fn list(app: Arc<App>, context: CallContext, of: Of) -> Result<Reply<Files>> {
    let (connector, _) = find(&app, &context, &of.connector).await?;
    let documents = files_of(&app.store, &context.project, connector.id).await?;
    let files = documents.iter().map(|d| Ok(shown(d, d.read()?))).collect::<Result<Vec<_>>>()?;
    let bytes_count = files.iter().map(|f| f.bytes).sum();
    Ok(Reply::ok(Files { files, bytes_count }))
}

async fn delete(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Deleted>> {
    let (connector, _) = find(&app, &context, &one.connector).await?;
    let documents = files_of(&app.store, &context.project, connector.id).await?;
    let document = documents.iter().find(|d| name_of(d) == one.file).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the connector has no such file")
            .with("file", &one.file)
            .fix(format!("`linkspan connectors files '{}'` shows them", connector.name.as_deref().unwrap_or_default()))
    })?;
    context.check_version(document.version)?;
    let mut change = Change::new(app.now_ms()).edit(Edit::delete(document));
    change.edits.extend(discover::forget(&app, &connector).await?);
    change.edits.push(Edit::Observe { id: connector.id, merge: json!({ "status": null, "failures": null, "error": null }) });
    let reply = app.commit(&context, change, Reply::ok(Deleted { deleted: true, name: one.file })).await?;
    if let Err(e) = Room::of(&app.store, &context.project, connector.id).settle(&app.store).await {
        tracing::warn!(connector = %connector.id, error = %e, "a deleted file waits to be removed");
    }
    Ok(reply)
}
