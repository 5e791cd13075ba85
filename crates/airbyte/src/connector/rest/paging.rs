//! How further pages are asked for.

use linkspan_core::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{option, wrong};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Pagination {
    /// One request.
    #[default]
    #[serde(alias = "single_page")]
    None,
    /// Page numbers.
    #[serde(alias = "page_number")]
    Page {
        /// How many records a full page holds: a shorter one is the last.
        page_size: u32,
        #[serde(default = "page")]
        param: String,
        /// The parameter of the page's size; not sent without it.
        size_param: Option<String>,
        /// The first page's number.
        #[serde(default = "one")]
        first: u32,
    },
    /// How many records to skip.
    Offset {
        /// How many records a full page holds: a shorter one is the last.
        page_size: u32,
        #[serde(default = "offset")]
        param: String,
        /// The parameter of the page's size; not sent without it.
        size_param: Option<String>,
    },
    /// A token that asks for the next page: in each answer (`token_path`), in a header of it (`token_header`), or a field of its last
    /// record (`record_field`). One of the three.
    Cursor {
        /// Where the token is in the answer: names with dots between them.
        token_path: Option<String>,
        /// The header of the answer that holds it.
        token_header: Option<String>,
        /// The field of a page's last record that asks for what comes behind it.
        record_field: Option<String>,
        /// Where the answer says whether there are more pages: names with dots between them. Without it the token's absence ends it.
        more_path: Option<String>,
        /// The parameter that sends the token.
        param: String,
    },
    /// The address of the next page, in each answer.
    #[serde(alias = "json_link")]
    NextUrl {
        /// Where the address is in the answer: names with dots between them.
        url_path: String,
    },
    /// The `Link` header's `next`.
    #[serde(alias = "header_link")]
    LinkHeader,
}

fn page() -> String {
    "page".into()
}
fn offset() -> String {
    "offset".into()
}
fn one() -> u32 {
    1
}

impl Pagination {
    pub(super) fn judge(&self) -> Result<()> {
        match self {
            Self::Page { page_size: 0, .. } | Self::Offset { page_size: 0, .. } => {
                Err(wrong("a page holds no records", "pagination.page_size")
                    .fix("give the number of records that the API puts on a full page"))
            }
            Self::Cursor { token_path, token_header, record_field, .. }
                if [token_path, token_header, record_field].into_iter().flatten().filter(|place| !place.is_empty()).count() != 1 =>
            {
                Err(wrong("the next page's token has no place, or several", "pagination")
                    .fix("give one of `token_path` (in the answer), `token_header` (in its headers), `record_field` (in its last record)"))
            }
            Self::NextUrl { url_path } if url_path.is_empty() => Err(wrong("the next page's address has no place", "pagination.url_path")
                .fix("name where it is in the answer, such as links.next")),
            _ => Ok(()),
        }
    }

    pub(super) fn component(&self) -> Value {
        let sized = |token: &str, strategy: Value, size_param: &Option<String>| {
            let mut paginator = json!({"type": "DefaultPaginator", "page_token_option": option(token), "pagination_strategy": strategy});
            if let Some(name) = size_param {
                paginator["page_size_option"] = option(name);
            }
            paginator
        };
        let by_path = |value: String| {
            json!({
                "type": "DefaultPaginator",
                "page_token_option": {"type": "RequestPath"},
                "pagination_strategy": {"type": "CursorPagination", "cursor_value": value},
            })
        };
        match self {
            Self::None => json!({"type": "NoPagination"}),
            Self::Page { page_size, param, size_param, first } => {
                let strategy =
                    json!({"type": "PageIncrement", "page_size": page_size, "start_from_page": first, "inject_on_first_request": true});
                sized(param, strategy, size_param)
            }
            Self::Offset { page_size, param, size_param } => {
                sized(param, json!({"type": "OffsetIncrement", "page_size": page_size, "inject_on_first_request": true}), size_param)
            }
            Self::Cursor { token_path, token_header, record_field, more_path, param } => {
                let value = match (token_path, token_header, record_field) {
                    (Some(path), ..) => looked_up("response", path),
                    (_, Some(header), _) => format!("{{{{ headers.get({}, '') or '' }}}}", crate::python::quoted(&header.to_lowercase())),
                    (.., field) => looked_up("last_record", field.as_deref().unwrap_or_default()),
                };
                let mut strategy = json!({"type": "CursorPagination", "cursor_value": value});
                if let Some(path) = more_path {
                    strategy["stop_condition"] = format!("{{{{ not ({}) }}}}", walk("response", path)).into();
                }
                json!({"type": "DefaultPaginator", "page_token_option": option(param), "pagination_strategy": strategy})
            }
            Self::NextUrl { url_path } => by_path(looked_up("response", url_path)),
            Self::LinkHeader => by_path("{{ headers.get('link', {}).get('next', {}).get('url', '') }}".to_owned()),
        }
    }
}

fn walk(from: &str, path: &str) -> String {
    let keys: String = path.split('.').map(|key| format!(".get({}, {{}})", crate::python::quoted(key))).collect();
    format!("{from}{keys}")
}

/// A path into the answer or a record, as an expression.
fn looked_up(from: &str, path: &str) -> String {
    format!("{{{{ {} or '' }}}}", walk(from, path))
}
