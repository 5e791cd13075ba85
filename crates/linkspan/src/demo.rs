//! `demo`: a million generated rows into Parquet and SQLite, then only what changed, then questions to the result.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use linkspan_app::run::{Consent, Job, connection_id};
use linkspan_core::{Context, Error, ErrorKind, ReadMode, Result, WriteMode, file_error};
use linkspan_engine::{gate::Policies, plan::Request};
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde_json::json;
use uuid::Uuid;

use crate::{
    cli,
    ends::{find, registry},
    errors::Exit,
    interrupt,
    sync::Mover,
    terminal::{Terminal, table},
};

/// Says that a folder is a demo's own, so that only such a folder is ever emptied.
const MARK: &str = ".linkspan-demo";
const SOURCE: &str = "faker:?customers=200000&orders=800000";

const QUESTIONS: [(&str, &str); 3] = [
    (
        "Which countries order most (in euros)?",
        "SELECT c.country, printf('%,d', count(*)) AS orders, printf('%,d', sum(o.amount)) AS euros
         FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.currency = 'EUR' GROUP BY c.country ORDER BY sum(o.amount) DESC LIMIT 5",
    ),
    (
        "Where do orders stand?",
        "SELECT status, printf('%,d', count(*)) AS orders, printf('%.1f', avg(quantity)) AS items FROM orders GROUP BY status ORDER BY count(*) DESC",
    ),
    (
        "What changed last?",
        "SELECT id, status, amount, currency, updated_at FROM orders ORDER BY updated_at DESC, id DESC LIMIT 5",
    ),
];

pub async fn run(args: &cli::Demo, context: Context, terminal: Arc<Terminal>) -> Result<Exit> {
    let started = Instant::now();
    let dir = fresh(&args.dir)?;
    let jobs = jobs(&dir)?;
    let stop = interrupt::listen(terminal.clone())?;
    let data_dir = Some(dir.join("state"));
    let mut mover = Mover { context, terminal: terminal.clone(), stop, store: None, data_dir };
    let exit = both_rounds(&mut mover, &jobs).await;
    mover.close().await;
    let exit = exit?;
    if exit != Exit::OK {
        return Ok(exit);
    }
    ask(&dir.join("shop.db"), &terminal)?;
    farewell(&args.dir, started, &terminal);
    Ok(Exit::OK)
}

async fn both_rounds(mover: &mut Mover, jobs: &[Job]) -> Result<Exit> {
    let rounds = [
        "1. The first run copies everything: 200,000 customers and 800,000 orders",
        "2. The same command again moves only what changed: inserts, updates and deletes",
    ];
    for title in rounds {
        heading(&mover.terminal, title);
        for job in jobs {
            let report = mover.run(job, Consent::default()).await?;
            let exit = mover.tell(&report);
            if exit != Exit::OK {
                return Ok(exit);
            }
        }
    }
    Ok(Exit::OK)
}

fn heading(terminal: &Terminal, title: &str) {
    if !terminal.json() {
        terminal.out(&format!("\n{}", terminal.paint_out().bold(title)));
    }
}

/// The demo's folder, empty. A folder that is not a demo's own is never touched.
fn fresh(dir: &Path) -> Result<PathBuf> {
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
    if occupied {
        if !dir.join(MARK).exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, "the folder is not empty and no demo made it")
                .with("folder", dir.display())
                .fix("choose another one: linkspan demo --dir DIR"));
        }
        std::fs::remove_dir_all(dir).map_err(|e| file_error("the last demo's folder cannot be removed", dir, e))?;
    }
    std::fs::create_dir_all(dir).map_err(|e| file_error("the demo's folder cannot be made", dir, e))?;
    let mark = dir.join(MARK);
    std::fs::write(&mark, "made by `linkspan demo`; the next demo removes this folder\n")
        .map_err(|e| file_error("the demo's folder cannot be written", &mark, e))?;
    dir.canonicalize().map_err(|e| file_error("the demo's folder cannot be read", dir, e))
}

