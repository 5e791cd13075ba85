//! One stream's flow: round 0 is the initial load, each later read one round of changes, with a checkpoint after every batch.

use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, ReadMode, Result, Scope, State, Stop, StreamName};
use serde::{Deserialize, Serialize};

use super::{
    rounds::{Happening, Op, Table},
    rows,
};

const VERSION: u16 = 1;
const BATCH: usize = 8_192;

/// Where a lane is: rows of `round` with ids below `next` were sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    round: u64,
    next: u64,
    table: String,
}

#[derive(Debug)]
pub(super) struct FakerLane {
    stream: StreamName,
    table: Table,
    feed: rows::Feed,
    place: Place,
}

impl FakerLane {
    pub fn new(stream: StreamName, table: Table, rounds: Option<u64>, read: ReadMode, from: Option<&State>) -> Result<Self> {
        let feed = if read == ReadMode::Full { rows::Feed::Without } else { rows::Feed::With };
        let mut place = match from {
            Some(state) => Place::of(state, &table).map_err(|e| e.with("stream", &stream))?,
            None => Place { round: 0, next: 1, table: table.fingerprint() },
        };
        let more = read != ReadMode::Full && rounds.is_none_or(|r| place.round < r);
        if place.next > table.last_id(place.round) && from.is_some() && more {
            place = Place { round: place.round + 1, next: 1, ..place };
        }
        Ok(Self { stream, table, feed, place })
    }
    /// The next batch of what happens in this round, and the id to go on with.
    fn batch(&self) -> (Vec<Happening>, u64) {
        let (round, last) = (self.place.round, self.table.last_id(self.place.round));
        if round == 0 {
            let end = last.min(self.place.next.saturating_add(BATCH as u64 - 1));
            return ((self.place.next..=end).map(|id| Happening { id, version: 0, op: Op::Insert }).collect(), end + 1);
        }
        let mut happenings = Vec::with_capacity(BATCH);
        let mut next = self.place.next;
        while next <= last && happenings.len() < BATCH {
            happenings.extend(self.table.happens(next, round));
            next += 1;
        }
        (happenings, next)
    }
    fn scope(&self) -> Scope {
        Scope::Stream(self.stream.clone())
    }
}

impl Place {
    fn of(state: &State, table: &Table) -> Result<Self> {
        let unknown = || Error::new(ErrorKind::DataInvalid, "the state is not one of this source").fix("reset the connection");
        if state.version != VERSION {
            return Err(unknown().with("version", state.version));
        }
        let place: Self = state.read().map_err(|_| unknown())?;
        if place.table != table.fingerprint() {
            return Err(Error::new(ErrorKind::PositionLost, "the position belongs to other rows: seed or sizes of the faker have changed")
                .fix("restore the settings, or reset the connection"));
        }
        if place.next > table.last_id(place.round).saturating_add(1) || place.next == 0 || place.round > 1 << 40 {
            return Err(unknown());
        }
        Ok(place)
    }
    fn state(&self) -> Result<State> {
        let value = serde_json::to_value(self).map_err(|e| Error::new(ErrorKind::Internal, "the state cannot be written").because(e))?;
        Ok(State::new(VERSION, value))
    }
}

#[async_trait]
impl Lane for FakerLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: self.scope(), after: vec![] }
    }
    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let last = self.table.last_id(self.place.round);
        if self.feed == rows::Feed::With {
            out.schema(&self.stream, rows::feed_schema(self.table.kind)).await?;
        }
        while self.place.next <= last {
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
            let (happenings, next) = self.batch();
            let rows = rows::build(&self.table, self.place.round, &happenings, self.feed)?;
            self.place.next = next;
            out.rows(&self.stream, rows).await?;
            out.checkpoint(&self.scope(), self.place.state()?).await?;
        }
        if last == 0 || self.place.next > last {
            out.checkpoint(&self.scope(), self.place.state()?).await?;
        }
        Ok(Ended::Complete)
    }
}
