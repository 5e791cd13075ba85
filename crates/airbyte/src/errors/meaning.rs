//! The words of error handling: what to do with an answer, whose fault it is, and what the statuses mean by default.

use std::borrow::Cow;

use linkspan_core::{Error, ErrorKind};

use crate::answer::Answer;

/// What came of a request.
#[derive(Clone, Copy)]
pub enum Came<'a> {
    Answer(&'a Answer),
    /// No answer, or one that broke off.
    Broken(&'a Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Success,
    Retry,
    Fail,
    Ignore,
    ResetPagination,
    RateLimited,
    RefreshTokenThenRetry,
    ReducePageSize,
    SplitRequestWindow,
}

impl Action {
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "SUCCESS" => Self::Success,
            "RETRY" => Self::Retry,
            "FAIL" => Self::Fail,
            "IGNORE" => Self::Ignore,
            "RESET_PAGINATION" => Self::ResetPagination,
            "RATE_LIMITED" => Self::RateLimited,
            "REFRESH_TOKEN_THEN_RETRY" => Self::RefreshTokenThenRetry,
            "REDUCE_PAGE_SIZE" => Self::ReducePageSize,
            "SPLIT_REQUEST_WINDOW" => Self::SplitRequestWindow,
            _ => return None,
        })
    }
    /// Whether a composite handler stops at it; the others let the next handler speak.
    pub fn ends_composite(self) -> bool {
        !matches!(self, Self::Fail | Self::RateLimited | Self::RefreshTokenThenRetry)
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    System,
    Config,
    Transient,
}

impl Blame {
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "system_error" => Self::System,
            "config_error" => Self::Config,
            "transient_error" => Self::Transient,
            _ => return None,
        })
    }
    /// The house's word, such that the protocol's failure type comes out right again.
    pub fn kind(self, status: Option<u16>) -> ErrorKind {
        match (self, status) {
            (Self::Config, Some(401)) => ErrorKind::AuthFailed,
            (Self::Config, Some(403)) => ErrorKind::PermissionDenied,
            (Self::Config, _) => ErrorKind::ConfigInvalid,
            (Self::Transient, Some(429)) => ErrorKind::RateLimited,
            (Self::Transient, _) => ErrorKind::Unavailable,
            (Self::System, _) => ErrorKind::DataInvalid,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    pub action: Action,
    pub blame: Option<Blame>,
    /// For the user; from the manifest, or the default for a status.
    pub message: Option<Cow<'static, str>>,
}

impl Resolution {
    pub const SUCCESS: Self = Self { action: Action::Success, blame: None, message: None };

    const fn new(action: Action, blame: Blame, message: &'static str) -> Self {
        Self { action, blame: Some(blame), message: Some(Cow::Borrowed(message)) }
    }

    /// What a status means when nobody said otherwise.
    pub fn of_status(status: u16) -> Option<Self> {
        use Blame::{Config, System, Transient};
        Some(match status {
            400 => Self::new(Action::Fail, System, "the API answered 400: it does not understand the request"),
            401 => Self::new(Action::Fail, Config, "the API answered 401: the credentials are not accepted"),
            403 => Self::new(Action::Fail, Config, "the API answered 403: the credentials may not read this"),
            404 => Self::new(Action::Fail, System, "the API answered 404: there is no such resource"),
            405 => Self::new(Action::Fail, System, "the API answered 405: it does not know this method here"),
            408 => Self::new(Action::Retry, Transient, "the API answered 408: the request took too long"),
            429 => Self::new(Action::RateLimited, Transient, "the API answered 429: too many requests"),
            500 => Self::new(Action::Retry, Transient, "the API answered 500: it failed inside"),
            502 => Self::new(Action::Retry, Transient, "the API answered 502: its gateway failed"),
            503 => Self::new(Action::Retry, Transient, "the API answered 503: it is not available"),
            504 => Self::new(Action::Retry, Transient, "the API answered 504: its gateway waited too long"),
            _ => return None,
        })
    }

    /// For what no filter and no table knows: try again.
    pub fn fallback(came: Came<'_>) -> Self {
        let message = match came {
            Came::Answer(answer) => format!("the API answered {}, which nothing was said about", answer.status.as_u16()).into(),
            Came::Broken(error) => Cow::Owned(error.message().to_owned()),
        };
        Self { action: Action::Retry, blame: Some(Blame::System), message: Some(message) }
    }
}
