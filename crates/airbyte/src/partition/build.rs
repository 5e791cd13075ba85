//! Routers from their components.

use std::sync::Arc;

use linkspan_core::Result;
use serde_json::{Map, Value};

use super::{Grouping, List, Parent, ParentStream, Parents, Router, Union};
use crate::{
    component::Component,
    inject::RequestOption,
    path,
    template::{Scope, Template},
    truth::is_true,
    wiring::Build,
};

/// What routers are built with.
pub struct Routing<'a> {
    pub build: &'a Build,
    /// Makes the stream of a parent's configuration.
    pub parent: &'a dyn Fn(&Component<'_>) -> Result<Arc<dyn ParentStream>>,
}

/// The router of a retriever; a list of routers is their product.
pub fn build(retriever: &Component<'_>, routing: &Routing<'_>) -> Result<Router> {
    match retriever.field("partition_router").filter(|router| is_true(router)) {
        None => Ok(Router::Single),
        Some(Value::Array(_)) => {
            let routers = retriever.children("partition_router")?;
            let routers = routers.iter().map(|r| one(r, routing).map(Arc::new)).collect::<Result<_>>()?;
            Ok(Router::Product(routers))
        }
        Some(_) => one(&retriever.required("partition_router")?, routing),
    }
}

fn one(component: &Component<'_>, routing: &Routing<'_>) -> Result<Router> {
    let scope = routing.build.scope();
    match component.kind() {
        "ListPartitionRouter" => list(component, &scope).map(Router::List),
        "SubstreamPartitionRouter" => parents(component, routing).map(Router::Parents),
        "GroupingPartitionRouter" => grouping(component, routing).map(Router::Grouping),
        "UnionPartitionRouter" => union(component, routing, &scope).map(Router::Union),
        _ => Err(component.unknown_kind()),
    }
}

fn list(component: &Component<'_>, scope: &Scope<'_>) -> Result<List> {
    let values = match component.field("values") {
        Some(Value::Array(values)) => Some(values.clone()),
        Some(Value::String(text)) => match Template::parse(text, component.parameters())?.value(scope)? {
            Value::Array(values) => Some(values),
            // What Python walks through: a text by its letters, an object by its keys.
            Value::String(text) => Some(text.chars().map(|c| c.to_string().into()).collect()),
            Value::Object(fields) => Some(fields.into_iter().map(|(key, _)| key.into()).collect()),
            // A mistake of this stream alone: it is told when the stream is read.
            _ => None,
        },
        _ => return Err(component.error("values is missing")),
    };
    let field = component.required_template("cursor_field")?.text(scope)?;
    Ok(List { values, field, option: option(component)?, path: component.path().to_owned() })
}

fn option(component: &Component<'_>) -> Result<Option<RequestOption>> {
    component.child("request_option")?.map(|option| RequestOption::build(&option)).transpose()
}

fn parents(component: &Component<'_>, routing: &Routing<'_>) -> Result<Parents> {
    let configs = component.children("parent_stream_configs")?;
    if configs.is_empty() {
        return Err(component.error("a substream router needs at least one parent stream"));
    }
    configs.iter().map(|config| parent(config, routing)).collect::<Result<_>>().map(Parents)
}

fn parent(config: &Component<'_>, routing: &Routing<'_>) -> Result<Parent> {
    let scope = routing.build.scope();
    let text = |template: Template| template.text(&scope);
    let extra = match config.field("extra_fields") {
        Some(Value::Array(ways)) => ways.iter().map(|way| way_of(way, config.parameters(), &scope)).collect::<Result<_>>()?,
        _ => vec![],
    };
    let lazy = config.templates("lazy_read_pointer")?;
    if lazy.iter().any(|step| step.source().contains('*')) {
        return Err(config.error("lazy_read_pointer takes plain keys, no patterns"));
    }
    Ok(Parent {
        key: path::split(&text(config.required_template("parent_key")?)?).into_iter().map(str::to_owned).collect(),
        field: text(config.required_template("partition_field")?)?,
        extra,
        option: option(config)?,
        is_incremental: config.flag("incremental_dependency")?.unwrap_or(false),
        lazy: lazy.into_iter().map(text).collect::<Result<_>>()?,
        stream: (routing.parent)(config)?,
    })
}

fn way_of(way: &Value, parameters: &Map<String, Value>, scope: &Scope<'_>) -> Result<Vec<String>> {
    let step = |step: &Value| match step {
        Value::String(text) => Template::parse(text, parameters)?.text(scope),
        other => Ok(crate::python::text(other)),
    };
    way.as_array().into_iter().flatten().map(step).collect()
}

fn grouping(component: &Component<'_>, routing: &Routing<'_>) -> Result<Grouping> {
    let size = component.integer("group_size")?.unwrap_or_default();
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| component.error("group_size must be more than 0"))?;
    let below = component.required("underlying_partition_router")?;
    let underlying = one(&below, routing)?;
    if underlying.has_options() {
        return Err(below.error("request options cannot be used below a grouping router"));
    }
    let distinct = component.flag("deduplicate")?.unwrap_or(true);
    Ok(Grouping { underlying: Arc::new(underlying), size, distinct, parents: std::sync::Mutex::new(Some(Map::new().into())) })
}

fn union(component: &Component<'_>, routing: &Routing<'_>, scope: &Scope<'_>) -> Result<Union> {
    let children = component.children("partition_routers")?;
    if children.len() < 2 {
        return Err(component.error("a union needs at least two routers"));
    }
    let field = component.required_template("partition_field")?.text(scope)?;
    let mut routers = Vec::with_capacity(children.len());
    for child in &children {
        let router = one(child, routing)?;
        if router.has_options() {
            return Err(child.error("request options cannot be used in a union"));
        }
        let others = match &router {
            Router::List(list) => vec![&list.field],
            Router::Parents(parents) => parents.0.iter().map(|p| &p.field).collect(),
            Router::Union(union) => vec![&union.field],
            _ => vec![],
        };
        if let Some(other) = others.into_iter().find(|other| **other != field) {
            return Err(child.error("a router of a union makes partitions of another field").with("field", other).with("expected", &field));
        }
        routers.push(Arc::new(router));
    }
    Ok(Union { routers, field })
}
