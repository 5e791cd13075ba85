//! Where traces go and how many of them: `--otlp`, else the variables that every OpenTelemetry program reads.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use linkspan_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

use super::span::Sampler;

/// What the exporter needs to know.
pub struct Settings {
    pub endpoint: http::Uri,
    /// Credentials of the collector may be among them.
    pub headers: HeaderMap,
    /// `service.name` and the like.
    pub resource: Vec<(String, String)>,
    pub sampler: Sampler,
    /// Spans that wait at most.
    pub queue: usize,
    /// Spans of one request at most.
    pub batch: usize,
    /// The longest that a span waits for others to go with.
    pub delay: Duration,
    /// For one request.
    pub timeout: Duration,
    /// For a batch with all its attempts.
    pub patience: Duration,
}

impl Settings {
    /// Nothing when traces are off, which they are unless an address is given.
    pub fn of(otlp: Option<&str>) -> Result<Option<Self>> {
        Self::read(otlp, |name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }
    pub(super) fn read(otlp: Option<&str>, var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let is = |name: &str, word: &str| var(name).is_some_and(|v| v.trim().eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || (otlp.is_none() && is("OTEL_TRACES_EXPORTER", "none")) {
            return Ok(None);
        }
        let own = |name: &'static str| {
            let traces = name.replace("OTLP_", "OTLP_TRACES_");
            var(&traces).or_else(|| var(name))
        };
        let base = |url: &str| format!("{}/v1/traces", url.trim_end_matches('/'));
        let endpoint = match otlp {
            Some(url) => Some(base(url)),
            None => var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT").map(|url| base(&url))),
        };
        let Some(endpoint) = endpoint else { return Ok(None) };
        if let Some(protocol) = own("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|p| p != "http/protobuf") {
            return Err(bad("OTEL_EXPORTER_OTLP_PROTOCOL", "traces leave by another protocol than asked for")
                .with("given", protocol)
                .fix("use http/protobuf: collectors take it on port 4318"));
        }
        let ms = |name: &'static str, usual: u64| number(name, own(name), usual, 1, 3_600_000).map(Duration::from_millis);
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", var("OTEL_BSP_MAX_QUEUE_SIZE"), 2048, 1, 1_000_000)?;
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", var("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"), 512, 1, 100_000)?;
        Ok(Some(Self {
            endpoint: uri(&endpoint)?,
            headers: headers(own("OTEL_EXPORTER_OTLP_HEADERS").as_deref().unwrap_or_default())?,
            resource: resource(var("OTEL_SERVICE_NAME"), var("OTEL_RESOURCE_ATTRIBUTES").as_deref().unwrap_or_default()),
            sampler: sampler(var("OTEL_TRACES_SAMPLER"), var("OTEL_TRACES_SAMPLER_ARG"))?,
            queue: usize::try_from(queue).unwrap_or(usize::MAX),
            batch: usize::try_from(batch.min(queue)).unwrap_or(usize::MAX),
            delay: ms("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
            timeout: ms("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?,
            patience: ms("OTEL_BSP_EXPORT_TIMEOUT", 30_000)?,
        }))
    }
}

fn bad(setting: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("setting", setting)
}

fn uri(text: &str) -> Result<http::Uri> {
    let parsed = text.parse::<http::Uri>().ok();
    let fits = |u: &http::Uri| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some_and(|h| !h.is_empty());
    parsed
        .filter(fits)
        .ok_or_else(|| bad("otlp", "the address for traces is no URL").fix("write the collector's address as in http://127.0.0.1:4318"))
}

/// `name=value,name=value`, values percent-encoded. Nothing of them is repeated in an error.
fn headers(text: &str) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let wrong = || bad("OTEL_EXPORTER_OTLP_HEADERS", "the headers for traces cannot be read").fix("write name=value,name=value");
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let name = name.trim().parse::<HeaderName>().map_err(|_| wrong())?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

/// The variable's attributes; what it does not say of the service is said here.
fn resource(service: Option<String>, text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = |v: &str| percent_decode_str(v.trim()).decode_utf8_lossy().into_owned();
    let mut all: Vec<(String, String)> = pairs.map(|(k, v)| (k.trim().to_owned(), decoded(v))).filter(|(k, _)| !k.is_empty()).collect();
    if let Some(service) = service {
        all.retain(|(k, _)| k != "service.name");
        all.push(("service.name".into(), service));
    }
    for (key, usual) in [("service.name", "linkspan"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if all.iter().all(|(k, _)| k != key) {
            all.push((key.into(), usual.into()));
        }
    }
    all
}

fn sampler(name: Option<String>, arg: Option<String>) -> Result<Sampler> {
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    let name = name.unwrap_or_else(|| "parentbased_always_on".into());
    let (follows_parent, own) = match name.strip_prefix("parentbased_") {
        Some(own) => (true, own),
        None => (false, name.as_str()),
    };
    let share = match own {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let share = arg.map_or(Some(1.0), |a| a.trim().parse::<f64>().ok());
            share.filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| bad("OTEL_TRACES_SAMPLER_ARG", "the share of traces is from 0 to 1"))?
        }
        _ => {
            let known = "always_on, always_off, traceidratio, or one of them after parentbased_";
            return Err(bad(NAME, "there is no such sampler").with("given", name).fix(format!("use {known}")));
        }
    };
    Ok(Sampler { share, follows_parent })
}

fn number(name: &'static str, given: Option<String>, usual: u64, least: u64, most: u64) -> Result<u64> {
    let Some(given) = given else { return Ok(usual) };
    given.trim().parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, format!("the setting is a number from {least} to {most}")).with("setting", name)
    })
}
