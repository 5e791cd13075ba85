use std::{sync::Arc, time::Duration};

use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{Atomic, Cadence, Visible};

use super::*;

fn stream(name: &str, columns: &[&str], key: &[&str], cursor: Cursor) -> Stream {
    let fields: Vec<Field> = columns.iter().map(|c| Field::new(*c, DataType::Int64, true)).collect();
    Stream {
        name: StreamName::parse(name),
        schema: Arc::new(Schema::new(fields)),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        cursor,
        estimated_rows: None,
        estimated_bytes: None,
    }
}
fn columns(names: &[&str]) -> Cursor {
    Cursor::Columns(names.iter().map(|n| (*n).to_owned()).collect())
}
fn shop() -> Vec<Stream> {
    vec![
        stream("public.orders", &["id", "total", "updated_at"], &["id"], columns(&["id", "updated_at"])),
        stream("public.lines", &["order_id", "n"], &[], columns(&["order_id"])),
        stream("audit.orders", &["at"], &[], Cursor::SourceDefined),
        stream("audit.log", &["at"], &[], Cursor::None),
    ]
}
fn can(modes: &[WriteMode]) -> Capability {
    Capability {
        modes: modes.to_vec(),
        atomic: Atomic::Session,
        transactional_ddl: true,
        commit_visible: Visible::Atomic,
        fences: true,
        add_column: true,
        widen_column: true,
        drop_not_null: true,
        specials: false,
        deletes: true,
        parallel: true,
        advice: Cadence { rows: 1, bytes: 1, age: Duration::ZERO },
    }
}
fn everything() -> Capability {
    can(&[WriteMode::Append, WriteMode::Replace, WriteMode::Merge])
}
fn request(streams: &[&str]) -> Request {
    Request { streams: streams.iter().map(|s| Choice::from(*s)).collect(), ..Request::default() }
}
fn made(request: &Request) -> Plan {
    plan(&shop(), request, &everything()).unwrap()
}
fn refused(request: &Request) -> Error {
    plan(&shop(), request, &everything()).unwrap_err()
}
fn one(request: &Request) -> Assignment {
    made(request).assignments.remove(0)
}

#[test]
fn nothing_said_means_every_stream_in_full_replacing_what_stands() {
    let plan = made(&Request::default());
    assert_eq!(plan.assignments.len(), 4);
    assert!(plan.notes.is_empty());
    for a in &plan.assignments {
        assert_eq!((a.selected.read, a.write, a.selected.repeats), (ReadMode::Full, WriteMode::Replace, Repeats::Kept));
        assert_eq!(a.target, Target::from(&a.selected.stream.name), "the source's own names");
    }
    assert_eq!(plan.assignments[0].key, ["id"]);
}

#[test]
fn a_name_in_two_namespaces_has_to_be_said_in_full() {
    let e = refused(&request(&["orders"]));
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    assert!(e.suggested_fix().unwrap().contains("public.orders, audit.orders"), "{e:?}");
    assert_eq!(made(&request(&["public.orders"])).assignments.len(), 1);
    assert_eq!(made(&request(&["*.orders"])).assignments.len(), 2);
    assert_eq!(made(&request(&["lines", "public.*"])).assignments.len(), 2, "named twice is taken once");
}

#[test]
fn an_unknown_stream_is_answered_with_the_nearest() {
    let e = refused(&request(&["public.order"]));
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::NotFound, Some("did you mean \"public.orders\"?")));
    assert_eq!(refused(&request(&["nothing_like_it.*"])).kind(), ErrorKind::NotFound);
    assert_eq!(plan(&[], &Request::default(), &everything()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn incremental_finds_its_cursor_or_says_that_there_is_none() {
    let incremental = |streams: &[&str]| Request { mode: Some(ReadMode::Incremental), ..request(streams) };
    let a = one(&incremental(&["public.orders"]));
    assert_eq!((a.selected.read, a.selected.cursor.as_deref(), a.write), (ReadMode::Incremental, Some("updated_at"), WriteMode::Merge));
    assert_eq!((a.selected.repeats, a.key), (Repeats::Folded, vec!["id".to_owned()]));
    let a = one(&incremental(&["audit.orders"]));
    assert_eq!(
        (a.selected.read, a.selected.cursor, a.write),
        (ReadMode::Incremental, None, WriteMode::Append),
        "the source's own, keyless"
    );
    for without in ["public.lines", "audit.log"] {
        let plan = made(&incremental(&[without]));
        assert_eq!((plan.assignments[0].selected.read, plan.assignments[0].write), (ReadMode::Full, WriteMode::Replace));
        assert!(plan.notes[0].contains(without), "{:?}", plan.notes);
    }
}

#[test]
fn a_cursor_that_cannot_be_is_refused_with_the_nearest() {
    let cursor =
        |stream, cursor: &str| Request { mode: Some(ReadMode::Incremental), cursor: Some(cursor.to_owned()), ..request(&[stream]) };
    assert_eq!(one(&cursor("public.orders", "id")).selected.cursor.as_deref(), Some("id"));
    let e = refused(&cursor("public.orders", "updatd_at"));
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some("did you mean \"updated_at\"?")));
    let e = refused(&cursor("public.orders", "total"));
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    assert!(e.suggested_fix().unwrap().contains("updated_at"), "{e:?}");
    assert_eq!(refused(&cursor("audit.log", "at")).kind(), ErrorKind::Unsupported);
}

