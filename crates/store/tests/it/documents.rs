//! The laws of documents and their changes, told once for every driver and every way to it.

use futures::future::join_all;
use linkspan_core::ErrorKind;
use linkspan_store::{
    AUDIT, Change, Document, DocumentFilter, DocumentPage, Edit, EntryFilter, Link, NewEntry, Outcome, Remember, Request, Sealed,
    SecretEdit, Store,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::Desk;

fn doc(project: &str, name: &str) -> Document {
    Document::new("connector", project, Some(name), json!({"n": name}), 5)
}

async fn put(store: &Store, document: Document) -> Document {
    store.change(Change::new(5).edit(Edit::insert(document.clone()))).await.unwrap();
    store.document_by_id(document.id).await.unwrap().unwrap()
}

fn sealed(token: &str) -> Sealed {
    Sealed { data_key: Uuid::from_u128(1), token: token.into() }
}

fn line(kind: &str, about: Uuid, n: u32) -> NewEntry {
    NewEntry { kind: kind.into(), project: "p".into(), about: about.to_string(), body: json!(n), keep: Some(3) }
}

pub async fn a_change_is_whole_or_nothing(desk: &Desk) {
    let seat = desk.open().await;
    let stands = put(&seat.store, doc("p", "a")).await;
    let fresh = doc("p", "b");
    let half =
        Change::new(6).edit(Edit::insert(fresh.clone())).entry(line(AUDIT, fresh.id, 1)).edit(Edit::Expect { id: stands.id, version: 9 });
    assert_eq!(seat.store.change(half).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(seat.store.document_by_id(fresh.id).await.unwrap(), None);
    assert!(seat.store.entries(EntryFilter { kind: AUDIT.into(), ..EntryFilter::default() }).await.unwrap().is_empty());
}

pub async fn a_name_is_unique_in_its_kind_and_project(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let a = put(store, doc("p", "a")).await;
    let b = put(store, doc("p", "b")).await;
    put(store, doc("q", "a")).await;
    put(store, Document { kind: "connection".into(), ..doc("p", "a") }).await;
    for refused in [Edit::insert(doc("p", "a")), Edit::update(Document { name: Some("a".into()), version: 2, ..b.clone() })] {
        let e = store.change(Change::new(6).edit(refused)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    }
    let nameless = || Document { name: None, ..doc("p", "") };
    store.change(Change::new(6).edit(Edit::insert(nameless())).edit(Edit::insert(nameless()))).await.unwrap();
    // A name that is given up may be taken in the same change.
    let freed = Change::new(6).edit(Edit::delete(&a)).edit(Edit::update(Document { name: Some("a".into()), version: 2, ..b.clone() }));
    store.change(freed).await.unwrap();
    assert_eq!(store.document("connector", "p", "a").await.unwrap().unwrap().id, b.id);
}

pub async fn a_document_is_found_by_id_or_name_and_in_its_project_only(desk: &Desk) {
    let seat = desk.open().await;
    let a = put(&seat.store, doc("p", "a")).await;
    for (kind, project, key, found) in [
        ("connector", "p", "a".to_owned(), true),
        ("connector", "p", a.id.to_string(), true),
        ("connector", "q", "a".into(), false),
        ("connector", "q", a.id.to_string(), false),
        ("connection", "p", a.id.to_string(), false),
        ("connector", "p", "A".into(), false),
        ("connector", "p", String::new(), false),
    ] {
        assert_eq!(seat.store.document(kind, project, &key).await.unwrap().is_some(), found, "{kind} {project} {key}");
    }
    // A name may look like an id.
    let odd = Uuid::from_u128(7).to_string();
    let named = put(&seat.store, doc("p", &odd)).await;
    assert_eq!(seat.store.document("connector", "p", &odd).await.unwrap(), Some(named));
}

pub async fn pages_of_documents_stay_whole_while_others_are_made_and_renamed(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let mut made = Vec::new();
    for n in 0..7 {
        let direction = if n % 2 == 0 { "inbound" } else { "outbound" };
        made.push(put(store, Document { facet: direction.into(), ..doc("p", &format!("d{n}")) }).await.id);
        put(store, doc("q", &format!("d{n}"))).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.documents(DocumentFilter { after, limit: Some(2), ..DocumentFilter::of("connector", "p") }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.seq);
        seen.extend(page.iter().map(|d| d.id));
        let renamed = Document { name: Some(format!("0{}", last.id)), ..last.clone() }.revised(&json!({}), 7).unwrap();
        store.change(Change::new(7).edit(Edit::update(renamed))).await.unwrap();
    }
    assert_eq!(seen, made);
    let inbound = DocumentFilter { facet: Some("inbound".into()), ..DocumentFilter::of("connector", "p") };
    assert_eq!(store.documents(inbound).await.unwrap().len(), 4);
    assert_eq!(store.count_documents("connector", "p").await.unwrap(), [("inbound".to_owned(), 4), ("outbound".to_owned(), 3)]);
    assert_eq!(store.documents(DocumentFilter { kind: "connector".into(), ..DocumentFilter::default() }).await.unwrap().len(), 14);
}

pub async fn of_fifty_updates_of_one_version_one_wins(desk: &Desk) {
    let seat = desk.open().await;
    let a = put(&seat.store, doc("p", "a")).await;
    let updates = (0..50).map(|n| seat.store.change(Change::new(6).edit(Edit::update(a.clone().revised(&json!({"n": n}), 6).unwrap()))));
    let done = join_all(updates).await;
    assert_eq!(done.iter().filter(|d| d.is_ok()).count(), 1);
    assert!(done.iter().filter_map(|d| d.as_ref().err()).all(|e| e.kind() == ErrorKind::Conflict));
    let stands = seat.store.document_by_id(a.id).await.unwrap().unwrap();
    assert_eq!((stands.version, stands.created_at_ms, stands.updated_at_ms, stands.seq), (2, 5, 6, a.seq));
    seat.store.change(Change::new(7).edit(Edit::delete(&stands))).await.unwrap();
    let gone = seat.store.change(Change::new(8).edit(Edit::update(stands.revised(&json!({}), 8).unwrap()))).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

pub async fn what_is_observed_raises_no_version(desk: &Desk) {
    let seat = desk.open().await;
    let a = put(&seat.store, doc("p", "a")).await;
    let see = |merge: Value| Change::new(6).edit(Edit::Observe { id: a.id, merge });
    seat.store.change(see(json!({"status": "healthy", "n": 1}))).await.unwrap();
    seat.store.change(see(json!({"n": null, "at": 4}))).await.unwrap();
    let stands = seat.store.document_by_id(a.id).await.unwrap().unwrap();
    assert_eq!((stands.version, stands.observed, stands.body), (1, json!({"status": "healthy", "at": 4}), a.body.clone()));
    seat.store.change(Change::new(7).edit(Edit::delete(&a))).await.unwrap();
    seat.store.change(see(json!({"n": 2}))).await.unwrap();
    assert_eq!(seat.store.document_by_id(a.id).await.unwrap(), None);
}

pub async fn an_idempotency_key_gets_the_first_answer_again(desk: &Desk) {
    let seat = desk.open().await;
    let ask = |caller: &str, hash: &str, name: &str| {
        let (project, caller, key, hash) = ("p".into(), caller.into(), "k".into(), hash.into());
        Change { remember: Some(Remember { project, caller, key, hash, answer: json!(name) }), ..Change::new(5) }
            .edit(Edit::insert(doc("p", name)))
    };
    assert_eq!(seat.store.change(ask("u", "h", "a")).await.unwrap(), Outcome::Done);
    let again = join_all((0..20).map(|_| seat.store.change(ask("u", "h", "a")))).await;
    assert!(again.into_iter().all(|o| o.unwrap() == Outcome::Repeated(json!("a"))));
    let other = seat.store.change(ask("u", "other", "b")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert_eq!(other.context()[0], ("precondition", "idempotency-key".to_owned()));
    assert_eq!(seat.store.change(ask("v", "other", "b")).await.unwrap(), Outcome::Done, "keys are each caller's own");
    assert_eq!(seat.store.remembered("p", "u", "k").await.unwrap().unwrap().answer, json!("a"));
    // A request that failed is not remembered.
    assert!(seat.store.change(ask("w", "h", "b")).await.is_err());
    assert_eq!(seat.store.remembered("p", "w", "k").await.unwrap(), None);
    seat.clock.forward(std::time::Duration::from_secs(49 * 3600));
    assert_eq!(seat.store.change(ask("u", "other", "c")).await.unwrap(), Outcome::Done, "forgotten after two days");
}

pub async fn a_change_asked_twice_is_done_once(desk: &Desk) {
    let seat = desk.open().await;
    let a = doc("p", "a");
    let change = Change::new(5).edit(Edit::insert(a.clone())).entry(line("test", a.id, 1));
    for _ in 0..3 {
        seat.store.ask(Request::Change(Box::new(change.clone()))).await.unwrap();
    }
    let history = EntryFilter { kind: "test".into(), about: Some(a.id.to_string()), ..EntryFilter::default() };
    assert_eq!(seat.store.entries(history).await.unwrap().len(), 1);
}

pub async fn a_deleted_document_takes_its_secret_and_history_but_not_its_audit(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let (a, b) = (doc("p", "a"), Document { kind: "connection".into(), ..doc("p", "b") });
    let links = vec![Link { role: "from".into(), to: a.id }];
    let made = Change::new(5)
        .edit(Edit::Insert { document: a.clone(), links: vec![], secret: Some(sealed("t")) })
        .edit(Edit::Insert { document: b.clone(), links, secret: None })
        .entry(line("test", a.id, 1))
        .entry(line(AUDIT, a.id, 1));
    store.change(made).await.unwrap();
    let a = store.document_by_id(a.id).await.unwrap().unwrap();
    assert!(a.has_secret);
    let who = store.linked(vec![a.id, b.id]).await.unwrap();
    assert_eq!((who.len(), who[0].by_name.as_deref(), who[0].role.as_str()), (1, Some("b"), "from"));
    let page = store.page_of_documents(DocumentFilter::of("connector", "p")).await.unwrap();
    assert_eq!((page.documents, page.linked, page.facets), (vec![a.clone()], who, vec![(String::new(), 1)]));
    assert_eq!(store.page_of_documents(DocumentFilter::of("connector", "q")).await.unwrap(), DocumentPage::default());

    store.change(Change::new(6).edit(Edit::delete(&a))).await.unwrap();
    store.change(Change::new(6).edit(Edit::delete(&a))).await.unwrap();
    assert_eq!(store.sealed(a.id).await.unwrap(), None);
    let of = async |kind: &str| store.entries(EntryFilter { kind: kind.into(), ..EntryFilter::default() }).await.unwrap().len();
    assert_eq!((of("test").await, of(AUDIT).await), (0, 1));
    assert_eq!(store.linked(vec![a.id]).await.unwrap().len(), 1, "who needs it still says so");
    let b = store.document_by_id(b.id).await.unwrap().unwrap();
    store.change(Change::new(7).edit(Edit::delete(&b))).await.unwrap();
    assert!(store.linked(vec![a.id]).await.unwrap().is_empty());
}

pub async fn a_history_keeps_its_newest(desk: &Desk) {
    let seat = desk.open().await;
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for n in 0..6 {
        seat.store.change(Change::new(n.into()).entry(line("test", a, n)).entry(line(AUDIT, b, n))).await.unwrap();
    }
    let about = EntryFilter { kind: "test".into(), about: Some(a.to_string()), limit: Some(2), ..EntryFilter::default() };
    let page = seat.store.entries(about.clone()).await.unwrap();
    let rest = seat.store.entries(EntryFilter { before: Some(page[1].seq), ..about.clone() }).await.unwrap();
    let seen: Vec<_> = page.iter().chain(&rest).map(|e| e.body.clone()).collect();
    assert_eq!(seen, [json!(5), json!(4), json!(3)]);
    let elsewhere = EntryFilter { project: Some("q".into()), ..about };
    assert!(seat.store.entries(elsewhere).await.unwrap().is_empty());
    assert_eq!(seat.store.forget_entries(AUDIT, 5).await.unwrap(), 2);
}

pub async fn a_secret_is_kept_set_turned_and_removed(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let a = put(store, doc("p", "a")).await;
    let update = async |version: u64, secret: SecretEdit| {
        let document = Document { version, ..a.clone() };
        store.change(Change::new(6).edit(Edit::Update { document, if_version: version - 1, links: None, secret })).await.unwrap();
        store.sealed(a.id).await.unwrap().map(|s| s.token)
    };
    assert_eq!(update(2, SecretEdit::Set(sealed("one"))).await.as_deref(), Some("one"));
    assert_eq!(update(3, SecretEdit::Keep).await.as_deref(), Some("one"));
    let turned = |was: &str, token: &str| Edit::Turn {
        id: a.id,
        was: was.into(),
        secret: Sealed { data_key: Uuid::from_u128(2), token: token.into() },
    };
    store.change(Change::new(6).edit(turned("stale", "never"))).await.unwrap();
    assert_eq!(store.sealed_under(Uuid::from_u128(1), None, 10).await.unwrap(), [(a.id, sealed("one"))]);
    store.change(Change::new(6).edit(turned("one", "two"))).await.unwrap();
    assert!(store.sealed_under(Uuid::from_u128(1), None, 10).await.unwrap().is_empty());
    assert!(store.sealed_under(Uuid::from_u128(2), Some(a.id), 10).await.unwrap().is_empty());
    assert_eq!(store.sealed(a.id).await.unwrap().unwrap().token, "two");
    assert_eq!(store.document_by_id(a.id).await.unwrap().unwrap().version, 3, "turning is no change of the document");
    let late = |token: Option<&str>| {
        Change::new(7).edit(Edit::ExpectSecret { id: a.id, token: token.map(str::to_owned) }).edit(turned("two", "three"))
    };
    for other in [Some("one"), None] {
        assert_eq!(store.change(late(other)).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(store.sealed(a.id).await.unwrap().unwrap().token, "two");
    }
    store.change(late(Some("two"))).await.unwrap();
    assert_eq!(store.sealed(a.id).await.unwrap().unwrap().token, "three");
    assert_eq!(update(4, SecretEdit::Remove).await, None);
    store.change(Change::new(8).edit(Edit::ExpectSecret { id: a.id, token: None })).await.unwrap();
}

pub async fn a_data_key_with_secrets_under_it_stays(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let key = put(store, Document { kind: "data_key".into(), name: None, ..doc("", "") }).await;
    let sealed = Sealed { data_key: key.id, token: "t".into() };
    let document = doc("p", "a");
    let made = Edit::Insert { document: document.clone(), links: vec![], secret: Some(sealed) };
    store.change(Change::new(5).edit(made).edit(Edit::Expect { id: key.id, version: 1 })).await.unwrap();
    assert_eq!(store.change(Change::new(6).edit(Edit::delete(&key))).await.unwrap_err().kind(), ErrorKind::Conflict);
    store.change(Change::new(6).edit(Edit::delete(&document)).edit(Edit::delete(&key))).await.unwrap();
    let late = Change::new(7).edit(Edit::insert(doc("p", "b"))).edit(Edit::Expect { id: key.id, version: 1 });
    assert_eq!(store.change(late).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// What a thief of the data dir would look for.
fn files_hold(desk: &Desk, text: &str) -> bool {
    let files = std::fs::read_dir(desk.path()).unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_file());
    files.filter_map(|p| std::fs::read(p).ok()).any(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
}

pub async fn an_erased_secret_is_in_no_file(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    // One that fits its page, and one that fills pages of its own.
    for (n, length) in [(1, 40), (2, 9000)] {
        let (old, new) = (format!("old-{n}-{}", "x".repeat(length)), format!("new-{n}-{}", "y".repeat(length)));
        let document = doc("p", &format!("a{n}"));
        let made = Edit::Insert { document: document.clone(), links: vec![], secret: Some(sealed(&old)) };
        store.change(Change::new(5).edit(made)).await.unwrap();
        let marks = [&old[..12], &new[..12]];
        assert!(files_hold(desk, marks[0]));
        let document = document.revised(&json!({}), 6).unwrap();
        let replace = Edit::Update { document: document.clone(), if_version: 1, links: None, secret: SecretEdit::Set(sealed(&new)) };
        store.change(Change { erase: true, ..Change::new(6).edit(replace) }).await.unwrap();
        assert_eq!(marks.map(|m| files_hold(desk, m)), [false, true]);
        store.change(Change { erase: true, ..Change::new(6).edit(Edit::delete(&document)) }).await.unwrap();
        assert_eq!(marks.map(|m| files_hold(desk, m)), [false, false]);
    }
}
