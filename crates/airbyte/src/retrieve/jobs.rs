//! Jobs at the other side: asked for, polled until they are done, fetched, and tidied away.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::{NoSchema, Retriever, Stream, Unordered, simple::Simple};
use crate::{
    answer::Answer,
    ask::{Asked, Extra, Requester, Setting},
    component::Component,
    decode::Decoder,
    errors::reject_paging_actions,
    extract::{Extractor, Lists},
    python::text,
    record::Record,
    slice::Slice,
    wiring::Build,
};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Running,
    Completed,
    Failed,
    TimedOut,
    /// There is nothing to fetch.
    Skipped,
}

/// Everything that is said to the API about jobs.
pub struct Jobs {
    creation: Requester,
    polling: Requester,
    targets: Option<Requester>,
    abort: Option<Requester>,
    delete: Option<Requester>,
    download: Arc<Simple>,
    decoder: Decoder,
    status: Extractor,
    target: Option<Extractor>,
    statuses: HashMap<String, Status>,
    timeout: SignedDuration,
    /// Jobs whose results wait to be fetched, by the number that their slice carries.
    done: Mutex<HashMap<u64, Job>>,
    last: AtomicU64,
    build: Build,
}

/// A job that the API took on.
pub struct Job {
    pub slice: Arc<Slice>,
    created: Arc<Answer>,
    polled: Option<Arc<Answer>>,
    pub until: Timestamp,
}

impl Jobs {
    pub fn build(component: &Component<'_>, name: &str, build: &Build) -> Result<Self> {
        let requester = |field: &str, what: &str| -> Result<Option<Requester>> {
            let setting = format!("{what} - {name}");
            component.child(field)?.map(|c| Requester::build(&c, &Setting { name: &setting }, build)).transpose()
        };
        for field in [
            "creation_requester",
            "polling_requester",
            "download_requester",
            "download_target_requester",
            "abort_requester",
            "delete_requester",
        ] {
            component.child(field)?.as_ref().map_or(Ok(()), reject_paging_actions)?;
        }
        let required = |field: &'static str, what: &str| {
            requester(field, what)?.ok_or_else(|| component.error("an asynchronous retriever needs this requester").with("field", field))
        };
        let never = |c: &Component<'_>| -> Result<Arc<dyn Lists>> { Err(c.error("a job's answers have no lists that are cut short")) };
        let extractor = |field: &str| component.child(field)?.map(|c| Extractor::build(&c, name, &never, build)).transpose();
        let target = extractor("download_target_extractor")?;
        let targets = requester("download_target_requester", "job extract_url")?;
        if targets.is_some() && target.is_none() {
            return Err(component.error("download_target_requester needs a download_target_extractor"));
        }
        let minutes = component.template("polling_job_timeout")?.map(|t| t.value(&build.scope())).transpose()?;
        let minutes = minutes.as_ref().and_then(Value::as_i64).filter(|m| *m > 0).unwrap_or(60);
        Ok(Self {
            creation: required("creation_requester", "job creation")?,
            polling: required("polling_requester", "job polling")?,
            targets,
            abort: requester("abort_requester", "job abort")?,
            delete: requester("delete_requester", "job delete")?,
            download: Arc::new(download(component, name, build)?),
            decoder: Decoder::build(component.child("decoder")?.as_ref())?,
            status: extractor("status_extractor")?.ok_or_else(|| component.error("an asynchronous retriever needs a status_extractor"))?,
            target,
            statuses: statuses(&component.required("status_mapping")?)?,
            timeout: SignedDuration::from_mins(minutes.min(60 * 24 * 365)),
            done: Mutex::default(),
            last: AtomicU64::new(0),
            build: build.clone(),
        })
    }

    /// Asks for a job.
    pub async fn start(&self, slice: Arc<Slice>) -> Result<Job> {
        let created = ok(self.creation.ask(&slice, &Value::Null, Extra::default()).await?, "the API did not take on the job")?;
        Ok(Job { until: self.end(), slice, created, polled: None })
    }

    fn end(&self) -> Timestamp {
        self.build.clock.now().checked_add(self.timeout).unwrap_or(Timestamp::MAX)
    }

    /// Asks how the job is doing; what it said last is kept with it.
    pub async fn poll(&self, job: &mut Job) -> Result<Status> {
        let slice = with(&job.slice, [("creation_response", shown(&job.created))])?;
        let answer = answered(self.polling.ask(&slice, &Value::Null, Extra::default()).await?)?;
        let found = self.status.extract(&answer, &self.decoder, &self.build).await?;
        let word = found.records.first().map_or_else(|| "None".to_owned(), |record| text(&record.value()));
        let status = self.statuses.get(&word).copied().ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "the API says of a job what the manifest does not know")
                .with("status", word)
                .fix("add the status to status_mapping")
        })?;
        job.polled = Some(answer);
        Ok(if self.build.clock.now() > job.until && status == Status::Running { Status::TimedOut } else { status })
    }

    /// Keeps a job that is done; its slice says under which number.
    pub fn keep(&self, job: Job) -> Result<Slice> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let slice = Slice::new(
            job.slice.partition().clone(),
            job.slice.cursor().clone(),
            json!({ "jobs": [number] }).as_object().cloned().unwrap_or_default(),
        )?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, job);
        Ok(slice)
    }

    fn taken(&self, slice: &Slice) -> Option<Job> {
        let number = slice.extra().get("jobs")?.get(0)?.as_u64()?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// Stops a job at the other side, as well as that can be done.
    pub async fn abort(&self, job: &Job) {
        let Some(abort) = &self.abort else { return };
        if let Ok(slice) = with(&job.slice, [("creation_response", shown(&job.created))]) {
            let _ = abort.ask(&slice, &Value::Null, Extra::default()).await;
        }
    }

    /// The pages of a finished job's result; afterwards the job is deleted at the other side.
    pub fn results(self: Arc<Self>, slice: &Slice) -> BoxStream<'static, Result<Vec<Record>>> {
        let Some(job) = self.taken(slice) else { return futures::stream::empty().boxed() };
        let pages = async move {
            let targets = self.targets_of(&job).await?;
            let job = Arc::new(job);
            let (jobs, of) = (self.clone(), job.clone());
            let pages = futures::stream::iter(targets)
                .map(move |target| -> Result<_> {
                    let polled = of.polled.as_deref().map(shown).unwrap_or_default();
                    let slice = with(
                        &of.slice,
                        [("download_target", target), ("creation_response", shown(&of.created)), ("polling_response", polled)],
                    )?;
                    Ok(jobs.download.clone().pages(Arc::new(slice)))
                })
                .try_flatten();
            let tidied = futures::stream::once(async move { self.delete(&job).await.map(|()| Vec::new()) });
            Ok::<_, Error>(pages.chain(tidied))
        };
        futures::stream::once(pages).try_flatten().boxed()
    }

    async fn targets_of(&self, job: &Job) -> Result<Vec<Value>> {
        let Some(extractor) = &self.target else { return Ok(vec!["".into()]) };
        let polled = job.polled.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "a job is done that was never polled"))?;
        let answer = match &self.targets {
            None => polled,
            Some(requester) => {
                let slice = with(&Slice::empty(), [("polling_response", shown(&polled))])?;
                ok(requester.ask(&slice, &Value::Null, Extra::default()).await?, "the API does not say where the job's result is")?
            }
        };
        let found = extractor.extract(&answer, &self.decoder, &self.build).await?;
        Ok(found.records.into_iter().map(Record::into_value).collect())
    }

    async fn delete(&self, job: &Job) -> Result<()> {
        let Some(delete) = &self.delete else { return Ok(()) };
        let slice = with(&job.slice, [("creation_response", shown(&job.created))])?;
        delete.ask(&slice, &Value::Null, Extra::default()).await.map(drop)
    }
}

