//! The incremental read of a table: rows at or behind the cursor whose transactions the last read had not seen. It looks at
//! transactions and not at values alone, so ties are neither lost nor endless, and a late commit is not missed.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Repeats, Result, Scope, Stop, StreamName};

use super::{
    catalog::{Column, select_list},
    connect::Server,
    reading::{Read, Reading},
    snapshot::{Horizon, unseen},
    sql,
    states::{Mark, SEEN_CAP, StreamState, TailState, remember, save, settled_mark},
    types::Form,
};

/// The lane that follows a table.
pub(super) struct Tail {
    pub server: Arc<Server>,
    pub stream: StreamName,
    pub relation: String,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub cursor: Column,
    pub from: TailState,
    pub repeats: Repeats,
    pub window_seconds: u32,
    /// The initial load's parts, which must be complete first.
    pub after: Vec<Scope>,
}

#[async_trait]
impl Lane for Tail {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: Scope::Stream(self.stream.clone()), after: self.after.clone() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

/// The moment of a read, by the server.
struct Moment {
    horizon: Horizon,
    /// Microseconds of the server's clock.
    at: i64,
    /// When the oldest open transaction began, as far as the login may see it.
    oldest: Option<String>,
}

impl Tail {
    async fn run(&self, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if stop.requested() {
            return Ok(Ended::Stopped);
        }
        let mut reading = Reading::open(&self.server, None, &self.stream, &self.columns, self.schema.clone()).await?;
        let now = moment(&mut reading).await?;
        now.horizon.reaches(self.from.horizon)?;
        // Once a largest value is known, the rows themselves tell whether there is a larger one.
        let cursor = self.columns.iter().position(|c| c.name == self.cursor.name);
        let watched = self.from.value.is_some() && cursor.and_then(|at| reading.watch(at)).is_some();
        // Without a new transaction id there is no new row.
        if now.horizon.xmax > self.from.horizon {
            let select = format!("SELECT {} FROM {} WHERE {}", select_list(&self.columns), self.relation, self.news());
            if reading.copy(&select, out, stop).await? == Read::Stopped {
                return Ok(Ended::Stopped);
            }
        }
        let state = self.next_state(&mut reading, now, watched).await?;
        out.checkpoint(&Scope::Stream(self.stream.clone()), save(&StreamState::Tail(state))?).await?;
        reading.wire.close().await;
        Ok(Ended::Complete)
    }

    /// The rows to read. Rows without a cursor value are told by their transaction alone.
    fn news(&self) -> String {
        format!("{}{}", self.in_reach(self.from.low.as_deref()), unseen(self.from.horizon, &self.from.seen))
    }

    fn in_reach(&self, low: Option<&str>) -> String {
        let column = sql::ident(&self.cursor.name);
        low.map(|low| format!("({column} >= {} OR {column} IS NULL) AND ", sql::literal(low))).unwrap_or_default()
    }

    async fn next_state(&self, reading: &mut Reading<'_>, now: Moment, watched: bool) -> Result<TailState> {
        let value = match (watched, reading.largest_watched()) {
            (true, None) => None,
            (true, Some(largest)) => greater(reading, self.cursor.form, self.from.value.as_deref(), largest).await?,
            (false, _) => largest(reading, &self.relation, &self.cursor, self.from.low.as_deref()).await?,
        };
        let value = value.or_else(|| self.from.value.clone());
        let mut history = self.from.history.clone();
        let low = self.low(reading, &value, &mut history, &now).await?;
        let seen = self.seen(reading, low.as_deref(), &now.horizon).await?;
        remember(&mut history, Mark { at: now.at, xmax: now.horizon.xmax, value: value.clone() });
        Ok(TailState { cursor: self.cursor.name.clone(), value, low, horizon: now.horizon.xmin, seen, history })
    }

    /// Where the next read begins: no transaction that is still open, or that draws its value before its id, may end below it.
    /// A time is taken back by the late window; any other value by what was the largest one before that window began.
    async fn low(
        &self,
        reading: &mut Reading<'_>,
        value: &Option<String>,
        history: &mut Vec<Mark>,
        now: &Moment,
    ) -> Result<Option<String>> {
        let is_time = matches!(self.cursor.form, Form::Date | Form::Timestamp | Form::TimestampTz);
        let window = i64::from(self.window_seconds) * 1_000_000;
        let mark = settled_mark(history, now.horizon.xmin, if is_time { now.at } else { now.at - window });
        let exact = now.horizon.is_settled() && (is_time || window == 0);
        let bound = if exact { value.clone() } else { mark.and_then(|m| m.value) };
        match bound {
            Some(bound) if is_time => back(reading, self.cursor.form, &bound, now.oldest.as_deref(), self.window_seconds).await,
            other => Ok(other),
        }
    }

