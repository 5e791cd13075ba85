//! The statements that bring staged rows into a table by key. Pure text; staged columns are named by their place, so that no
//! name of the user's can be in the way.

use super::sql;

/// From here on the server merges in one statement.
const HAS_MERGE: u32 = 150_000;

/// A merge of one stream, as its table and its rows are.
#[derive(Clone, Debug)]
pub(super) struct Merge {
    pub target: String,
    pub stage: String,
    pub columns: Vec<MergeColumn>,
    /// Rows say whether they delete.
    pub deletes: bool,
    /// Rows say which columns they leave as they are.
    pub unset: bool,
}

#[derive(Clone, Debug)]
pub(super) struct MergeColumn {
    pub name: String,
    /// With its collation, where that is not the type's own.
    pub sql_type: String,
    pub in_key: bool,
    /// The column's bit in `unset`.
    pub ordinal: usize,
    /// A key that has an order, in which rows that come together are often neighbours.
    pub ordered: bool,
}

/// The least and the largest staged key, as text. It is implied by the join, and lets the server look at a part of the table only.
pub(super) type Range = (String, String);

/// Whether a key can be in the stage more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    Unique,
    Repeated,
}

impl Merge {
    /// The stage: a temporary table that every commit empties, without constraints, typed as the target is.
    pub(super) fn create_stage(&self) -> String {
        let columns = self.columns.iter().enumerate().map(|(at, c)| format!("c{at} {}", c.sql_type));
        let mut all: Vec<String> = columns.collect();
        all.push("ord bigint".into());
        if self.deletes {
            all.push("del boolean".into());
        }
        if self.unset {
            all.push("unset bytea".into());
        }
        format!("DROP TABLE IF EXISTS {0}; CREATE TEMPORARY TABLE {0} ({1}) ON COMMIT DELETE ROWS", self.stage, all.join(", "))
    }

    /// What takes the staged rows in. The sum of their row counts is what was inserted, updated or deleted; a row that is
    /// already there as it came is left alone.
    pub(super) fn statements(&self, keys: Keys, range: Option<&Range>, server_version: u32) -> Vec<String> {
        let on = self.on(range);
        if server_version >= HAS_MERGE {
            return vec![self.merge(keys, &on)];
        }
        let mut all = Vec::new();
        if self.deletes {
            all.push(format!("DELETE FROM {} AS t USING {} AS s WHERE {} AND s.del", self.target, self.source(keys), on));
        }
        if let Some((assignments, differs)) = self.update() {
            let (source, alive) = (self.source(keys), self.alive());
            all.push(format!("UPDATE {} AS t SET {assignments} FROM {source} AS s WHERE {on}{alive} AND {differs}", self.target));
        }
        all.push(format!(
            "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {2} FROM {3} AS s WHERE NOT EXISTS (SELECT FROM {0} AS t WHERE {4}){5}",
            self.target,
            self.names(),
            self.staged(),
            self.source(keys),
            on,
            self.alive()
        ));
        all
    }

    fn merge(&self, keys: Keys, on: &str) -> String {
        let mut text = format!("MERGE INTO {} AS t USING {} AS s ON {}", self.target, self.source(keys), on);
        if self.deletes {
            text.push_str(" WHEN MATCHED AND s.del THEN DELETE");
        }
        if let Some((assignments, differs)) = self.update() {
            text.push_str(&format!(" WHEN MATCHED{} AND {differs} THEN UPDATE SET {assignments}", self.alive()));
        }
        let alive = self.alive();
        text.push_str(&format!(
            " WHEN NOT MATCHED{alive} THEN INSERT ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            self.names(),
            self.staged()
        ));
        text
    }

    /// The staged rows, one per key: the last one where a key is there more than once.
    fn source(&self, keys: Keys) -> String {
        if keys == Keys::Unique {
            return self.stage.clone();
        }
        let key: Vec<String> = self.columns.iter().enumerate().filter(|(_, c)| c.in_key).map(|(at, _)| format!("c{at}")).collect();
        let key = key.join(", ");
        format!("(SELECT DISTINCT ON ({key}) * FROM {} ORDER BY {key}, ord DESC)", self.stage)
    }

    /// What asks for the range of the staged keys, where the key has an order.
    pub(super) fn ask_range(&self) -> Option<String> {
        let (at, _) = self.ordered()?;
        Some(format!("SELECT min(c{at})::text, max(c{at})::text FROM {}", self.stage))
    }

    fn ordered(&self) -> Option<(usize, &MergeColumn)> {
        self.columns.iter().enumerate().find(|(_, c)| c.in_key && c.ordered)
    }

    fn on(&self, range: Option<&Range>) -> String {
        let key = self.columns.iter().enumerate().filter(|(_, c)| c.in_key);
        let mut on: Vec<String> = key.map(|(at, c)| format!("t.{} = s.c{at}", sql::ident(&c.name))).collect();
        if let (Some((least, most)), Some((_, c))) = (range, self.ordered()) {
            let value = |text: &str| format!("{}::{}", sql::literal(text), c.sql_type);
            on.push(format!("t.{} BETWEEN {} AND {}", sql::ident(&c.name), value(least), value(most)));
        }
        on.join(" AND ")
    }

