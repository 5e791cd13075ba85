//! Where the reading of one slice stands: its windows, the page of now, and what was seen so far.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{Retriever, Tracker, properties::Merged, reduce::Reducer, simple::Simple, watch::Watch};
use crate::{
    answer::Answer,
    ask::Asked,
    page::{PageEnd, Paginator},
    record::Record,
    slice::Slice,
};

/// So often a window is split into smaller ones.
const DEEPEST: u32 = 10;

pub struct Reading {
    retriever: Arc<Simple>,
    /// Windows that are still to be read, and how often each was split.
    waiting: VecDeque<(Arc<Slice>, u32)>,
    now: Option<Window>,
    /// Why the page that was handed out last is not whole.
    broken: Option<Error>,
}

/// One window, page by page.
struct Window {
    whole: Arc<Slice>,
    slice: Arc<Slice>,
    depth: u32,
    token: Option<Value>,
    watch: Watch,
    reducer: Reducer,
    tracker: Option<Box<dyn Tracker>>,
    /// Records since paging began.
    count: u64,
    /// How often paging began anew without getting on.
    in_place: u32,
}

/// What one turn brought.
enum Turn {
    Page(Vec<Record>),
    /// Records, and why there are no more.
    Broken(Vec<Record>, Error),
    Again,
    Split(Option<String>),
}

/// A page: all of its answers, and what they hold.
struct Page {
    answer: Arc<Answer>,
    slice: Arc<Slice>,
    records: Vec<Record>,
    extracted: usize,
    broken: Option<Error>,
}

impl Retriever for Simple {
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>> {
        let reading = Reading::new(self, slice);
        futures::stream::try_unfold(reading, |mut reading| async move { Ok(reading.page().await?.map(|records| (records, reading))) })
            .boxed()
    }
}

impl Reading {
    pub fn new(retriever: Arc<Simple>, slice: Arc<Slice>) -> Self {
        Self { retriever, waiting: VecDeque::from([(slice, 0)]), now: None, broken: None }
    }

    /// The next page; `None` when the slice was read.
    pub async fn page(&mut self) -> Result<Option<Vec<Record>>> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        loop {
            if self.now.is_none() {
                let Some((slice, depth)) = self.waiting.pop_front() else { return Ok(None) };
                self.now = Some(Window::new(&self.retriever, slice, depth));
            }
            let Some(window) = self.now.as_mut() else { return Ok(None) };
            let (turn, is_last) = window.turn(&self.retriever).await?;
            match turn {
                Turn::Page(records) => {
                    let slice = window.slice.clone();
                    if is_last {
                        self.now = None;
                    }
                    return self.retriever.due(records, &slice).map(Some);
                }
                Turn::Broken(records, broken) => {
                    let slice = window.slice.clone();
                    self.now = None;
                    self.waiting.clear();
                    self.broken = Some(broken);
                    return self.retriever.due(records, &slice).map(Some);
                }
                Turn::Again => {}
                Turn::Split(why) => self.split(why)?,
            }
        }
    }

    fn split(&mut self, why: Option<String>) -> Result<()> {
        let Some(window) = self.now.take() else { return Ok(()) };
        let named = |message: &'static str| {
            let mut error = Error::new(ErrorKind::Unavailable, message).with("stream", &self.retriever.stream);
            if let Some(why) = &why {
                error = error.with("reason", why);
            }
            error
        };
        let Some(splitting) = &self.retriever.splitting else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the API refuses the window, and the stream does not split windows")
                .with("stream", &self.retriever.stream)
                .fix("add request_window_splitting to the retriever"));
        };
        if window.depth >= DEEPEST {
            return Err(named("the API refuses windows however often they are split").fix(splitting.failure_message.clone()));
        }
        let Some(smaller) = self.retriever.order.split(&window.slice, splitting.at_least)? else {
            return Err(named("the API refuses the smallest window").fix(splitting.failure_message.clone()));
        };
        for slice in smaller.into_iter().rev() {
            self.waiting.push_front((Arc::new(slice), window.depth + 1));
        }
        Ok(())
    }
}

impl Window {
    fn new(retriever: &Simple, slice: Arc<Slice>, depth: u32) -> Self {
        let uses_cursor = retriever.reset.as_ref().is_some_and(|r| r.uses_cursor);
        Self {
            whole: slice.clone(),
            slice,
            depth,
            token: retriever.paginator.as_ref().and_then(Paginator::initial),
            watch: Watch::default(),
            reducer: Reducer::default(),
            tracker: if uses_cursor { retriever.order.tracker() } else { None },
            count: 0,
            in_place: 0,
        }
    }

