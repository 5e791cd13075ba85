//! The registry test: no connector type without its harnesses.

use linkspan_core::{ConnectorType, Role};

use crate::waivers;

/// Fails for every type that has a role without a suite that runs, unless `waivers.toml` says why
/// (`[acme]` / `"registry/source" = "..."`). `suites` lists what runs: `("postgresql", Role::Source)`.
pub fn every_type_has_its_suites(types: &[ConnectorType], suites: &[(&str, Role)]) {
    let mut missing = vec![];
    for kind in types {
        let waived = waivers::of(&kind.spec.name);
        for role in &kind.spec.roles {
            let key = format!("registry/{}", role_name(*role));
            let runs = suites.contains(&(kind.spec.name.as_ref(), *role));
            match (runs, waived.contains_key(&key)) {
                (false, false) => missing.push(format!("{} has the role {} and no suite", kind.spec.name, role_name(*role))),
                (true, true) => missing.push(format!("{}: the waiver {key} is not needed any more", kind.spec.name)),
                _ => {}
            }
        }
    }
    for (name, _) in suites.iter().filter(|(n, _)| !types.iter().any(|t| t.spec.name == *n)) {
        missing.push(format!("a suite runs for {name}, which is not in the registry"));
    }
    for name in waivers::all().keys().filter(|n| !types.iter().any(|t| t.spec.name == n.as_str())) {
        missing.push(format!("waivers.toml names {name}, which is not in the registry"));
    }
    let mut names: Vec<&str> =
        types.iter().flat_map(|t| std::iter::once(t.spec.name.as_ref()).chain(t.spec.aliases.iter().map(AsRef::as_ref))).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|p| p[0] == p[1]) {
        missing.push(format!("two types answer to {}", pair[0]));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Destination => "destination",
        Role::Actions => "actions",
        Role::Webhooks => "webhooks",
        Role::Query => "query",
    }
}
