//! The simple retriever: one request a page, until the paginator says that there are no more.

use std::sync::Arc;

use futures::stream::BoxStream;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{
    NoSchema, Order, Retriever, Schema, Stream, Unordered,
    files::Files,
    misuse::Parts,
    properties::Properties,
    reduce::Reduction,
    select::{Selected, Selector},
};
use crate::{
    answer::Answer,
    ask::{Asked, Extra, Requester, Setting},
    component::Component,
    extract::Lists,
    inject::{Inject, Merge, Part, combine},
    page::{PageEnd, Paginator},
    record::Record,
    slice::Slice,
    wiring::Build,
};

pub struct Simple {
    pub(super) stream: String,
    requester: Requester,
    pub(super) selector: Selector,
    pub(super) paginator: Option<Paginator>,
    pub(super) order: Arc<dyn Order>,
    schema: Arc<dyn Schema>,
    is_data_feed: bool,
    /// A sync that goes on asks for every page itself: what parents bring along may be from before.
    /// Parents bring the first pages along.
    reads_lazily: bool,
    /// Pages after the first are asked for without the slice's options.
    first_page_only: bool,
    pub(super) properties: Option<Properties>,
    pub(super) reduction: Option<Reduction>,
    pub(super) splitting: Option<Splitting>,
    pub(super) reset: Option<Reset>,
    files: Option<Files>,
    pub(super) build: Build,
}

/// Windows that are refused are read in smaller ones.
pub struct Splitting {
    pub at_least: Option<jiff::SignedDuration>,
    pub failure_message: String,
}

/// When paging begins anew.
pub struct Reset {
    /// After so many records.
    pub limit: Option<u64>,
    pub uses_cursor: bool,
}

impl Simple {
    pub fn build(component: &Component<'_>, stream: Stream<'_>, build: &Build) -> Result<Self> {
        let setting = Setting { name: stream.name };
        let parts = Parts { retriever: component, stream: stream.component, has_state: stream.has_state };
        parts.check()?;
        let lists = |c: &Component<'_>| -> Result<Arc<dyn Lists>> { Ok(Arc::new(WholeLists(Arc::new(whole_list(c, build)?)))) };
        let selector = Selector::build(component, &stream, &lists, build)?;
        reject_sums(component, &selector)?;
        let requester = component.required("requester")?;
        let files = stream.component.child("file_uploader")?.map(|c| Files::build(&c, stream.name, &lists, build)).transpose()?;
        Ok(Self {
            files,
            requester: Requester::build(&requester, &setting, build)?,
            paginator: Paginator::build(
                component.child("paginator")?.as_ref(),
                &selector.decoder,
                selector.extractor.names(build)?.as_deref(),
                build,
            )?,
            selector,
            first_page_only: component.flag("ignore_stream_slicer_parameters_on_paginated_requests")?.unwrap_or(false),
            properties: Properties::build(&requester, stream.name, build)?,
            reduction: component.child("page_size_reduction")?.map(|c| Reduction::build(&c)).transpose()?,
            splitting: component.child("request_window_splitting")?.map(|c| Splitting::build(&c)).transpose()?,
            reset: component.child("pagination_reset")?.map(|c| Reset::build(&c)).transpose()?,
            is_data_feed: stream.is_data_feed,
            reads_lazily: parts.reads_lazily()?,
            order: stream.order,
            schema: stream.schema,
            stream: stream.name.to_owned(),
            build: build.clone(),
        })
    }

    /// One request for a page of a slice. A lazily read parent brought the first page along.
    pub(super) async fn ask(&self, slice: &Slice, token: Option<&Value>, size: Option<i64>) -> Result<Asked> {
        if let (true, None, Some(brought)) = (self.reads_lazily, token, slice.extra().get("child_response")) {
            let body = serde_json::to_vec(brought).unwrap_or_default().into();
            return Ok(Asked::Answer(Arc::new(Answer::new(http::StatusCode::OK, http::HeaderMap::new(), "", body))));
        }
        let extra = self.extra(slice, token, size)?;
        self.requester.ask(slice, &shown(token), extra).await
    }

    fn extra(&self, slice: &Slice, token: Option<&Value>, size: Option<i64>) -> Result<Extra> {
        let part = |into| -> Result<Map<String, Value>> {
            let paged = self.paginator.as_ref().map_or_else(|| Ok(Map::new()), |p| p.options(into, token, size, &self.build))?;
            let sliced = if token.is_some() && self.first_page_only { Map::new() } else { self.order.options(into, slice)? };
            let merge = if into == Inject::BodyJson { Merge::SameIsFine } else { Merge::Distinct };
            match combine([Part::Fields(paged), Part::Fields(sliced)], merge)? {
                Part::Fields(fields) => Ok(fields),
                Part::Text(_) => Ok(Map::new()),
            }
        };
        Ok(Extra {
            path: self.paginator.as_ref().and_then(|p| p.path(token)),
            parameters: part(Inject::Parameter)?,
            headers: part(Inject::Header)?,
            data: part(Inject::BodyData)?,
            json: part(Inject::BodyJson)?,
        })
    }

