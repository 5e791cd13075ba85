//! Every connector type of this binary, and how a word on the command line or in a project file becomes an end of a connection.

use std::path::PathBuf;

use linkspan_airbyte::guest::{CONTAINERS, Containers, Programs};
use linkspan_app::{
    DEFAULT_PROJECT,
    manifests::kept_type,
    registry::Registry,
    run::{Declared as At, Endpoint},
};
use linkspan_core::{Context, Error, ErrorKind, Result};
use linkspan_store::Store;

use crate::{
    project::{Declared, DeclaredForm, Project},
    settings::data_dir,
};

/// Every type, in catalog order, for a person's own command.
pub fn registry() -> Registry {
    registry_with(Programs::Allowed)
}

/// Every type as a server offers it: programs of others are started only where its operator said so.
pub fn served() -> Registry {
    let allowed = std::env::var("LINKSPAN_ALLOW_EXEC").is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "yes"));
    registry_with(if allowed { Programs::Allowed } else { Programs::Refused })
}

fn registry_with(programs: Programs) -> Registry {
    let mut all = linkspan_connectors::all();
    all.extend(linkspan_lake_files::all());
    all.extend(linkspan_airbyte::connector::all());
    let containers = Containers::of(std::env::var(CONTAINERS).ok());
    all.push(linkspan_airbyte::guest::exec_type(programs, containers, linkspan_connectors::jsonl::json_lines));
    Registry::of(all)
}

/// With the manifests of the data dir's catalog that a project file names. Without a data dir, or without such names, nothing is opened.
pub async fn registry_for(project: Option<&Project>, asked: Option<&PathBuf>, context: &Context) -> Result<Registry> {
    let registry = registry();
    let named = project.into_iter().flat_map(|p| p.content.connectors.values()).filter_map(|c| c.type_name.as_deref());
    let unknown: Vec<&str> = named.filter(|name| registry.named(name, ErrorKind::NotFound).is_err()).collect();
    let dir = if unknown.is_empty() { return Ok(registry) } else { data_dir(asked)? };
    if !Store::stands(&dir) {
        return Ok(registry);
    }
    let store = Store::open(&dir, context).await?;
    let mut more = Vec::new();
    for name in unknown {
        match kept_type(&store, DEFAULT_PROJECT, name).await {
            Ok(kind) => more.extend(kind),
            Err(e) => {
                store.close().await;
                return Err(e);
            }
        }
    }
    store.close().await;
    Ok(registry.and(more))
}

/// A name of the project file, a URL or a path.
pub fn find(text: &str, registry: &Registry, project: Option<&Project>) -> Result<Endpoint> {
    found(text, registry, project).map(Endpoint::hidden)
}

fn found(text: &str, registry: &Registry, project: Option<&Project>) -> Result<Endpoint> {
    let Some(project) = project else { return Endpoint::from_text(text, registry) };
    let Some(Declared { entry, form }) = project.connector(text)? else {
        let mut endpoint = Endpoint::from_text(text, registry).map_err(|e| unknown_name(e, text, project))?;
        endpoint.resolve_path(project.folder());
        return Ok(endpoint);
    };
    let (mut endpoint, place) = match form {
        DeclaredForm::Url { url, place } => {
            let found = Endpoint::from_text(&url, registry).map_err(|e| e.with("place", &place).with("connector", text))?;
            (found.named(text), place)
        }
        DeclaredForm::Typed { type_name, config, place, type_place } => {
            let (kind, config) = registry.typed(&type_name, config).map_err(|e| e.with("place", type_place).with("connector", text))?;
            (Endpoint::new(kind, config), place)
        }
    };
    if entry.enabled == Some(false) {
        return Err(Error::new(ErrorKind::Conflict, "the connector is disabled")
            .with("place", place)
            .with("connector", text)
            .fix("take `enabled: false` out of the file"));
    }
    endpoint.resolve_path(project.folder());
    let endpoint = endpoint.limited(entry.output_schemas.unwrap_or_default());
    Ok(endpoint.declared(At { name: text.to_owned(), place, fields: project.places_of_fields(text) }))
}

fn unknown_name(e: Error, text: &str, project: &Project) -> Error {
    let names = project.content.connectors.keys().map(String::as_str);
    if text.contains(':') || text.contains('/') {
        return e;
    }
    let fix = linkspan_core::suggest::did_you_mean(text, names)
        .unwrap_or_else(|| "name a connector of this file under `connectors:`, or give a URL".into());
    Error::new(ErrorKind::ConfigInvalid, format!("the project file has no connector `{text}`")).fix(fix)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use linkspan_app::run::connection_id;

    use super::*;

    #[test]
    fn an_unknown_scheme_names_the_nearest_and_all() {
        let e = registry().resolve("fakr:").err().expect("unknown");
        let fix = e.suggested_fix().unwrap();
        assert!(fix.starts_with("did you mean \"faker\"?") && fix.contains("known:"), "{fix}");
    }

    #[test]
    fn an_unknown_word_says_what_would_do() {
        let e = registry().resolve("nothing-here").err().expect("unknown");
        assert!(e.suggested_fix().unwrap().contains("write a URL"), "{e:?}");
    }

    #[test]
    fn every_types_example_opens() {
        for t in registry().types() {
            let opened = t.open(t.spec.example.clone(), linkspan_core::Context::real());
            assert!(opened.is_ok(), "{}: {:?}", t.spec.name, opened.err());
        }
    }

    #[test]
    fn no_two_types_share_a_name_or_a_scheme() {
        let registry = registry();
        let mut words: Vec<String> =
            registry.types().iter().flat_map(|t| std::iter::once(&t.spec.name).chain(&t.spec.aliases)).map(|s| s.to_string()).collect();
        words.sort();
        let before = words.len();
        words.dedup();
        assert_eq!(before, words.len());
        let mut schemes = registry.schemes();
        schemes.sort_unstable();
        let before = schemes.len();
        schemes.dedup();
        assert_eq!(before, schemes.len(), "{schemes:?}");
    }

    fn id(from: &str, to: &str, here: &str) -> uuid::Uuid {
        let registry = registry();
        let find = |text| find(text, &registry, None).unwrap();
        connection_id(&find(from), &find(to), None, Path::new(here))
    }

    #[test]
    fn a_password_makes_no_other_connection() {
        let plain = id("faker:", "postgres://u@h/db?sslmode=require", "/a");
        assert_eq!(plain, id("faker:", "postgres://u:p1@h/db?sslmode=require", "/a"));
        assert_eq!(plain, id("faker:", "postgres://u:p2@h/db?sslmode=require", "/b"));
        assert_ne!(plain, id("faker:", "postgres://u:p2@h/other?sslmode=require", "/a"));
        assert_ne!(plain, id("faker:?seed=8", "postgres://u@h/db?sslmode=require", "/a"));
    }
}
