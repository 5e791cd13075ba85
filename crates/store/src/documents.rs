//! Documents as the house uses them: read by id or name, listed in pages, changed in one transaction.

use linkspan_core::Result;
use uuid::Uuid;

use crate::{
    change::{Change, Outcome, Remembered},
    document::{Document, DocumentFilter, DocumentPage, Entry, EntryFilter, Linked, Sealed},
    link::unexpected,
    request::{Reply, Request},
    store::Store,
};

impl Store {
    /// All of it durable, or an error and nothing: `Conflict` when a version is no longer what stands or the idempotency key was
    /// used for another request, `AlreadyExists` when a name is taken, `NotFound` when what was to be updated is gone.
    pub async fn change(&self, change: Change) -> Result<Outcome> {
        match self.ask(Request::Change(Box::new(change))).await? {
            Reply::Changed(outcome) => Ok(outcome),
            _ => Err(unexpected()),
        }
    }
    /// By id, else by name. What belongs to another project does not exist.
    pub async fn document(&self, kind: &str, project: &str, key: &str) -> Result<Option<Document>> {
        let request = Request::FindDocument { kind: kind.to_owned(), project: project.to_owned(), key: key.to_owned() };
        self.one(request).await
    }
    /// Whatever project it is of: for the house itself, never for a caller's id.
    pub async fn document_by_id(&self, id: Uuid) -> Result<Option<Document>> {
        self.one(Request::GetDocument { id }).await
    }
    async fn one(&self, request: Request) -> Result<Option<Document>> {
        match self.ask(request).await? {
            Reply::Documents(found) => Ok(found.into_iter().next()),
            _ => Err(unexpected()),
        }
    }
    /// A page, oldest first; the next one starts after the last one's `seq`.
    pub async fn documents(&self, filter: DocumentFilter) -> Result<Vec<Document>> {
        match self.ask(Request::Documents { filter }).await? {
            Reply::Documents(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }
    /// All of them, oldest first, page by page: for kinds of which there are not many.
    pub async fn all_documents(&self, filter: DocumentFilter) -> Result<Vec<Document>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.documents(DocumentFilter { after, limit: Some(1000), ..filter.clone() }).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.seq);
            all.extend(page);
        }
    }
    /// A page of one project's documents with who points at them and how many there are in all, in one look at the database. A filter
    /// without a project matches none.
    pub async fn page_of_documents(&self, filter: DocumentFilter) -> Result<DocumentPage> {
        match self.ask(Request::PageOfDocuments { filter }).await? {
            Reply::PageOfDocuments(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }
    /// How many of a project there are, by facet.
    pub async fn count_documents(&self, kind: &str, project: &str) -> Result<Vec<(String, u64)>> {
        match self.ask(Request::CountDocuments { kind: kind.to_owned(), project: project.to_owned() }).await? {
            Reply::Facets(counts) => Ok(counts),
            _ => Err(unexpected()),
        }
    }
    /// Who points at any of these.
    pub async fn linked(&self, to: Vec<Uuid>) -> Result<Vec<Linked>> {
        match self.ask(Request::Linked { to }).await? {
            Reply::Linked(all) => Ok(all),
            _ => Err(unexpected()),
        }
    }
    /// The secret beside a document, as it rests.
    pub async fn sealed(&self, document: Uuid) -> Result<Option<Sealed>> {
        match self.ask(Request::Sealed { document }).await? {
            Reply::Sealed(found) => Ok(found.into_iter().next().map(|(_, sealed)| sealed)),
            _ => Err(unexpected()),
        }
    }
    /// A page of the secrets under one data key, by document.
    pub async fn sealed_under(&self, data_key: Uuid, after: Option<Uuid>, limit: u32) -> Result<Vec<(Uuid, Sealed)>> {
        match self.ask(Request::SealedUnder { data_key, after, limit }).await? {
            Reply::Sealed(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }
    /// A page of a history, newest first.
    pub async fn entries(&self, filter: EntryFilter) -> Result<Vec<Entry>> {
        match self.ask(Request::Entries { filter }).await? {
            Reply::Entries(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }
    /// Forgets entries of a kind that are older; answers how many there were.
    pub async fn forget_entries(&self, kind: &str, before_ms: i64) -> Result<u64> {
        match self.ask(Request::ForgetEntries { kind: kind.to_owned(), before_ms }).await? {
            Reply::Count(n) => Ok(n),
            _ => Err(unexpected()),
        }
    }
    /// What a caller's idempotency key was used for.
    pub async fn remembered(&self, project: &str, caller: &str, key: &str) -> Result<Option<Remembered>> {
        let request = Request::Remembered { project: project.to_owned(), caller: caller.to_owned(), key: key.to_owned() };
        match self.ask(request).await? {
            Reply::Remembered(found) => Ok(found),
            _ => Err(unexpected()),
        }
    }
}
