//! Expanders: the items of a list inside of a record become records of their own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::{Lists, MakeLists};
use crate::{
    component::Component,
    dpath::{self, Step},
    record::Record,
    template::Template,
    truth::is_true,
    wiring::{Build, Note},
};

pub struct Expander {
    path: Vec<Step>,
    /// Where a record says that its list was cut short.
    truncated: Vec<Step>,
    whole: Option<Arc<dyn Lists>>,
    parent_fields: Vec<(Vec<Step>, Vec<Step>)>,
    merges_parent: bool,
    keeps_parent: bool,
    emits_parent: bool,
    warnings: Warnings,
}

/// Lists that stay cut short are told of, each kind once: the rows that they lack are missed by nobody else.
struct Warnings {
    build: Build,
    stream: String,
    has_told_of_embedded: AtomicBool,
    has_told_of_fetched: AtomicBool,
}

impl Expander {
    pub fn build(component: &Component<'_>, of: &str, lists: MakeLists<'_>, build: &Build) -> Result<Self> {
        let steps = |c: &Component<'_>, field: &str| -> Result<Vec<Step>> {
            let scope = build.scope();
            c.templates(field)?.iter().map(|t: &Template| t.value(&scope).map(|v| Step::of(&v))).collect()
        };
        let single = |c: &Component<'_>, field: &str| -> Result<Vec<Step>> {
            let steps = steps(c, field)?;
            match steps.iter().any(|s| matches!(s, Step::Pattern(_) | Step::Any)) {
                true => Err(c.error("this path must lead to one field").with("field", field)),
                false => Ok(steps),
            }
        };
        let truncated = single(component, "truncation_indicator_path")?;
        let whole = component.child("truncated_list_retriever")?.map(|c| lists(&c)).transpose()?;
        if whole.is_some() && truncated.is_empty() {
            return Err(component.error("truncated_list_retriever needs a truncation_indicator_path"));
        }
        let path =
            if whole.is_some() { single(component, "expand_records_from_field")? } else { steps(component, "expand_records_from_field")? };
        let parent_fields = component.children("parent_fields")?;
        let whole_path = |c: &Component<'_>, field: &str| match single(c, field)? {
            path if path.is_empty() => Err(c.error("a path cannot be empty").with("field", field)),
            path => Ok(path),
        };
        Ok(Self {
            path,
            truncated,
            whole,
            parent_fields: parent_fields
                .iter()
                .map(|c| Ok((whole_path(c, "parent_path")?, whole_path(c, "record_path")?)))
                .collect::<Result<_>>()?,
            merges_parent: component.flag("merge_parent")?.unwrap_or(false),
            keeps_parent: component.flag("remain_original_record")?.unwrap_or(false),
            emits_parent: component.text("on_no_records")? == Some("emit_parent"),
            warnings: Warnings {
                build: build.clone(),
                stream: of.to_owned(),
                has_told_of_embedded: AtomicBool::new(false),
                has_told_of_fetched: AtomicBool::new(false),
            },
        })
    }

    pub async fn expanded(&self, records: Vec<Record>) -> Result<Vec<Record>> {
        let mut out = Vec::with_capacity(records.len());
        for record in records {
            if self.path.is_empty() || !record.value().is_object() {
                out.push(record);
                continue;
            }
            let parent = record.into_value();
            if !self.fetched(&parent, &mut out).await? {
                self.embedded(parent, &mut out)?;
            }
        }
        Ok(out)
    }

    /// The list as the API gives it whole; false when it was not cut short, or nothing came.
    async fn fetched(&self, parent: &Value, out: &mut Vec<Record>) -> Result<bool> {
        let Some(whole) = &self.whole else { return Ok(false) };
        if !dpath::get(parent, &self.truncated)?.is_some_and(is_true) {
            return Ok(false);
        }
        let before = out.len();
        let base = self.base(parent);
        let mut pages = whole.of(parent);
        while let Some(page) = pages.next().await {
            for item in page? {
                out.push(self.child(parent, item.into_value(), base.as_ref())?.into());
            }
        }
        let came = out.len() - before;
        if let Some(total) = self.total(parent)?.filter(|total| u64::try_from(came).is_ok_and(|came| came < *total)) {
            self.warnings.fetched(came, total);
        }
        Ok(came > 0)
    }

    /// How long the list is, as it says beside the word that it was cut short.
    fn total(&self, parent: &Value) -> Result<Option<u64>> {
        let Some((_, place)) = self.truncated.split_last() else { return Ok(None) };
        let way: Vec<Step> = place.iter().cloned().chain([Step::of(&Value::from("total_count"))]).collect();
        Ok(dpath::get(parent, &way)?.and_then(Value::as_u64))
    }

    fn embedded(&self, parent: Value, out: &mut Vec<Record>) -> Result<()> {
        let base = self.base(&parent);
        let before = out.len();
        for list in dpath::values(&parent, &self.path) {
            for item in list.as_array().into_iter().flatten() {
                out.push(self.child(&parent, item.clone(), base.as_ref())?.into());
            }
        }
        let is_cut = self.whole.is_none() && !self.truncated.is_empty() && dpath::get(&parent, &self.truncated)?.is_some_and(is_true);
        if is_cut {
            self.warnings.embedded(out.len() - before, self.total(&parent)?);
        }
        if out.len() == before && self.emits_parent {
            out.push(parent.into());
        }
        Ok(())
    }

    /// What every child gets of its parent: all of it but the lists that are expanded.
    fn base(&self, parent: &Value) -> Option<Map<String, Value>> {
        let mut base = self.merges_parent.then(|| parent.clone())?;
        dpath::remove_lists(&mut base, &self.path);
        base.as_object().cloned()
    }

    fn child(&self, parent: &Value, item: Value, base: Option<&Map<String, Value>>) -> Result<Value> {
        let carries = base.is_some() || self.keeps_parent || !self.parent_fields.is_empty();
        let item = match item {
            Value::Object(fields) => fields,
            other if !carries => return Ok(other),
            other => json!({ "value": other }).as_object().cloned().unwrap_or_default(),
        };
        let mut child = base.cloned().unwrap_or_default();
        child.extend(item);
        let mut child = Value::Object(child);
        for (from, to) in &self.parent_fields {
            let value = looked_up(parent, from).cloned().unwrap_or(Value::Null);
            dpath::put(&mut child, to, value).map_err(|e| {
                Error::new(ErrorKind::ConfigInvalid, "a field of the parent cannot be written into its items")
                    .fix("choose another record_path")
                    .because(e)
            })?;
        }
        if self.keeps_parent
            && let Value::Object(fields) = &mut child
        {
            fields.insert("original_record".into(), parent.clone());
        }
        Ok(child)
    }
}

