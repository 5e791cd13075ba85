//! What a user can do, as data: one table that HTTP, OpenAPI, the CLI, agents, docs and clients are read from.
//! A row says who may call it; a row without a rule cannot be written.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures::{future::BoxFuture, stream::BoxStream};
use http::Method;
use linkspan_core::{Body, Effect, Error, ErrorKind, Result, misfit, suggest};
use linkspan_store::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    app::App,
    caller::{Access, CallContext, CallerKind},
};

/// Of an `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;

/// One row of the table.
pub struct Operation {
    /// `noun.verb`, unique: the CLI's words, the OpenAPI operation id and the agent tool's name.
    pub name: &'static str,
    pub method: Method,
    /// `/v1/connectors/{connector}`: a placeholder is a field of the input; the other fields come from the query (GET, DELETE) or the body.
    pub path: &'static str,
    /// One sentence for people; the first line of its docs everywhere.
    pub doc: &'static str,
    pub access: Access,
    pub effect: Effect,
    pub faces: &'static [Face],
    pub cli: Option<Cli>,
    /// The success that is answered when all goes well, for the docs; a reply may say otherwise.
    pub done: Done,
    input: Box<SchemaFn>,
    output: Box<SchemaFn>,
    pub run: Run,
}

/// Makes a JSON Schema when it is asked for.
pub type SchemaFn = dyn Fn() -> Value + Send + Sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    Http,
    Cli,
    Agent,
}

/// The command that calls the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cli {
    /// `connectors create`: the words after the program's name.
    pub words: &'static str,
    /// The input's fields that are given by position; the others are options.
    pub positional: &'static [&'static str],
}

pub type CallFn = dyn Fn(Arc<App>, CallContext, Value) -> BoxFuture<'static, Result<Reply<Json>>> + Send + Sync;
pub type WatchFn = dyn Fn(Arc<App>, CallContext, Value) -> BoxFuture<'static, Result<BoxStream<'static, Result<Value>>>> + Send + Sync;
pub type RawFn = dyn Fn(Arc<App>, CallContext, http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>>> + Send + Sync;

/// How it runs.
pub enum Run {
    /// One input, one answer.
    Call(Box<CallFn>),
    /// One input, answers until the asker or the matter ends: SSE or NDJSON.
    Watch(Box<WatchFn>),
    /// The request as it came: uploads, metrics, pages. No command and no tool is derived from it; path placeholders lie in the
    /// request's extensions as [`Placeholders`].
    Raw(Box<RawFn>),
}

/// The path's placeholders of a raw request, by name.
#[derive(Clone, Debug, Default)]
pub struct Placeholders(pub BTreeMap<String, String>);

/// What kind of success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Ok,
    /// Made; the path where it is.
    Created(String),
    /// Taken on; the path where its progress is.
    Accepted(String),
    Empty,
}

/// An answer; `T` is the operation's output, `Value` once it left its handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply<T = Value> {
    pub done: Done,
    /// The version of what is shown, for `ETag` and `If-Match`.
    pub etag: Option<String>,
    pub body: T,
}

impl<T> Reply<T> {
    pub fn ok(body: T) -> Self {
        Self { done: Done::Ok, etag: None, body }
    }
    pub fn created(at: impl Into<String>, body: T) -> Self {
        Self { done: Done::Created(at.into()), etag: None, body }
    }
    pub fn accepted(at: impl Into<String>, body: T) -> Self {
        Self { done: Done::Accepted(at.into()), etag: None, body }
    }
    pub fn empty(body: T) -> Self {
        Self { done: Done::Empty, etag: None, body }
    }
    pub fn version(mut self, version: u64) -> Self {
        self.etag = Some(etag(version));
        self
    }
}

impl<T: Serialize> Reply<T> {
    /// The reply as every face hands it on.
    pub fn encoded(self) -> Result<Reply<Json>> {
        Ok(Reply { done: self.done, etag: self.etag, body: Json::of(&self.body)? })
    }
}

