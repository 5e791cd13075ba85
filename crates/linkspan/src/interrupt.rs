//! Ctrl-C and SIGTERM: once is a clean stop, twice is now.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result, Stop, Stopper};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{errors::Exit, terminal::Terminal};

/// What the kernel sends when a file grows beyond `ulimit -f`.
const FILE_TOO_LARGE: i32 = 25;

/// Listens from now on; what is answered hears of the first signal, the second ends the process.
pub fn listen(terminal: Arc<Terminal>) -> Result<Stop> {
    let (stopper, stop) = Stopper::new();
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] =
        signals.map(|s| s.map_err(|e| Error::new(ErrorKind::Internal, "signals cannot be listened to").because(e)));
    let (mut interrupt, mut terminate) = (interrupt?, terminate?);
    // Listened to, this signal no longer ends the process: the write that is too large fails as on a full disk.
    let too_large = signal(SignalKind::from_raw(FILE_TOO_LARGE)).ok();
    tokio::spawn(async move {
        let _too_large = too_large;
        either(&mut interrupt, &mut terminate).await;
        terminal.err("stopping: what is committed stays, the same command goes on from there (again: stop at once)");
        stopper.stop();
        either(&mut interrupt, &mut terminate).await;
        terminal.err("stopped at once: what was committed stays");
        std::process::exit(i32::from(Exit::INTERRUPTED.0));
    });
    Ok(stop)
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! { _ = a.recv() => {}, _ = b.recv() => {} }
}
