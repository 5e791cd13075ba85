//! The simple retriever: one request a page, until the paginator says that there are no more.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{
    Order, Retriever, Stream,
    select::{Selected, Selector},
    watch::Watch,
};
use crate::{
    answer::Answer,
    ask::{Asked, Extra, Requester, Setting},
    component::Component,
    inject::{Inject, Merge, Part, combine},
    page::{PageEnd, Paginator},
    record::Record,
    slice::Slice,
    wiring::Build,
};

pub struct Simple {
    stream: String,
    requester: Requester,
    selector: Selector,
    paginator: Option<Paginator>,
    order: Arc<dyn Order>,
    is_data_feed: bool,
    /// Pages after the first are asked for without the slice's options.
    first_page_only: bool,
    build: Build,
}

impl Simple {
    pub fn build(component: &Component<'_>, stream: Stream<'_>, build: &Build) -> Result<Self> {
        let setting = Setting { name: stream.name };
        let selector = Selector::build(component, &stream, build)?;
        Ok(Self {
            requester: Requester::build(&component.required("requester")?, &setting, build)?,
            paginator: Paginator::build(component.child("paginator")?.as_ref(), &selector.decoder, build)?,
            selector,
            first_page_only: component.flag("ignore_stream_slicer_parameters_on_paginated_requests")?.unwrap_or(false),
            is_data_feed: stream.is_data_feed,
            order: stream.order,
            stream: stream.name.to_owned(),
            build: build.clone(),
        })
    }

    fn extra(&self, slice: &Slice, token: Option<&Value>) -> Result<Extra> {
        let part = |into| -> Result<Map<String, Value>> {
            let paged = self.paginator.as_ref().map_or_else(|| Ok(Map::new()), |p| p.options(into, token, None, &self.build))?;
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

    fn select(&self, answer: &Answer, slice: &Slice, token: &Value) -> Result<Selected> {
        if !answer.is_ok() {
            return Ok(Selected { records: Vec::new(), extracted: 0 });
        }
        self.selector.select(answer, slice, token)
    }

    /// The next token, unless this was the last page.
    fn next(&self, answer: &Answer, selected: &Selected, token: Option<&Value>, slice: &Slice) -> Result<Option<Value>> {
        let Some(paginator) = self.paginator.as_ref().filter(|_| answer.is_ok()) else { return Ok(None) };
        let last_record = selected.records.last();
        if self.is_data_feed
            && let Some(last) = last_record
            && !self.order.is_due(last, slice)?
        {
            return Ok(None);
        }
        let end = PageEnd {
            answer,
            decoder: &self.selector.decoder,
            emitted: selected.records.len(),
            extracted: selected.extracted,
            last_record,
            token,
            slice,
            size: None,
        };
        paginator.next(&end, &self.build)
    }

    /// A data feed's records that were read before are dropped once the paginator has seen them.
    fn due(&self, records: Vec<Record>, slice: &Slice) -> Result<Vec<Record>> {
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

impl Retriever for Simple {
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>> {
        let reading = Reading::new(self, slice);
        futures::stream::try_unfold(reading, |mut reading| async move { Ok(reading.page().await?.map(|records| (records, reading))) })
            .boxed()
    }
}

/// Where the reading of one slice stands.
struct Reading {
    retriever: Arc<Simple>,
    slices: VecDeque<Arc<Slice>>,
    token: Option<Value>,
    watch: Watch,
}

impl Reading {
    fn new(retriever: Arc<Simple>, slice: Arc<Slice>) -> Self {
        let mut reading = Self { retriever, slices: VecDeque::from([slice]), token: None, watch: Watch::default() };
        reading.begin();
        reading
    }

    fn begin(&mut self) {
        self.token = self.retriever.paginator.as_ref().and_then(Paginator::initial);
        self.watch = Watch::default();
    }

    async fn page(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(slice) = self.slices.front().cloned() else { return Ok(None) };
        let retriever = self.retriever.clone();
        let shown = self.token.as_ref().map_or(Value::Null, shown_token);
        let extra = retriever.extra(&slice, self.token.as_ref())?;
        let answer = match retriever.requester.ask(&slice, &shown, extra).await? {
            Asked::Answer(answer) => answer,
            Asked::ResetPagination | Asked::ReducePageSize(_) | Asked::SplitRequestWindow(_) => {
                return Err(
                    Error::new(ErrorKind::Unsupported, "this error handler's action is not built yet").with("stream", &retriever.stream)
                );
            }
        };
        let selected = retriever.select(&answer, &slice, &shown)?;
        let next = retriever.next(&answer, &selected, self.token.as_ref(), &slice)?;
        match next {
            Some(token) => {
                self.watch.see(&answer, &token, selected.extracted > 0).map_err(|e| e.with("stream", &retriever.stream))?;
                self.token = Some(token);
            }
            None => {
                self.slices.pop_front();
                self.begin();
            }
        }
        retriever.due(selected.records, &slice).map(Some)
    }
}

/// Templates see a token inside of an object.
fn shown_token(token: &Value) -> Value {
    let fields: Map<String, Value> = [("next_page_token".to_owned(), token.clone())].into_iter().collect();
    fields.into()
}
