//! One COPY into one table: rows are encoded into chunks that leave as soon as they are full, and the chunks' memory is used again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Buf;
use futures::SinkExt;
use linkspan_core::Result;
use tokio_postgres::CopyInSink;

use super::{
    connect::Client,
    encode::{Column, Encoder, HEADER, TRAILER},
    encode_text::TextEncoder,
    errors::PgResult,
};

/// Rows leave when this much is encoded.
const CHUNK: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Binary,
    Text,
}

impl Format {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Binary => "(FORMAT binary)",
            Self::Text => "(FORMAT text, ENCODING 'UTF8')",
        }
    }
}

/// Buffers that come back when the driver has written them out.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().expect("no panic while held").pop();
        kept.unwrap_or_else(|| Vec::with_capacity(CHUNK + (CHUNK >> 3)))
    }
    fn give(&self, mut buffer: Vec<u8>) {
        // A buffer that one large value made grow is let go.
        if buffer.capacity() > 4 * CHUNK {
            return;
        }
        buffer.clear();
        let mut kept = self.0.lock().expect("no panic while held");
        if kept.len() < 4 {
            kept.push(buffer);
        }
    }
}

/// A full buffer on its way out.
struct Chunk {
    data: Vec<u8>,
    at: usize,
    pool: Pool,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.data.len() - self.at
    }
    fn chunk(&self) -> &[u8] {
        &self.data[self.at..]
    }
    fn advance(&mut self, count: usize) {
        self.at += count;
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.data));
    }
}

/// An open COPY. The connection can do nothing else until it is finished.
pub(super) struct Copy {
    sink: Pin<Box<CopyInSink<Chunk>>>,
    format: Format,
    buffer: Vec<u8>,
    pool: Pool,
    rows: u64,
}

/// How many rows went out, and how many the server took (a trigger may leave some out).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub sent: u64,
    pub taken: u64,
}

impl Copy {
    pub(super) async fn open(client: &Client, statement: &str, format: Format) -> Result<Self> {
        let sink = client.copy_in::<_, Chunk>(statement).await.pg("opening the COPY")?;
        let pool = Pool::default();
        let mut buffer = pool.take();
        if format == Format::Binary {
            buffer.extend_from_slice(HEADER);
        }
        Ok(Self { sink: Box::pin(sink), format, buffer, pool, rows: 0 })
    }

    /// Encodes rows and sends what is full. The columns may be dropped afterwards.
    pub(super) async fn rows(&mut self, columns: Vec<Column<'_>>, rows: usize) -> Result<()> {
        match self.format {
            Format::Binary => {
                let mut encoder = Encoder::new(columns, rows);
                while !encoder.fill(&mut self.buffer, CHUNK) {
                    self.flush().await?;
                }
            }
            Format::Text => {
                let mut encoder = TextEncoder::new(columns, rows);
                while !encoder.fill(&mut self.buffer, CHUNK) {
                    self.flush().await?;
                }
            }
        }
        self.rows += rows as u64;
        if self.buffer.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let data = std::mem::replace(&mut self.buffer, self.pool.take());
        let sent = self.sink.send(Chunk { data, at: 0, pool: self.pool.clone() }).await;
        let Err(broken) = sent else { return Ok(()) };
        // The server's own words, if it had any before the connection went.
        match self.sink.as_mut().finish().await {
            Err(said) if said.as_db_error().is_some() => Err(said).pg("copying rows"),
            _ => Err(broken).pg("copying rows"),
        }
    }

    pub(super) async fn finish(mut self) -> Result<Copied> {
        if self.format == Format::Binary {
            self.buffer.extend_from_slice(TRAILER);
        }
        self.flush().await?;
        let taken = self.sink.as_mut().finish().await.pg("copying rows")?;
        Ok(Copied { sent: self.rows, taken })
    }
}
