//! A stream's cursor from its manifest, its config and its state.

use std::sync::{Arc, Mutex};

use jiff::{Span, civil::Weekday};
use linkspan_core::{Clock, Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{At, Clamping, Counting, Cursor, Dates, Definition, Ends, MinMax, Partitioned, Ranged, duration};
use crate::{component::Component, protocol::ConfiguredCatalog, template::Scope, truth::is_true};

/// What a cursor is made from, beside its component.
pub struct Asked<'a> {
    pub stream: &'a str,
    pub config: Arc<Value>,
    pub clock: Arc<dyn Clock>,
    pub catalog: Option<&'a ConfiguredCatalog>,
    pub state: Map<String, Value>,
    /// The stream has a partition router.
    pub is_partitioned: bool,
    /// Its router makes groups, which have no position of their own.
    pub is_grouped: bool,
}

/// `incremental`: the stream's `incremental_sync`, if it has one.
pub fn build(incremental: Option<&Component<'_>>, asked: Asked<'_>) -> Result<Cursor> {
    let Some(component) = incremental else { return Ok(Cursor::Whole) };
    match component.kind() {
        "DatetimeBasedCursor" => {
            let definition = Arc::new(definition(component, &asked)?);
            if !asked.is_partitioned {
                return Ranged::new(definition, asked.state).map(Cursor::Ranged);
            }
            let is_global = asked.is_grouped || component.flag("global_substream_cursor")?.unwrap_or(false);
            Partitioned::new(definition, asked.state, is_global).map(Cursor::Partitioned)
        }
        "IncrementingCountCursor" if asked.is_partitioned => {
            Err(component.error("a counting cursor cannot be used with a partition router").with("stream", asked.stream))
        }
        "IncrementingCountCursor" => {
            let scope = Scope::new(&asked.config, asked.clock.now());
            let first = match component.template("start_value")? {
                Some(template) => whole(&template.value(&scope)?).ok_or_else(|| component.error("start_value is not a whole number"))?,
                None => 0,
            };
            let field = field(component, &asked, &scope)?;
            Counting::new(field, first, asked.state).map(Cursor::Counting)
        }
        _ => Err(component.unknown_kind()),
    }
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|f| f.trunc() as i64)).or_else(|| value.as_str()?.trim().parse().ok())
}

fn field(component: &Component<'_>, asked: &Asked<'_>, scope: &Scope<'_>) -> Result<String> {
    if let Some(field) = catalog_field(component, asked.stream, asked.catalog)? {
        return Ok(field);
    }
    component.required_template("cursor_field")?.text(scope)
}

/// The field that the catalog chose, where the manifest lets it.
pub fn catalog_field(component: &Component<'_>, stream: &str, catalog: Option<&ConfiguredCatalog>) -> Result<Option<String>> {
    if !component.flag("allow_catalog_defined_cursor_field")?.unwrap_or(false) {
        return Ok(None);
    }
    let configured = catalog.and_then(|c| c.streams.iter().find(|s| s.name() == stream));
    match configured.and_then(|c| c.cursor_field.as_deref()) {
        None | Some([]) => Ok(None),
        Some([first, ..]) if first.is_empty() => Ok(None),
        Some([one]) => Ok(Some(one.clone())),
        Some(_) => Err(Error::new(ErrorKind::ConfigInvalid, "the catalog names a nested cursor field, which this stream does not support")
            .with("stream", stream)
            .fix("choose one top-level field")),
    }
}