fn jobs(dir: &Path) -> Result<Vec<Job>> {
    let registry = registry();
    // A folder of Parquet keeps every change as a row; the tables are merged.
    let targets = [
        ("demo-parquet", format!("parquet:{}", dir.join("parquet").display()), WriteMode::Append),
        ("demo-sqlite", format!("sqlite:{}", dir.join("shop.db").display()), WriteMode::Merge),
    ];
    targets
        .into_iter()
        .map(|(name, to, write)| {
            let (from, to) = (find(SOURCE, &registry, None)?, find(&to, &registry, None)?);
            let request =
                Request { streams: vec!["*".into()], mode: Some(ReadMode::Incremental), write: Some(write), ..Request::default() };
            let id: Uuid = connection_id(&from, &to, Some(name), dir);
            Ok(Job {
                name: name.into(),
                id,
                id_is_declared: false,
                from,
                to,
                request,
                policies: Policies::default(),
                concurrency: 2,
                memory: 64 << 20,
                folder: dir.to_owned(),
            })
        })
        .collect()
}

/// The three questions, put to the SQLite file as anybody could.
fn ask(database: &Path, terminal: &Terminal) -> Result<()> {
    heading(terminal, "3. Three questions to the SQLite copy");
    let failed =
        |e: rusqlite::Error| Error::new(ErrorKind::Internal, "the copy cannot be queried").with("path", database.display()).because(e);
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    for (question, sql) in QUESTIONS {
        let (names, rows) = answer(&db, sql).map_err(failed)?;
        if terminal.json() {
            terminal.json_line(&json!({ "event": "query", "question": question, "columns": names, "rows": rows }));
            continue;
        }
        let headers: Vec<&str> = names.iter().map(String::as_str).collect();
        let right: Vec<&str> = headers.iter().copied().filter(|h| matches!(*h, "orders" | "euros" | "items" | "id" | "amount")).collect();
        terminal.out(&format!("{question}\n{}\n", table(&headers, &right, rows, terminal.paint_out())));
    }
    Ok(())
}

type Answer = (Vec<String>, Vec<Vec<String>>);

fn answer(db: &Connection, sql: &str) -> rusqlite::Result<Answer> {
    let mut statement = db.prepare(sql)?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| (0..names.len()).map(|i| row.get_ref(i).map(text)).collect())?;
    let rows = rows.collect::<rusqlite::Result<_>>()?;
    Ok((names, rows))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(x) => x.to_string(),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
        ValueRef::Blob(b) => format!("{} bytes", b.len()),
    }
}

fn farewell(dir: &Path, started: Instant, terminal: &Terminal) {
    let dir = dir.display();
    if terminal.json() {
        return terminal.json_line(&json!({ "event": "demo", "dir": dir.to_string(), "seconds": started.elapsed().as_secs_f64() }));
    }
    terminal.out(&format!(
        "Done in {:.1} s. Everything is in {dir}/: parquet/ (a log of changes), shop.db (the tables), state/ (positions and logs).\n\
         \n\
         {}\n\
         \x20 linkspan connectors discover postgres://user@host/db\n\
         \x20 linkspan sync postgres://user@host/db parquet:./out --stream 'public.*' --mode incremental --cursor updated_at\n\
         \x20 linkspan sync postgres://user@host/db sqlite:./copy.db --stream public.orders --mode incremental --cursor updated_at --write merge --key id\n\
         The same command again moves only what is new. The password is read from PGPASSWORD, or stands in the URL.",
        started.elapsed().as_secs_f64(),
        terminal.paint_out().bold("The same with your own database:"),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_own_folder_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("d");
        let made = fresh(&dir).unwrap();
        std::fs::write(made.join("shop.db"), "old").unwrap();
        assert!(!fresh(&dir).unwrap().join("shop.db").exists());
        std::fs::remove_file(dir.join(MARK)).unwrap();
        std::fs::write(dir.join("mine"), "precious").unwrap();
        assert_eq!(fresh(&dir).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(dir.join("mine").exists());
    }
}
