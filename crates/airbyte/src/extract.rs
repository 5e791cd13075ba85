//! Extractors: where in an answer the records are.

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

/// Finds the records of an answer.
pub enum Extractor {
    Path(Vec<Template>),
}

/// The records of one answer, and how many the extractor counted.
pub struct Extracted {
    pub records: Vec<Record>,
    pub count: usize,
}

impl Extractor {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        match component.kind() {
            "DpathExtractor" => Ok(Self::Path(component.templates("field_path")?)),
            _ => Err(component.unknown_kind()),
        }
    }

    pub fn extract(&self, answer: &Answer, decoder: &Decoder, build: &Build) -> Result<Extracted> {
        let Self::Path(templates) = self;
        let scope = build.scope();
        let path = templates.iter().map(|t| t.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
        let records = match cut(answer, decoder, &path) {
            Some(records) => records,
            None => read(answer, decoder, &path)?,
        };
        Ok(Extracted { count: records.len(), records })
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
