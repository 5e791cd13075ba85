//! The laws of a store (suite K), told once for every driver and every way to it.

use linkspan_core::ErrorKind;
use linkspan_store::NewConnection;
use serde_json::json;
use uuid::Uuid;

use crate::Desk;

pub fn named(name: &str) -> NewConnection {
    NewConnection { name: name.into(), id: None, from: "a:".into(), to: "b:".into(), spec: json!({"n": name}) }
}

pub async fn connections_are_found_by_name_or_id_and_made_once(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let made = store.connection(named("x")).await.unwrap();
    assert_eq!(store.connection(named("x")).await.unwrap(), made);
    let moved = store.connection(NewConnection { to: "c:".into(), ..named("x") }).await.unwrap();
    assert_eq!((moved.id, moved.to.as_str()), (made.id, "c:"));
    let renamed = store.connection(NewConnection { id: Some(made.id.0), ..named("y") }).await.unwrap();
    assert_eq!((renamed.id, renamed.name.as_str()), (made.id, "y"));
    assert_eq!(store.find("x").await.unwrap(), None);
    let id = Uuid::now_v7();
    let own = store.connection(NewConnection { id: Some(id), ..named("z") }).await.unwrap();
    assert_eq!(own.id.0, id);
    let taken = store.connection(NewConnection { id: Some(Uuid::now_v7()), ..named("z") }).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    assert_eq!(store.connections().await.unwrap().iter().map(|c| c.name.clone()).collect::<Vec<_>>(), ["y", "z"]);
    store.delete_connection(id_of(&own)).await.unwrap();
    store.delete_connection(id_of(&own)).await.unwrap();
    assert_eq!(store.get(own.id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

fn id_of(record: &linkspan_store::ConnectionRecord) -> linkspan_core::ConnectionId {
    record.id
}
