//! Records that come with files: each file is fetched into a folder, and its record says where it lies.

use std::path::{Component as Part, Path, PathBuf};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{
    answer::Answer,
    ask::{Asked, Extra, Requester, Setting},
    component::Component,
    decode::Decoder,
    errors::reject_paging_actions,
    extract::{Extractor, MakeLists},
    record::Record,
    slice::Slice,
    template::Template,
    wiring::Build,
};

pub(super) struct Files {
    requester: Requester,
    target: Extractor,
    /// A name that nobody chose is a random one.
    name: Option<Template>,
    stream: String,
    build: Build,
}

impl Files {
    pub(super) fn build(component: &Component<'_>, stream: &str, lists: MakeLists<'_>, build: &Build) -> Result<Self> {
        reject_paging_actions(&component.required("requester")?)?;
        Ok(Self {
            requester: Requester::build(&component.required("requester")?, &Setting { name: "File Uploader" }, build)?,
            target: Extractor::build(&component.required("download_target_extractor")?, stream, lists, build)?,
            name: component.template("filename_extractor")?.filter(|t| !t.source().is_empty()),
            stream: stream.to_owned(),
            build: build.clone(),
        })
    }

    /// The record with its file, which is whole in the folder by then. The same record again writes the same file.
    pub(super) async fn attached(&self, record: Record) -> Result<Record> {
        let Some(folder) = &self.build.files else {
            return Err(Error::new(ErrorKind::Unsupported, "the stream's records come with files, which have no place in a table")
                .with("stream", &self.stream)
                .fix("leave the stream out, or read it by `linkspan manifest read`, which writes files into a folder"));
        };
        let target = self.target_of(&record).await?;
        let extra: Map<String, Value> = [("download_target".to_owned(), Value::from(target))].into_iter().collect();
        let slice = Slice::new(Map::new(), Map::new(), extra)?;
        let Asked::Answer(answer) = self.requester.ask(&slice, &Value::Null, Extra::default()).await? else {
            return Err(self.wrong("a file has no pages and no windows"));
        };
        let relative = self.relative(&record)?;
        let path = folder.join(&relative);
        let size = answer.body.len();
        self.write(&path, answer.body.clone()).await?;
        let reference = json!({
            "staging_file_url": path.display().to_string(), "source_file_relative_path": relative.display().to_string(), "file_size_bytes": size,
        });
        Ok(record.with_file(reference))
    }

    async fn target_of(&self, record: &Record) -> Result<String> {
        let body = bytes::Bytes::copy_from_slice(&record.text());
        let answer = Answer::new(http::StatusCode::OK, http::HeaderMap::new(), "", body);
        let found = self.target.extract(&answer, &Decoder::Json, &self.build).await?;
        match found.records.first().map(|target| target.value().into_owned()) {
            Some(Value::String(target)) => Ok(target),
            Some(_) => Err(self.wrong("a record names its file by something that is no text")),
            None => Err(self.wrong("a record does not say where its file is")),
        }
    }

    /// Below the folder, whatever a record is called.
    fn relative(&self, record: &Record) -> Result<PathBuf> {
        let name = match &self.name {
            Some(name) => name.text(&self.build.scope().record(&record.value()))?,
            None => uuid::Uuid::new_v4().to_string(),
        };
        let relative = Path::new(&self.stream).join(name.trim_start_matches('/'));
        let stays = relative.components().all(|part| matches!(part, Part::Normal(_) | Part::CurDir));
        if stays { Ok(relative) } else { Err(self.wrong("a file's name leads out of the folder for files")) }
    }

    async fn write(&self, path: &Path, body: bytes::Bytes) -> Result<()> {
        let owned = path.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            owned.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(owned, body)
        });
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "a file cannot be written")
                .with("path", path.display())
                .because(e)
                .fix("set AIRBYTE_STAGING_DIRECTORY to a folder that can be written")
        };
        written.await.map_err(std::io::Error::other).and_then(|written| written).map_err(failed)
    }

    fn wrong(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::DataInvalid, message).with("stream", &self.stream).fix("check the stream's file_uploader")
    }
}

/// Where a program's files go: the platform's folder where there is one.
pub fn staging(chosen: Option<&std::ffi::OsStr>) -> PathBuf {
    let chosen = chosen.map_or_else(|| PathBuf::from("/staging/files"), PathBuf::from);
    if chosen.exists() { chosen } else { std::env::temp_dir().join("airbyte-file-transfer") }
}