    /// One page, or a change of course; the flag says that the window was read.
    async fn turn(&mut self, retriever: &Simple) -> Result<(Turn, bool)> {
        let mut page = match self.fetch(retriever).await? {
            Ok(page) => page,
            Err(Asked::ReducePageSize(_)) => {
                let Some(by) = &retriever.reduction else {
                    return Err(Error::new(ErrorKind::ConfigInvalid, "the API wants smaller pages, and the stream does not reduce them")
                        .with("stream", &retriever.stream)
                        .fix("add page_size_reduction to the retriever"));
                };
                let configured = retriever.paginator.as_ref().map_or(Ok(None), |p| p.page_size(&retriever.build))?;
                if retriever.paginator.as_ref().is_some_and(|p| !p.may_shrink()) {
                    return Err(Error::new(ErrorKind::ConfigInvalid, "numbered pages cannot become smaller on the way")
                        .with("stream", &retriever.stream)
                        .fix("use OffsetIncrement or CursorPagination"));
                }
                let wait = self.reducer.reduce(by, configured).map_err(|e| e.with("stream", &retriever.stream))?;
                retriever.build.wait(wait).await;
                return Ok((Turn::Again, false));
            }
            Err(Asked::SplitRequestWindow(why)) => return Ok((Turn::Split(why), true)),
            Err(_) => {
                self.begin_anew(retriever)?;
                return Ok((Turn::Again, false));
            }
        };
        // The page is judged by the size that it was asked for with.
        let size = self.reducer.size;
        if let Some(by) = &retriever.reduction {
            self.reducer.succeeded(by);
        }
        self.observe(&page);
        if let Some(broken) = page.broken.take() {
            return Ok((Turn::Broken(page.records, broken), true));
        }
        match self.step(retriever, &page, size) {
            Ok(is_last) => Ok((Turn::Page(page.records), is_last)),
            // The page itself is whole, whatever comes of the next one.
            Err(broken) => Ok((Turn::Broken(page.records, broken), true)),
        }
    }

    fn observe(&mut self, page: &Page) {
        self.count += page.records.len() as u64;
        if let Some(tracker) = &mut self.tracker {
            page.records.iter().for_each(|record| tracker.observe(record, &page.slice));
        }
    }

    /// Goes on to the next page; whether there is none.
    fn step(&mut self, retriever: &Simple, page: &Page, size: Option<i64>) -> Result<bool> {
        if !page.answer.is_ok() {
            return Ok(true);
        }
        if retriever.reset.as_ref().and_then(|r| r.limit).is_some_and(|limit| self.count >= limit) {
            self.begin_anew(retriever)?;
            return Ok(false);
        }
        let end = PageEnd {
            answer: &page.answer,
            decoder: &retriever.selector.decoder,
            emitted: page.records.len(),
            extracted: page.extracted,
            last_record: page.records.last(),
            token: self.token.as_ref(),
            slice: &page.slice,
            size,
        };
        let Some(token) = retriever.next(&end)? else { return Ok(true) };
        self.watch.see(&page.answer, &token, page.extracted > 0).map_err(|e| e.with("stream", &retriever.stream))?;
        self.token = Some(token);
        Ok(false)
    }

    /// From the first page on, with the part of the window that is left where the cursor knows it.
    fn begin_anew(&mut self, retriever: &Simple) -> Result<()> {
        let reduced = self.tracker.as_ref().map(|tracker| tracker.reduced(&self.whole));
        let most = if self.tracker.is_some() { 1 } else { 2 };
        match reduced.filter(|slice| *slice != *self.slice) {
            Some(slice) => {
                self.slice = Arc::new(slice);
                self.in_place = 0;
            }
            None => {
                self.in_place += 1;
                if self.in_place >= most {
                    return Err(Error::new(ErrorKind::DataInvalid, "paging begins anew and anew at the same place")
                        .with("stream", &retriever.stream)
                        .fix("check pagination_reset and the cursor's field"));
                }
            }
        }
        self.count = 0;
        self.watch = Watch::default();
        self.token = retriever.paginator.as_ref().and_then(Paginator::initial);
        Ok(())
    }

    async fn fetch(&mut self, retriever: &Simple) -> Result<Result<Page, Asked>> {
        let Some(properties) = &retriever.properties else { return self.one(retriever, self.slice.clone()).await };
        let mut merged = Merged::default();
        let mut whole: Option<Page> = None;
        for slice in properties.slices(&self.slice).await? {
            let page = match self.one(retriever, Arc::new(slice)).await? {
                Ok(page) => page,
                Err(other) => return Ok(Err(other)),
            };
            if let Some(broken) = page.broken {
                return Err(broken);
            }
            let mut alone = whole.take().map(|w| w.records).unwrap_or_default();
            for record in page.records {
                match properties.merge_key(&record) {
                    Some(key) => merged.add(key, record),
                    None => alone.push(record),
                }
            }
            whole = Some(Page { records: alone, ..page });
        }
        let mut page = whole.ok_or_else(|| Error::new(ErrorKind::Internal, "a request has no properties at all"))?;
        page.records.extend(merged.records());
        Ok(Ok(page))
    }

    async fn one(&mut self, retriever: &Simple, slice: Arc<Slice>) -> Result<Result<Page, Asked>> {
        let token = self.token.as_ref();
        match retriever.ask(&slice, token, self.reducer.size).await? {
            Asked::Answer(answer) => {
                let selected = retriever.select(&answer, &slice, token).await?;
                Ok(Ok(Page { answer, slice, records: selected.records, extracted: selected.extracted, broken: selected.broken }))
            }
            other => Ok(Err(other)),
        }
    }
}