impl Reply<Json> {
    /// For faces that look into it.
    pub fn parsed(self) -> Result<Reply> {
        let body = self.body.parse().map_err(|e| Error::new(ErrorKind::Internal, "an answer could not be read again").because(e))?;
        Ok(Reply { done: self.done, etag: self.etag, body })
    }
}

/// A version as it stands in `ETag` and `If-Match`.
pub fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// A field of a PATCH: left out, set to null, or set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    #[default]
    Absent,
    Null,
    Set(T),
}

impl<T> Patch<T> {
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
    /// Changes what stands: absent keeps it, null empties it.
    pub fn apply(self, stands: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *stands = None,
            Self::Set(value) => *stands = Some(value),
        }
    }
}

/// The field must carry `#[serde(default)]`, so that a missing one is absent.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(d)?.map_or(Self::Null, Self::Set))
    }
}
impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(value) => value.serialize(s),
            Self::Absent | Self::Null => s.serialize_none(),
        }
    }
}
impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Patch_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A row that has no handler yet.
pub struct Draft {
    name: &'static str,
    method: Method,
    path: &'static str,
    doc: &'static str,
    access: Access,
    effect: Effect,
    faces: &'static [Face],
    cli: Option<Cli>,
    done: Done,
}

macro_rules! verbs {
    ($($verb:ident $method:ident $effect:ident),*) => { $(
        pub fn $verb(name: &'static str, path: &'static str, access: Access, doc: &'static str) -> Draft {
            Draft::new(name, Method::$method, path, access, Effect::$effect, doc)
        }
    )* };
}

impl Operation {
    verbs!(get GET Reads, post POST Changes, put PUT Changes, patch PATCH Changes, delete DELETE Changes);

    /// The JSON Schema of the input: path, query and body fields in one object.
    pub fn input(&self) -> Value {
        (self.input)()
    }
    pub fn output(&self) -> Value {
        (self.output)()
    }
    pub fn has(&self, face: Face) -> bool {
        self.faces.contains(&face)
    }
    /// The names in the path's braces, in order.
    pub fn placeholders(&self) -> Vec<&'static str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }
    /// Whether this caller may call it at all; faces ask before they read a body.
    pub fn admit(&self, context: &CallContext) -> Result<()> {
        self.access.admit(&context.caller, self.name)
    }
    /// Calls it: rights first, then what is remembered of an `Idempotency-Key`, then the handler.
    pub async fn call(&self, app: Arc<App>, context: CallContext, input: Value) -> Result<Reply> {
        self.answer(app, context, input).await?.parsed()
    }
    /// The same, with the answer as the text that is sent.
    pub async fn answer(&self, app: Arc<App>, mut context: CallContext, input: Value) -> Result<Reply<Json>> {
        self.admit(&context)?;
        let Run::Call(run) = &self.run else { return Err(not_a_call(self.name)) };
        context.operation = self.name;
        match self.answered_before(&app, &mut context, &input).await? {
            Some(answer) => Ok(answer),
            None => run(app, context, input).await,
        }
    }
    async fn answered_before(&self, app: &App, context: &mut CallContext, input: &Value) -> Result<Option<Reply<Json>>> {
        if self.effect == Effect::Reads {
            return Ok(None);
        }
        let answer = answered_before(app, context, input).await?;
        Ok(answer.and_then(|answer| serde_json::from_value(answer).ok()))
    }
    pub async fn watch(&self, app: Arc<App>, mut context: CallContext, input: Value) -> Result<BoxStream<'static, Result<Value>>> {
        self.admit(&context)?;
        context.operation = self.name;
        let Run::Watch(run) = &self.run else { return Err(not_a_call(self.name)) };
        run(app, context, input).await
    }
    pub async fn raw(&self, app: Arc<App>, mut context: CallContext, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.admit(&context)?;
        context.operation = self.name;
        let Run::Raw(run) = &self.run else { return Err(not_a_call(self.name)) };
        run(app, context, request).await
    }
}

