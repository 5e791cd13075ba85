//! The strategies: offsets, page numbers, cursors.

use std::borrow::Cow;

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::{
    answer::Answer,
    component::Component,
    decode::Decoder,
    jinja::Program,
    looks, page_text,
    record::Record,
    slice::Slice,
    template::{Condition, Template},
    truth::is_true,
    wiring::Build,
};

/// How a page ended.
pub struct PageEnd<'a> {
    pub answer: &'a Answer,
    pub decoder: &'a Decoder,
    /// Records that were handed on.
    pub emitted: usize,
    /// Records that the extractor found: filters do not make a page look short.
    pub extracted: usize,
    pub last_record: Option<&'a Record>,
    /// The token that this page was asked for with.
    pub token: Option<&'a Value>,
    pub slice: &'a Slice,
    /// The size that was asked for, where it is not the configured one.
    pub size: Option<i64>,
}

pub enum Strategy {
    Offset { size: Option<Size>, injects_first: bool },
    Page { size: Option<i64>, start: i64, injects_first: bool },
    Cursor(Cursor),
}

pub enum Size {
    Fixed(i64),
    Told(Template),
}

impl Strategy {
    pub fn build(component: &Component<'_>, records: Option<&[String]>, build: &Build) -> Result<Self> {
        let injects_first = component.flag("inject_on_first_request")?.unwrap_or(false);
        match component.kind() {
            "OffsetIncrement" => Ok(Self::Offset { size: size(component)?, injects_first }),
            "PageIncrement" => {
                let start = component.integer("start_from_page")?.unwrap_or(0);
                Ok(Self::Page { size: fixed_size(component, build)?, start, injects_first })
            }
            "CursorPagination" => Cursor::build(component, records, build).map(Self::Cursor),
            _ => Err(component.unknown_kind()),
        }
    }

    pub fn initial(&self) -> Option<Value> {
        match self {
            Self::Offset { injects_first: true, .. } => Some(0.into()),
            Self::Page { injects_first: true, start, .. } => Some((*start).into()),
            _ => None,
        }
    }

    pub fn may_shrink(&self) -> bool {
        !matches!(self, Self::Page { .. })
    }

    pub fn page_size(&self, build: &Build) -> Result<Option<i64>> {
        match self {
            Self::Page { size, .. } | Self::Cursor(Cursor { size, .. }) => Ok(*size),
            Self::Offset { size: None, .. } => Ok(None),
            Self::Offset { size: Some(Size::Fixed(size)), .. } => Ok(Some(*size)),
            Self::Offset { size: Some(Size::Told(template)), .. } => whole(&template.value(&build.scope())?).map(Some),
        }
    }

    pub fn next(&self, end: &PageEnd<'_>, build: &Build) -> Result<Option<Value>> {
        let count = end.extracted as i64;
        match self {
            Self::Offset { size, .. } => {
                let size = match (end.size, size) {
                    (Some(size), _) => Some(size),
                    (None, Some(Size::Fixed(size))) => Some(*size),
                    (None, Some(Size::Told(template))) => {
                        let response = end.decoder.first(end.answer)?;
                        let value = template.value(&build.scope().response(&response))?;
                        if is_true(&value) { Some(whole(&value)?) } else { None }
                    }
                    (None, None) => None,
                };
                if is_last(count, size) {
                    return Ok(None);
                }
                let at = end.token.map_or(Ok(0), place)?;
                Ok(Some(at.saturating_add(count).into()))
            }
            Self::Page { size, start, .. } => {
                if is_last(count, *size) {
                    return Ok(None);
                }
                let at = end.token.map_or(Ok(*start), place)?;
                Ok(Some(at.saturating_add(1).into()))
            }
            Self::Cursor(cursor) => cursor.next(end, build),
        }
    }
}

fn is_last(count: i64, size: Option<i64>) -> bool {
    count == 0 || size.is_some_and(|size| size != 0 && count < size)
}

/// The next page is what a template says.
pub struct Cursor {
    value: Template,
    stop: Option<Condition>,
    size: Option<i64>,
    /// The way to the records, where no template looks at them: that part of a page need not be read.
    unread: Option<Vec<String>>,
}

impl Cursor {
    fn build(component: &Component<'_>, records: Option<&[String]>, build: &Build) -> Result<Self> {
        let sources = ["cursor_value", "stop_condition"].into_iter().filter_map(|field| component.field(field));
        let looks_away = |path: &[String]| sources.clone().all(|source| looks::avoids(&crate::python::text(source), path));
        let size = fixed_size(component, build)?;
        let names_size = |field: &&str| {
            let text = component.field(field).map(crate::python::text);
            text.and_then(|text| Program::parse(&text).ok()).is_some_and(|program| program.names_page_size())
        };
        if size.is_none()
            && let Some(field) = ["stop_condition", "cursor_value"].iter().find(|field| names_size(field))
        {
            return Err(component
                .error("a template looks at page_size, and the pagination has none")
                .with("field", *field)
                .fix("add page_size to the pagination strategy"));
        }
        Ok(Self {
            value: component.required_template("cursor_value")?,
            stop: component.condition("stop_condition")?,
            size,
            unread: records.filter(|path| !path.is_empty() && looks_away(path)).map(<[String]>::to_vec),
        })
    }

    fn next(&self, end: &PageEnd<'_>, build: &Build) -> Result<Option<Value>> {
        let outline = self
            .unread
            .as_ref()
            .filter(|_| matches!(end.decoder, Decoder::Json))
            .and_then(|path| page_text::outline(&end.answer.body, path));
        let response = match outline {
            Some(outline) => Cow::Owned(outline),
            None => end.decoder.first(end.answer)?,
        };
        let headers = end.answer.headers_with_links();
        let last = end.last_record.map(Record::value);
        let size = end.size.or(self.size).map_or(Value::Null, Value::from);
        let scope = build
            .scope()
            .response(&response)
            .headers(&headers)
            .last_record(last.as_deref().unwrap_or(&Value::Null))
            .last_page_size(end.emitted as i64)
            .with("page_size", &size)
            .slice(end.slice);
        if let Some(stop) = &self.stop
            && stop.eval(&scope)?
        {
            return Ok(None);
        }
        self.value.value(&scope).map(Some)
    }
}

/// A page size as written: digits are a number, anything else is a template.
fn size(component: &Component<'_>) -> Result<Option<Size>> {
    match component.field("page_size") {
        None => Ok(None),
        Some(Value::Number(_)) => Ok(component.integer("page_size")?.map(Size::Fixed)),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(text.parse().ok().map(Size::Fixed)),
        Some(_) => Ok(component.template("page_size")?.map(Size::Told)),
    }
}

fn fixed_size(component: &Component<'_>, build: &Build) -> Result<Option<i64>> {
    match size(component)? {
        None => Ok(None),
        Some(Size::Fixed(size)) => Ok(Some(size)),
        Some(Size::Told(template)) => {
            whole(&template.value(&build.scope())?).map(Some).map_err(|_| component.error("page_size is no whole number"))
        }
    }
}

fn whole(value: &Value) -> Result<i64> {
    value.as_i64().ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, "page_size is no whole number"))
}

fn place(token: &Value) -> Result<i64> {
    token.as_i64().ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the last page's token is no whole number"))
}
