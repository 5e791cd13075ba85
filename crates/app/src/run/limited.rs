//! A source of which only some schemas may be seen and read, for types that have no such field of their own.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use linkspan_core::{Error, ErrorKind, Lane, Position, Result, Selected, Source, Stream, StreamName};

pub(super) struct Limited {
    pub inner: Arc<dyn Source>,
    /// Not empty.
    pub schemas: Vec<String>,
}

impl Limited {
    /// Streams that lie in no schema belong to all of them.
    fn shows(&self, name: &StreamName) -> bool {
        name.namespace.as_ref().is_none_or(|namespace| self.schemas.iter().any(|schema| **schema == **namespace))
    }
}

#[async_trait]
impl Source for Limited {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut streams = self.inner.discover().await?;
        streams.retain(|stream| self.shows(&stream.name));
        Ok(streams)
    }
    async fn missing(&self, stream: &StreamName) -> Option<Error> {
        if self.shows(stream) {
            return self.inner.missing(stream).await;
        }
        let error = Error::new(ErrorKind::NotFound, "the connector's output_schemas leave this schema out").with("stream", stream);
        Some(error.fix(format!("read from one of: {}; or change output_schemas", self.schemas.join(", "))))
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        self.inner.clone().lanes(selected, from)
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.inner.acknowledge(durable).await
    }
}
