//! What a connector may change in its own config while it works: a token that is good for one use. The house keeps it; where, no
//! connector knows.

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// A place in a config: names of fields from the outside in.
pub type Place = Vec<String>;

/// Keeps what changes.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// The right to change these places, which one at a time has over all processes; waits for whoever has it. The first place says whose
    /// values they are: what stood there when the user wrote it. `ConfigInvalid` when a place cannot be changed, `Unsupported` when
    /// nobody keeps anything here, `Unavailable` when the other one does not let go.
    async fn hold(&self, places: &[Place]) -> Result<Box<dyn Holding>>;

    /// Notes a credential that the connector came by while it works and keeps nowhere (a session, an access token): from now on whatever
    /// is told about the connector is told without it.
    fn hush(&self, _credential: &str) {}
}

/// The right to change. It ends when this is dropped, and with the process.
#[async_trait]
pub trait Holding: Send + Sync {
    /// The config as it stands now, secrets included: what others kept is in it.
    fn config(&self) -> &Value;
    /// Sends a request that uses something up, once. `spends` names what that is, and is no secret. A good answer outlives this process:
    /// when it is killed before `keep`, whoever spends the same next gets that answer, and nothing is sent.
    async fn spend(&self, spends: &str, request: Request<Bytes>) -> Result<Response<Bytes>>;
    /// The answer to what was spent is of no use: it is handed out to nobody else.
    async fn discard(&self);
    /// Durable when this returns; before that no value may be used. Null removes. `Conflict` when somebody else changed one of the
    /// places since: theirs stays.
    async fn keep(&self, changes: &[(Place, Value)]) -> Result<()>;
}

/// Where nothing is kept: a config that was typed in to be tried, say.
pub struct NoKeeper;

#[async_trait]
impl Keeper for NoKeeper {
    async fn hold(&self, _: &[Place]) -> Result<Box<dyn Holding>> {
        Err(Error::new(ErrorKind::Unsupported, "a token that is good for one use would be used up here, and its successor lost")
            .fix("save the connector first (`linkspan connectors create`), or name it in a project file: then the new token is kept"))
    }
}
