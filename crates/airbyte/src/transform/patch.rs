//! Records that are filtered and changed as text: only the members that templates look at are read, only those that change are
//! written anew.

use linkspan_core::Result;
use serde_json::{Map, Value};

use super::{Transform, fields::AddFields};
use crate::{
    component::Component,
    looks,
    page_text::Members,
    python::text,
    record::Record,
    slice::Slice,
    template::{Condition, Scope},
    wiring::Build,
};

/// What is done to a record, and what must be read of it for that.
pub struct Plan {
    looked_at: Vec<String>,
    removes: Vec<Vec<String>>,
}

/// One record on its way: what was read of it, and what changed.
struct Patched {
    view: Value,
    /// Later entries win; no value means that the member goes.
    changes: Vec<(String, Option<Value>)>,
}

impl Plan {
    /// The plan for these components; `None` when records must be read whole. Transformations are additions and removals at the top.
    pub fn of(filter: Option<&Component<'_>>, transforms: &[Component<'_>]) -> Result<Option<Self>> {
        let mut plan = Self { looked_at: Vec::new(), removes: Vec::new() };
        if let Some(condition) = filter.and_then(|f| f.field("condition"))
            && !plan.look(condition)
        {
            return Ok(None);
        }
        for transform in transforms {
            let fits = match transform.kind() {
                "AddFields" => plan.adds(transform)?,
                "RemoveFields" => plan.takes(transform),
                _ => false,
            };
            if !fits {
                return Ok(None);
            }
        }
        Ok(Some(plan))
    }

    fn look(&mut self, template: &Value) -> bool {
        let Some(names) = looks::members(&text(template), "record") else { return false };
        for name in names {
            if !self.looked_at.contains(&name) {
                self.looked_at.push(name);
            }
        }
        true
    }

    fn adds(&mut self, transform: &Component<'_>) -> Result<bool> {
        if !transform.field("condition").is_none_or(|c| self.look(c)) {
            return Ok(false);
        }
        for field in transform.children("fields")? {
            let is_at_the_top = field.texts("path")?.is_some_and(|path| path.len() == 1);
            if !is_at_the_top || !field.field("value").is_some_and(|v| self.look(v)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn takes(&mut self, transform: &Component<'_>) -> bool {
        if transform.field("condition").is_some_and(|c| c != "") {
            return false;
        }
        let pointers = transform.field("field_pointers").and_then(Value::as_array);
        let plain = |pointer: &Value| match pointer.as_array().map(Vec::as_slice) {
            Some([Value::String(name)]) if !name.contains(['*', '?', '[']) => Some(name.clone()),
            _ => None,
        };
        let names: Option<Vec<String>> = pointers.into_iter().flatten().map(plain).collect();
        names.map(|names| self.removes.push(names)).is_some()
    }

    /// The record, changed; `None` when the filter drops it.
    pub fn run(&self, record: Record, rules: &Rules<'_>) -> Result<Option<Record>> {
        let mut patched = Patched { view: self.view(&record.text()), changes: Vec::new() };
        if !rules.transforms_first && !rules.passes(&patched.view)? {
            return Ok(None);
        }
        let mut removes = self.removes.iter();
        for transform in rules.transforms {
            match transform {
                Transform::AddFields(add) => patched.add(add, rules)?,
                _ => removes.next().into_iter().flatten().for_each(|name| patched.set(name, None)),
            }
        }
        if rules.transforms_first && !rules.passes(&patched.view)? {
            return Ok(None);
        }
        Ok(Some(patched.written(record)))
    }

    fn view(&self, record: &[u8]) -> Value {
        let mut view = Map::with_capacity(self.looked_at.len());
        if !self.looked_at.is_empty() {
            for (key, value) in Members::of(record) {
                if let Some(name) = self.looked_at.iter().find(|name| name.as_bytes() == key) {
                    view.insert(name.clone(), serde_json::from_slice(value).unwrap_or_default());
                    // No key of a record that is a text comes twice.
                    if view.len() == self.looked_at.len() {
                        break;
                    }
                }
            }
        }
        view.into()
    }
}

/// The stream's rules for one page.
pub struct Rules<'a> {
    pub filter: Option<&'a Condition>,
    pub transforms: &'a [Transform],
    pub transforms_first: bool,
    pub slice: &'a Slice,
    pub token: &'a Value,
    pub build: &'a Build,
}

impl Rules<'_> {
    fn passes(&self, view: &Value) -> Result<bool> {
        let Some(filter) = self.filter else { return Ok(true) };
        filter.eval(&self.scope(view).next_page_token(self.token))
    }
    fn scope<'s>(&'s self, view: &'s Value) -> Scope<'s> {
        self.build.scope().slice(self.slice).record(view)
    }
}

