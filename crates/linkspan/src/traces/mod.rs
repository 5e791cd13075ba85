//! Traces: spans of this process to a collector that speaks OTLP over HTTP. Off unless an address is given; then it never holds up and
//! never fails what it tells of: what does not fit is dropped, and counted.

mod export;
mod layer;
mod settings;
mod span;
mod wire;

use std::{sync::Arc, time::Duration};

use linkspan_core::{Clock, Error, ErrorKind, Http, Result, SystemClock};
use linkspan_server::Spans;
use tokio::sync::{mpsc, watch};

pub use layer::Layer;
pub use settings::Settings;

/// How long the last spans may take to leave when the process ends.
const FLUSH: Duration = Duration::from_secs(5);

/// Exports until it is finished.
pub struct Traces {
    pub fates: Arc<Spans>,
    stop: watch::Sender<bool>,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Traces {
    /// On a thread of its own, so that neither waits for the other.
    pub fn start(settings: Settings) -> Result<(Layer, Self)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The address is the operator's word, so no guard stands before it.
        let http = linkspan_http::client(linkspan_http::Policy::Open, clock.clone());
        Self::start_with(settings, clock, http)
    }
    fn start_with(settings: Settings, clock: Arc<dyn Clock>, http: Arc<dyn Http>) -> Result<(Layer, Self)> {
        let fates = Arc::new(Spans::default());
        let (to, inbox) = mpsc::channel(settings.queue);
        let (stop, stopped) = watch::channel(false);
        let (tell, ended) = std::sync::mpsc::sync_channel(1);
        let layer = Layer::new(to, fates.clone(), settings.sampler, clock);
        let exporter = export::Exporter::new(settings, http, fates.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(not_started)?;
        let work = move || {
            runtime.block_on(exporter.run(inbox, stopped));
            tell.send(()).ok();
        };
        std::thread::Builder::new().name("traces".into()).spawn(work).map_err(not_started)?;
        Ok((layer, Self { fates, stop, ended }))
    }
    /// Sends what is left, for as long as that may take.
    pub fn finish(self) {
        self.stop.send_replace(true);
        if self.ended.recv_timeout(FLUSH).is_err() {
            tracing::warn!("the last spans did not reach the collector in time");
        }
    }
}

fn not_started(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "the thread that exports traces cannot be started").because(e)
}

#[cfg(test)]
mod tests;