    /// The transactions above the horizon whose rows this read has seen.
    async fn seen(&self, reading: &mut Reading<'_>, low: Option<&str>, horizon: &Horizon) -> Result<Vec<u32>> {
        if horizon.is_settled() {
            return Ok(Vec::new());
        }
        let unseen = unseen(horizon.xmin, &[]);
        let sql = format!("SELECT DISTINCT xmin::text FROM {} WHERE {}{unseen} LIMIT {}", self.relation, self.in_reach(low), SEEN_CAP + 1);
        let seen: Vec<u32> = reading.values(&sql).await?.iter().filter_map(|x| x.parse().ok()).collect();
        match (seen.len() > SEEN_CAP, self.repeats) {
            (false, _) => Ok(seen),
            // They are read once more next time, and fold by key.
            (true, Repeats::Folded) => Ok(Vec::new()),
            (true, Repeats::Kept) => Err(Error::new(ErrorKind::Unsupported, "too many transactions ended while an old one was open")
                .with("transactions", SEEN_CAP)
                .fix("write with merge (`--write merge --key ...`), or end the old transaction at the source and run again")),
        }
    }
}

async fn moment(reading: &mut Reading<'_>) -> Result<Moment> {
    let sql = "SELECT pg_catalog.txid_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text, \
        (SELECT min(xact_start)::text FROM pg_catalog.pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND backend_type = 'client backend')";
    let strange = || Error::new(ErrorKind::Internal, "the server's snapshot is not understood");
    let row = reading.wire.query(sql).await?.into_iter().next().ok_or_else(strange)?;
    let mut fields = row.into_iter();
    let horizon = Horizon::parse(&fields.next().flatten().ok_or_else(strange)?)?;
    let at = fields.next().flatten().and_then(|t| t.parse().ok()).ok_or_else(strange)?;
    Ok(Moment { horizon, at, oldest: fields.next().flatten() })
}

/// The largest value of a cursor at or above `low`. Infinities and NaN do not count: nothing would ever come behind them.
pub(super) async fn largest(reading: &mut Reading<'_>, relation: &str, cursor: &Column, low: Option<&str>) -> Result<Option<String>> {
    let column = sql::ident(&cursor.name);
    let low = low.map(|low| format!("{column} >= {} AND ", sql::literal(low))).unwrap_or_default();
    let finite = match cursor.form {
        Form::Date | Form::Timestamp | Form::TimestampTz => format!("pg_catalog.isfinite({column})"),
        Form::Float4 | Form::Float8 | Form::DecimalText | Form::Decimal(..) => {
            format!("{column}::pg_catalog.text NOT IN ('NaN', 'Infinity')")
        }
        _ => format!("{column} IS NOT NULL"),
    };
    reading.value(&format!("SELECT {column}::pg_catalog.text FROM {relation} WHERE {low}{finite} ORDER BY {column} DESC LIMIT 1")).await
}

/// The greater of a value and one that was noted while reading, as text.
async fn greater(reading: &mut Reading<'_>, form: Form, value: Option<&str>, noted: i64) -> Result<Option<String>> {
    let value = value.map_or_else(|| "NULL".to_owned(), sql::literal);
    // Whole days and the rest: an interval of that many microseconds is too large for servers before 15.
    const DAY: i64 = 86_400_000_000;
    let since = format!("{} * interval '1 day' + {} * interval '1 microsecond'", noted.div_euclid(DAY), noted.rem_euclid(DAY));
    let sql = match form {
        Form::Date => format!("greatest({value}::date, date 'epoch' + ({noted}))"),
        Form::TimestampTz => format!("greatest({value}::timestamptz, timestamptz 'epoch' + {since})"),
        Form::Timestamp => format!("greatest({value}::timestamp, timestamp 'epoch' + {since})"),
        _ => format!("greatest({value}::int8, '{noted}'::int8)"),
    };
    reading.value(&format!("SELECT ({sql})::text")).await
}

/// A time, taken back by so many seconds; not later than `oldest` taken back by them.
pub(super) async fn back(reading: &mut Reading<'_>, form: Form, value: &str, oldest: Option<&str>, seconds: u32) -> Result<Option<String>> {
    let value = sql::literal(value);
    let sql = match form {
        Form::Date => format!("SELECT ({value}::date - {})::text", seconds.div_ceil(86_400)),
        Form::TimestampTz => {
            let oldest = oldest.map_or_else(|| "NULL".to_owned(), sql::literal);
            format!("SELECT (least({value}::timestamptz, {oldest}::timestamptz) - make_interval(secs => {seconds}))::text")
        }
        _ => format!("SELECT ({value}::timestamp - make_interval(secs => {seconds}))::text"),
    };
    reading.value(&sql).await
}
