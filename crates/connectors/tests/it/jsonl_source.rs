//! The suite of jsonl as a source.

use std::fmt::Write as _;

use async_trait::async_trait;
use linkspan_connectors::jsonl;
use linkspan_core::{ConnectorType, StreamName};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    source::{Mutated, Mutation, SourceHarness},
};
use serde_json::{Value, json};

struct Lines(tempfile::TempDir);

impl Lines {
    fn put(&self, stream: &str, before: &str, rows: &[StandardRow]) {
        let mut text = before.to_owned();
        for r in rows {
            let name = json!(r.name);
            let (amount, flag, at) = (r.amount(), r.flag, r.updated_at_text());
            writeln!(text, r#"{{"id":{},"name":{name},"amount":{amount},"flag":{flag},"updated_at":"{at}"}}"#, r.id).unwrap();
        }
        std::fs::write(self.0.path().join(format!("{stream}.jsonl")), text).unwrap();
    }
}

#[async_trait]
impl SourceHarness for Lines {
    fn connector_type(&self) -> ConnectorType {
        jsonl::connector_type()
    }
    fn config(&self) -> Value {
        json!({ "path": self.0.path() })
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn lacks(&self) -> Vec<&'static str> {
        vec![]
    }
    fn has_key(&self) -> bool {
        false
    }
    fn cursor(&self) -> Option<&'static str> {
        None
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        self.put(stream, "", rows);
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        let Mutation::Insert(rows) = mutation else { return Mutated::Unsupported };
        let before = std::fs::read_to_string(self.0.path().join(format!("{stream}.jsonl"))).unwrap();
        self.put(stream, &before, &rows);
        Mutated::Done
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![BadConfig::new(Case::Missing, json!({"path": self.0.path().join("no/such/folder/x.jsonl")}))]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jsonl_is_a_well_behaved_source() {
    let lines = Lines(tempfile::tempdir().unwrap());
    lines.seed("first", &[]).await;
    linkspan_testkit::source::suite(lines).await;
}
