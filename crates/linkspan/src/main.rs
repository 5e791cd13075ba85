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
mod stored;
mod sync;
mod terminal;
mod traces;

use std::{panic::AssertUnwindSafe, process::ExitCode, sync::Arc};

use clap::{ArgMatches, CommandFactory, FromArgMatches, error::ErrorKind as Usage};
use linkspan_app::secrets::{Key, hidden};
use linkspan_core::{Context, Error, ErrorKind, Failpoints, Result, TRACES};
use linkspan_http::Policy;
use linkspan_server::Spans;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    cli::{Cli, Common, Keys, Project, Verb},
    errors::Exit,
    remote::Remote,
    terminal::{ColorChoice, OutputChoice, Terminal},
    traces::Traces,
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
    tell_of_panics();
    let exit = match std::panic::catch_unwind(AssertUnwindSafe(|| run_traced(asked, &terminal))) {
        Ok(Ok(exit)) => exit,
        Ok(Err(e)) => errors::report(&e, &terminal),
        Err(_) => Exit::INTERNAL,
    };
    ExitCode::from(exit.0)
}

/// Does what was asked; what it had to tell of it is told before the process ends.
fn run_traced(asked: Asked, terminal: &Arc<Terminal>) -> Result<Exit> {
    // A server without diagnostics says nothing that would have to be cleaned.
    if filter(asked.common()).is_some() || !matches!(asked, Asked::Verb(Cli { verb: Verb::Serve(_), .. }, _)) {
        hidden::listen();
    }
    // `auth token` is asked for just such a key.
    if !matches!(asked, Asked::Token(..)) {
        KEYS.iter().filter_map(|name| std::env::var(name).ok()).for_each(|keys| keys.split(',').for_each(hidden::hide));
    }
    let traces = speak(asked.common())?;
    let spans = traces.as_ref().map(|t| t.fates.clone());
    let done = asked.run(terminal, spans);
    if let Some(traces) = traces {
        traces.finish();
    }
    done
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
        let person = remote::commands::Person { line: &remote::stdin_line, unseen: &terminal::typed_unseen };
        match remote::commands::asked(&matches, operations, &person) {
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
    fn run(self, terminal: &Arc<Terminal>, spans: Option<Arc<Spans>>) -> Result<Exit> {
        match self {
            Self::Verb(cli, below) => run(cli, &below, terminal, spans),
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

/// Variables that hold credentials.
const KEYS: [&str; 9] = [
    "LINKSPAN_ADMIN_KEY",
    "LINKSPAN_API_KEY",
    "CONNECTOR_ENCRYPTION_KEY",
    "VAULT_TOKEN",
    "PGPASSWORD",
    "MYSQL_PWD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
];

/// What a line of diagnostics is written to: whole lines, without secrets.
struct Hushed;

impl std::io::Write for Hushed {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        std::io::stderr().write_all(hidden::without(&text).as_bytes())?;
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Diagnostics on stderr: `-v`, `-vv`, or a filter in LINKSPAN_LOG. And traces where an address for them is given. Without both,
/// nothing listens, and what the code has to say costs nothing.
fn speak(common: &Common) -> Result<Option<Traces>> {
    let is_traced = |m: &tracing::Metadata<'_>| m.target() == TRACES;
    let words = filter(common).map(|text| {
        let filter = EnvFilter::new(text).and(filter_fn(move |m| !is_traced(m)));
        tracing_subscriber::fmt::layer().with_writer(|| Hushed).with_target(false).with_filter(filter)
    });
    let traces = traces::Settings::of(common.otlp.as_deref())?.map(Traces::start).transpose()?;
    let (spans, traces) = traces.map_or((None, None), |(layer, traces)| (Some(layer.with_filter(filter_fn(is_traced))), Some(traces)));
    if words.is_some() || spans.is_some() {
        let _ = tracing_subscriber::registry().with(words).with(spans).try_init();
    }
    Ok(traces)
}

fn filter(common: &Common) -> Option<String> {
    Some(match (std::env::var("LINKSPAN_LOG"), common.verbose) {
        (Ok(filter), _) => filter,
        (_, 0) => return None,
        (_, 1) => "linkspan=info,linkspan_app=info,linkspan_server=info,linkspan_engine=info,linkspan_store=info,linkspan_connectors=info,linkspan_lake_files=info".into(),
        _ => "info,linkspan=debug,linkspan_app=debug,linkspan_server=debug,linkspan_engine=debug,linkspan_store=debug,linkspan_connectors=debug,linkspan_lake_files=debug".into(),
    })
}

fn run(cli: Cli, below: &ArgMatches, terminal: &Arc<Terminal>, spans: Option<Arc<Spans>>) -> Result<Exit> {
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
            return runtime()?.block_on(serve::run(&args, &cli.common, context(serve::policy()?)?, terminal.clone(), spans));
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
