//! The house's suites, on a folder and in a bucket.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use linkspan_core::{Body, ConnectorType, Context, Failpoints, Http, Result, StreamName, Target};
use linkspan_testkit::{
    BadConfig, Case, StandardRow, Table,
    destination::{self, DestinationHarness},
    rows::{standard_batch, standard_schema},
    source::{self, Mutated, Mutation, SourceHarness},
};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::properties::WriterProperties,
};
use serde_json::Value;

use crate::world::{World, connector_type, lent};

struct Harness {
    world: World,
    seeded: Mutex<BTreeMap<String, usize>>,
}

impl Harness {
    fn new(world: World) -> Self {
        if world.folder.is_some() {
            std::fs::create_dir_all(world.root()).unwrap();
        }
        Self { world, seeded: Mutex::default() }
    }

    /// The root by another way than the connector's.
    fn store(&self) -> Box<dyn ObjectStore> {
        let config = &self.world.config;
        let text = |field: &str| config[field].as_str().unwrap().to_owned();
        if self.world.folder.is_some() {
            return Box::new(LocalFileSystem::new_with_prefix(text("path")).unwrap());
        }
        let path = text("path");
        let (bucket, prefix) = path.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let store = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(text("endpoint"))
            .with_region("us-east-1")
            .with_access_key_id(text("access_key_id"))
            .with_secret_access_key(text("secret_access_key"))
            .with_allow_http(true);
        Box::new(PrefixStore::new(store.build().unwrap(), prefix))
    }

    async fn list(&self, folder: &str) -> Vec<Path> {
        let folder = Path::parse(folder).unwrap();
        let metas: Vec<_> = self.store().list(Some(&folder)).try_collect().await.unwrap();
        let mut paths: Vec<Path> = metas.into_iter().map(|m| m.location).collect();
        paths.sort();
        paths
    }

    async fn batches(&self, folder: &str) -> Vec<RecordBatch> {
        let mut batches = Vec::new();
        for path in self.list(folder).await.into_iter().filter(|p| p.as_ref().ends_with(".parquet")) {
            let bytes = self.store().get(&path).await.unwrap().bytes().await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            let schema = reader.schema().clone();
            let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
            batches.extend(if read.is_empty() { vec![RecordBatch::new_empty(schema)] } else { read });
        }
        batches
    }

    async fn put(&self, stream: &str, rows: &[StandardRow]) {
        let number = {
            let mut seeded = self.seeded.lock().unwrap();
            let number = seeded.entry(stream.to_owned()).or_default();
            *number += 1;
            *number
        };
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(300)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), standard_schema(), Some(properties)).unwrap();
        writer.write(&standard_batch(rows)).unwrap();
        let path = Path::parse(format!("suite/{stream}/{number:04}.parquet")).unwrap();
        self.store().put(&path, Bytes::from(writer.into_inner().unwrap()).into()).await.unwrap();
    }

    fn bad(&self) -> Vec<BadConfig> {
        if self.world.folder.is_some() {
            return vec![];
        }
        let with = |field: &str, value: &str| {
            let mut config = self.world.config.clone();
            config[field] = value.into();
            config
        };
        vec![
            BadConfig::new(Case::WrongPassword, with("secret_access_key", "not/the+secret/of/this/key")),
            BadConfig::new(Case::Unreachable, with("endpoint", "http://127.0.0.1:1")),
            BadConfig::new(Case::Missing, with("path", "s3://there-is-no-such-bucket/x")),
        ]
    }
}

/// The folder that docs.md promises for a name.
fn folder_of(target: &Target) -> String {
    let name = |text: &str| match text {
        "" => "%".to_owned(),
        text => {
            let encode = |(i, c): (usize, char)| match c {
                c if c.is_alphanumeric() || c == '-' || (i > 0 && (c == '_' || c == '.')) => c.to_string(),
                c => c.to_string().bytes().map(|b| format!("%{b:02X}")).collect(),
            };
            text.chars().enumerate().map(encode).collect()
        }
    };
    match &target.namespace {
        Some(ns) => format!("{}/{}", name(ns), name(&target.name)),
        None => name(&target.name),
    }
}

