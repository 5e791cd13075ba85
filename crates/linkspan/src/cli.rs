//! The command line: verbs, options, help. It decides nothing; the verbs' own rooms do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use linkspan_core::{ReadMode, Swap, WriteMode};

use crate::{
    errors::EXIT_CODES,
    terminal::{ColorChoice, OutputChoice},
};

/// Move rows between any two systems: one binary, nothing else to install.
#[derive(Debug, Parser)]
#[command(name = "linkspan", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES, after_long_help = TOP_EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

const TOP_EXAMPLES: &str = "\
Examples:
  linkspan demo
  linkspan sync postgres://user@host/db parquet:./out --stream 'public.*' \\
    --mode incremental --cursor updated_at
  linkspan sync -f project.yaml
  linkspan connectors discover postgres://user@host/db
  linkspan catalog list

Exit codes:
    0  done
    1  internal error (please report it)
    2  usage or configuration
    3  authentication or permission
    4  not found
    5  unavailable or timed out
    6  conflict (another run, another owner, a position that is lost)
    7  data invalid or schema drift
    8  storage full
    9  partial: some streams failed, the others are done
  130  interrupted";

const EVERYWHERE: &str = "With every verb";

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// How results are printed; with json a sync prints one event per line.
    #[arg(long, global = true, value_enum, default_value_t, env = "LINKSPAN_OUTPUT", hide_env_values = true, help_heading = EVERYWHERE)]
    pub output: OutputChoice,
    /// When to use colours (NO_COLOR is honoured).
    #[arg(long, global = true, value_enum, default_value_t, help_heading = EVERYWHERE)]
    pub color: ColorChoice,
    /// Where positions, runs and logs are kept [default: $XDG_DATA_HOME/linkspan, else ~/.local/share/linkspan].
    #[arg(long, global = true, env = "LINKSPAN_DATA_DIR", value_name = "DIR", hide_env_values = true, help_heading = EVERYWHERE)]
    pub data_dir: Option<PathBuf>,
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP); OTEL_EXPORTER_OTLP_ENDPOINT does too.
    #[arg(long, global = true, env = "LINKSPAN_OTLP", value_name = "URL", hide_env_values = true, help_heading = EVERYWHERE)]
    pub otlp: Option<String>,
    /// Say more on stderr (-vv: even more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch rows move: generated data into Parquet and SQLite, then only the changes.
    Demo(Demo),
    /// Serve the HTTP API and its docs from a data dir.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Make the hub what a project file says: shows the plan, then does it.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(Apply),
    /// Copy or keep copying streams from one system to another.
    #[command(after_help = SYNC_EXAMPLES)]
    Sync(Box<Sync>),
    /// What this binary can speak to.
    #[command(subcommand, after_help = CATALOG_EXAMPLES)]
    Catalog(Catalog),
    /// The systems that are connected; check and discover take any address, too.
    #[command(subcommand, visible_alias = "instances", after_help = CONNECTORS_EXAMPLES)]
    Connectors(Connectors),
    /// Run a low-code manifest as an Airbyte source program: one protocol message a line.
    #[command(subcommand, after_help = MANIFEST_EXAMPLES)]
    Manifest(Manifest),
    /// Run a connector type as a program that speaks the Airbyte protocol: one message a line.
    #[command(subcommand, after_help = crate::airbyte::EXAMPLES)]
    Airbyte(crate::airbyte::Airbyte),
    /// Run a destination type as a Singer target: a tap's messages on stdin, states on stdout once they are durable.
    #[command(after_help = crate::airbyte::TARGET_EXAMPLES)]
    SingerTarget(crate::airbyte::SingerTarget),
    /// About project files.
    #[command(subcommand)]
    Project(Project),
    /// Keys for secrets at rest.
    #[command(subcommand, after_help = "Example:\n  export CONNECTOR_ENCRYPTION_KEY=$(linkspan keys generate)")]
    Keys(Keys),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  linkspan completions bash > ~/.local/share/bash-completion/completions/linkspan")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  linkspan demo\n  linkspan demo --dir /tmp/demo")]
