//! How an operation ends that changes something: its edits, a line in the audit trail and the answer for the caller's
//! idempotency key, in one transaction.

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{AUDIT, Change, Edit, NewEntry, Outcome, Remember};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    app::App,
    caller::{CallContext, Caller},
    operation::Reply,
};

/// How often an update without `If-Match` is decided again when somebody else was faster.
const ATTEMPTS: u32 = 10;

impl App {
    /// Makes the change durable, then hands the reply on. A repeated request gets the first one's reply and changes nothing.
    pub async fn commit<T>(&self, context: &CallContext, change: Change, reply: Reply<T>) -> Result<Reply<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let shown = encoded(&reply)?;
        self.commit_showing(context, change, reply, shown).await
    }
    /// The same for a reply that holds a secret which is shown once: a repeated request gets `later` in its place.
    pub async fn commit_once<T>(&self, context: &CallContext, change: Change, reply: Reply<T>, later: &Reply<T>) -> Result<Reply<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let shown = encoded(later)?;
        self.commit_showing(context, change, reply, shown).await
    }
    async fn commit_showing<T: DeserializeOwned>(
        &self,
        context: &CallContext,
        mut change: Change,
        reply: Reply<T>,
        shown: Value,
    ) -> Result<Reply<T>> {
        // Who has written a line of its own knows better what may be told.
        if change.entries.iter().all(|entry| entry.kind != AUDIT) {
            change.entries.push(audit_of(context, &change.edits));
        }
        change.remember = context.remember(shown);
        match self.store.change(change).await? {
            Outcome::Done => Ok(reply),
            Outcome::Repeated(answer) => decoded(answer),
        }
    }
}

/// Whether an update is to be decided again: somebody else was faster, and the caller did not say which version it meant.
pub fn once_more(context: &CallContext, error: &Error, attempt: u32) -> bool {
    let raced = error.kind() == ErrorKind::Conflict && error.context().iter().all(|(k, _)| *k != "precondition");
    raced && context.if_match.is_none() && attempt < ATTEMPTS
}

/// Operations that are about who and what there is in the whole installation: no project's trail tells of them.
const OF_THE_INSTALLATION: [&str; 4] = ["users.", "auth.", "projects.create", "projects.delete"];

/// A line of the audit trail: who did what, to what. It never holds a value.
pub fn audit_line(context: &CallContext, about: &str, what: Value) -> NewEntry {
    let mut body = json!({ "by": who(&context.caller), "operation": context.operation });
    if let (Some(body), Value::Object(what)) = (body.as_object_mut(), what) {
        body.extend(what);
    }
    let whole = OF_THE_INSTALLATION.iter().any(|of| context.operation.starts_with(of));
    let project = if whole { String::new() } else { context.project.clone() };
    NewEntry { kind: AUDIT.into(), project, about: about.to_owned(), body, keep: None }
}

fn who(caller: &Caller) -> Value {
    json!({ "kind": caller.kind, "id": caller.id, "name": caller.name })
}

fn audit_of(context: &CallContext, edits: &[Edit]) -> NewEntry {
    let touched = edits.iter().find_map(|edit| match edit {
        Edit::Insert { document, .. } | Edit::Update { document, .. } => {
            Some((document.id, json!({ "kind": document.kind, "name": document.name, "version": document.version })))
        }
        Edit::Delete { id, .. } => Some((*id, json!({}))),
        Edit::QueueRun { run } => Some((run.connection.0, json!({ "kind": "run", "run": run.run }))),
        Edit::CancelRun { run } => Some((run.0, json!({ "kind": "run" }))),
        Edit::Reset { connection, .. } => Some((connection.0, json!({ "kind": "connection" }))),
        Edit::Observe { .. }
        | Edit::Expect { .. }
        | Edit::ExpectSecret { .. }
        | Edit::Turn { .. }
        | Edit::PutConnection { .. }
        | Edit::ForgetConnection { .. } => None,
    });
    let (about, what) = touched.map_or((String::new(), json!({})), |(id, what)| (id.to_string(), what));
    audit_line(context, &about, what)
}

impl CallContext {
    fn remember(&self, answer: Value) -> Option<Remember> {
        let (key, hash) = (self.idempotency_key.clone()?, self.asked.clone()?);
        Some(Remember { project: self.project.clone(), caller: self.caller.key(), key, hash, answer })
    }
}

fn encoded<T: Serialize>(reply: &Reply<T>) -> Result<Value> {
    serde_json::to_value(reply).map_err(|e| Error::new(ErrorKind::Internal, "the answer could not be encoded").because(e))
}

/// The answer that was given before.
pub fn decoded<T: DeserializeOwned>(answer: Value) -> Result<Reply<T>> {
    serde_json::from_value(answer).map_err(|e| {
        Error::new(ErrorKind::Conflict, "the request was done before, but its answer is of another version of linkspan")
            .with("precondition", "idempotency-key")
            .fix("read what stands now")
            .because(e)
    })
}