    pub(super) async fn select(&self, answer: &Answer, slice: &Slice, token: Option<&Value>) -> Result<Selected> {
        if !answer.is_ok() {
            return Ok(Selected { records: Vec::new(), extracted: 0, broken: None });
        }
        let schema = if self.selector.normalises { Some(self.schema.schema().await?) } else { None };
        let mut selected = self.selector.select(answer, slice, &shown(token), schema.as_deref()).await?;
        let odd = selected.records.iter().position(|record| !record.is_object()).filter(|_| !self.schema.takes_anything());
        if let Some(at) = odd {
            selected.records.truncate(at);
            let broken = Error::new(ErrorKind::DataInvalid, "a record of the API is no object")
                .with("stream", &self.stream)
                .fix("check the extractor's field_path, or add a record_expander");
            selected.broken = Some(broken);
        }
        match &self.files {
            Some(files) => with_files(files, selected).await,
            None => Ok(selected),
        }
    }

    /// The next token, unless this was the last page.
    pub(super) fn next(&self, end: &PageEnd<'_>) -> Result<Option<Value>> {
        let Some(paginator) = self.paginator.as_ref().filter(|_| end.answer.is_ok()) else { return Ok(None) };
        if self.is_data_feed
            && let Some(last) = end.last_record
            && !self.order.is_due(last, end.slice)?
        {
            return Ok(None);
        }
        paginator.next(end, &self.build)
    }

    /// A data feed's records that were read before are dropped once the paginator has seen them.
    pub(super) fn due(&self, records: Vec<Record>, slice: &Slice) -> Result<Vec<Record>> {
        if !self.is_data_feed {
            return Ok(records);
        }
        let mut due = Vec::with_capacity(records.len());
        for record in records {
            if self.order.is_due(&record, slice)? {
                due.push(record);
            }
        }
        Ok(due)
    }
}

async fn with_files(files: &Files, mut selected: Selected) -> Result<Selected> {
    let mut whole = Vec::with_capacity(selected.records.len());
    for record in selected.records {
        match files.attached(record).await {
            Ok(record) => whole.push(record),
            Err(broken) => {
                selected.broken = Some(broken);
                break;
            }
        }
    }
    selected.records = whole;
    Ok(selected)
}

/// Offsets count records, and places that are added up overshoot.
fn reject_sums(component: &Component<'_>, selector: &Selector) -> Result<()> {
    let strategy = component.child("paginator")?.map(|p| p.child("pagination_strategy")).transpose()?.flatten();
    match strategy.filter(|s| s.kind() == "OffsetIncrement" && selector.extractor.adds_up()) {
        Some(strategy) => {
            Err(strategy.error("offsets cannot count the records of several places").fix("use mode first_match, or another pagination"))
        }
        None => Ok(()),
    }
}

/// Reads lists that were cut short, by a retriever of its own.
struct WholeLists(Arc<Simple>);

fn whole_list(component: &Component<'_>, build: &Build) -> Result<Simple> {
    for field in ["partition_router", "pagination_reset"] {
        if component.field(field).is_some() {
            return Err(component.error("the retriever of a whole list cannot have this").with("field", field));
        }
    }
    let nothing = Value::Object(Map::new());
    let stream = Stream {
        name: "record_expander_truncated_list",
        component: &Component::new(&nothing, component.path())?,
        order: Arc::new(Unordered),
        schema: Arc::new(NoSchema),
        is_client_side_incremental: false,
        is_data_feed: false,
        has_state: false,
    };
    Simple::build(component, stream, build)
}

impl Lists for WholeLists {
    fn of(&self, parent: &Value) -> BoxStream<'static, Result<Vec<Record>>> {
        let partition = [("parent_record".to_owned(), parent.clone())].into_iter().collect();
        self.0.clone().pages(Arc::new(Slice::of_partition(partition)))
    }
}

impl Splitting {
    fn build(component: &Component<'_>) -> Result<Self> {
        let at_least = component.text("min_split_window")?.map(|text| {
            let span: jiff::Span = text.parse().map_err(|e: jiff::Error| component.error("min_split_window is no duration").because(e))?;
            // Months have no length of their own here: thirty days, as nobody waits for windows of months to be refused.
            let days = jiff::SpanRelativeTo::days_are_24_hours();
            span.to_duration(days).map_err(|e| component.error("min_split_window is no duration of days and hours").because(e))
        });
        let failure_message = component.text("failure_message")?.unwrap_or_default().trim().to_owned();
        Ok(Self { at_least: at_least.transpose()?, failure_message })
    }
}

impl Reset {
    fn build(component: &Component<'_>) -> Result<Self> {
        let uses_cursor = match component.text("action")? {
            Some("RESET") => false,
            Some("SPLIT_USING_CURSOR") => true,
            _ => return Err(component.error("not an action of a reset").fix("use RESET or SPLIT_USING_CURSOR")),
        };
        let limit = component.child("limits")?.map(|c| c.integer("number_of_records")).transpose()?.flatten();
        Ok(Self { limit: limit.and_then(|l| u64::try_from(l).ok()), uses_cursor })
    }
}

/// Templates see a token inside of an object.
fn shown(token: Option<&Value>) -> Value {
    let Some(token) = token else { return Value::Null };
    let fields: Map<String, Value> = [("next_page_token".to_owned(), token.clone())].into_iter().collect();
    fields.into()
}
