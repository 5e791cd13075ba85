//! The spans of the code, as they open and close. It sees only those whose target is [`TRACES`](linkspan_core::TRACES).

use std::{fmt, sync::Arc, time::Instant};

use linkspan_core::Clock;
use linkspan_server::Spans;
use tokio::sync::mpsc;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::span::{Ended, Kind, Place, Sampler, Value};

/// The longest text of an attribute.
const LONGEST: usize = 256;

/// Hands on every span that closes. Never waits.
pub struct Layer {
    to: mpsc::Sender<Ended>,
    fates: Arc<Spans>,
    sampler: Sampler,
    clock: Arc<dyn Clock>,
}

impl Layer {
    pub(super) fn new(to: mpsc::Sender<Ended>, fates: Arc<Spans>, sampler: Sampler, clock: Arc<dyn Clock>) -> Self {
        Self { to, fates, sampler, clock }
    }
    /// Nanoseconds since 1970.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_nanosecond()).unwrap_or(0)
    }
}

/// A span that is open.
struct Open {
    place: Place,
    parent: Option<[u8; 8]>,
    from: u64,
    since: Instant,
    name: &'static str,
    said: Said,
}

/// What the span's fields say.
#[derive(Default)]
struct Said {
    name: Option<String>,
    kind: Option<Kind>,
    caller: Option<Place>,
    failed: bool,
    attributes: Vec<(&'static str, Value)>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Layer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let above = span.parent().and_then(|parent| parent.extensions().get::<Open>().map(|open| open.place));
        let mut said = Said::default();
        attributes.record(&mut said);
        let (place, parent) = match above {
            Some(above) => (above.below(), Some(above.span)),
            None => (Place::begun(said.caller, self.sampler), said.caller.map(|c| c.span)),
        };
        let open = Open { place, parent, from: self.now(), since: Instant::now(), name: span.name(), said };
        span.extensions_mut().insert(open);
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.said);
        }
    }
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(open) = context.span(&id).and_then(|span| span.extensions_mut().remove::<Open>()) else { return };
        if !open.place.told {
            return;
        }
        // By what passed, so that a clock that is set meanwhile makes no span end before it began.
        let passed = u64::try_from(open.since.elapsed().as_nanos()).unwrap_or(0);
        let Said { name, kind, failed, attributes, .. } = open.said;
        let ended = Ended {
            place: open.place,
            parent: open.parent,
            name: name.unwrap_or_else(|| open.name.to_owned()),
            kind: kind.unwrap_or(Kind::Internal),
            from: open.from,
            to: open.from + passed,
            attributes,
            failed,
        };
        if self.to.try_send(ended).is_err() {
            self.fates.dropped(1);
        }
    }
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("otel.name", Value::Text(name)) => self.name = Some(name),
            ("otel.kind", Value::Text(kind)) => {
                self.kind = match kind.as_str() {
                    "server" => Some(Kind::Server),
                    "client" => Some(Kind::Client),
                    _ => None,
                };
            }
            ("traceparent", Value::Text(text)) => self.caller = Place::of_header(&text),
            ("error.type", Value::Text(kind)) => {
                self.failed = true;
                self.keep(field.name(), Value::Text(snake_case(&kind)));
            }
            (name, value) => self.keep(name, value),
        }
    }
    fn keep(&mut self, name: &'static str, value: Value) {
        match self.attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, stands)) => *stands = value,
            None => self.attributes.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(cut(format!("{value:?}"))));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(cut(value.to_owned())));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Whole(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Whole(i64::try_from(value).unwrap_or(i64::MAX)));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// A kind as answers write it: `AuthFailed` is `auth_failed`.
fn snake_case(kind: &str) -> String {
    let mut out = String::new();
    for c in kind.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