pub struct Demo {
    /// Where the demo puts everything. What an earlier demo left there is removed first.
    #[arg(long, value_name = "DIR", default_value = "linkspan-demo")]
    pub dir: PathBuf,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  linkspan serve
  linkspan serve --port 0 --data-dir ./hub
  CONNECTOR_ENCRYPTION_KEY=... linkspan serve --bind 0.0.0.0

A bind beyond 127.0.0.1 (or LINKSPAN_ENV=production) needs CONNECTOR_ENCRYPTION_KEY. Requests that
others ask for reach public addresses only, and the networks named in LINKSPAN_EGRESS_ALLOW
(10.1.0.0/16,192.168.7.7). Ctrl-C and SIGTERM end it cleanly within 30 seconds.";

#[derive(Args, Debug)]
pub struct Serve {
    /// The address to listen on: 127.0.0.1 is this machine only.
    #[arg(long, env = "LINKSPAN_BIND", value_name = "ADDRESS", default_value = "127.0.0.1", hide_env_values = true)]
    pub bind: String,
    /// The port; 0 takes a free one and says which [default: 8007].
    #[arg(long, env = "LINKSPAN_PORT", value_name = "PORT", hide_env_values = true)]
    pub port: Option<u16>,
    /// Refused with a reason: the data dir is the hub's database.
    #[arg(long, value_name = "URL", hide = true)]
    pub database_url: Option<String>,
}

impl Serve {
    pub const PORT: u16 = 8007;
}

const APPLY_EXAMPLES: &str = "\
Examples:
  linkspan apply -f project.yaml --dry-run
  linkspan apply -f project.yaml
  linkspan apply -f project.yaml --prune --server https://hub.example.com

The same file again changes nothing. Secrets that stand cannot be compared: --secrets sends them.";

#[derive(Args, Debug)]
pub struct Apply {
    /// The project file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Show the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Delete the connectors and connections of the project that the file does not have.
    #[arg(long)]
    pub prune: bool,
    /// Send the secrets of connectors that stand already.
    #[arg(long)]
    pub secrets: bool,
}

const SYNC_EXAMPLES: &str = "\
FROM and TO are URLs (postgres://user@host/db, sqlite:./shop.db, csv:./x.csv, parquet:./out,
s3://bucket/path, faker:, stdout:), files whose ending says what they are (./x.csv), or names of
connectors: in a project file (with -f), or stored in the data dir's hub.

Examples:
  linkspan sync faker: sqlite:./shop.db
  linkspan sync postgres://user@host/db parquet:./out --stream 'public.*' \\
    --mode incremental --cursor updated_at
  linkspan sync A B --stream public.t --mode incremental --cursor updated_at \\
    --write merge --key id --data-dir D
  linkspan sync ./orders.csv stdout: | head
  linkspan sync shop lake:orders --stream orders      # connectors of the hub
  linkspan sync -f project.yaml --connection shop --dry-run

The same command again moves only what is new: the position is kept in the data dir and, where the
destination can, in the destination together with the rows.";

#[derive(Args, Debug)]
pub struct Sync {
    /// Where rows come from: a URL, a file, or a connector of the project file or of the data dir's hub.
    #[arg(required_unless_present = "file")]
    pub from: Option<String>,
    /// Where rows go; `NAME:TABLE` for a connector of the hub.
    #[arg(required_unless_present = "file")]
    pub to: Option<String>,
    /// Run the connections of this project file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only this connection of the project file; may be repeated.
    #[arg(long, value_name = "NAME", requires = "file", conflicts_with = "from")]
    pub connection: Vec<String>,
    #[command(flatten)]
    pub request: Request,
    /// How many lanes move at once [default: the number of cores, at most 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Running")]
    pub concurrency: Option<u16>,
    /// Memory for rows in flight, in MB [default: 64].
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..=1_048_576), help_heading = "Running")]
    pub memory: Option<u32>,
    /// Print the plan and touch nothing.
    #[arg(long, help_heading = "Running")]
    pub dry_run: bool,
    /// The project of the hub whose connectors FROM and TO name [default: default].
    #[arg(long, env = "LINKSPAN_PROJECT", hide_env_values = true, value_name = "NAME", help_heading = "Running")]
    pub project: Option<String>,
    /// The connection's name; its position belongs to it [default: made from FROM and TO].
    #[arg(long, conflicts_with = "connection", help_heading = "Running")]
    pub name: Option<String>,
    /// Start again where the destination was replaced or emptied behind our back.
    #[arg(long, help_heading = "Repair")]
    pub accept: bool,
    /// Go on from what the destination remembers, though this data dir is new.
    #[arg(long, help_heading = "Repair")]
    pub adopt: bool,
    /// Forget the position and read everything again.
    #[arg(long, help_heading = "Repair")]
    pub reset: bool,
}

/// What is asked of a connection; flags override the project file.
#[derive(Args, Clone, Debug, Default)]
pub struct Request {
    /// Which streams: names or patterns (`public.*`, `orders`, `*`) [default: all].
    #[arg(short, long = "stream", visible_alias = "streams", value_name = "PATTERN", num_args = 1.., value_delimiter = ',', help_heading = "What")]
    pub streams: Vec<String>,
    /// How streams are read.
    #[arg(short, long, value_parser = words(ReadMode::Full, &[("full", ReadMode::Full), ("incremental", ReadMode::Incremental), ("cdc", ReadMode::Cdc)]), help_heading = "What")]
    pub mode: Option<ReadMode>,
    /// The column that tells what is new.
    #[arg(long, value_name = "COLUMN", help_heading = "What")]
    pub cursor: Option<String>,
    /// How rows are written.
    #[arg(short, long, value_parser = words(WriteMode::Append, &[("append", WriteMode::Append), ("replace", WriteMode::Replace), ("merge", WriteMode::Merge)]), help_heading = "What")]
    pub write: Option<WriteMode>,
    /// The columns that identify a row.
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "What")]
    pub key: Vec<String>,
    /// Another name at the destination: a table for one stream, a schema for several.
    #[arg(short, long, value_name = "NAME", help_heading = "What")]
    pub target: Option<String>,
    /// How a replaced table becomes visible: by its name, or by its rows (keeps views and grants).
    #[arg(long, value_parser = words(Swap::Rename, &[("rename", Swap::Rename), ("rewrite", Swap::Rewrite)]), help_heading = "What")]
    pub swap: Option<Swap>,
}