    fn alive(&self) -> &'static str {
        if self.deletes { " AND NOT s.del" } else { "" }
    }

    /// What an update sets, and when a row needs one. Bytes are compared, not meanings: `1.0` and `1.00` differ, and types
    /// without an equality of their own compare as well. Nothing to set when every column is in the key.
    fn update(&self) -> Option<(String, String)> {
        let rest = || self.columns.iter().enumerate().filter(|(_, c)| !c.in_key);
        rest().next()?;
        let new: Vec<String> = rest().map(|(at, c)| self.new_value(at, c)).collect();
        let old: Vec<String> = rest().map(|(_, c)| format!("t.{}", sql::ident(&c.name))).collect();
        let set: Vec<String> = rest().zip(&new).map(|((_, c), new)| format!("{} = {new}", sql::ident(&c.name))).collect();
        let differs = format!("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record", old.join(", "), new.join(", "));
        Some((set.join(", "), differs))
    }

    fn new_value(&self, at: usize, column: &MergeColumn) -> String {
        if !self.unset {
            return format!("s.c{at}");
        }
        format!("CASE WHEN pg_catalog.get_bit(s.unset, {}) = 1 THEN t.{} ELSE s.c{at} END", column.ordinal, sql::ident(&column.name))
    }

    fn names(&self) -> String {
        sql::list(self.columns.iter().map(|c| c.name.as_str()))
    }

    fn staged(&self) -> String {
        let all: Vec<String> = (0..self.columns.len()).map(|at| format!("s.c{at}")).collect();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(deletes: bool, unset: bool) -> Merge {
        let column =
            |name: &str, in_key, ordinal| MergeColumn { name: name.into(), sql_type: "text".into(), in_key, ordinal, ordered: in_key };
        let columns = vec![column("id", true, 0), column("a\"b", false, 1)];
        Merge { target: "\"s\".\"t\"".into(), stage: "pg_temp.st".into(), columns, deletes, unset }
    }

    #[test]
    fn a_merge_is_one_statement_where_the_server_has_it() {
        insta::assert_snapshot!(merge(true, true).statements(Keys::Repeated, None, 150_000).join(";\n"), @r#"MERGE INTO "s"."t" AS t USING (SELECT DISTINCT ON (c0) * FROM pg_temp.st ORDER BY c0, ord DESC) AS s ON t."id" = s.c0 WHEN MATCHED AND s.del THEN DELETE WHEN MATCHED AND NOT s.del AND ROW(t."a""b")::record OPERATOR(pg_catalog.*<>) ROW(CASE WHEN pg_catalog.get_bit(s.unset, 1) = 1 THEN t."a""b" ELSE s.c1 END)::record THEN UPDATE SET "a""b" = CASE WHEN pg_catalog.get_bit(s.unset, 1) = 1 THEN t."a""b" ELSE s.c1 END WHEN NOT MATCHED AND NOT s.del THEN INSERT ("id", "a""b") OVERRIDING SYSTEM VALUE VALUES (s.c0, s.c1)"#);
    }

    #[test]
    fn an_older_server_deletes_updates_and_inserts() {
        insta::assert_snapshot!(merge(true, false).statements(Keys::Unique, None, 140_000).join(";\n"), @r#"
        DELETE FROM "s"."t" AS t USING pg_temp.st AS s WHERE t."id" = s.c0 AND s.del;
        UPDATE "s"."t" AS t SET "a""b" = s.c1 FROM pg_temp.st AS s WHERE t."id" = s.c0 AND NOT s.del AND ROW(t."a""b")::record OPERATOR(pg_catalog.*<>) ROW(s.c1)::record;
        INSERT INTO "s"."t" ("id", "a""b") OVERRIDING SYSTEM VALUE SELECT s.c0, s.c1 FROM pg_temp.st AS s WHERE NOT EXISTS (SELECT FROM "s"."t" AS t WHERE t."id" = s.c0) AND NOT s.del
        "#);
    }

    #[test]
    fn a_table_of_keys_only_has_nothing_to_update() {
        let mut keys_only = merge(false, false);
        keys_only.columns.truncate(1);
        let text = keys_only.statements(Keys::Unique, None, 170_000).join(";");
        assert!(!text.contains("UPDATE"), "{text}");
        assert_eq!(
            keys_only.create_stage(),
            "DROP TABLE IF EXISTS pg_temp.st; CREATE TEMPORARY TABLE pg_temp.st (c0 text, ord bigint) ON COMMIT DELETE ROWS"
        );
    }

    #[test]
    fn a_range_of_keys_narrows_what_is_looked_at() {
        let merge = merge(false, false);
        assert_eq!(merge.ask_range().unwrap(), "SELECT min(c0)::text, max(c0)::text FROM pg_temp.st");
        let range = ("it's".to_owned(), "z".to_owned());
        let text = merge.statements(Keys::Unique, Some(&range), 150_000).join(";");
        assert!(text.contains(r#"ON t."id" = s.c0 AND t."id" BETWEEN 'it''s'::text AND 'z'::text WHEN"#), "{text}");
    }
}