impl Draft {
    fn new(name: &'static str, method: Method, path: &'static str, access: Access, effect: Effect, doc: &'static str) -> Self {
        Self { name, method, path, doc, access, effect, faces: &[Face::Http, Face::Cli, Face::Agent], cli: None, done: Done::Ok }
    }
    /// A POST that changes nothing here or there.
    pub fn reads(mut self) -> Self {
        self.effect = Effect::Reads;
        self
    }
    pub fn faces(mut self, faces: &'static [Face]) -> Self {
        self.faces = faces;
        self
    }
    pub fn cli(mut self, words: &'static str, positional: &'static [&'static str]) -> Self {
        self.cli = Some(Cli { words, positional });
        self
    }
    /// Answers 201 when all goes well.
    pub fn creates(mut self) -> Self {
        self.done = Done::Created(String::new());
        self
    }
    /// Answers 204 when all goes well.
    pub fn empties(mut self) -> Self {
        self.done = Done::Empty;
        self
    }
    /// Answers 202 when all goes well.
    pub fn accepts(mut self) -> Self {
        self.done = Done::Accepted(String::new());
        self
    }
    fn with(
        self,
        input: impl Fn() -> Value + Send + Sync + 'static,
        output: impl Fn() -> Value + Send + Sync + 'static,
        run: Run,
    ) -> Operation {
        let Self { name, method, path, doc, access, effect, faces, cli, done } = self;
        let (input, output) = (Box::new(input), Box::new(output));
        Operation { name, method, path, doc, access, effect, faces, cli, done, input, output, run }
    }
    /// `I` must carry `#[serde(deny_unknown_fields)]`: a field that nobody knows is an error, never dropped.
    pub fn call<I, O, F>(self, run: impl Fn(Arc<App>, CallContext, I) -> F + Send + Sync + Clone + 'static) -> Operation
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<Reply<O>>> + Send + 'static,
    {
        let run = move |app: Arc<App>, context: CallContext, input: Value| -> BoxFuture<'static, Result<Reply<Json>>> {
            let run = run.clone();
            Box::pin(async move { run(app, context, decoded::<I>(input)?).await?.encoded() })
        };
        self.with(schema::<I>, schema::<O>, Run::Call(Box::new(run)))
    }
    pub fn watch<I, O, F>(self, run: impl Fn(Arc<App>, CallContext, I) -> F + Send + Sync + Clone + 'static) -> Operation
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<BoxStream<'static, Result<Value>>>> + Send + 'static,
    {
        let run =
            move |app: Arc<App>, context: CallContext, input: Value| -> BoxFuture<'static, Result<BoxStream<'static, Result<Value>>>> {
                let run = run.clone();
                Box::pin(async move { run(app, context, decoded::<I>(input)?).await })
            };
        self.with(schema::<I>, schema::<O>, Run::Watch(Box::new(run)))
    }
    pub fn raw<I, O, F>(self, run: impl Fn(Arc<App>, CallContext, http::Request<Body>) -> F + Send + Sync + Clone + 'static) -> Operation
    where
        I: JsonSchema + 'static,
        O: JsonSchema + 'static,
        F: Future<Output = Result<http::Response<Body>>> + Send + 'static,
    {
        self.raw_as(schema::<I>, schema::<O>, run)
    }
    /// The same where no type of this program says what the request and the answer look like.
    pub fn raw_as<F>(
        mut self,
        input: impl Fn() -> Value + Send + Sync + 'static,
        output: impl Fn() -> Value + Send + Sync + 'static,
        run: impl Fn(Arc<App>, CallContext, http::Request<Body>) -> F + Send + Sync + Clone + 'static,
    ) -> Operation
    where
        F: Future<Output = Result<http::Response<Body>>> + Send + 'static,
    {
        self.faces = &[Face::Http];
        let run = move |app: Arc<App>,
                        context: CallContext,
                        request: http::Request<Body>|
              -> BoxFuture<'static, Result<http::Response<Body>>> { Box::pin(run(app, context, request)) };
        self.with(input, output, Run::Raw(Box::new(run)))
    }
}

/// What a known caller's `Idempotency-Key` was answered to the same wish; its own transaction remembers the answer. `Conflict` for a key
/// of another wish.
pub(crate) async fn answered_before(app: &App, context: &mut CallContext, wish: &Value) -> Result<Option<Value>> {
    let Some(key) = context.idempotency_key.clone() else { return Ok(None) };
    if context.caller.kind == CallerKind::Anonymous {
        return Ok(None);
    }
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the Idempotency-Key is empty or too long")
            .fix(format!("give it 1 to {LONGEST_KEY} characters, a UUID for instance")));
    }
    let mut sorted = wish.clone();
    sorted.sort_all_objects();
    let asked = app.identity.signer.digest(&format!("{}\0{}\0{sorted}", context.operation, context.project));
    let known = app.store.remembered(&context.project, &context.caller.key(), &key).await?;
    context.asked = Some(asked.clone());
    match known {
        None => Ok(None),
        Some(known) if known.hash == asked => Ok(Some(known.answer)),
        Some(_) => Err(Error::new(ErrorKind::Conflict, "this Idempotency-Key was used for another request")
            .with("precondition", "idempotency-key")
            .fix("use a new key for each new request")),
    }
}

fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn not_a_call(name: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "the operation is called in another way").with("operation", name)
}

