//! What only an object store can get wrong.

use linkspan_core::*;
use serde_json::json;

use crate::world::*;

#[tokio::test]
async fn a_bucket_that_answers_is_well() {
    let Some(world) = World::s3() else { return };
    assert!(world.connector(&Failpoints::default()).check().await.is_ok());
}

#[tokio::test]
async fn wrong_credentials_are_said_with_what_to_check() {
    for (field, value) in [("secret_access_key", "canary/wrong+secret"), ("access_key_id", "NOBODY")] {
        let Some(world) = World::s3() else { return };
        let world = world.with(field, value);
        let e = world.connector(&Failpoints::default()).check().await.err().unwrap();
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::AuthFailed, true), "{field}: {e:?}");
        assert!(!format!("{e:?}{}", e.to_json()).contains("canary"));
        let e = world.destination().recall(world.connection).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::AuthFailed);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said() {
    let Some(world) = World::s3() else { return };
    let e = world.with("path", "s3://no-such-bucket/x").connector(&Failpoints::default()).check().await.err().unwrap();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::NotFound, true), "{e:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let config = json!({"path": "s3://b/p", "endpoint": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "b"});
    let connector = connector_type().open(config, lent(Failpoints::default())).unwrap();
    let e = connector.check().await.err().unwrap();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::Unavailable, true), "{e:?}");
}

/// A server's connectors may reach less than a person's own command: nothing is sent, not even to ask for a name's address.
#[tokio::test]
async fn a_guarded_client_sends_nothing_to_an_internal_endpoint() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "0.0.0.0", "169.254.169.254"] {
        let endpoint = format!("http://{host}:{port}");
        let config =
            json!({"path": "s3://b/p", "endpoint": endpoint, "access_key_id": "a", "secret_access_key": "canary", "allow_http": true});
        let context = Context::real();
        let http = linkspan_http::client(linkspan_http::Policy::Guarded { allow: vec![] }, context.clock.clone());
        let connector = connector_type().open(config, Context { http, ..context }).unwrap();
        let e = connector.check().await.err().unwrap();
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::PermissionDenied, true), "{host}: {e:?}");
        assert!(e.message().contains("internal") && !format!("{e:?}").contains("canary"), "{e:?}");
    }
    assert!(listener.accept().is_err(), "somebody came");
}

#[tokio::test]
async fn a_server_without_tls_is_said_and_so_is_one_that_only_speaks_it() {
    let Some(world) = World::s3() else { return };
    let endpoint = world.config["endpoint"].as_str().unwrap().replace("http://", "https://");
    let e = world.with("endpoint", endpoint).connector(&Failpoints::default()).check().await.err().unwrap();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::Unavailable, true), "{e:?}");
}

#[tokio::test]
async fn a_file_of_many_parts_goes_up_and_comes_back() {
    let Some(world) = World::s3() else { return };
    let world = world.with("compression", "none").with("row_group_rows", 200_000);
    let stream = append("public.big");
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    for n in 0..20 {
        session.write(batch(&stream.stream, rows(n * 50_000..(n + 1) * 50_000))).await.unwrap();
    }
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    assert_eq!(world.ids(&stream.stream).await, (0..1_000_000).collect::<Vec<_>>());
}
