//! Every row that is answered over HTTP: what the app can do, and the pages that describe it.

use linkspan_app::Operation;

use crate::{compat, docs, metrics, openapi, uploads};

/// The whole table, in the order it is shown.
pub fn operations() -> Vec<Operation> {
    let mut all = linkspan_app::operations();
    all.push(uploads::operation());
    all.extend(compat::operations());
    all.push(metrics::operation());
    all.push(openapi::operation());
    all.extend(docs::operations());
    all
}
