//! A form with one file, read from disk as it is sent.

use std::path::PathBuf;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use linkspan_core::{Result, file_error};
use tokio::io::AsyncReadExt;

/// Read and sent at once.
const PIECE: usize = 1 << 16;

/// An open file and its name at the other side.
pub struct Part {
    pub name: String,
    pub path: PathBuf,
    pub file: tokio::fs::File,
}

impl Part {
    /// The form's body; `passed` is told of the file's bytes as they go.
    pub fn form(self, boundary: &str, passed: impl Fn(u64) + Send + Sync + 'static) -> BoxStream<'static, Result<Bytes>> {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: application/octet-stream\r\n\r\n",
            quoted(&self.name)
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let (file, path) = (self.file, self.path);
        let content = stream::try_unfold((file, path, passed), |(mut file, path, passed)| async move {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).await.map_err(|e| file_error("the file cannot be read", &path, e))?;
            piece.truncate(read);
            passed(read as u64);
            Ok((read > 0).then(|| (Bytes::from(piece), (file, path, passed))))
        });
        let whole = |text: String| stream::once(async move { Ok(Bytes::from(text)) });
        whole(head).chain(content).chain(whole(tail)).boxed()
    }
}

/// As browsers write names into a form's head.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
