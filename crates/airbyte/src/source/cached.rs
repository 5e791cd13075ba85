//! Streams whose records others need are asked for once: their answers are kept for the run.

use std::collections::HashSet;

use serde_json::Value;

use crate::truth::is_true;

/// Marks the requesters of parents in `chosen`, unless the manifest says that their answers must not be kept.
pub(super) fn keep_parents(chosen: &mut [Value], all: &[Value]) {
    let mut parents = HashSet::new();
    chosen.iter().chain(all).for_each(|stream| names(stream, &mut parents));
    for stream in chosen {
        if let Some(routers) = stream.pointer_mut("/retriever/partition_router") {
            routers_mut(routers, &mut |router| {
                let configs = router.get_mut("parent_stream_configs").and_then(Value::as_array_mut);
                configs.into_iter().flatten().filter_map(|config| config.get_mut("stream")).for_each(keep_stream);
            });
        }
        if stream["name"].as_str().is_some_and(|name| parents.contains(name)) {
            keep_stream(stream);
        }
    }
}

fn keep_stream(stream: &mut Value) {
    if stream["type"] != "StateDelegatingStream" {
        return keep(stream);
    }
    ["full_refresh_stream", "incremental_stream"].iter().for_each(|name| {
        if let Some(stream) = stream.get_mut(name) {
            keep(stream);
        }
    });
}

fn keep(stream: &mut Value) {
    let requester = stream.pointer_mut("/retriever/requester").and_then(Value::as_object_mut);
    if let Some(requester) = requester.filter(|r| r.get("use_cache") != Some(&Value::Bool(false))) {
        requester.insert("use_cache".into(), true.into());
    }
}

fn names(stream: &Value, found: &mut HashSet<String>) {
    let mut left: Vec<&Value> = listed(&stream["retriever"]["partition_router"]);
    while let Some(router) = left.pop() {
        for config in router["parent_stream_configs"].as_array().into_iter().flatten() {
            found.extend(config["stream"]["name"].as_str().map(str::to_owned));
        }
        left.extend(router["partition_routers"].as_array().into_iter().flatten());
        left.extend(router.get("underlying_partition_router").filter(|r| is_true(r)));
    }
}

fn listed(routers: &Value) -> Vec<&Value> {
    match routers {
        Value::Array(all) => all.iter().collect(),
        Value::Object(_) => vec![routers],
        _ => vec![],
    }
}

/// Every router below, without making fields that are not there.
fn routers_mut(routers: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match routers {
        Value::Array(all) => all.iter_mut().for_each(|router| routers_mut(router, visit)),
        Value::Object(_) => {
            visit(routers);
            for below in ["partition_routers", "underlying_partition_router"] {
                if let Some(below) = routers.get_mut(below) {
                    routers_mut(below, visit);
                }
            }
        }
        _ => {}
    }
}
