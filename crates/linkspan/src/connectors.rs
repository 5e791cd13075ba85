//! `connectors check|discover`: does it answer, and what does it offer; `connectors upload`: what it is to read.

mod upload;

use std::sync::Arc;

use clap::ArgMatches;
use linkspan_app::run::Endpoint;
use linkspan_core::{Context, Cursor, Result, Stream};
use serde_json::{Value, json};

use crate::{
    cli::{At, Common, Connectors},
    ends, kept,
    project::Project,
    terminal::{Terminal, grouped, table},
};

pub async fn run(verb: &Connectors, below: &ArgMatches, common: &Common, context: Context, terminal: &Arc<Terminal>) -> Result<()> {
    match verb {
        Connectors::Check(at) => check(find(at, common, &context).await?, context, terminal).await,
        Connectors::Discover(at) => discover(find(at, common, &context).await?, context, terminal).await,
        Connectors::Upload(files) => upload::run(files, below.subcommand_matches("upload").unwrap_or(below), common, terminal).await,
    }
}

async fn find(at: &At, common: &Common, context: &Context) -> Result<Endpoint> {
    let project = at.file.as_deref().map(Project::read).transpose()?;
    let registry = ends::registry_for(project.as_ref(), common.data_dir.as_ref(), context).await?;
    let found = ends::find(&at.target, &registry, project.as_ref())?;
    Ok(kept::DataDir::new(common.data_dir.as_ref(), context).keeps(found))
}

async fn check(endpoint: Endpoint, context: Context, terminal: &Terminal) -> Result<()> {
    let connector = endpoint.open(context)?;
    let checked = connector.check().await?;
    connector.close().await;
    let answer = json!({
        "ok": true, "connector": endpoint.shown, "type": endpoint.kind.spec.name, "server_version": checked.server_version,
        "database": checked.database, "streams": checked.streams, "latency_ms": u64::try_from(checked.latency.as_millis()).unwrap_or(u64::MAX),
    });
    terminal.show(&answer, |paint| {
        let mut text = format!("{} {} ({})\n", paint.good("ok"), endpoint.shown, endpoint.kind.spec.title);
        let facts = [
            ("server", checked.server_version.clone()),
            ("database", checked.database.clone()),
            ("streams", checked.streams.map(|n| n.to_string())),
            ("latency", Some(format!("{:.1} ms", checked.latency.as_secs_f64() * 1000.0))),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                text.push_str(&format!("  {}{fact}\n", paint.dim(&format!("{name}: "))));
            }
        }
        text
    });
    Ok(())
}

async fn discover(endpoint: Endpoint, context: Context, terminal: &Terminal) -> Result<()> {
    let connector = endpoint.open(context)?;
    let streams = endpoint.source_of(&connector)?.discover().await?;
    connector.close().await;
    let all: Vec<Value> = streams.iter().map(described).collect();
    terminal.show(&json!({ "connector": endpoint.shown, "streams": all }), |paint| {
        let rows = streams.iter().map(|s| {
            let columns = s.schema.fields().iter().filter(|f| !linkspan_core::is_feed_column(f.name())).count();
            let rows = s.estimated_rows.map_or(String::new(), |n| format!("~{}", grouped(n)));
            vec![s.name.to_string(), rows, s.key.join(", "), cursor_words(&s.cursor), columns.to_string()]
        });
        table(&["stream", "rows", "key", "cursor", "columns"], &["rows", "columns"], rows.collect(), paint)
    });
    Ok(())
}

fn cursor_words(cursor: &Cursor) -> String {
    match cursor {
        Cursor::None => String::new(),
        Cursor::SourceDefined => "(its own)".into(),
        Cursor::Columns(columns) if columns.len() > 3 => format!("{}, ...", columns[..3].join(", ")),
        Cursor::Columns(columns) => columns.join(", "),
    }
}

fn described(s: &Stream) -> Value {
    let columns: Vec<Value> = s
        .schema
        .fields()
        .iter()
        .filter(|f| !linkspan_core::is_feed_column(f.name()))
        .map(|f| {
            let native = linkspan_core::native::native_of(f).map(|n| n.type_name);
            json!({ "name": f.name(), "type": f.data_type().to_string(), "nullable": f.is_nullable(), "native": native })
        })
        .collect();
    let cursor = match &s.cursor {
        Cursor::None => json!({ "kind": "none" }),
        Cursor::SourceDefined => json!({ "kind": "source_defined" }),
        Cursor::Columns(columns) => json!({ "kind": "columns", "columns": columns }),
    };
    json!({
        "name": s.name.to_string(), "namespace": s.name.namespace, "key": s.key, "cursor": cursor,
        "estimated_rows": s.estimated_rows, "estimated_bytes": s.estimated_bytes, "columns": columns,
    })
}
