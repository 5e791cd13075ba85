//! Whether a connection works: the streams that the manifest names can be reached.

use std::sync::Arc;

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::{
    component::Component,
    dynamic,
    protocol::StateInput,
    source::{Source, nothing_to_read},
    stream::Stream,
};

/// The config's key by which a platform chooses other streams to try.
const NAMES_KEY: &str = "__airbyte_check_stream_names";

/// Fine, or why not. An error is a mistake of the manifest, not of the connection.
pub async fn check(source: &Source) -> Result<Result<(), Error>> {
    let Some(check) = source.root().get("check") else {
        return Err(
            Error::new(ErrorKind::ConfigInvalid, "the manifest has no check").fix("add `check: {type: CheckStream, stream_names: [..]}`")
        );
    };
    let check = Component::new(check, "check")?;
    let source = &overridden(source, &check)?;
    let answer = match check.kind() {
        "CheckStream" | "" => named(source, &check).await,
        "CheckDynamicStream" => first(source, &check).await,
        _ => return Err(check.unknown_kind()),
    };
    Ok(answer)
}

/// A check may run with another config than a read.
fn overridden(source: &Source, check: &Component<'_>) -> Result<Source> {
    let Some(Value::Object(overrides)) = check.field("config_overrides").filter(|o| crate::truth::is_true(o)) else {
        return Ok(source.with_config((*source.build().config).clone()));
    };
    if let Some(reserved) = overrides.keys().find(|key| key.starts_with("__airbyte")) {
        return Err(check.error("config_overrides names a key that belongs to the platform").with("key", reserved));
    }
    if writes_config(source.root()) {
        return Err(check
            .error("config_overrides cannot be used by a manifest that writes tokens back into the config")
            .fix("take config_overrides out of check, or refresh_token_updater out of the authenticator"));
    }
    let mut config = source.build().config.as_object().cloned().unwrap_or_default();
    config.extend(overrides.clone());
    Ok(source.with_config(config.into()))
}

fn writes_config(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let is_writer = matches!(fields.get("type").and_then(Value::as_str), Some("OAuthAuthenticator" | "CustomAuthenticator"));
            is_writer && fields.get("refresh_token_updater").is_some_and(|u| !u.is_null()) || fields.values().any(writes_config)
        }
        Value::Array(items) => items.iter().any(writes_config),
        _ => false,
    }
}

async fn named(source: &Source, check: &Component<'_>) -> Result<(), Error> {
    if check.field("stream_names").is_none() && check.field("dynamic_streams_check_configs").is_none() {
        return Err(check.error("a check needs stream_names or dynamic_streams_check_configs"));
    }
    let names = names(source, check)?;
    let configs = check.children("dynamic_streams_check_configs")?;
    let static_ones = source.definitions()?;
    let are_static = !names.is_empty() && names.iter().all(|name| static_ones.iter().any(|s| s["name"] == name.as_str()));
    let nothing = StateInput::default();
    let (streams, dynamic) = if are_static && configs.is_empty() {
        let chosen = static_ones.iter().filter(|s| names.iter().any(|name| s["name"] == name.as_str())).cloned().collect();
        (source.made(chosen, &static_ones, &nothing, None)?, vec![])
    } else {
        let dynamic = source.dynamic_definitions().await?;
        let all: Vec<Value> = static_ones.into_iter().chain(dynamic.clone()).collect();
        (source.made(all.clone(), &all, &nothing, None)?, dynamic)
    };
    if streams.is_empty() {
        return Err(nothing_to_read());
    }
    for name in &names {
        reach(find(&streams, name)?).await?;
    }
    for config in &configs {
        generated(source, config, &streams, &dynamic).await?;
    }
    Ok(())
}

fn names(source: &Source, check: &Component<'_>) -> Result<Vec<String>> {
    let wrong = || Error::new(ErrorKind::ConfigInvalid, "the streams to check are a list of texts").with("key", NAMES_KEY);
    let chosen = source.build().config.get(NAMES_KEY).filter(|names| names.as_array().is_none_or(|n| !n.is_empty()));
    match chosen {
        Some(Value::Array(names)) => names.iter().map(|n| n.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
        None => Ok(check.texts("stream_names")?.unwrap_or_default().into_iter().map(str::to_owned).collect()),
    }
}

fn find<'a>(streams: &'a [Arc<Stream>], name: &str) -> Result<&'a Arc<Stream>> {
    streams.iter().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<_> = streams.iter().map(|s| s.name.as_str()).collect();
        Error::new(ErrorKind::ConfigInvalid, "the manifest's check names a stream that is not there")
            .with("stream", name)
            .with("streams", known.join(", "))
    })
}

async fn generated(source: &Source, config: &Component<'_>, streams: &[Arc<Stream>], dynamic: &[Value]) -> Result<(), Error> {
    let origin = config.required_text("dynamic_stream_name")?;
    let definitions = source.root().get("dynamic_streams").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_there = definitions.iter().enumerate().any(|(at, d)| match d.get("name").and_then(Value::as_str) {
        Some(name) => name == origin,
        None => format!("dynamic_stream_{at}") == origin,
    });
    if !is_there {
        return Err(config.error("the check names a dynamic stream that is not in the manifest").with("dynamic_stream", origin));
    }
    let most = config.integer("stream_count")?.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
    for stream in dynamic.iter().filter(|s| s[dynamic::ORIGIN] == origin).take(most) {
        reach(find(streams, stream["name"].as_str().unwrap_or_default())?).await?;
    }
    Ok(())
}

async fn first(source: &Source, check: &Component<'_>) -> Result<(), Error> {
    let count = usize::try_from(check.integer("stream_count")?.unwrap_or(1)).unwrap_or(0);
    let streams = source.streams(&StateInput::default(), None).await?;
    if streams.is_empty() {
        return Err(nothing_to_read());
    }
    if check.flag("use_check_availability")? == Some(false) {
        return Ok(());
    }
    for stream in streams.iter().take(count) {
        reach(stream).await?;
    }
    Ok(())
}

/// Reads until the first record, or the end of the first partition.
async fn reach(stream: &Stream) -> Result<(), Error> {
    let placed = |e: Error| e.with("stream", &stream.name);
    let Some(slice) = stream.slices().next().await else {
        return Err(placed(
            Error::new(ErrorKind::ConfigInvalid, "the stream has no partitions to try").fix("check that its parent streams have records"),
        ));
    };
    let slice = slice.map_err(placed)?;
    stream.schema().await.map_err(placed)?;
    let mut pages = stream.pages(slice);
    while let Some(page) = pages.next().await {
        if !page.map_err(placed)?.is_empty() {
            break;
        }
    }
    Ok(())
}