impl Patched {
    fn add(&mut self, add: &AddFields, rules: &Rules<'_>) -> Result<()> {
        for at in 0..add.len() {
            let added = add.value(at, &rules.scope(&self.view))?;
            if let Some((name, value)) = added {
                self.set(&name, Some(value));
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Option<Value>) {
        if let Value::Object(view) = &mut self.view {
            match &value {
                Some(value) => drop(view.insert(name.to_owned(), value.clone())),
                None => drop(view.shift_remove(name)),
            }
        }
        match self.changes.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.changes.push((name.to_owned(), value)),
        }
    }

    fn written(mut self, record: Record) -> Record {
        if self.changes.is_empty() {
            return record;
        }
        let old = record.text();
        let mut out = Vec::with_capacity(old.len() + 64);
        out.push(b'{');
        for (key, value) in Members::of(&old) {
            let change = self.changes.iter().position(|(name, _)| name.as_bytes() == key).map(|at| self.changes.swap_remove(at));
            match change {
                None => member(&mut out, key, value),
                Some((_, Some(value))) => member(&mut out, key, &serde_json::to_vec(&value).unwrap_or_default()),
                Some((_, None)) => {}
            }
        }
        for (name, value) in &self.changes {
            if let Some(value) = value {
                let key = Value::from(name.as_str()).to_string();
                member(&mut out, &key.as_bytes()[1..key.len() - 1], &serde_json::to_vec(value).unwrap_or_default());
            }
        }
        out.push(b'}');
        Record::raw(out.into())
    }
}

/// The key as it stands between its quotes.
fn member(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linkspan_core::{NoHttp, SystemClock};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_changed_as_text_is_the_record_changed_as_a_value() {
        let build = Build::new(Arc::new(json!({"k": "v"})), Arc::new(NoHttp), Arc::new(SystemClock));
        let stream = json!({"transformations": [
            {"type": "AddFields", "fields": [{"path": ["new"], "value": "{{ record['a'] }}-{{ config['k'] }}"}, {"path": ["b"], "value": "{{ record.get('new') }}"}]},
            {"type": "RemoveFields", "field_pointers": [["a"], ["gone"]]},
            {"type": "AddFields", "condition": "{{ record['c'] is not defined }}", "fields": [{"path": ["q\"\n"], "value": "{{ record['a'] is defined }}"}]},
        ]});
        let filter = json!({"condition": "{{ record.a != 2 }}"});
        let (stream, filter) = (Component::new(&stream, "s").unwrap(), Component::new(&filter, "f").unwrap());
        let components = stream.children("transformations").unwrap();
        let transforms: Vec<_> = components.iter().map(|c| Transform::build(c).unwrap()).collect();
        let plan = Plan::of(Some(&filter), &components).unwrap().expect("all of it can be done as text");
        let condition = filter.condition("condition").unwrap();
        let slice = Slice::empty();
        let rules = Rules {
            filter: condition.as_ref(),
            transforms: &transforms,
            transforms_first: false,
            slice: &slice,
            token: &Value::Null,
            build: &build,
        };
        for text in [r#"{"a":1,"b":{"x":[1]}, "c" : null}"#, r#"{"a":"x"}"#, r#"{"a":2}"#, r#"{"b":"é\"","gone":1}"#] {
            let mut whole: Value = serde_json::from_str(text).unwrap();
            let passes = rules.passes(&whole).unwrap();
            for transform in &transforms {
                transform.apply(&mut whole, &slice, &build).unwrap();
            }
            let got = plan.run(Record::raw(text.as_bytes().to_vec().into()), &rules).unwrap();
            assert_eq!(got.is_some(), passes, "{text}");
            if let Some(got) = got {
                assert!(got.is_raw());
                assert_eq!(*got.value(), whole, "{text}");
            }
        }
    }

    #[test]
    fn what_needs_the_whole_record_has_no_plan() {
        for transform in [
            json!({"type": "AddFields", "fields": [{"path": ["a", "b"], "value": "1"}]}),
            json!({"type": "AddFields", "fields": [{"path": ["a"], "value": "{{ record | tojson }}"}]}),
            json!({"type": "RemoveFields", "field_pointers": [["a", "b"]]}),
            json!({"type": "RemoveFields", "field_pointers": [["*"]]}),
            json!({"type": "RemoveFields", "condition": "{{ property is none }}", "field_pointers": [["a"]]}),
            json!({"type": "KeysToLower"}),
        ] {
            let component = Component::new(&transform, "t").unwrap();
            assert!(Plan::of(None, &[component]).unwrap().is_none(), "{transform}");
        }
    }
}
