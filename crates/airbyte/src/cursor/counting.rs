//! A cursor that counts up: one read from the largest value seen.

use std::{cmp::Ordering, sync::Mutex};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// One stream's position: the largest value of its records.
pub struct Counting {
    pub field: String,
    start: Value,
    progress: Mutex<Progress>,
}

struct Progress {
    most_recent: Value,
    rest: Map<String, Value>,
    closed: bool,
}

impl Counting {
    pub fn new(field: String, first: i64, mut state: Map<String, Value>) -> Result<Self> {
        let first = Value::from(first);
        let stretch = state.get("state_type").is_some().then(|| state["slices"][0].clone());
        let saved = match stretch {
            Some(stretch) => stretch.get("most_recent_cursor_value").or(stretch.get("end")).cloned(),
            None => state.get(&field).cloned(),
        };
        if state.contains_key("state_type") {
            state = state.remove("legacy").and_then(|l| l.as_object().cloned()).unwrap_or_default();
        }
        let start = match saved {
            Some(saved) if crate::truth::is_true(&saved) && compare(&saved, &first)? != Ordering::Less => saved,
            _ => first,
        };
        let progress = Progress { most_recent: start.clone(), rest: state, closed: false };
        Ok(Self { field, start, progress: Mutex::new(progress) })
    }

    /// The slice's keys: from the position to the end of all numbers.
    pub fn keys(&self) -> Map<String, Value> {
        // JSON has no infinity: the text is what templates and requests of the reference show.
        [("start".to_owned(), self.start.clone()), ("end".to_owned(), "inf".into())].into_iter().collect()
    }

    pub fn close(&self, most_recent: Option<Value>) -> Result<bool> {
        let Some(most_recent) = most_recent.filter(crate::truth::is_true) else { return Ok(false) };
        let mut progress = self.lock();
        if std::mem::replace(&mut progress.closed, true) {
            return Err(Error::new(ErrorKind::Unsupported, "a counting cursor was asked to follow more than one slice"));
        }
        if compare(&progress.most_recent, &most_recent)? == Ordering::Less {
            progress.most_recent = most_recent;
        }
        Ok(true)
    }

    pub fn state(&self) -> Map<String, Value> {
        let progress = self.lock();
        let mut state = progress.rest.clone();
        state.insert(self.field.clone(), progress.most_recent.clone());
        state
    }

    pub fn is_due(&self, value: Option<&Value>) -> Result<bool> {
        match value.filter(|v| !v.is_null()) {
            Some(value) => Ok(compare(&self.start, value)? != Ordering::Greater),
            None => Ok(true),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Numbers among themselves and texts among themselves; anything else has no order.
pub fn compare(a: &Value, b: &Value) -> Result<Ordering> {
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
    };
    order.ok_or_else(|| {
        Error::new(ErrorKind::DataInvalid, "values of the counting cursor cannot be compared: some are numbers, some are not")
            .fix("choose a cursor_field whose values are all numbers")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_position_is_the_largest_value_and_never_falls() {
        let state = |v: Value| v.as_object().cloned().unwrap();
        let cursor = Counting::new("n".into(), 5, Map::new()).unwrap();
        assert_eq!(cursor.keys()["start"], 5);
        assert!(cursor.close(Some(json!(9))).unwrap());
        assert_eq!(cursor.state(), state(json!({"n": 9})));
        assert_eq!(cursor.close(Some(json!(10))).unwrap_err().kind(), ErrorKind::Unsupported);
        let again = Counting::new("n".into(), 5, state(json!({"n": 9, "other": 1}))).unwrap();
        assert_eq!((again.keys()["start"].clone(), again.close(None).unwrap()), (json!(9), false));
        assert_eq!(again.state(), state(json!({"n": 9, "other": 1})));
        assert_eq!(Counting::new("n".into(), 5, state(json!({"n": 2}))).unwrap().keys()["start"], 5);
        assert!(!again.is_due(Some(&json!(8))).unwrap() && again.is_due(Some(&json!(9.5))).unwrap() && again.is_due(None).unwrap());
    }
}
