//! `manifest spec|check|discover|read`, without the rest of the house: builds in a fraction of the time, for conformance runs.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use linkspan_airbyte::{
    command::{self, Verb, World},
    wiring::Sleeps,
};

pub fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let mut paths = std::collections::HashMap::new();
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        paths.insert(name, PathBuf::from(value));
    }
    let mut path = |name: &str| paths.remove(name).unwrap_or_else(|| panic!("{name} is missing"));
    let manifest = path("--manifest");
    let verb = match verb.as_str() {
        "spec" => Verb::Spec,
        "check" => Verb::Check { config: path("--config") },
        "discover" => Verb::Discover { config: path("--config") },
        "read" => Verb::Read { config: path("--config"), catalog: path("--catalog"), state: paths.remove("--state") },
        other => panic!("no such verb: {other}"),
    };
    let env = |name| std::env::var(name).ok();
    let clock = command::clock(env("LINKSPAN_NOW").as_deref()).expect("LINKSPAN_NOW is a time");
    let http = linkspan_http::client(linkspan_http::Policy::Open, clock.clone());
    let world = World { http: Arc::clone(&http), clock, sleeps: Sleeps::of(env("LINKSPAN_SLEEP_SCALE").as_deref()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    ExitCode::from(runtime.block_on(command::run(&manifest, verb, world, std::io::BufWriter::with_capacity(1 << 16, std::io::stdout()))))
}
