//! `courier`: what this program is started as by itself to fetch a token whose loss would lose a connection. No verb for people.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use linkspan_app::keeping::courier;
use linkspan_core::Result;
use linkspan_http::Policy;

use crate::serve;

/// Whether the program was started as a courier.
pub fn is_asked() -> bool {
    let mut args = std::env::args_os().skip(1);
    args.next().is_some_and(|word| word == courier::WORD) && args.next().is_none()
}

/// Reads its errand from stdin, and tells on stdout how it went.
pub fn run() -> ExitCode {
    match carried() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn carried() -> Result<()> {
    let mut errand = String::new();
    let unread = |e| linkspan_core::Error::new(linkspan_core::ErrorKind::Internal, "there is no errand").because(e);
    std::io::stdin().lock().read_to_string(&mut errand).map_err(unread)?;
    let policy = if courier::is_guarded(&errand) { serve::policy()? } else { Policy::Open };
    let http = crate::context(policy)?.http;
    let told = crate::runtime()?.block_on(courier::run(&errand, &http));
    // Who asked may be gone: what was fetched is written down by now.
    let _ = std::io::stdout().lock().write_all(told.as_bytes());
    Ok(())
}
