//! Statements beside the pipe, with small answers: for tools that look after a database, and for tests.

use linkspan_core::{Context, Result};

use super::{config::MysqlConfig, server::Server, wire::Wire};

/// A session for statements one by one.
pub struct Statements(Wire);

/// An answer as text: NULL as `None`, bytes in lower-case hex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// The character set that means bytes.
const BINARY: u16 = 63;

impl Statements {
    pub async fn open(config: &MysqlConfig, ctx: Context) -> Result<Self> {
        Ok(Self(Server::new(config.endpoint()?, ctx).connect().await?))
    }

    /// Runs one statement.
    pub async fn run(&mut self, sql: &str) -> Result<Answer> {
        let (columns, rows) = self.0.ask(sql, "running a statement").await?;
        // Numbers and times say that they are binary, too; only what may hold any byte is shown in hex.
        let bytes: Vec<bool> = columns.iter().map(|c| c.charset == BINARY && (c.kind >= 249 || c.kind == 16)).collect();
        let shown = |(value, bytes): (Option<Vec<u8>>, &bool)| {
            value.map(|v| match bytes {
                true => v.iter().map(|b| format!("{b:02x}")).collect(),
                false => String::from_utf8_lossy(&v).into_owned(),
            })
        };
        let rows = rows.into_iter().map(|row| row.into_iter().zip(&bytes).map(shown).collect()).collect();
        Ok(Answer { columns: columns.into_iter().map(|c| c.name).collect(), rows })
    }

    pub async fn close(self) {
        self.0.quit().await;
    }
}
