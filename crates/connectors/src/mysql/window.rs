//! The incremental read of a table, a view or a query by a cursor column. The server keeps no trace of which transaction wrote a row,
//! so only values can be compared: a read looks back behind the largest value it saw, as far as transactions may still have been
//! open, and keeps in mind which rows of that window were sent. Ties are neither lost nor endless, and late commits are found.

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Repeats, Result, Scope, Stop};

use super::{
    catalog::{Column, select_list},
    keys::{self, asked, written},
    reading::{Read, Reading, Subject},
    server::Server,
    sql::{ident, list, literal},
    states::{Mark, SEEN_CAP, StreamState, WindowState, mark_before, remember, save},
    types::Form,
};

/// So many rows are looked back at least, where the cursor is no time.
const LOOK_BACK_ROWS: usize = 1_000;

/// The lane that follows a stream by its cursor.
pub(super) struct Window {
    pub server: Arc<Server>,
    pub subject: Subject,
    pub cursor: Column,
    /// The columns that tell rows apart, without the cursor; all columns when no key is known.
    pub identity: Vec<String>,
    pub from: WindowState,
    pub repeats: Repeats,
    pub window_seconds: u32,
    /// The initial load's parts, which must be complete first.
    pub after: Vec<Scope>,
}

#[async_trait]
impl Lane for Window {
    fn covers(&self) -> Covers {
        let stream = self.subject.stream.clone();
        Covers { streams: vec![stream.clone()], scope: Scope::Stream(stream), after: self.after.clone() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.subject.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

/// What the server says of transactions that have written and not committed.
enum Open {
    None,
    /// The oldest began so many seconds ago.
    Since(i64),
    /// The login may not ask.
    Unknown,
}

/// Where an incremental read stands, and where the next one begins.
struct Reach {
    value: Option<String>,
    low: Option<String>,
}

impl Window {
    async fn run(&self, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if stop.requested() {
            return Ok(Ended::Stopped);
        }
        let mut reading = Reading::open(&self.server, &self.subject).await?;
        // The state comes first, under the same snapshot: a list that is too long is refused before any row.
        let state = self.next_state(&mut reading).await?;
        let sql = format!("SELECT {} FROM {}{}", select_list(&self.subject.columns), self.subject.relation, self.news());
        if reading.select(&sql, &[], out, stop).await? == Read::Stopped {
            return Ok(Ended::Stopped);
        }
        out.checkpoint(&Scope::Stream(self.subject.stream.clone()), save(&StreamState::Window(state))?).await?;
        reading.wire.close().await;
        Ok(Ended::Complete)
    }

    fn news(&self) -> String {
        let reach = self.in_reach(self.from.low.as_deref());
        if self.from.seen.is_empty() {
            return format!(" WHERE {reach}");
        }
        let seen = list(self.from.seen.iter().map(|s| literal(s)));
        format!(" WHERE {reach} AND {} NOT IN ({seen})", self.hash())
    }

    fn in_reach(&self, low: Option<&str>) -> String {
        let column = ident(&self.cursor.name);
        match low {
            Some(low) => format!("({column} >= {} OR {column} IS NULL)", written(&self.cursor, low)),
            None => "TRUE".to_owned(),
        }
    }

    /// What tells one version of a row from another.
    fn hash(&self) -> String {
        keys::hash(self.identity.iter().map(String::as_str).chain([self.cursor.name.as_str()]).map(ident))
    }

    /// The bound that an initial load stays below, so that its parts can be read one by one: as the next read of an empty state would
    /// look back to.
    pub async fn first_bound(&self) -> Result<Option<String>> {
        let mut reading = Reading::open(&self.server, &self.subject).await?;
        let (open, _) = self.open_transactions(&mut reading).await?;
        let reach = self.reach(&mut reading, &open, None).await?;
        reading.wire.close().await;
        Ok(reach.low)
    }

    async fn next_state(&self, reading: &mut Reading<'_>) -> Result<WindowState> {
        let (open, now) = self.open_transactions(reading).await?;
        let mut history = self.from.history.clone();
        let since = match open {
            Open::None => now,
            Open::Since(seconds) => now - seconds - 1,
            Open::Unknown => now - i64::from(self.window_seconds),
        };
        let mark = mark_before(&mut history, since);
        let bound = match (&open, mark) {
            (Open::None, _) => None,
            (_, Some(mark)) => mark.value,
            // Nothing is known from before: what was in reach stays in reach.
            (_, None) => self.from.low.clone(),
        };
        let Reach { value, low } = self.reach(reading, &open, bound.as_deref()).await?;
        let (low, seen) = self.seen(reading, low, &open).await?;
        remember(&mut history, Mark { at: now, value: value.clone() });
        Ok(WindowState { cursor: self.cursor.name.clone(), value, low, seen, history })
    }

    /// The largest value, and how far behind it the next read looks. A time is taken back by the late window; any other value by some
    /// rows, and to `bound` where transactions may be open that are older than the largest value.
    async fn reach(&self, reading: &mut Reading<'_>, open: &Open, bound: Option<&str>) -> Result<Reach> {
        let (name, relation) = (ident(&self.cursor.name), &self.subject.relation);
        let low = self.from.low.as_deref();
        let from = self.from.low.as_ref().map(|low| format!(" WHERE {name} >= {}", written(&self.cursor, low))).unwrap_or_default();
        let largest = reading.value(&format!("SELECT CAST(MAX({name}) AS CHAR) FROM {relation}{from}")).await?;
        let Some(value) = largest.or_else(|| self.from.value.clone()) else { return Ok(Reach { value: None, low: None }) };
        let low = match self.cursor.form {
            form if form.is_time() => back(reading, form, &value, i64::from(self.window_seconds) + age(open)).await?,
            _ => {
                let sql = format!("SELECT CAST({name} AS CHAR) FROM {relation}{from} ORDER BY {name} DESC LIMIT 1 OFFSET {LOOK_BACK_ROWS}");
                let rows_back = reading.value(&sql).await?.or_else(|| low.map(str::to_owned));
                match (rows_back, bound) {
                    (Some(rows), Some(bound)) if self.cursor.form.is_number() => {
                        let least = format!("SELECT LEAST({}, {})", written(&self.cursor, &rows), written(&self.cursor, bound));
                        reading.value(&least).await?
                    }
                    (rows, _) => rows,
                }
            }
        };
        Ok(Reach { value: Some(value), low })
    }

    /// The rows that are in reach of the next read. Where they are too many to list, and it is not known that an old transaction
    /// needs them, fewer are in reach.
    async fn seen(&self, reading: &mut Reading<'_>, low: Option<String>, open: &Open) -> Result<(Option<String>, Vec<String>)> {
        let seen = self.listed(reading, low.as_deref()).await?;
        if seen.len() <= SEEN_CAP {
            return Ok((low, seen));
        }
        if self.repeats == Repeats::Folded {
            // They are read once more next time, and fold by key.
            return Ok((low, Vec::new()));
        }
        if !self.cursor.form.is_time() && !matches!(open, Open::Since(_)) {
            let name = ident(&self.cursor.name);
            let sql = format!(
                "SELECT {} FROM {} ORDER BY {name} DESC LIMIT 1 OFFSET {LOOK_BACK_ROWS}",
                asked(&self.cursor),
                self.subject.relation
            );
            let nearer = reading.value(&sql).await?;
            let seen = self.listed(reading, nearer.as_deref()).await?;
            if nearer.is_some() && seen.len() <= SEEN_CAP {
                return Ok((nearer, seen));
            }
        }
        Err(Error::new(ErrorKind::Unsupported, "too many rows lie in the late window to keep them in mind")
            .with("rows", SEEN_CAP)
            .fix("write with merge (`--write merge --key ...`), or make late_window_seconds smaller"))
    }

    async fn listed(&self, reading: &mut Reading<'_>, low: Option<&str>) -> Result<Vec<String>> {
        let sql =
            format!("SELECT DISTINCT {} FROM {} WHERE {} LIMIT {}", self.hash(), self.subject.relation, self.in_reach(low), SEEN_CAP + 1);
        reading.values(&sql).await
    }

    /// What is open at the server, and its clock in seconds.
    async fn open_transactions(&self, reading: &mut Reading<'_>) -> Result<(Open, i64)> {
        let now = reading.value("SELECT CAST(UNIX_TIMESTAMP() AS SIGNED)").await?.and_then(|t| t.parse().ok()).unwrap_or(0);
        let sql = "SELECT MAX(TIMESTAMPDIFF(SECOND, trx_started, NOW())) FROM information_schema.INNODB_TRX \
            WHERE trx_rows_modified > 0 AND trx_mysql_thread_id <> CONNECTION_ID()";
        match reading.value(sql).await {
            Ok(None) => Ok((Open::None, now)),
            Ok(Some(seconds)) => Ok((Open::Since(seconds.parse().unwrap_or(0).max(0)), now)),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok((Open::Unknown, now)),
            Err(e) => Err(e),
        }
    }
}

fn age(open: &Open) -> i64 {
    match open {
        Open::Since(seconds) => *seconds,
        Open::None | Open::Unknown => 0,
    }
}

/// A time, taken back by so many seconds. One that cannot be taken back is before all others already.
async fn back(reading: &mut Reading<'_>, form: Form, value: &str, seconds: i64) -> Result<Option<String>> {
    let value = literal(value);
    let days = seconds.div_euclid(86_400) + 1;
    let sql = match form {
        Form::Date | Form::DateText => format!("SELECT CAST(CAST({value} AS DATE) - INTERVAL {days} DAY AS CHAR)"),
        _ => format!("SELECT CAST(CAST({value} AS DATETIME(6)) - INTERVAL {seconds} SECOND AS CHAR)"),
    };
    reading.value(&sql).await
}
