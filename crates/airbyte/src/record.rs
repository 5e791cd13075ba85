//! One record: a piece of its page's text while nobody changes it, a value afterwards.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::page_text::Members;

/// Cheap to clone. A raw one is the text of a JSON object without repeated keys.
#[derive(Clone, Debug)]
pub struct Record {
    inner: Inner,
    /// Where the file that belongs to it lies.
    file: Option<Arc<Value>>,
}

#[derive(Clone, Debug)]
enum Inner {
    Raw(Bytes),
    Read(Arc<Value>),
}

impl Record {
    /// A piece of a page that was found to be a valid object with distinct keys.
    pub fn raw(text: Bytes) -> Self {
        Self { inner: Inner::Raw(text), file: None }
    }
    /// The whole record; a raw one is read each time.
    pub fn value(&self) -> Cow<'_, Value> {
        match &self.inner {
            Inner::Raw(text) => Cow::Owned(read_text(text)),
            Inner::Read(value) => Cow::Borrowed(value),
        }
    }
    pub fn into_value(self) -> Value {
        match self.inner {
            Inner::Raw(text) => read_text(&text),
            Inner::Read(value) => Arc::unwrap_or_clone(value),
        }
    }
    /// A top-level member; of a raw record nothing else is read.
    pub fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        match &self.inner {
            Inner::Raw(text) => {
                let (_, value) = Members::of(text).find(|(key, _)| *key == name.as_bytes())?;
                serde_json::from_slice(value).ok().map(Cow::Owned)
            }
            Inner::Read(value) => value.get(name).map(Cow::Borrowed),
        }
    }
    /// The object's JSON text.
    pub fn text(&self) -> Cow<'_, [u8]> {
        match &self.inner {
            Inner::Raw(text) => Cow::Borrowed(text),
            Inner::Read(value) => Cow::Owned(serde_json::to_vec(value).unwrap_or_default()),
        }
    }
    pub fn is_object(&self) -> bool {
        match &self.inner {
            Inner::Raw(_) => true,
            Inner::Read(value) => value.is_object(),
        }
    }
    pub fn with_file(mut self, file: Value) -> Self {
        self.file = Some(Arc::new(file));
        self
    }
    pub fn file(&self) -> Option<&Value> {
        self.file.as_deref()
    }
    pub fn is_raw(&self) -> bool {
        !matches!(self.inner, Inner::Read(_))
    }
}

impl From<Value> for Record {
    fn from(value: Value) -> Self {
        Self { inner: Inner::Read(Arc::new(value)), file: None }
    }
}

/// The text was validated when its page was cut.
fn read_text(text: &Bytes) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|_| Value::Object(Map::new()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_raw_record_and_a_read_one_say_the_same() {
        let text = Bytes::from_static(br#"{"a": {"b": 1}, "c": null, "d": 1.50}"#);
        for record in [Record::raw(text.clone()), Record::from(json!({"a": {"b": 1}, "c": null, "d": 1.5}))] {
            assert_eq!(record.field("a").as_deref(), Some(&json!({"b": 1})));
            assert_eq!(record.field("c").as_deref(), Some(&Value::Null));
            assert_eq!(record.field("b"), None);
            assert_eq!(*record.value(), json!({"a": {"b": 1}, "c": null, "d": 1.5}));
            assert_eq!(record.clone().into_value()["d"], json!(1.5));
        }
        assert_eq!(&*Record::raw(text.clone()).text(), &text[..]);
    }
}
