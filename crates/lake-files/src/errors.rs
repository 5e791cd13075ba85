//! What Parquet and object stores say, as errors that name the remedy.

use std::path::Path;

use linkspan_core::{Error, ErrorKind, Retry, file_error};
use object_store::Error as StoreError;
use parquet::errors::ParquetError;

/// A Parquet file that cannot be read.
pub(crate) fn unreadable(file: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::DataInvalid, "the file is not whole Parquet: it is truncated, damaged or of another format")
        .with("file", file)
        .fix("replace the file by a whole copy, or move it away, and run again; nothing was changed")
        .because(e)
}

/// A failure to read: of the disk or network when one is behind it, else of the file.
pub(crate) fn reading(file: &str, e: ParquetError) -> Error {
    match e {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => match inner.downcast::<std::io::Error>() {
                Ok(io) if io.kind() != std::io::ErrorKind::UnexpectedEof => file_error("the file cannot be read", Path::new(file), *io),
                Ok(io) => unreadable(file, io),
                Err(inner) => unreadable(file, inner),
            },
        },
        other => unreadable(file, other),
    }
}

/// A failure to write: of the disk when one is behind it, else a type or value that the format cannot hold.
pub(crate) fn writing(file: &str, e: ParquetError) -> Error {
    match e {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => file_error("the file cannot be written", Path::new(file), *io),
            Err(inner) => Error::new(ErrorKind::Internal, "the rows could not be encoded").with("file", file).because(inner),
        },
        ParquetError::NYI(what) => Error::new(ErrorKind::Unsupported, "Parquet cannot hold a column's type")
            .with("file", file)
            .fix("leave the column out, or let the source send it as text")
            .because(what),
        other => Error::new(ErrorKind::Internal, "the rows could not be encoded").with("file", file).because(other),
    }
}

/// Where machines of a cloud learn of their role. Only who has no key of their own asks there.
const METADATA_HOSTS: &[&str] = &["://169.254.169.254/", "://169.254.170.2/", "://[fd00:ec2::254]/"];

/// What an object store answered. The causes are kept only where they cannot hold parts of a signed request.
pub(crate) fn store(what: &'static str, path: &str, e: StoreError) -> Error {
    let ours = ours(&e);
    if let Some(refused) = ours.filter(|e| matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid)) {
        let error = Error::new(refused.kind(), refused.message().to_owned()).with("path", path);
        return refused
            .context()
            .iter()
            .fold(error, |error, (key, value)| error.with(key, value))
            .fix(refused.suggested_fix().unwrap_or(REFUSED_FIX).to_owned());
    }
    let late = ours.is_some_and(|e| e.kind() == ErrorKind::Timeout);
    let text = chain(&e);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
    let status = |wanted: &str| text.contains(&format!("status code: {wanted}"));
    let error = match code {
        "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "NotSignedUp" | "InvalidToken" | "ExpiredToken" | "InvalidSecurity" => {
            return bad_credentials(path);
        }
        "NoSuchBucket" => {
            Error::new(ErrorKind::NotFound, "the bucket does not exist").fix("create the bucket, or correct its name, region and endpoint")
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => other_region(),
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => full(),
        "SlowDown" | "TooManyRequests" => slow_down(),
        _ if METADATA_HOSTS.iter().any(|host| text.contains(host)) => {
            Error::new(ErrorKind::AuthFailed, "there are no credentials for the object store")
                .fix("set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role")
        }
        _ if matches!(e, StoreError::Unauthenticated { .. }) => return bad_credentials(path),
        _ if matches!(e, StoreError::PermissionDenied { .. }) => return denied(path),
        _ if matches!(e, StoreError::NotFound { .. }) => {
            Error::new(ErrorKind::NotFound, "the object does not exist").fix("check bucket and prefix")
        }
        _ if status("507") => full(),
        _ if status("429") || status("503") => slow_down(),
        _ if status("301") || text.contains("redirect without LOCATION") => other_region(),
        _ if late || text.contains("timed out") || text.contains("deadline has elapsed") => {
            Error::new(ErrorKind::Timeout, "the object store does not answer in time")
                .retry(Retry::Exhausted)
                .fix("check endpoint, region and network")
        }
        _ => Error::new(ErrorKind::Unavailable, what).retry(Retry::Exhausted).fix("check endpoint, region and network, and run again"),
    };
    error.with("path", path).because(e)
}

const REFUSED_FIX: &str = "look at the endpoint";

/// What the lent client said, when it is behind it.
fn ours(e: &StoreError) -> Option<&Error> {
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        if let Some(ours) = cause.downcast_ref::<Error>() {
            return Some(ours);
        }
        next = cause.source();
    }
    None
}

fn bad_credentials(path: &str) -> Error {
    Error::new(ErrorKind::AuthFailed, "the object store rejected the credentials")
        .with("path", path)
        .fix("check access_key_id and secret_access_key (and session_token, if temporary), or the AWS_* variables they default to")
}

fn denied(path: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, "the object store denied access")
        .with("path", path)
        .fix("allow s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on this bucket and prefix")
}

fn other_region() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the bucket is in another region").fix("set `region` to the bucket's region")
}

fn full() -> Error {
    Error::new(ErrorKind::StorageFull, "the object store is full")
        .fix("free space or raise the quota; run again afterwards, nothing is lost")
}

fn slow_down() -> Error {
    Error::new(ErrorKind::RateLimited, "the object store asks to slow down").retry(Retry::Exhausted).fix("run again later")
}

fn chain(e: &StoreError) -> String {
    let mut text = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(e) = next {
        text.push_str(&e.to_string());
        next = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_code_and_not_by_words_in_a_path() {
        let kind = |text: &str| {
            let e = store("it failed", "p", StoreError::Generic { store: "S3", source: text.to_owned().into() });
            assert!(e.suggested_fix().is_some());
            e.kind()
        };
        assert_eq!(kind("<Error><Code>SignatureDoesNotMatch</Code></Error>"), ErrorKind::AuthFailed);
        assert_eq!(kind("<Error><Code>NoSuchBucket</Code></Error>"), ErrorKind::NotFound);
        assert_eq!(kind("status code: 503: <Error><Code>SlowDown</Code></Error>"), ErrorKind::RateLimited);
        assert_eq!(kind("status code: 507"), ErrorKind::StorageFull);
        assert_eq!(kind("GET http://h/b/AccessDenied/507-SlowDown.parquet: connection refused"), ErrorKind::Unavailable);
        assert_eq!(kind("PUT http://169.254.169.254/latest/api/token: connection refused"), ErrorKind::AuthFailed);
    }
}