#[test]
fn a_write_that_cannot_be_is_refused_before_any_row() {
    let replace_changes = Request { mode: Some(ReadMode::Incremental), write: Some(WriteMode::Replace), ..request(&["public.orders"]) };
    assert_eq!(refused(&replace_changes).kind(), ErrorKind::ConfigInvalid);
    let keyless = Request { write: Some(WriteMode::Merge), ..request(&["public.lines"]) };
    assert!(refused(&keyless).suggested_fix().unwrap().contains("--key"));
    let keyed = Request { key: vec!["order_id".into(), "n".into()], ..keyless.clone() };
    assert_eq!(one(&keyed).key, ["order_id", "n"]);
    let misspelt = Request { key: vec!["orderid".into()], ..keyless };
    assert_eq!(refused(&misspelt).suggested_fix(), Some("did you mean \"order_id\"?"));
    let e = plan(&shop(), &keyed, &can(&[WriteMode::Append])).unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::Unsupported, Some("use --write append")));
}

#[test]
fn a_destination_that_only_appends_is_appended_to_and_it_is_said() {
    let plan = plan(&shop(), &request(&["public.orders"]), &can(&[WriteMode::Append])).unwrap();
    assert_eq!((plan.assignments[0].write, plan.assignments[0].key.len()), (WriteMode::Append, 0));
    assert!(plan.notes[0].contains("cannot replace"));
    let incremental = Request { mode: Some(ReadMode::Cdc), ..request(&["public.orders"]) };
    let plan = super::plan(&shop(), &incremental, &can(&[WriteMode::Append])).unwrap();
    assert_eq!(plan.assignments[0].write, WriteMode::Append);
    assert!(plan.notes[0].contains("cannot merge"));
}

#[test]
fn a_name_in_full_means_its_stream_whatever_others_are_called() {
    let mut streams = shop();
    streams.push(stream("log", &["at"], &[], Cursor::None));
    let planned = plan(&streams, &request(&["log"]), &everything()).unwrap();
    let chosen: Vec<String> = planned.assignments.iter().map(|a| a.selected.stream.name.to_string()).collect();
    assert_eq!(chosen, ["log"]);
    let e = plan(&streams, &request(&["orders"]), &everything()).unwrap_err();
    assert_eq!(e.message(), "several streams have this name");
}

#[test]
fn a_target_is_a_table_for_one_stream_and_a_schema_for_several() {
    let to = |streams: &[&str], target: &str| Request { target: Some(target.to_owned()), ..request(streams) };
    let shown = |request: &Request| made(request).assignments.iter().map(|a| a.target.to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&to(&["public.orders"], "lake.sales")), ["lake.sales"]);
    assert_eq!(shown(&to(&["public.orders"], "sales")), ["sales"]);
    assert_eq!(shown(&to(&["public.orders"], "lake.*")), ["lake.orders"]);
    for schema in ["lake.*", "lake.", "lake"] {
        assert_eq!(shown(&to(&["public.*"], schema)), ["lake.orders", "lake.lines"], "{schema}");
    }
    assert_eq!(refused(&to(&["public.*"], "lake.sales")).kind(), ErrorKind::ConfigInvalid);
    let e = refused(&to(&["*.orders"], "lake"));
    assert_eq!((e.kind(), e.message()), (ErrorKind::ConfigInvalid, "two streams would be written to one target"));
}

#[test]
fn a_stream_may_have_a_cursor_a_key_and_a_target_of_its_own() {
    let text = r#"{"mode": "incremental", "target": "lake.*", "streams": [
        "audit.*", {"name": "public.*", "write": "append"},
        {"name": "public.orders", "cursor": "id", "write": "merge", "target": "raw.sales"}, {"name": "lines", "cursor": "order_id"}]}"#;
    let request: Request = serde_json::from_str(text).unwrap();
    let again: Request = serde_json::from_value(serde_json::to_value(&request).unwrap()).unwrap();
    assert_eq!(again, request, "what is stored of it says the same");
    let plan = made(&request);
    let said: Vec<_> = plan
        .assignments
        .iter()
        .map(|a| (a.selected.stream.name.to_string(), a.selected.read, a.selected.cursor.clone(), a.write, a.target.to_string()))
        .collect();
    let row = |name: &str, read, cursor: Option<&str>, write, target: &str| {
        (name.to_owned(), read, cursor.map(str::to_owned), write, target.to_owned())
    };
    assert_eq!(
        said,
        [
            row("public.orders", ReadMode::Incremental, Some("id"), WriteMode::Merge, "raw.sales"),
            row("public.lines", ReadMode::Incremental, Some("order_id"), WriteMode::Append, "lake.lines"),
            row("audit.orders", ReadMode::Incremental, None, WriteMode::Append, "lake.orders"),
            row("audit.log", ReadMode::Full, None, WriteMode::Replace, "lake.log"),
        ]
    );
    let unknown = serde_json::from_str::<Request>(r#"{"streams": [{"name": "a", "cursr": "x"}]}"#).unwrap_err();
    assert!(unknown.to_string().contains("cursr"), "{unknown}");
}