const CATALOG_EXAMPLES: &str = "\
Examples:
  linkspan catalog list
  linkspan catalog show postgresql
  linkspan catalog add ./orders.yaml
  linkspan catalog add ./manifests
  linkspan catalog add https://example.com/source-orders/manifest.yaml
  linkspan catalog add pokeapi";

#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Every connector type.
    List,
    /// One type: its documentation, its fields, an example.
    Show {
        /// The type's name.
        #[arg(value_name = "TYPE")]
        name: String,
    },
    /// Add low-code manifests as connector types, or new versions of them.
    Add(CatalogAdd),
}

const CATALOG_ADD: &str = "\
A folder is searched for manifests. A word that is neither a URL nor a file is a name in the public
registry (LINKSPAN_MANIFEST_REGISTRY names another one of its layout). A type is called after its
file, or its folder for a `manifest.yaml`; where the binary has a type of that name it is
`<name>_manifest`. Adding the same text again changes nothing.";

#[derive(Args, Debug)]
#[command(after_help = CATALOG_ADD)]
pub struct CatalogAdd {
    /// Files, folders, URLs, or names in the registry.
    #[arg(value_name = "FILE|DIR|URL|NAME", required = true)]
    pub what: Vec<String>,
    /// The type's name, for one manifest.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

const CONNECTORS_EXAMPLES: &str = "\
Examples:
  linkspan connectors check postgres://user@host/db
  linkspan connectors discover ./orders.csv
  linkspan connectors discover shop -f project.yaml --output json
  linkspan connectors upload leads ./leads.csv";

#[derive(Debug, Subcommand)]
pub enum Connectors {
    /// Reach the system and prove that the credentials work.
    Check(At),
    /// List the streams, their keys, cursors and columns.
    Discover(At),
    /// Send files into a connector that reads them.
    Upload(Upload),
}

const UPLOAD_EXAMPLES: &str = "\
Examples:
  linkspan connectors create leads --type csv
  linkspan connectors upload leads ./leads.csv
  linkspan connectors upload leads ./book.xlsx ./more.csv.gz --server https://hub.example.com

A file of the same name is replaced. Each file is a stream, each sheet of a workbook is one.";

#[derive(Args, Debug)]
#[command(after_help = UPLOAD_EXAMPLES)]
pub struct Upload {
    /// A connector of the hub, such as one of type csv without a `path`.
    #[arg(value_name = "CONNECTOR")]
    pub connector: String,
    /// CSV, TSV, JSON lines or Excel files, packed (.gz, .zst) or not.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Another name for it there, for one file.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

const MANIFEST_EXAMPLES: &str = "\
Examples:
  linkspan manifest spec --manifest ./manifest.yaml
  linkspan manifest check --manifest ./manifest.yaml --config config.json
  linkspan manifest discover --manifest ./manifest.yaml --config config.json
  linkspan manifest read --manifest ./manifest.yaml --config config.json --catalog catalog.json \\
    --state state.json

The exit code is the protocol's: 0, also for a connection that does not work; 1 when a stream was not
read to its end, or the program could not do what it was asked.";

#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// What its config looks like.
    Spec(ManifestFile),
    /// Whether the config works.
    Check(Configured),
    /// Its streams and their schemas.
    Discover(Configured),
    /// Records and states of the streams of a catalog.
    Read {
        #[command(flatten)]
        of: Configured,
        /// Which streams, as a configured catalog (JSON).
        #[arg(long, value_name = "FILE")]
        catalog: PathBuf,
        /// Where an earlier read stopped (JSON).
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub struct ManifestFile {
    /// The manifest (YAML).
    #[arg(long, visible_alias = "manifest-path", value_name = "FILE")]
    pub manifest: PathBuf,
}

#[derive(Args, Debug)]
pub struct Configured {
    #[command(flatten)]
    pub file: ManifestFile,
    /// The source's config (JSON).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// One system.
#[derive(Args, Debug)]
pub struct At {
    /// A URL, a file, or a connector of the project file.
    pub target: String,
    /// The project file that names the connector.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Project {
    /// Print the JSON Schema of project files, for editors.
    Schema,
    /// Check a project file without touching any system.
    Check {
        /// The project file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Print a new key for CONNECTOR_ENCRYPTION_KEY. It is kept nowhere else.
    Generate,
}

/// A parser for a word that stands for a value of core; clap lists the words in `--help` and names the nearest one.
fn words<T: Clone + Copy + Send + std::marker::Sync + 'static>(
    _: T,
    table: &'static [(&'static str, T)],
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(table.iter().map(|(word, _)| *word))
        .map(move |word| table.iter().find(|(w, _)| *w == word).map_or(table[0].1, |(_, value)| *value))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn long_help_lists_the_same_exit_codes() {
        assert!(super::TOP_EXAMPLES.ends_with(super::EXIT_CODES));
    }
}
