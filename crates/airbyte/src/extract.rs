//! Extractors: where in an answer the records are.

mod expand;
mod file;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use linkspan_core::Result;
use serde_json::Value;

use crate::{
    answer::Answer,
    component::Component,
    decode::Decoder,
    dpath::{self, Step},
    page_text::{self, Rows},
    record::Record,
    template::Template,
    truth::is_true,
    wiring::Build,
};

use expand::Expander;

/// Finds the records of an answer.
pub enum Extractor {
    Path {
        path: Vec<Template>,
        expander: Option<Box<Expander>>,
    },
    /// A file of rows.
    File {
        keeps_na: bool,
    },
    Several {
        extractors: Vec<Extractor>,
        takes_first: bool,
        skips_empty: bool,
    },
}

/// The records of one answer, and how many the extractor counted.
#[derive(Default)]
pub struct Extracted {
    pub records: Vec<Record>,
    pub count: usize,
}

/// Lists that an API cut short, read whole.
pub trait Lists: Send + Sync {
    /// The items of the list that belongs to this record.
    fn of(&self, parent: &Value) -> BoxStream<'static, Result<Vec<Record>>>;
}

/// Makes what reads such a list.
pub type MakeLists<'a> = &'a dyn Fn(&Component<'_>) -> Result<Arc<dyn Lists>>;

impl Extractor {
    /// An extractor of the stream `of`.
    pub fn build(component: &Component<'_>, of: &str, lists: MakeLists<'_>, build: &Build) -> Result<Self> {
        match component.kind() {
            "DpathExtractor" => {
                let expander =
                    component.child("record_expander")?.map(|c| Expander::build(&c, of, lists, build).map(Box::new)).transpose()?;
                Ok(Self::Path { path: component.templates("field_path")?, expander })
            }
            "ResponseToFileExtractor" => Ok(Self::File { keeps_na: component.flag("preserve_na_values")?.unwrap_or(false) }),
            "CombinedExtractor" => {
                let extractors = component.children("extractors")?;
                if extractors.is_empty() {
                    return Err(component.error("a combined extractor needs at least one extractor"));
                }
                Ok(Self::Several {
                    extractors: extractors.iter().map(|c| Self::build(c, of, lists, build)).collect::<Result<_>>()?,
                    takes_first: component.text("mode")? == Some("first_match"),
                    skips_empty: component.flag("skip_empty_records")?.unwrap_or(false),
                })
            }
            _ => Err(component.unknown_kind()),
        }
    }

    /// Whether it counts records of more than one place: offsets would overshoot.
    pub fn adds_up(&self) -> bool {
        match self {
            Self::Path { .. } | Self::File { .. } => false,
            Self::Several { extractors, takes_first, .. } => !takes_first || extractors.iter().any(Self::adds_up),
        }
    }

    /// The way to the records, when it is made of names that never change.
    pub fn names(&self, build: &Build) -> Result<Option<Vec<String>>> {
        let Self::Path { path, expander: None } = self else { return Ok(None) };
        if !path.iter().all(Template::is_static) {
            return Ok(None);
        }
        let scope = build.scope();
        let steps = path.iter().map(|t| t.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
        Ok(steps.into_iter().map(|step| if let Step::Name(name) = step { Some(name) } else { None }).collect())
    }

    pub fn is_combined(&self) -> bool {
        matches!(self, Self::Several { .. })
    }

    pub fn extract<'a>(&'a self, answer: &'a Answer, decoder: &'a Decoder, build: &'a Build) -> BoxFuture<'a, Result<Extracted>> {
        async move {
            match self {
                Self::Path { path, expander } => {
                    let records = at(path, answer, decoder, build)?;
                    let records = match expander {
                        Some(expander) => expander.expanded(records).await?,
                        None => records,
                    };
                    Ok(Extracted { count: records.len(), records })
                }
                Self::File { keeps_na } => {
                    let records = file::rows(answer, *keeps_na)?;
                    Ok(Extracted { count: records.len(), records })
                }
                Self::Several { extractors, takes_first, skips_empty } => {
                    let mut all = Extracted::default();
                    for extractor in extractors {
                        let mut found = extractor.extract(answer, decoder, build).await?;
                        if *skips_empty {
                            found.records.retain(|record| is_true(&record.value()));
                        }
                        if !takes_first {
                            all.count += found.count;
                            all.records.append(&mut found.records);
                        } else if !found.records.is_empty() {
                            return Ok(found);
                        }
                    }
                    Ok(all)
                }
            }
        }
        .boxed()
    }
}

fn at(path: &[Template], answer: &Answer, decoder: &Decoder, build: &Build) -> Result<Vec<Record>> {
    let scope = build.scope();
    let path = path.iter().map(|t| t.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
    match cut(answer, decoder, &path) {
        Some(records) => Ok(records),
        None => read(answer, decoder, &path),
    }
}

/// The records as pieces of the page's text, where that is possible.
fn cut(answer: &Answer, decoder: &Decoder, path: &[Step]) -> Option<Vec<Record>> {
    if !matches!(decoder, Decoder::Json) {
        return None;
    }
    let names = path.iter().map(|step| match step {
        Step::Name(name) => Some(name.as_str()),
        _ => None,
    });
    let names: Vec<&str> = names.collect::<Option<_>>()?;
    match page_text::rows(&answer.body, &names) {
        // An empty object in a list of its own is no record; inside of a page it is one.
        Rows::Objects(rows) => {
            let kept = rows.into_iter().filter(|r| !names.is_empty() || r.len() > 2);
            Some(kept.map(|r| Record::raw(answer.body.slice(r))).collect())
        }
        Rows::Missing => Some(Vec::new()),
        Rows::Unclear => None,
    }
}

fn read(answer: &Answer, decoder: &Decoder, path: &[Step]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for element in decoder.elements(answer)? {
        let element = element?;
        if path.is_empty() {
            spread(element, &mut records);
        } else if path.iter().any(is_star) {
            records.extend(dpath::values(&element, path).into_iter().cloned().map(Record::from));
        } else if let Some(found) = dpath::get(&element, path)? {
            spread(found.clone(), &mut records);
        }
    }
    Ok(records)
}

fn is_star(step: &Step) -> bool {
    matches!(step, Step::Pattern(pattern) if pattern == "*")
}

/// A list gives its items; anything else that is not empty is one record.
fn spread(found: Value, records: &mut Vec<Record>) {
    match found {
        Value::Array(items) => records.extend(items.into_iter().map(Record::from)),
        other if is_true(&other) => records.push(other.into()),
        _ => {}
    }
}
