//! No connector type without its suites: the list of what runs is compared with the registry and with the files that run it.

use linkspan_core::Role;
use linkspan_testkit::{registry::every_type_has_its_suites, waivers::repository};

/// Type, role, and the file below `crates/` whose harness runs the suite.
const SUITES: &[(&str, Role, &str)] = &[
    ("csv", Role::Source, "connectors/tests/it/csv_source.rs"),
    ("csv", Role::Destination, "connectors/tests/it/text_files.rs"),
    ("http_json", Role::Source, "connectors/tests/it/http_json.rs"),
    ("jsonl", Role::Source, "connectors/tests/it/jsonl_source.rs"),
    ("jsonl", Role::Destination, "connectors/tests/it/text_files.rs"),
    ("mariadb", Role::Source, "connectors/tests/it/mysql_source.rs"),
    ("mariadb", Role::Destination, "connectors/tests/it/mysql_destination.rs"),
    ("mysql", Role::Destination, "connectors/tests/it/mysql_destination.rs"),
    ("mysql", Role::Source, "connectors/tests/it/mysql_source.rs"),
    ("postgresql", Role::Source, "connectors/tests/it/postgresql_source.rs"),
    ("postgresql", Role::Destination, "connectors/tests/it/postgresql_suite.rs"),
    ("sqlite", Role::Source, "connectors/tests/it/sqlite.rs"),
    ("sqlite", Role::Destination, "connectors/tests/it/sqlite.rs"),
    ("manifest", Role::Source, "airbyte/tests/it/guests.rs"),
    // The lake opens the very connector that `parquet` does.
    ("lake", Role::Source, "lake-files/tests/it/suites.rs"),
    ("lake", Role::Destination, "lake-files/tests/it/suites.rs"),
    ("parquet", Role::Source, "lake-files/tests/it/suites.rs"),
    ("parquet", Role::Destination, "lake-files/tests/it/suites.rs"),
];

#[test]
fn every_connector_type_has_its_suites() {
    let mut types = linkspan_connectors::all();
    types.extend(linkspan_lake_files::all());
    types.extend(linkspan_airbyte::connector::all());
    for (name, role, file) in SUITES {
        let path = repository().join("crates").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let trait_name = if *role == Role::Source { "SourceHarness for" } else { "DestinationHarness for" };
        assert!(text.contains(trait_name) && text.contains("suite("), "{file} runs no suite of {name}");
    }
    let suites: Vec<(&str, Role)> = SUITES.iter().map(|(name, role, _)| (*name, *role)).collect();
    every_type_has_its_suites(&types, &suites);
}
