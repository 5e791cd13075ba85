//! A free query as a stream: `:last_pull` in it becomes a bound parameter, never text.

use std::collections::{HashMap, HashSet};

use linkspan_core::{Error, ErrorKind, Result};

use super::{
    catalog::Column,
    types::{Choices, Form},
    wire::Wire,
};

/// A query as the server gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// `?` stands where `:last_pull` stood.
    pub sql: String,
    /// How often `:last_pull` is used.
    pub parameters: usize,
}

impl Query {
    /// Puts a parameter for each `:last_pull` outside of quotes and comments.
    pub fn parse(text: &str) -> Self {
        const WORD: &str = "last_pull";
        let text = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let mut sql = String::with_capacity(text.len() + 32);
        let (mut parameters, mut rest) = (0, text);
        while let Some(c) = rest.chars().next() {
            let opaque = opaque_len(rest);
            if opaque > 0 {
                sql.push_str(&rest[..opaque]);
                rest = &rest[opaque..];
                continue;
            }
            let word = rest.strip_prefix(':').and_then(|r| r.strip_prefix(WORD));
            match word {
                Some(after) if !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') => {
                    sql.push_str("CAST(? AS DATETIME(6))");
                    parameters += 1;
                    rest = after;
                }
                _ => {
                    sql.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        Self { sql, parameters }
    }

    /// The query as something to select from. The line breaks end a comment on its last line.
    pub fn as_relation(&self) -> String {
        format!("(\n{}\n) AS q", self.sql)
    }

    /// The columns the query answers with. Two of the same name are refused: they could not be told apart.
    pub async fn columns(&self, wire: &mut Wire, choices: Choices) -> Result<Vec<Column>> {
        const DOING: &str = "preparing the query";
        let statement = wire.prepare(&format!("SELECT * FROM {}", self.as_relation()), DOING).await?;
        wire.close_statement(&statement).await?;
        if statement.parameters != self.parameters {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the query has a `?` outside of quotes")
                .fix("only `:last_pull` is bound: write the value itself in the place of the `?`"));
        }
        let mut seen = HashSet::new();
        let column = |d: &super::packet::Described| {
            if !seen.insert(d.name.to_lowercase()) {
                return Err(Error::new(ErrorKind::ConfigInvalid, "the query has two columns of the same name")
                    .with("column", &d.name)
                    .fix("give each column of the query its own name with AS"));
            }
            let (form, native) = Form::described(d, choices);
            Ok(Column { name: d.name.clone(), form, native, nullable: true, marks: HashMap::new() })
        };
        statement.columns.iter().map(column).collect()
    }
}

/// How many bytes a quoted text, a quoted name or a comment takes at the start of `text`; 0 when none begins there.
fn opaque_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes {
        [quote @ (b'\'' | b'"'), ..] => quoted_len(bytes, *quote, true),
        [b'`', ..] => quoted_len(bytes, b'`', false),
        [b'#', ..] => line_len(text),
        // Two dashes begin a comment only before a space.
        [b'-', b'-', after, ..] if after.is_ascii_whitespace() || after.is_ascii_control() => line_len(text),
        [b'-', b'-'] => text.len(),
        // What is in /*! */ is run.
        [b'/', b'*', b'!', ..] => 0,
        [b'/', b'*', ..] => text[2..].find("*/").map_or(text.len(), |n| n + 4),
        _ => 0,
    }
}

fn line_len(text: &str) -> usize {
    text.find('\n').map_or(text.len(), |n| n + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_pull_is_bound_wherever_it_is_a_word_of_sql() {
        let q = Query::parse("SELECT * FROM t WHERE at > :last_pull OR b>:last_pull;\n");
        assert_eq!(q.sql, "SELECT * FROM t WHERE at > CAST(? AS DATETIME(6)) OR b>CAST(? AS DATETIME(6))");
        assert_eq!(q.parameters, 2);
    }

    #[test]
    fn last_pull_in_quotes_and_comments_is_text() {
        for text in [
            "SELECT ':last_pull'",
            "SELECT 'it''s :last_pull'",
            "SELECT '\\':last_pull'",
            "SELECT \"\\\":last_pull\"",
            "SELECT 1 -- :last_pull",
            "SELECT 1 # :last_pull",
            "SELECT 1 /* :last_pull */ + 1",
            "SELECT `:last_pull`",
            "SELECT :last_pulled",
            "SELECT 'é' /* :last_pull",
        ] {
            let q = Query::parse(text);
            assert_eq!((q.sql.as_str(), q.parameters), (text, 0), "{text}");
        }
        assert_eq!(Query::parse("SELECT 1--:last_pull").parameters, 1);
    }
}
