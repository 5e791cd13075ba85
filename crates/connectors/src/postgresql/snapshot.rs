//! Which transactions a read has seen. One exported snapshot is shared by all lanes of a run; its horizon is what the next
//! read starts behind: a row whose transaction lies below it was certainly seen, one above it certainly or possibly not.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};

use super::{
    connect::{Client, Server},
    errors::PgResult,
    sql,
};

/// The edges of a server snapshot, as 64-bit transaction ids: everything below `xmin` has ended, nothing at or above `xmax` is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Horizon {
    pub xmin: u64,
    pub xmax: u64,
    /// The server's own text of it.
    pub text: String,
}

impl Horizon {
    /// From `txid_current_snapshot()`: `xmin:xmax:xip,...`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':').map(|n| n.parse::<u64>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(xmin), Some(xmax)) => Ok(Self { xmin, xmax, text: text.to_owned() }),
            _ => Err(Error::new(ErrorKind::Internal, "the server's snapshot is not understood")),
        }
    }

    /// No transaction was open: whatever is visible lies below the horizon.
    pub fn is_settled(&self) -> bool {
        self.xmin == self.xmax
    }

    /// Whether this snapshot can be compared with an older horizon: the 32 bits that rows carry must not have gone round since.
    pub fn reaches(&self, horizon: u64) -> Result<()> {
        let lost = |message: &'static str| {
            Error::new(ErrorKind::PositionLost, message).fix("reset the connection: the next run reads everything again")
        };
        match self.xmax.checked_sub(horizon) {
            None => Err(lost("the position lies ahead of the server: it is another server, or one restored from a backup")),
            Some(distance) if distance >= (1 << 31) - (1 << 20) => {
                Err(lost("the position is too old: the server's transaction ids went round"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The 32 bits of a transaction id that a row carries.
fn xid(full: u64) -> u64 {
    full & 0xffff_ffff
}

/// SQL for "this row's transaction is at or above the horizon". `age` counts back from now within the circle of 32 bits, so
/// rows frozen long ago are below it whatever their number was.
pub(super) fn above(horizon: u64) -> String {
    format!("pg_catalog.age(xmin) BETWEEN 0 AND pg_catalog.age('{}'::pg_catalog.xid)", xid(horizon))
}

/// SQL for "this row was not there yet for a reader of that horizon who also saw `seen`".
pub(super) fn unseen(horizon: u64, seen: &[u32]) -> String {
    if seen.is_empty() {
        return above(horizon);
    }
    let list: Vec<String> = seen.iter().map(u32::to_string).collect();
    format!("{} AND xmin <> ALL ('{{{}}}'::pg_catalog.xid[])", above(horizon), list.join(","))
}

/// SQL for "this row's transaction has ended before the horizon".
pub(super) fn below(horizon: u64) -> String {
    format!("NOT ({})", above(horizon))
}

/// SQL by which another session looks through a snapshot.
pub(super) fn look_through(id: &str) -> String {
    format!("SET TRANSACTION SNAPSHOT {}", sql::literal(id))
}

/// The server no longer knows a snapshot once its holder's session has ended.
pub(super) fn gone(e: Error) -> Error {
    match e.kind() {
        ErrorKind::DataInvalid | ErrorKind::NotFound => Error::new(ErrorKind::Unavailable, "the session that held the snapshot has ended")
            .fix("run the same command again: the read goes on where it stopped")
            .because(e),
        _ => e,
    }
}

/// A snapshot that other sessions can look through, for as long as this is alive.
pub(super) struct Snapshot {
    /// Holds the transaction open. Statements on it must not fail: that would end the snapshot.
    holder: Option<Client>,
    pub id: String,
    pub horizon: Horizon,
}

impl Snapshot {
    pub async fn take(server: &Arc<Server>) -> Result<Self> {
        let holder = server.connect().await?;
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.pg("taking a snapshot")?;
        let sql = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::text";
        let row = holder.query_one(sql, &[]).await.pg("taking a snapshot")?;
        let horizon = Horizon::parse(row.get(1))?;
        Ok(Self { id: row.get(0), horizon, holder: Some(holder) })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take() {
            holder.leave_transaction();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_knows_whether_it_can_serve_a_position() {
        let h = Horizon::parse("4294967300:4294967310:4294967300,4294967305").unwrap();
        assert!(!h.is_settled());
        assert!(h.reaches(4_294_967_000).is_ok());
        assert_eq!(h.reaches(4_294_967_311).unwrap_err().kind(), ErrorKind::PositionLost);
        assert_eq!(h.reaches(1_000).unwrap_err().kind(), ErrorKind::PositionLost);
        assert!(Horizon::parse("10:10:").unwrap().is_settled());
        assert_eq!(unseen(4_294_967_300, &[7]), format!("{} AND xmin <> ALL ('{{7}}'::pg_catalog.xid[])", above(4)));
    }
}