impl Warnings {
    fn embedded(&self, came: usize, total: Option<u64>) {
        if !self.has_told_of_embedded.swap(true, Ordering::Relaxed) {
            let total = total.map_or_else(String::new, |total| format!(" of {total}"));
            self.tell(&format!("the API cut a list short: only {came}{total} items are read. Add a truncated_list_retriever"));
        }
    }

    fn fetched(&self, came: usize, total: u64) {
        if !self.has_told_of_fetched.swap(true, Ordering::Relaxed) {
            self.tell(&format!("the whole list has {came} items where the record says {total}: see the paginator and the request of the truncated_list_retriever"));
        }
    }

    fn tell(&self, text: &str) {
        let text = format!("{text}. Other records may be cut short as well; this is told once");
        self.build.note(Note::Warning(self.stream.clone(), text));
    }
}

/// Step by step: numbers are keys of objects, and places of lists, also from behind.
fn looked_up<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(&step.shown()),
        Value::Array(list) => {
            let at: i64 = step.shown().parse().ok()?;
            let at = if at < 0 { list.len() as i64 + at } else { at };
            list.get(usize::try_from(at).ok()?)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_looked_up_step_by_step() {
        let value = json!({"a": [{"0": "x"}, {"b": 2}]});
        let path = |steps: Value| -> Vec<Step> { steps.as_array().into_iter().flatten().map(Step::of).collect() };
        assert_eq!(looked_up(&value, &path(json!(["a", 0, 0]))), Some(&json!("x")));
        assert_eq!(looked_up(&value, &path(json!(["a", -1, "b"]))), Some(&json!(2)));
        assert_eq!(looked_up(&value, &path(json!(["a", "b"]))), None);
    }
}