/// The slice with more fields riding along.
fn with<const N: usize>(slice: &Slice, more: [(&str, Value); N]) -> Result<Slice> {
    let mut extra = slice.extra().clone();
    extra.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Slice::new(slice.partition().clone(), slice.cursor().clone(), extra)
}

/// An answer as templates see it: its fields, its headers, and where it came from.
fn shown(answer: &Answer) -> Value {
    let mut fields = answer.json().and_then(Value::as_object).cloned().unwrap_or_default();
    fields.entry("headers").or_insert_with(|| answer.headers_json().clone());
    fields.entry("request").or_insert_with(|| json!({ "url": answer.url }));
    fields.into()
}

fn answered(asked: Asked) -> Result<Arc<Answer>> {
    match asked {
        Asked::Answer(answer) => Ok(answer),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "requests about jobs have no pages and no windows")
            .fix("remove the action from the error handler")),
    }
}

fn ok(asked: Asked, message: &'static str) -> Result<Arc<Answer>> {
    let answer = answered(asked)?;
    match answer.is_ok() {
        true => Ok(answer),
        false => Err(Error::new(ErrorKind::DataInvalid, message).with("status", answer.status.as_u16())),
    }
}

fn statuses(component: &Component<'_>) -> Result<HashMap<String, Status>> {
    let mut statuses = HashMap::new();
    let kinds = [
        ("running", Status::Running),
        ("completed", Status::Completed),
        ("failed", Status::Failed),
        ("timeout", Status::TimedOut),
        ("skipped", Status::Skipped),
    ];
    for (field, status) in kinds {
        for word in component.field(field).and_then(Value::as_array).into_iter().flatten() {
            if statuses.insert(text(word), status).is_some() {
                return Err(component.error("a status is mapped twice").with("status", text(word)));
            }
        }
    }
    Ok(statuses)
}

/// Results are read by a retriever of their own, without filters and transformations.
fn download(component: &Component<'_>, name: &str, build: &Build) -> Result<Simple> {
    let part = |field: &str| component.field(field).cloned();
    let extractor = part("download_extractor").unwrap_or_else(|| json!({"type": "DpathExtractor", "field_path": []}));
    let mut made = json!({
        "type": "SimpleRetriever",
        "requester": part("download_requester"),
        "record_selector": {"type": "RecordSelector", "extractor": extractor},
    });
    for (field, target) in [("download_decoder", "decoder"), ("download_paginator", "paginator")] {
        if let Some(found) = part(field) {
            made[target] = found;
        }
    }
    let nothing = Value::Object(Map::new());
    let stream = Stream {
        name: &format!("job download - {name}"),
        component: &Component::new(&nothing, component.path())?,
        order: Arc::new(Unordered),
        schema: Arc::new(NoSchema),
        is_client_side_incremental: false,
        is_data_feed: false,
        has_state: false,
    };
    Simple::build(&Component::new(&made, component.path())?, stream, build)
}
