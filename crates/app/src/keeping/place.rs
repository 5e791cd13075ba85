//! Places in a config, read and written. Pure.

use linkspan_core::Place;
use serde_json::{Map, Value};

pub fn at<'a>(config: &'a Value, place: &[String]) -> Option<&'a Value> {
    place.iter().try_fold(config, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// Null removes. What is no object on the way becomes one.
pub fn put(config: &mut Map<String, Value>, place: &[String], value: Value) {
    let Some((last, way)) = place.split_last() else { return };
    let mut fields = config;
    for name in way {
        let next = fields.entry(name.clone()).or_insert(Value::Null);
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        let Some(inner) = next.as_object_mut() else { return };
        fields = inner;
    }
    match value {
        Value::Null => drop(fields.shift_remove(last)),
        value => drop(fields.insert(last.clone(), value)),
    }
}

/// The config with what was kept in its places.
pub fn over(given: &Value, kept: &[(Place, Value)]) -> Value {
    let mut config = given.as_object().cloned().unwrap_or_default();
    for (place, value) in kept {
        put(&mut config, place, value.clone());
    }
    config.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn way(text: &str) -> Place {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_value_goes_beside_what_stands_in_its_field() {
        let given = json!({"credentials": {"id": "i", "refresh": "r0"}, "until": "then", "old": 1});
        let kept = [
            (way("credentials.refresh"), json!("r1")),
            (way("until"), json!("later")),
            (way("more.access"), json!("a")),
            (way("old"), Value::Null),
        ];
        let now = over(&given, &kept);
        assert_eq!(now, json!({"credentials": {"id": "i", "refresh": "r1"}, "until": "later", "more": {"access": "a"}}));
        assert_eq!((at(&now, &way("credentials.id")), at(&now, &way("x"))), (Some(&json!("i")), None));
    }
}
