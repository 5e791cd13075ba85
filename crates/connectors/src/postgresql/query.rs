//! A free query as a stream: `:last_pull` in it becomes a bound parameter, never text.

use std::collections::HashSet;

use linkspan_core::{Error, ErrorKind, Result};
use tokio_postgres::GenericClient;

use super::{
    catalog::{Column, Types},
    errors::PgResult,
};

/// A query as the server gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// `$1` stands where `:last_pull` stood.
    pub sql: String,
    pub uses_last_pull: bool,
}

impl Query {
    /// Puts `$1` for each `:last_pull` outside of quotes and comments.
    pub fn parse(text: &str) -> Self {
        const WORD: &str = "last_pull";
        let text = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let mut sql = String::with_capacity(text.len() + 32);
        let mut uses_last_pull = false;
        let mut rest = text;
        let mut before = ' ';
        while let Some(c) = rest.chars().next() {
            let opaque = opaque_len(rest, before);
            if opaque > 0 {
                sql.push_str(&rest[..opaque]);
                rest = &rest[opaque..];
                before = ' ';
                continue;
            }
            let word = rest.strip_prefix(':').and_then(|r| r.strip_prefix(WORD));
            match word {
                Some(after) if before != ':' && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                    sql.push_str("$1::pg_catalog.timestamptz");
                    uses_last_pull = true;
                    rest = after;
                    before = ' ';
                }
                _ => {
                    sql.push(c);
                    rest = &rest[c.len_utf8()..];
                    before = c;
                }
            }
        }
        Self { sql, uses_last_pull }
    }

    /// The query as something to select from. The line breaks end a comment on its last line.
    pub fn as_relation(&self) -> String {
        format!("(\n{}\n) AS q", self.sql)
    }

    /// The columns the query answers with. Two of the same name are refused: they could not be told apart.
    pub async fn columns(&self, client: &impl GenericClient) -> Result<Vec<Column>> {
        let sql = format!("SELECT * FROM {}", self.as_relation());
        let statement = client.prepare(&sql).await.pg("preparing the query")?;
        let types = Types::load(client).await?;
        let oids: Vec<u32> = statement.columns().iter().map(|c| c.type_().oid()).collect();
        let typmods: Vec<i32> = statement.columns().iter().map(|c| c.type_modifier()).collect();
        let names = "SELECT pg_catalog.format_type(o, m) FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t(o, m, at) ORDER BY at";
        let names = client.query(names, &[&oids, &typmods]).await.pg("naming the query's types")?;
        let mut seen = HashSet::new();
        let column = |(at, c): (usize, &tokio_postgres::Column)| {
            if !seen.insert(c.name().to_owned()) {
                return Err(Error::new(ErrorKind::ConfigInvalid, "the query has two columns of the same name")
                    .with("column", c.name())
                    .fix("give each column of the query its own name with AS"));
            }
            let (form, base) = types.form(oids[at], typmods[at]);
            Ok(Column { name: c.name().to_owned(), form, native: names[at].get(0), base, nullable: true, generated: false })
        };
        statement.columns().iter().enumerate().map(column).collect()
    }
}

/// How many bytes a quoted text, a quoted name or a comment takes at the start of `text`; 0 when none begins there.
fn opaque_len(text: &str, before: char) -> usize {
    let bytes = text.as_bytes();
    match bytes {
        [b'\'', ..] => quoted_len(bytes, b'\'', before.eq_ignore_ascii_case(&'e')),
        [b'"', ..] => quoted_len(bytes, b'"', false),
        [b'-', b'-', ..] => text.find('\n').map_or(text.len(), |n| n + 1),
        [b'/', b'*', ..] => comment_len(bytes),
        [b'$', ..] if !(before.is_alphanumeric() || before == '_') => dollar_len(text),
        _ => 0,
    }
}

fn quoted_len(bytes: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            b if b == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Comments nest in PostgreSQL.
fn comment_len(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => (at, depth) = (at + 2, depth + 1),
            (b'*', b'/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// `$tag$ ... $tag$`; a `$1` is none.
fn dollar_len(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else { return 0 };
    let tag = &text[..end + 2];
    let word = &tag[1..tag.len() - 1];
    if word.starts_with(|c: char| c.is_ascii_digit()) || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return 0;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |n| n + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_pull_is_bound_wherever_it_is_a_word_of_sql() {
        let q = Query::parse("SELECT * FROM t WHERE at > :last_pull AND x::last_pull IS NULL;\n");
        assert_eq!(q.sql, "SELECT * FROM t WHERE at > $1::pg_catalog.timestamptz AND x::last_pull IS NULL");
        assert!(q.uses_last_pull);
    }

    #[test]
    fn last_pull_in_quotes_and_comments_is_text() {
        for text in [
            "SELECT ':last_pull'",
            "SELECT 'it''s :last_pull'",
            "SELECT E'\\':last_pull'",
            "SELECT 1 -- :last_pull",
            "SELECT 1 /* /* :last_pull */ :last_pull */",
            "SELECT \":last_pull\"",
            "SELECT $q$ :last_pull $q$, $$ :last_pull $$",
            "SELECT :last_pulled",
        ] {
            let q = Query::parse(text);
            assert_eq!((q.sql.as_str(), q.uses_last_pull), (text, false), "{text}");
        }
    }
}