#[async_trait]
impl DestinationHarness for Harness {
    fn connector_type(&self) -> ConnectorType {
        connector_type()
    }
    fn config(&self) -> Value {
        self.world.config.clone()
    }
    fn context(&self, failpoints: Failpoints) -> Context {
        let context = lent(failpoints);
        Context { http: Arc::new(Completing(context.http.clone())), ..context }
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some("suite".into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        Table::from_batches(&self.batches(&folder_of(target)).await)
    }
    async fn staging_left(&self) -> Vec<String> {
        self.list("_linkspan/tmp").await.into_iter().map(|p| p.to_string()).collect()
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        let writer = ArrowWriter::try_new(Vec::new(), standard_schema(), None).unwrap();
        let path = Path::parse(format!("{}/theirs.parquet", folder_of(target))).unwrap();
        self.store().put(&path, Bytes::from(writer.into_inner().unwrap()).into()).await.unwrap();
        true
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        self.bad()
    }
    async fn cleanup(&self) {
        self.clean().await;
    }
}

#[async_trait]
impl SourceHarness for Harness {
    fn connector_type(&self) -> ConnectorType {
        connector_type()
    }
    fn config(&self) -> Value {
        self.world.config.clone()
    }
    fn context(&self) -> Context {
        lent(Failpoints::default())
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(Some("suite"), stream)
    }
    fn has_key(&self) -> bool {
        false
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        for path in self.list(&format!("suite/{stream}")).await {
            self.store().delete(&path).await.unwrap();
        }
        match rows {
            [] => self.put(stream, &[]).await,
            rows => {
                for part in rows.chunks(rows.len().div_ceil(3)) {
                    self.put(stream, part).await;
                }
            }
        }
    }
    /// Files are written once: what is new comes in a new one, and a changed row comes again in a new one.
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        match mutation {
            Mutation::Insert(rows) => {
                self.put(stream, &rows).await;
                Mutated::Done
            }
            _ => Mutated::Unsupported,
        }
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        self.bad()
    }
    async fn cleanup(&self) {
        self.clean().await;
    }
}

impl Harness {
    async fn clean(&self) {
        if self.world.folder.is_none() {
            let metas: Vec<_> = self.store().list(None).try_collect().await.unwrap();
            for meta in metas {
                self.store().delete(&meta.location).await.unwrap();
            }
        }
    }
}

/// S3 completes an upload as one step, also when its client goes away. The server of these tests forgets the upload first, writes the
/// object after it, and stops in between when the connection closes. So a completion is never cut off here, and nobody begins to ask meanwhile.
struct Completing(Arc<dyn Http>);

static COMPLETION: LazyLock<Arc<tokio::sync::Mutex<()>>> = LazyLock::new(Arc::default);

#[async_trait]
impl Http for Completing {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        let completes = request.method() == http::Method::POST && request.uri().query().is_some_and(|q| q.contains("uploadId="));
        if !completes {
            drop(COMPLETION.lock().await);
            return self.0.send(request).await;
        }
        let alone = COMPLETION.clone().lock_owned().await;
        let client = self.0.clone();
        let sent = tokio::spawn(async move {
            let answer = client.send(request).await;
            drop(alone);
            answer
        });
        sent.await.expect("sending does not panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_well_behaved_destination() {
    destination::suite(Harness::new(World::local())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_a_well_behaved_destination() {
    let Some(world) = World::s3() else { return };
    destination::suite(Harness::new(world)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_well_behaved_source() {
    source::suite(Harness::new(World::local())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_a_well_behaved_source() {
    let Some(world) = World::s3() else { return };
    source::suite(Harness::new(world)).await;
}
