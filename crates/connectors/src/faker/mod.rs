//! A deterministic source of customers and orders for demos, benches and tests: rows are computed, never stored.

mod lane;
mod rounds;
mod rows;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Cursor, Error, ErrorKind, Lane, Position, Result, Role, Scope, Selected, Source, Spec,
    Stream, StreamName, UrlForm,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use self::{
    lane::FakerLane,
    rounds::{Kind, Table},
};

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "faker".into(),
        title: "Faker".into(),
        docs: include_str!("docs.md").into(),
        roles: vec![Role::Source],
        example: json!({"customers": 1000, "orders": 4000, "seed": 7}),
        url: Some(UrlForm { schemes: &["faker"], extensions: &[], config: crate::url_config::<FakerConfig> }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: FakerConfig, _: Context| Faker::open(config))
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FakerConfig {
    /// The same seed makes the same rows, on any machine.
    #[serde(default = "FakerConfig::seed")]
    seed: u64,
    /// How many customers the initial load has.
    #[serde(default = "FakerConfig::customers")]
    customers: u64,
    /// How many orders the initial load has.
    #[serde(default = "FakerConfig::orders")]
    orders: u64,
    /// Each later incremental read inserts and updates one row in this many, and deletes one in five times as many. 0: nothing ever changes.
    #[serde(default = "FakerConfig::change_every")]
    change_every: u64,
    /// How many rounds of changes there are; without it every incremental read brings one more.
    rounds: Option<u64>,
    /// The namespace of the streams, for instance `shop`; none by default.
    namespace: Option<String>,
}

impl FakerConfig {
    fn seed() -> u64 {
        7
    }
    fn customers() -> u64 {
        200_000
    }
    fn orders() -> u64 {
        800_000
    }
    fn change_every() -> u64 {
        100
    }
}

/// The most rows a stream may start with, so that identifiers and sequence numbers never overflow.
const MOST_ROWS: u64 = 1 << 40;

#[derive(Clone)]
struct Faker {
    config: Arc<FakerConfig>,
}

impl Faker {
    fn open(config: FakerConfig) -> Result<Self> {
        for (field, value) in [("customers", config.customers), ("orders", config.orders), ("change_every", config.change_every)] {
            if value > MOST_ROWS {
                return Err(Error::new(ErrorKind::ConfigInvalid, "the number is too large")
                    .with("field", field)
                    .fix(format!("give at most {MOST_ROWS}")));
            }
        }
        Ok(Self { config: Arc::new(config) })
    }
    fn table(&self, kind: Kind) -> Table {
        let c = &self.config;
        let rows = match kind {
            Kind::Customers => c.customers,
            Kind::Orders => c.orders,
        };
        Table::new(kind, c.seed, rows, c.change_every, c.customers)
    }
    fn stream(&self, kind: Kind) -> Stream {
        Stream {
            name: StreamName::new(self.config.namespace.as_deref(), kind.name()),
            schema: rows::schema(kind),
            key: vec!["id".into()],
            cursor: Cursor::SourceDefined,
            estimated_rows: Some(self.table(kind).initial()),
            estimated_bytes: None,
        }
    }
    fn lane(&self, selected: &Selected, from: &Position) -> Result<FakerLane> {
        let name = &selected.stream.name;
        let kind = Kind::ALL.into_iter().find(|k| self.stream(*k).name == *name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the faker has no such stream").with("stream", name).fix("it has `customers` and `orders`")
        })?;
        let state = from.get(&Scope::Stream(name.clone()));
        FakerLane::new(name.clone(), self.table(kind), self.config.rounds, selected.read, state)
    }
}

#[async_trait]
impl Connector for Faker {
    async fn check(&self) -> Result<Checked> {
        Ok(Checked { streams: Some(Kind::ALL.len()), latency: Duration::ZERO, ..Checked::default() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Source for Faker {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(Kind::ALL.map(|k| self.stream(k)).into())
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        futures::stream::iter(selected).map(move |s| Ok(Box::new(self.lane(&s, &from)?) as Box<dyn Lane>)).boxed()
    }
}
