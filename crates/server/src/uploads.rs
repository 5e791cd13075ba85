//! Files that come in as a form: the body is read piece by piece, and no more of it is held than one piece.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use linkspan_app::{
    Access, App, CallContext, Operation, Placeholders, Reply, Scope,
    connectors::uploads::{Received, Refused, Upload, Why},
};
use linkspan_core::{Body, Error, ErrorKind};
use multer::{Field, Multipart};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;

use crate::refusal::{Refusal, Result};

/// What may be read of a form without finding a part's head or content in it.
const BETWEEN: usize = 1 << 20;
/// Files in one request.
const MOST: usize = 100;
/// What a request may have around its files.
const AROUND: u64 = 1 << 20;

/// A form with files.
#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "multipart/form-data"))]
#[allow(dead_code, reason = "only its schema is read")]
struct Form {
    /// Id or name.
    connector: String,
    /// A CSV, TSV, JSON lines or Excel file with its name; may come several times. A file of the same name is replaced.
    #[schemars(extend("contentMediaType" = "application/octet-stream"))]
    file: String,
}

pub fn operation() -> Operation {
    Operation::post(
        "connectors.upload",
        "/v1/connectors/{connector}/files",
        Access::Scoped(Scope::FilesWrite),
        "Takes files that a connector is to read, as a form; all of them are there in one step.",
    )
    .creates()
    .raw::<Form, Received, _>(|app, context, request| async move {
        let (parts, body) = request.into_parts();
        let body = Arc::new(Mutex::new(body.into_stream().fuse().boxed()));
        let begun = AtomicBool::new(false);
        match taken(&app, &context, &parts, &body, &begun).await {
            Ok(reply) => created(&reply),
            Err(refusal) => {
                // Who asked before sending is answered before they send.
                if begun.load(Relaxed) || !parts.headers.contains_key(header::EXPECT) {
                    hear_out(&body).await;
                }
                Ok(refusal.response().map(Body::Full))
            }
        }
    })
}

type Incoming = Arc<Mutex<BoxStream<'static, linkspan_core::Result<Bytes>>>>;

/// Who is hung up on in the middle of a word may never see the answer: what is on its way already is let in, for a while.
async fn hear_out(body: &Incoming) {
    const PATIENCE: Duration = Duration::from_secs(3);
    let rest = async { while let Some(Ok(_)) = poll_fn(|cx| held(body).as_mut().poll_next(cx)).await {} };
    tokio::time::timeout(PATIENCE, rest).await.ok();
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn created(reply: &Reply<Received>) -> linkspan_core::Result<Response<Body>> {
    let text = serde_json::to_vec(&reply.body).map_err(|e| Error::new(ErrorKind::Internal, "an answer could not be encoded").because(e))?;
    let mut response = Response::new(Body::Full(text.into()));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let linkspan_app::Done::Created(at) = &reply.done
        && let Ok(at) = HeaderValue::try_from(at)
    {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

async fn taken(app: &Arc<App>, context: &CallContext, parts: &Parts, body: &Incoming, begun: &AtomicBool) -> Result<Reply<Received>> {
    let connector = parts.extensions.get::<Placeholders>().and_then(|p| p.0.get("connector")).cloned().unwrap_or_default();
    let mut upload = Upload::begin(app, context, &connector).await?;
    let boundary = boundary(&parts.headers)?;
    let most = app.settings.uploads.file + AROUND;
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > most) {
        return Err(too_large(app.settings.uploads.file));
    }
    begun.store(true, Relaxed);
    let unread = Arc::new(AtomicUsize::new(0));
    let mut form = Multipart::new(Pieces { inner: body.clone(), left: most, unread: unread.clone(), breath: false }, boundary);
    let mut files = 0;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        unread.store(0, Relaxed);
        files += 1;
        if files > MOST {
            return Err(mistake("the form has too many files").with("limit_files", MOST).fix("send them in several requests").into());
        }
        file(&mut upload, field, &unread).await?;
    }
    Ok(upload.commit().await?)
}

async fn file(upload: &mut Upload, mut field: Field<'_>, unread: &AtomicUsize) -> Result<()> {
    let Some(name) = file_name(&field) else {
        return Err(mistake("the form has a field that is no file")
            .with("field", field.name().unwrap_or_default())
            .fix("send files only: curl -F file=@orders.csv")
            .into());
    };
    let media = field.content_type().map(ToString::to_string);
    upload.file(&name, media.as_deref()).await.map_err(refused)?;
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        unread.store(0, Relaxed);
        upload.write(piece).await.map_err(refused)?;
    }
    upload.end().await.map_err(refused)
}

/// Names beyond ASCII may come in a form of their own, which counts where both are given.
fn file_name(field: &Field<'_>) -> Option<String> {
    let disposition = field.headers().get(header::CONTENT_DISPOSITION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let coded = disposition.split(';').filter_map(|p| p.trim().split_once('=')).find(|(k, _)| k.trim().eq_ignore_ascii_case("filename*"));
    let name = coded.and_then(|(_, v)| v.trim().split_once("''")).filter(|(set, _)| set.eq_ignore_ascii_case("utf-8"));
    match name {
        Some((_, name)) => Some(percent_decode_str(name).decode_utf8_lossy().into_owned()),
        None => field.file_name().map(str::to_owned),
    }
}

fn boundary(headers: &HeaderMap) -> Result<String> {
    let other = |message: &'static str| {
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, mistake(message).fix("send a form: curl -F file=@orders.csv"))
    };
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(other("the request as a whole is packed; pack the file instead (orders.csv.gz)"));
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return Err(other("files come as a form")) };
    multer::parse_boundary(kind).map_err(|_| other("files come as multipart/form-data with a boundary"))
}