fn definition(component: &Component<'_>, asked: &Asked<'_>) -> Result<Definition> {
    let scope = Scope::new(&asked.config, asked.clock.now());
    let format = component.required_text("datetime_format")?;
    let also_read = component.texts("cursor_datetime_formats")?.unwrap_or_default();
    let granularity = component.text("cursor_granularity")?.filter(|t| !t.is_empty()).map(duration).transpose()?;
    let (stretch, broken) = match Stretch::build(component, format, &scope) {
        Ok(stretch) => (stretch, None),
        // Partitions ask for it one by one, and perhaps none does.
        Err(error) if asked.is_partitioned => (Stretch::nothing(), Some(error)),
        Err(error) => return Err(error),
    };
    let key = |name: &str, default: &str| component.template(name)?.map_or_else(|| Ok(default.to_owned()), |t| t.text(&scope));
    Ok(Definition {
        field: field(component, asked, &scope)?,
        bounds: (key("partition_field_start", "start_time")?, key("partition_field_end", "end_time")?),
        dates: Dates::new(format, &also_read),
        start: stretch.start,
        end: stretch.end,
        lookback: some_length(stretch.lookback),
        step: some_length(stretch.step),
        granularity: some_length(granularity),
        clamping: stretch.clamping,
        ends: if component.flag("is_compare_strictly")?.unwrap_or(false) { Ends::MustDiffer } else { Ends::MayBeEqual },
        broken: Mutex::new(broken),
        config: asked.config.clone(),
        clock: asked.clock.clone(),
    })
}

/// What depends on the config: from when to when, and in which steps.
struct Stretch {
    start: At,
    end: Option<MinMax>,
    lookback: Option<Span>,
    step: Option<Span>,
    clamping: Clamping,
}

impl Stretch {
    fn nothing() -> Self {
        Self { start: At::utc(jiff::civil::DateTime::MAX), end: None, lookback: None, step: None, clamping: Clamping::None }
    }

    fn build(component: &Component<'_>, format: &str, scope: &Scope<'_>) -> Result<Self> {
        let span = |name: &str| -> Result<Option<Span>> {
            let Some(template) = component.template(name)? else { return Ok(None) };
            match template.value(scope)? {
                Value::String(text) if text.is_empty() => Ok(None),
                Value::String(text) => duration(&text).map(Some).map_err(|e| e.with("field", name)),
                other if !is_true(&other) => Ok(None),
                _ => Err(component.error("a duration is expected here").with("field", name)),
            }
        };
        let time = |name: &str| {
            let value = component.field(name).filter(|v| is_true(v));
            value.map(|value| MinMax::build(value, component.parameters(), &format!("{}.{name}", component.path()), format)).transpose()
        };
        let lookback = span("lookback_window")?;
        let start = time("start_datetime")?.ok_or_else(|| component.error("start_datetime is missing"))?.eval(scope)?;
        if component.field("step").is_some() != component.field("cursor_granularity").is_some() {
            return Err(component.error("step and cursor_granularity need each other").fix("set both, or neither"));
        }
        Ok(Self { start, end: time("end_datetime")?, lookback, step: span("step")?, clamping: clamping(component, scope)? })
    }
}

/// A span of no length counts as none.
fn some_length(span: Option<Span>) -> Option<Span> {
    span.filter(|span| !span.is_zero())
}

fn clamping(component: &Component<'_>, scope: &Scope<'_>) -> Result<Clamping> {
    let Some(clamping) = component.child("clamping")? else { return Ok(Clamping::None) };
    match clamping.required_template("target")?.text(scope)?.as_str() {
        "DAY" => Ok(Clamping::Day),
        "MONTH" => Ok(Clamping::Month),
        "WEEK" => {
            let details = clamping.child("target_details")?;
            let day = details.as_ref().map(|d| d.text("weekday")).transpose()?.flatten();
            let day = day.ok_or_else(|| clamping.error("a week's clamping needs a weekday in target_details"))?;
            weekday(day).map(Clamping::Week).ok_or_else(|| clamping.error("no such weekday").with("weekday", day))
        }
        other => Err(clamping.error("a clamping target is DAY, WEEK or MONTH").with("target", other)),
    }
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "MONDAY" => Weekday::Monday,
        "TUESDAY" => Weekday::Tuesday,
        "WEDNESDAY" => Weekday::Wednesday,
        "THURSDAY" => Weekday::Thursday,
        "FRIDAY" => Weekday::Friday,
        "SATURDAY" => Weekday::Saturday,
        "SUNDAY" => Weekday::Sunday,
        _ => return None,
    })
}