/// An input by its schema. The error names the field and what was expected, never the value.
pub fn decoded<I: DeserializeOwned + JsonSchema>(input: Value) -> Result<I> {
    I::deserialize(&input).map_err(|e| {
        let error = input_error(&schema::<I>(), &e.to_string());
        match misfit::field_at_fault::<I>(&input, &e) {
            Some(field) if error.context().iter().all(|(key, _)| *key != "field") => error.with("field", field),
            _ => error,
        }
    })
}

fn input_error(schema: &Value, text: &str) -> Error {
    let known: Vec<&str> = schema["properties"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    let field = text.split('`').nth(1).unwrap_or_default().to_owned();
    if text.starts_with("unknown field") {
        let fix = suggest::did_you_mean(&field, known.iter().copied()).unwrap_or_else(|| format!("the fields are: {}", known.join(", ")));
        return Error::new(ErrorKind::ConfigInvalid, "the request has a field that this operation does not know")
            .with("field", field)
            .fix(fix);
    }
    if text.starts_with("missing field") {
        return Error::new(ErrorKind::ConfigInvalid, "the request lacks a field").with("field", &field).fix(format!("add `{field}`"));
    }
    // serde's other texts quote the value, which may be a secret: only what was expected is told.
    Error::new(ErrorKind::ConfigInvalid, "a field of the request has a value of the wrong kind")
        .with("expected", misfit::expected(text))
        .fix("compare the request with /v1/openapi.json")
}

/// A request that needs nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        name: String,
        #[serde(default)]
        note: Patch<String>,
    }

    #[test]
    fn a_patch_field_knows_absent_null_and_set() {
        let of = |v: Value| {
            let fields = decoded::<Fields>(v).unwrap();
            assert_eq!(fields.name, "a");
            fields.note
        };
        assert_eq!(of(json!({"name": "a"})), Patch::Absent);
        assert_eq!(of(json!({"name": "a", "note": null})), Patch::Null);
        assert_eq!(of(json!({"name": "a", "note": "x"})), Patch::Set("x".into()));
    }

    #[test]
    fn a_wrong_input_is_named_without_its_value() {
        let e = decoded::<Fields>(json!({"nam": "canary"})).unwrap_err();
        assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some("did you mean \"name\"?")));
        let e = decoded::<Fields>(json!({"note": "n", "name": ["canary"]})).unwrap_err();
        assert_eq!(e.context(), [("expected", "a string".to_owned()), ("field", "name".to_owned())]);
        assert!(!format!("{e:?}").contains("canary"), "{e:?}");
    }
}
