//! Why a table that a user named was not discovered: it is there, and this login may not read it.

use linkspan_core::{Error, ErrorKind, StreamName};
use tokio_postgres::GenericClient;

use super::{errors::PgResult, sql};

const FIND: &str = "SELECT n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), \
                    current_user::text \
                    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                    WHERE c.relname = $1 AND ($2::text IS NULL OR n.nspname = $2::text) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
                    AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 1";

/// The error to give instead of \"not found\", when the name is there.
pub(super) async fn why(client: &impl GenericClient, stream: &StreamName) -> Option<Error> {
    let (schema, name): (Option<&str>, &str) = (stream.namespace.as_deref(), &stream.name);
    let found = client.query_opt(FIND, &[&name, &schema]).await.pg("looking for the table").ok()??;
    let (schema, table, usage, select, role): (String, String, bool, bool, String) =
        (found.get(0), found.get(1), found.get(2), found.get(3), found.get(4));
    let place = format!("{}.{}", sql::ident(&schema), sql::ident(&table));
    let (message, fix) = match (usage, select) {
        (false, _) => (
            "this login may not use the table's schema",
            format!(
                "let its owner run: GRANT USAGE ON SCHEMA {} TO {}; GRANT SELECT ON {place} TO {1}",
                sql::ident(&schema),
                sql::ident(&role)
            ),
        ),
        (true, false) => {
            ("this login may not read the table", format!("let its owner run: GRANT SELECT ON {place} TO {}", sql::ident(&role)))
        }
        (true, true) => {
            let text = "the table is there, but its schema is not among those that are shown";
            let fix = format!("add `{schema}` to `schemas` in the config");
            return Some(Error::new(ErrorKind::ConfigInvalid, text).with("stream", format!("{schema}.{table}")).fix(fix));
        }
    };
    Some(Error::new(ErrorKind::PermissionDenied, message).with("stream", format!("{schema}.{table}")).fix(fix))
}
