//! The selector: extracted records, filtered, transformed, normalised.

use std::sync::Arc;

use linkspan_core::{Error, Result};
use serde_json::Value;

use super::{Order, Stream};
use crate::{
    answer::Answer,
    component::Component,
    decode::Decoder,
    extract::{Extractor, MakeLists},
    normalize::normalize,
    record::Record,
    slice::Slice,
    template::Condition,
    transform::{Plan, Rules, Transform},
    truth::is_true,
    wiring::Build,
};

/// What a page's answer holds for the stream.
pub struct Selector {
    pub extractor: Extractor,
    pub decoder: Decoder,
    filter: Option<Condition>,
    /// The cursor, where it filters records itself.
    due: Option<Arc<dyn Order>>,
    transforms: Vec<Transform>,
    /// How untouched records are changed without being read whole.
    plan: Option<Plan>,
    transforms_first: bool,
    /// Values are made what the stream's schema says.
    pub normalises: bool,
    build: Build,
}

pub struct Selected {
    pub records: Vec<Record>,
    /// What the extractor found, before anything was filtered.
    pub extracted: usize,
    /// Why the records behind these could not be read.
    pub broken: Option<Error>,
}

impl Selector {
    pub fn build(retriever: &Component<'_>, stream: &Stream<'_>, lists: MakeLists<'_>, build: &Build) -> Result<Self> {
        let component = retriever.required("record_selector")?;
        let is_client_side = stream.is_client_side_incremental;
        let filter = component.child("record_filter")?;
        if let Some(filter) = filter.as_ref().filter(|f| f.kind() != "RecordFilter") {
            return Err(filter.unknown_kind());
        }
        // A filter without a condition is one that is never met.
        let condition = filter.as_ref().map(|f| f.condition("condition").map(|c| c.unwrap_or(Condition::Always(false)))).transpose()?;
        let transforms = stream.component.children("transformations")?;
        let plan = Plan::of(filter.as_ref(), &transforms)?;
        let extractor = Extractor::build(&component.required("extractor")?, stream.name, lists, build)?;
        let decoder = Decoder::build(retriever.child("decoder")?.as_ref())?;
        if extractor.is_combined() && decoder.is_streaming() {
            return Err(component
                .error("a body that is read as it comes can be searched by one extractor only")
                .fix("use JsonDecoder, XmlDecoder or ZipfileDecoder"));
        }
        Ok(Self {
            extractor,
            decoder,
            filter: condition,
            due: (is_client_side && !stream.is_data_feed).then(|| stream.order.clone()),
            plan,
            transforms: transforms.iter().map(Transform::build).collect::<Result<_>>()?,
            transforms_first: component.flag("transform_before_filtering")?.unwrap_or(is_client_side),
            normalises: component.field("schema_normalization").is_some_and(|n| n == "Default"),
            build: build.clone(),
        })
    }

    pub async fn select(&self, answer: &Answer, slice: &Slice, token: &Value, schema: Option<&Value>) -> Result<Selected> {
        let found = self.extractor.extract(answer, &self.decoder, &self.build).await?;
        let extracted = found.count;
        let (records, broken) = self.finished(found.records, slice, token, schema);
        Ok(Selected { records, extracted, broken })
    }

    /// Extracted records, made ready to write: all of them, or those before the first that cannot be.
    pub fn finished(&self, records: Vec<Record>, slice: &Slice, token: &Value, schema: Option<&Value>) -> (Vec<Record>, Option<Error>) {
        let is_plain = self.filter.is_none() && self.due.is_none() && self.transforms.is_empty();
        let (records, broken) = if is_plain { (records, None) } else { self.refined(records, slice, token) };
        let records = match schema.filter(|s| is_true(s)) {
            Some(schema) => records.into_iter().map(|record| normal(record, schema)).collect(),
            None => records,
        };
        (records, broken)
    }

    fn refined(&self, records: Vec<Record>, slice: &Slice, token: &Value) -> (Vec<Record>, Option<Error>) {
        let rules = Rules {
            filter: self.filter.as_ref(),
            transforms: &self.transforms,
            transforms_first: self.transforms_first,
            slice,
            token,
            build: &self.build,
        };
        let plan = self.plan.as_ref().filter(|_| self.due.is_none());
        let mut kept = Vec::with_capacity(records.len());
        for record in records {
            let refined = match plan {
                Some(plan) if record.is_raw() => plan.run(record, &rules),
                _ => self.whole(record, slice, token),
            };
            match refined {
                Ok(record) => kept.extend(record),
                Err(broken) => return (kept, Some(broken)),
            }
        }
        (kept, None)
    }

    /// A record that is read whole, filtered and changed.
    fn whole(&self, record: Record, slice: &Slice, token: &Value) -> Result<Option<Record>> {
        let record = if self.transforms_first { self.transformed(record, slice)? } else { record };
        if !self.passes(&record, slice, token)? {
            return Ok(None);
        }
        if self.transforms_first { Ok(Some(record)) } else { self.transformed(record, slice).map(Some) }
    }

    fn passes(&self, record: &Record, slice: &Slice, token: &Value) -> Result<bool> {
        if let Some(order) = &self.due
            && !order.is_due(record, slice)?
        {
            return Ok(false);
        }
        let Some(filter) = &self.filter else { return Ok(true) };
        let value = record.value();
        filter.eval(&self.build.scope().record(&value).slice(slice).next_page_token(token))
    }

    fn transformed(&self, record: Record, slice: &Slice) -> Result<Record> {
        if self.transforms.is_empty() {
            return Ok(record);
        }
        let mut value = record.into_value();
        for transform in &self.transforms {
            transform.apply(&mut value, slice, &self.build)?;
        }
        Ok(value.into())
    }
}

fn normal(record: Record, schema: &Value) -> Record {
    let mut value = record.into_value();
    normalize(&mut value, schema);
    value.into()
}
