//! Parts of a stream that cannot work with each other: refused before anything is asked, as they would lose records without a word.

use jiff::Span;
use linkspan_core::Result;
use serde_json::Value;

use crate::{
    component::Component,
    cursor::duration,
    errors::{REDUCES, SPLITS, answers_with},
    jinja::Program,
    python::text,
};

/// A retriever and the stream that it belongs to.
pub(super) struct Parts<'c, 'a> {
    pub(super) retriever: &'c Component<'a>,
    pub(super) stream: &'c Component<'a>,
    pub(super) has_state: bool,
}

impl<'a> Parts<'_, 'a> {
    pub(super) fn check(&self) -> Result<()> {
        self.lazy()?;
        self.reduction()?;
        self.splitting()?;
        let limits = self.retriever.child("pagination_reset")?.map(|reset| reset.field("limits").is_some());
        let selector = self.retriever.child("record_selector")?;
        if limits == Some(true) && selector.is_some_and(|selector| selector.field("record_filter").is_some()) {
            return Err(self
                .retriever
                .error("limits of pagination_reset count records, which a record_filter leaves out")
                .fix("remove one"));
        }
        Ok(())
    }

    fn requester(&self) -> Result<Component<'a>> {
        self.retriever.required("requester")
    }

    /// The action and its settings belong together.
    fn pair(&self, field: &'static str, action: &'static str) -> Result<Option<Component<'a>>> {
        let settings = self.retriever.child(field)?;
        if settings.is_none() && answers_with(&self.requester()?, action) {
            let wrong = self.retriever.error("an error handler has an action that the retriever is not set up for");
            return Err(wrong.with("action", action).with("missing", field).fix(format!("add {field} to the retriever")));
        }
        Ok(settings)
    }

    fn has_properties(&self) -> Result<bool> {
        let requester = self.requester()?;
        let in_parameters = requester.field("request_parameters").and_then(Value::as_object);
        let in_parameters = in_parameters.is_some_and(|fields| fields.values().any(|value| value["type"] == "QueryProperties"));
        Ok(in_parameters || ["fetch_properties_from_endpoint", "query_properties"].iter().any(|field| requester.field(field).is_some()))
    }

    /// What asks for a page or a window again must not have handed on anything of it.
    fn asks_again(&self, settings: &Component<'_>) -> Result<()> {
        if self.has_properties()? {
            return Err(settings
                .error("a page that is read in several requests cannot be asked for again")
                .fix("remove the query properties"));
        }
        if self.stream.field("file_uploader").is_some() {
            return Err(settings.error("a stream with files cannot ask for a page again").fix("remove the file_uploader"));
        }
        Ok(())
    }

    fn reduction(&self) -> Result<()> {
        let Some(settings) = self.pair("page_size_reduction", REDUCES)? else { return Ok(()) };
        self.asks_again(&settings)?;
        let wrong = |message: &'static str| Err(settings.error(message));
        let paginator = self.retriever.child("paginator")?.filter(|paginator| paginator.kind() == "DefaultPaginator");
        let Some(paginator) = paginator else { return wrong("smaller pages need a DefaultPaginator") };
        if paginator.field("page_size_option").is_none() {
            return wrong("smaller pages need a page_size_option that asks for them");
        }
        if paginator.child("page_token_option")?.is_some_and(|option| option.kind() == "RequestPath") {
            return wrong("addresses of pages that the API makes hold the page size already");
        }
        let strategy = paginator.required("pagination_strategy")?;
        if !matches!(strategy.kind(), "OffsetIncrement" | "CursorPagination") {
            return Err(settings.error("numbered pages cannot become smaller on the way").fix("use OffsetIncrement or CursorPagination"));
        }
        let least = settings.integer("minimum_page_size")?.unwrap_or(1);
        let Some(size) = strategy.field("page_size") else { return wrong("smaller pages need a page_size that they are smaller than") };
        if text(size).trim().parse::<i64>().is_ok_and(|size| size <= least) {
            return wrong("the page_size is not above the least one, so it cannot be reduced");
        }
        let stop = strategy.field("stop_condition").map(text).and_then(|stop| Program::parse(&stop).ok());
        if stop.is_some_and(|stop| stop.ends_at_reduced_pages(least)) {
            return Err(strategy
                .error("the stop_condition takes a full page of a reduced size for the last one")
                .fix("compare last_page_size with page_size, the size that was asked for, or with 0"));
        }
        Ok(())
    }

    fn splitting(&self) -> Result<()> {
        let Some(settings) = self.pair("request_window_splitting", SPLITS)? else { return Ok(()) };
        let wrong = |message: &'static str| Err(settings.error(message));
        let sync = self.stream.child("incremental_sync")?.filter(|sync| sync.kind() == "DatetimeBasedCursor");
        let Some(sync) = sync else { return wrong("only the windows of a DatetimeBasedCursor can be split") };
        let Some(granularity) = sync.text("cursor_granularity")? else {
            return wrong("windows cannot be split without a cursor_granularity");
        };
        if sync.flag("is_client_side_incremental")? == Some(true) {
            return wrong("a stream that is filtered here asks for the same however its windows are split");
        }
        let unit = length(duration(granularity)?);
        if unit.is_some_and(|unit| unit <= 0) {
            return wrong("windows cannot be split with a cursor_granularity of nothing");
        }
        let finest = finest(sync.required_text("datetime_format")?);
        if unit.zip(finest).is_some_and(|(unit, finest)| unit < finest) {
            return wrong("the datetime_format cannot write what the cursor_granularity tells apart");
        }
        let least = settings.text("min_split_window")?.filter(|least| !least.is_empty());
        if let Some(least) = least
            && length(duration(least)?).is_none_or(|least| least <= 0)
        {
            return wrong("min_split_window must be a length of days, hours, minutes or seconds");
        }
        self.asks_again(&settings)
    }

    /// The first pages are those that parents bring along. A stream that goes on asks for its pages itself, and so does one whose
    /// router is one of a list, be it the only one.
    pub(super) fn reads_lazily(&self) -> Result<bool> {
        Ok(!self.has_state && self.is_lazy()?)
    }

    fn is_lazy(&self) -> Result<bool> {
        let Some(Value::Object(_)) = self.retriever.field("partition_router") else { return Ok(false) };
        let router = self.retriever.required("partition_router")?;
        let parents = if router.kind() == "SubstreamPartitionRouter" { router.children("parent_stream_configs")? } else { Vec::new() };
        Ok(parents.iter().any(|parent| parent.field("lazy_read_pointer").is_some_and(|pointer| pointer != &Value::Array(Vec::new()))))
    }

    /// Pages that parents bring along are read as they are.
    fn lazy(&self) -> Result<()> {
        if !self.is_lazy()? {
            return Ok(());
        }
        let requester = self.requester()?;
        for (field, action) in [("page_size_reduction", REDUCES), ("request_window_splitting", SPLITS)] {
            if self.retriever.field(field).is_some() || answers_with(&requester, action) {
                let wrong = self.retriever.error("pages that parents bring along cannot be asked for again");
                return Err(wrong.with("field", field).fix("remove it, or the parent's lazy_read_pointer"));
            }
        }
        if self.has_state {
            return Ok(());
        }
        if let Some(sync) = self.stream.child("incremental_sync")?
            && (sync.kind() != "DatetimeBasedCursor" || sync.field("step").is_some() || sync.field("cursor_granularity").is_some())
        {
            return Err(sync.error("a page that a parent brings along is one window of a DatetimeBasedCursor").fix("remove step"));
        }
        match self.retriever.child("decoder")?.filter(|decoder| decoder.kind() != "JsonDecoder") {
            Some(decoder) => Err(decoder.error("pages that parents bring along are JSON").fix("use JsonDecoder")),
            None => Ok(()),
        }
    }
}

/// Microseconds; none for months and years, which have no length of their own.
fn length(span: Span) -> Option<i128> {
    let has_months = span.get_months() != 0 || span.get_years() != 0;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    if has_months { None } else { span.to_duration(days).ok().map(|length| length.as_micros()) }
}

/// The shortest time, in microseconds, that a format tells apart; none for one that holds none of these.
fn finest(format: &str) -> Option<i128> {
    const SECOND: i128 = 1_000_000;
    let units = [
        ("%epoch_microseconds", 1),
        ("%s_as_float", 1),
        ("%f", 1),
        ("%_ms", 1_000),
        ("%ms", 1_000),
        ("%S", SECOND),
        ("%s", SECOND),
        ("%M", 60 * SECOND),
        ("%H", 3_600 * SECOND),
        ("%I", 3_600 * SECOND),
        ("%d", 86_400 * SECOND),
    ];
    units.into_iter().filter(|(directive, _)| format.contains(directive)).map(|(_, length)| length).min()
}
