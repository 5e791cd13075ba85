//! The lines of a run's log, from its beginning; followed until the run is over.

use std::{
    collections::VecDeque,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Result, file_error};
use linkspan_store::{RunId, RunRecord};
use serde_json::{Value, json};

use crate::app::App;

/// How often a log that grows is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// So much of a file is read at once.
const CHUNK: u64 = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// What is there now.
    Now,
    /// All of it, until the run is over.
    Over,
}

/// Reads on where it stopped.
struct Reader {
    app: Arc<App>,
    run: RunId,
    path: PathBuf,
    until: Until,
    offset: u64,
    lines: VecDeque<Value>,
    /// The run was over when the file was read last.
    over: bool,
}

pub(super) fn lines(app: Arc<App>, record: &RunRecord, until: Until) -> BoxStream<'static, Result<Value>> {
    let path = app.store.run_log_path(record.connection, record.id);
    let over = record.status.is_over();
    let reader = Reader { app, run: record.id, path, until, offset: 0, lines: VecDeque::new(), over };
    futures::stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|line| (line, reader))) }).boxed()
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            // Asked before the file is read: what a run wrote before it was over is then in the file.
            let over = self.over || (self.until == Until::Over && self.app.store.run(self.run).await?.status.is_over());
            if self.read()? {
                continue;
            }
            if over || self.until == Until::Now {
                return Ok(None);
            }
            self.over = over;
            self.app.context.clock.sleep(LOOK).await;
        }
    }

    /// Takes whole lines only: the last one may still be being written.
    fn read(&mut self) -> Result<bool> {
        let Some(text) = chunk(&self.path, self.offset)? else { return Ok(false) };
        let Some(end) = text.iter().rposition(|b| *b == b'\n') else { return Ok(false) };
        self.offset += end as u64 + 1;
        for line in text[..end].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            // A line that a killed process left unfinished.
            let broken = || json!({ "level": "warn", "message": "a line of the log was cut off" });
            self.lines.push_back(serde_json::from_slice(line).unwrap_or_else(|_| broken()));
        }
        Ok(!self.lines.is_empty())
    }
}

/// Nothing when there is no log (yet, or any more) or nothing new in it.
fn chunk(path: &Path, offset: u64) -> Result<Option<Vec<u8>>> {
    let failed = |e| file_error("the run's log cannot be read", path, e);
    let mut file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut text = Vec::new();
    file.take(CHUNK).read_to_end(&mut text).map_err(failed)?;
    Ok(Some(text).filter(|t| !t.is_empty()))
}
