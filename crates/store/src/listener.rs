//! The owner's ear: other processes of the same user ask through the socket what this process asks directly.

use std::{fs, path::PathBuf, sync::Arc};

use linkspan_core::Result;
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
};

use crate::{
    data_dir::DataDir,
    driver::Driver,
    wire::{Answer, Hello, PROTOCOL, Question, Wire, read_line, write_line},
};

/// Questions of one caller that are worked on at once.
const AT_ONCE: usize = 128;

/// Listens until dropped; then callers see the end and go to the next owner.
pub(crate) struct Listener {
    task: AbortHandle,
    socket: PathBuf,
}

impl Listener {
    pub(crate) fn start(dir: &DataDir, driver: Arc<dyn Driver>) -> Result<Self> {
        let listener = dir.listen()?;
        let user = dir.socket_user()?;
        let task = tokio::spawn(accept(listener, user, driver)).abort_handle();
        Ok(Self { task, socket: dir.socket() })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        // The lock is still held here, so the name cannot be the next owner's.
        fs::remove_file(&self.socket).ok();
    }
}

async fn accept(listener: UnixListener, user: u32, driver: Arc<dyn Driver>) {
    let mut callers = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let driver = driver.clone();
                callers.spawn(async move {
                    if let Err(e) = serve(stream, user, driver).await {
                        tracing::debug!(error = %e, "a caller of the store's socket went away");
                    }
                });
            }
            // Too many open files and the like: the next caller may find room.
            Err(e) => {
                tracing::warn!(error = %e, "the store's socket could not accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while callers.try_join_next().is_some() {}
    }
}

async fn serve(stream: UnixStream, user: u32, driver: Arc<dyn Driver>) -> Result<()> {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == user || peer.uid() == 0 => {}
        _ => return Ok(()),
    }
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    write_line(&mut output, &Hello { linkspan_store: PROTOCOL, pid: std::process::id() }).await?;
    let Some(_caller) = read_line::<Hello>(&mut input).await? else { return Ok(()) };

    // Aborted with this task: a caller that is gone needs no answers.
    let mut tasks = JoinSet::new();
    let (answers, mut ready) = mpsc::channel::<Answer>(AT_ONCE);
    tasks.spawn(async move {
        while let Some(answer) = ready.recv().await {
            if write_line(&mut output, &answer).await.is_err() {
                return;
            }
        }
    });
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(Question { id, request }) = read_line(&mut input).await? {
        let (driver, answers) = (driver.clone(), answers.clone());
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        tasks.spawn(async move {
            let answer = driver.ask(request).await.map_err(|e| Wire::from(&e));
            answers.send(Answer { id, answer }).await.ok();
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    Ok(())
}