fn too_large(limit: u64) -> Refusal {
    let error = mistake("the request is larger than is taken").with("limit_bytes", limit);
    let fix = "pack the file (.csv.gz) or send it in parts; the operator sets LINKSPAN_UPLOAD_MAX_MB";
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.fix(fix))
}

fn mistake(message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn refused(refused: Refused) -> Refusal {
    match refused.why {
        Why::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, refused.error),
        Why::OtherMedia => Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, refused.error),
        Why::Else => refused.error.into(),
    }
}

fn broken(e: multer::Error) -> Refusal {
    match e {
        multer::Error::StreamReadFailed(e) => match e.downcast::<Error>() {
            Ok(e) if e.kind() == ErrorKind::StorageFull => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, *e),
            Ok(e) if e.kind() == ErrorKind::Timeout => Refusal::new(StatusCode::REQUEST_TIMEOUT, *e),
            Ok(e) if e.kind() == ErrorKind::Unavailable => Refusal::new(StatusCode::BAD_REQUEST, *e),
            Ok(e) => (*e).into(),
            Err(e) => mistake("the form broke off").because(e).into(),
        },
        multer::Error::IncompleteFieldData { .. } | multer::Error::IncompleteStream | multer::Error::IncompleteHeaders => {
            mistake("the form ends too early").fix("send it again, whole").because(e.to_string()).into()
        }
        e => mistake("the form is not written as forms are")
            .fix("send it with a client that knows forms: curl -F file=@orders.csv")
            .because(e.to_string())
            .into(),
    }
}

/// A body for a parser that takes all it can get at once: it gets one piece, and no second before it has looked at the first.
struct Pieces {
    inner: Incoming,
    /// Bytes that may still come.
    left: u64,
    /// Bytes since the parser last found something.
    unread: Arc<AtomicUsize>,
    breath: bool,
}

impl Stream for Pieces {
    type Item = linkspan_core::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.breath) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = held(&self.inner).as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.breath = true;
            let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                let error = Error::new(ErrorKind::StorageFull, "the request is larger than is taken");
                return Poll::Ready(Some(Err(error.fix("pack the file (.csv.gz) or send it in parts"))));
            };
            self.left = left;
            if self.unread.fetch_add(piece.len(), Relaxed) > BETWEEN {
                let error = mistake("the form has more between its files than forms have").with("limit_bytes", BETWEEN);
                return Poll::Ready(Some(Err(error)));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn form(pieces: Vec<&'static [u8]>) -> (Multipart<'static>, Arc<AtomicUsize>) {
        let unread = Arc::new(AtomicUsize::new(0));
        let inner = stream::iter(pieces.into_iter().map(|p| Ok(Bytes::from_static(p)))).fuse().boxed();
        let inner = Arc::new(Mutex::new(inner));
        (Multipart::new(Pieces { inner, left: u64::MAX, unread: unread.clone(), breath: false }, "b"), unread)
    }

    #[tokio::test]
    async fn a_file_comes_in_pieces_however_it_is_cut() {
        let whole: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nid\r\n\r--1\r\n--b--\r\n";
        for cut in 1..whole.len() {
            let (mut form, _) = form(vec![&whole[..cut], &whole[cut..]]);
            let mut field = form.next_field().await.expect("a field").expect("one");
            assert_eq!(file_name(&field).as_deref(), Some("a.csv"));
            let mut read = Vec::new();
            while let Some(piece) = field.chunk().await.expect("a piece") {
                read.extend_from_slice(&piece);
            }
            assert_eq!(read, b"id\r\n\r--1", "cut at {cut}");
            drop(field);
            assert!(form.next_field().await.expect("an end").is_none());
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_given_up() {
        static NOISE: [u8; 1 << 16] = [b'x'; 1 << 16];
        for start in [&b""[..], b"--b\r\nContent-Disposition: "] {
            let mut pieces = vec![start];
            pieces.extend((0..1_000).map(|_| &NOISE[..]));
            let (mut form, unread) = form(pieces);
            let refusal = form.next_field().await.map(drop).map_err(broken).expect_err("refused");
            assert_eq!(refusal.status, 400);
            assert!(unread.load(Relaxed) < BETWEEN + 3 * NOISE.len());
        }
    }

    #[tokio::test]
    async fn a_name_beyond_ascii_may_be_coded() {
        let head = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"_.csv\"; filename*=UTF-8''%C3%BCber%20uns.csv\r\n\r\n1\r\n--b--\r\n";
        let (mut form, _) = form(vec![head]);
        let field = form.next_field().await.expect("a field").expect("one");
        assert_eq!(file_name(&field).as_deref(), Some("über uns.csv"));
    }
}
