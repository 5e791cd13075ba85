//! Actions of error handlers that change how pages are asked for: who may have them.

use linkspan_core::Result;
use serde_json::Value;

use crate::component::Component;

pub(crate) const REDUCES: &str = "REDUCE_PAGE_SIZE";
pub(crate) const SPLITS: &str = "SPLIT_REQUEST_WINDOW";

/// Refuses an action of a requester that has no pages of its own and no windows.
pub(crate) fn reject_paging_actions(requester: &Component<'_>) -> Result<()> {
    match [REDUCES, SPLITS].into_iter().find(|action| answers_with(requester, action)) {
        Some(action) => Err(requester
            .error("only the requester of a SimpleRetriever's pages can have this action")
            .with("action", action)
            .fix("use another action in this error handler")),
        None => Ok(()),
    }
}

/// Whether the requester's error handler may answer with the action.
pub(crate) fn answers_with(requester: &Component<'_>, action: &str) -> bool {
    fn handles(handler: &Value, action: &str) -> bool {
        let all = |field: &str| handler.get(field).and_then(Value::as_array).into_iter().flatten();
        all("error_handlers").any(|inner| handles(inner, action)) || all("response_filters").any(|filter| filter["action"] == action)
    }
    requester.field("error_handler").is_some_and(|handler| handles(handler, action))
}
