//! The binary: settings, wiring, the command line. What each verb does lives in its own room.

#![forbid(unsafe_code)]

mod airbyte;
mod apply;
mod catalog;
mod cli;
mod connectors;
mod courier;
mod demo;
mod dry;
mod ends;
mod errors;
mod house;
mod interrupt;
mod job;
mod kept;
mod manifest;
mod progress;
mod project;
mod remote;
mod report;
mod serve;
mod settings;
mod sync;
mod terminal;

use std::{panic::AssertUnwindSafe, process::ExitCode, sync::Arc};

use clap::{ArgMatches, CommandFactory, FromArgMatches, error::ErrorKind as Usage};
use linkspan_app::secrets::Key;
use linkspan_core::{Context, Error, ErrorKind, Failpoints, Result};
use linkspan_http::Policy;

use crate::{
    cli::{Cli, Common, Keys, Project, Verb},
    errors::Exit,
    remote::Remote,
    terminal::{ColorChoice, OutputChoice, Terminal},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if courier::is_asked() {
        tell_of_panics();
        return courier::run();
    }
    let asked = match parse() {
        Ok(Ok(asked)) => asked,
        Ok(Err(e)) => return usage(&e),
        Err(e) => return ExitCode::from(errors::report(&e, &Terminal::new(OutputChoice::default(), ColorChoice::default())).0),
    };
    let terminal = Arc::new(Terminal::new(asked.common().output, asked.common().color));
    speak(asked.common());
    tell_of_panics();
    let exit = match std::panic::catch_unwind(AssertUnwindSafe(|| asked.run(&terminal))) {
        Ok(Ok(exit)) => exit,
        Ok(Err(e)) => errors::report(&e, &terminal),
        Err(_) => Exit::INTERNAL,
    };
    ExitCode::from(exit.0)
}

/// The command line over the environment over the settings file. `linkspan connect ...` is the same as `linkspan ...`, `linkspan runs ...` as
/// `linkspan connections runs ...`.
fn parse() -> Result<std::result::Result<Asked, clap::Error>> {
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|first| first == "connect") {
        args.remove(1);
    }
    // Runs belong to connections; who looks for them looks here too.
    if args.get(1).is_some_and(|first| first == "runs") {
        args.insert(1, "connections".into());
    }
    let operations = linkspan_server::operations();
    let command = settings::with_file(remote::commands::with_operations(Cli::command(), &operations))?;
    Ok(command.try_get_matches_from(args).and_then(|matches| {
        if let Some(below) = remote::commands::token_asked(&matches) {
            return Ok(Asked::Token(Common::from_arg_matches(&matches)?, below));
        }
        match remote::commands::asked(&matches, operations, &remote::stdin_line) {
            Some((call, below)) => Ok(Asked::Operation(Common::from_arg_matches(&matches)?, Box::new(Remote { call, matches: below }))),
            None => {
                let below = matches.subcommand().map(|(_, below)| below.clone()).unwrap_or_default();
                Cli::from_arg_matches(&matches).map(|cli| Asked::Verb(cli, below))
            }
        }
    }))
}

/// What the words mean: a verb of the program's own, or an operation of the table.
enum Asked {
    Verb(Cli, ArgMatches),
    Operation(Common, Box<Remote>),
    /// `auth token`, which asks nobody.
    Token(Common, ArgMatches),
}

impl Asked {
    fn common(&self) -> &Common {
        match self {
            Self::Verb(cli, _) => &cli.common,
            Self::Operation(common, _) | Self::Token(common, _) => common,
        }
    }
    fn run(self, terminal: &Arc<Terminal>) -> Result<Exit> {
        match self {
            Self::Verb(cli, below) => run(cli, &below, terminal),
            Self::Token(common, below) => remote::token(&below, &common, terminal).map(|()| Exit::OK),
            Self::Operation(common, asked) => runtime()?.block_on(remote::run(*asked, &common, terminal.clone())),
        }
    }
}

/// A panic names its place, not its text: that could hold a row's values.
fn tell_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = format!("error: internal error at {place}\n  fix: please report it with the command and `linkspan --version`\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    }));
}

fn usage(e: &clap::Error) -> ExitCode {
    // A pipe that was closed (`--help | head`) is no reason to fail.
    let _ = e.print();
    match e.kind() {
        Usage::DisplayHelp | Usage::DisplayVersion => ExitCode::from(Exit::OK.0),
        _ => ExitCode::from(Exit::USAGE.0),
    }
}

