//! How a request is refused: one table from kinds to statuses, one shape on the wire.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use linkspan_core::{Error, ErrorKind, Retry};
use serde_json::{Value, json};

/// An error with the status it is answered with. Made from an [`Error`] it has the table's status; HTTP's own refusals (too large,
/// wrong method) name theirs.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: Error,
}

pub type Result<T> = std::result::Result<T, Refusal>;

/// The one table from kinds to statuses.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::ConfigInvalid => StatusCode::BAD_REQUEST,
        ErrorKind::AuthFailed | ErrorKind::SignatureInvalid => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::SchemaDrift | ErrorKind::PositionLost | ErrorKind::Canceled => {
            StatusCode::CONFLICT
        }
        ErrorKind::Unsupported | ErrorKind::DataInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // HTTP has a word of its own for a version that no longer stands.
        let stale = error.context().iter().any(|(key, value)| *key == "precondition" && value == "if-match");
        Self { status: if stale { StatusCode::PRECONDITION_FAILED } else { status_of(error.kind()) }, error }
    }
}

impl Refusal {
    pub fn new(status: StatusCode, error: Error) -> Self {
        Self { status, error }
    }

    /// `{"error": {kind, message, suggested_fix?, docs_url?, context}}`. The causes stay at home: a driver's words may quote SQL, hosts
    /// or a DSN.
    pub fn body(&self) -> Value {
        let mut error = self.error.to_json();
        if let Value::Object(fields) = &mut error {
            fields.remove("causes");
        }
        json!({ "error": error })
    }

    /// The whole answer, never cached and never guessed at by a browser.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Retry::After(wait) = self.error.retry_hint() {
            // Rounded up: who comes back after that many seconds is not early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_kind_but_internal_is_told_apart_from_a_bug() {
        let kinds = [
            (ErrorKind::ConfigInvalid, 400),
            (ErrorKind::AuthFailed, 401),
            (ErrorKind::SignatureInvalid, 401),
            (ErrorKind::PermissionDenied, 403),
            (ErrorKind::NotFound, 404),
            (ErrorKind::AlreadyExists, 409),
            (ErrorKind::Conflict, 409),
            (ErrorKind::SchemaDrift, 409),
            (ErrorKind::PositionLost, 409),
            (ErrorKind::Canceled, 409),
            (ErrorKind::Unsupported, 422),
            (ErrorKind::DataInvalid, 422),
            (ErrorKind::RateLimited, 429),
            (ErrorKind::Internal, 500),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Timeout, 504),
            (ErrorKind::StorageFull, 507),
        ];
        for (kind, status) in kinds {
            assert_eq!(status_of(kind).as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_says_kind_fix_and_place_and_keeps_the_driver_s_words() {
        let error = Error::new(ErrorKind::Unavailable, "the database did not answer")
            .with("connector", "crm")
            .fix("start it")
            .because("connect to postgres://app:hunter2@db/crm");
        let response = Refusal::from(error).response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let text = std::str::from_utf8(response.body()).expect("JSON is UTF-8");
        assert!(!text.contains("hunter2") && !text.contains("postgres:"), "{text}");
        let body: Value = serde_json::from_str(text).expect("an object");
        assert_eq!(
            body,
            json!({ "error": { "kind": "unavailable", "message": "the database did not answer", "suggested_fix": "start it",
                "context": { "connector": "crm" } } })
        );
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let error = Error::new(ErrorKind::RateLimited, "too many").retry(Retry::After(Duration::from_millis(1_200)));
        assert_eq!(Refusal::from(error).response().headers()["retry-after"], "2");
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_it() {
        let response = Refusal::from(Error::new(ErrorKind::AuthFailed, "no key")).response();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}