/// Diagnostics on stderr: `-v`, `-vv`, or a filter in LINKSPAN_LOG.
fn speak(common: &Common) {
    let filter = match (std::env::var("LINKSPAN_LOG"), common.verbose) {
        (Ok(filter), _) => filter,
        (_, 0) => return,
        (_, 1) => "linkspan=info,linkspan_app=info,linkspan_server=info,linkspan_engine=info,linkspan_store=info,linkspan_connectors=info,linkspan_lake_files=info".into(),
        _ => "info,linkspan=debug,linkspan_app=debug,linkspan_server=debug,linkspan_engine=debug,linkspan_store=debug,linkspan_connectors=debug,linkspan_lake_files=debug".into(),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _ = subscriber.try_init();
}

fn run(cli: Cli, below: &ArgMatches, terminal: &Arc<Terminal>) -> Result<Exit> {
    match cli.verb {
        Verb::Catalog(verb) => return runtime()?.block_on(catalog::run(&verb, below, &cli.common, terminal)),
        Verb::Project(Project::Schema) => terminal.out(&format!("{:#}", project::schema(&ends::registry()))),
        Verb::Project(Project::Check { file }) => runtime()?.block_on(project_check(&file, &cli.common, terminal))?,
        Verb::Keys(Keys::Generate) => {
            let key = Key::generate()?.expose();
            terminal.show(&serde_json::json!({ "key": *key }), |_| key.to_string());
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = remote::commands::with_operations(Cli::command(), &linkspan_server::operations());
            clap_complete::generate(shell, &mut command, "linkspan", &mut script);
            terminal.out(String::from_utf8_lossy(&script).trim_end());
        }
        Verb::Manifest(verb) => return runtime()?.block_on(manifest::run(verb, context(Policy::Open)?)),
        Verb::Airbyte(verb) => return runtime()?.block_on(airbyte::run(verb, context(Policy::Open)?, terminal.clone())),
        Verb::SingerTarget(asked) => return runtime()?.block_on(airbyte::singer_target(asked, context(Policy::Open)?, terminal.clone())),
        Verb::Connectors(verb) => runtime()?.block_on(connectors::run(&verb, below, &cli.common, context(Policy::Open)?, terminal))?,
        Verb::Apply(args) => runtime()?.block_on(apply::run(&args, below, &cli.common, terminal))?,
        Verb::Sync(args) => return runtime()?.block_on(sync::run(&args, &cli.common, context(Policy::Open)?, terminal.clone())),
        Verb::Serve(args) => {
            return runtime()?.block_on(serve::run(&args, &cli.common, context(serve::policy()?)?, terminal.clone()));
        }
        Verb::Demo(args) => return runtime()?.block_on(demo::run(&args, context(Policy::Open)?, terminal.clone())),
    }
    Ok(Exit::OK)
}

async fn project_check(file: &std::path::Path, common: &Common, terminal: &Terminal) -> Result<()> {
    let project = project::Project::read(file)?;
    let registry = ends::registry_for(Some(&project), common.data_dir.as_ref(), &Context::real()).await?;
    for name in project.content.connectors.keys() {
        ends::find(name, &registry, Some(&project))?.open(Context::real())?;
    }
    let (connectors, connections) = (project.content.connectors.len(), project.content.connections.len());
    let answer = serde_json::json!({ "ok": true, "file": project.file, "connectors": connectors, "connections": connections });
    terminal.show(&answer, |paint| format!("{} {connectors} connectors, {connections} connections", paint.good("ok")));
    Ok(())
}

/// What connectors are lent: the real machine, with the failpoints that a test asked for. A person's own command may reach what it names;
/// a server asks for less.
fn context(policy: Policy) -> Result<Context> {
    let failpoints = match std::env::var("LINKSPAN_FAILPOINTS") {
        Ok(text) => Failpoints::parse(&text)?,
        Err(_) => Failpoints::default(),
    };
    let mut context = Context::with_failpoints(failpoints);
    if let Policy::Guarded { allow } = &policy {
        context.net = Arc::new(linkspan_http::GuardedNet::new(context.net, allow.clone()));
    }
    context.http = linkspan_http::client(policy, context.clock.clone());
    Ok(context)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, "the runtime cannot be started").because(e))
}
