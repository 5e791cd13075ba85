//! Drift policies as a project file says them: what happens when a stream's columns are no longer the table's.

use std::{collections::BTreeMap, fmt};

use linkspan_core::StreamName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// What a connection does when its streams change, for all of them and for some by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// For every stream that is not named below: one policy for every change, or one per kind of change.
    pub drift: Drift,
    /// By stream name or pattern (`orders`, `public.*`); the longest one that fits counts.
    pub streams: BTreeMap<String, Drift>,
    /// Whether transactions over several streams may be split where the destination commits one stream at a time.
    pub transactions: Transactions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transactions {
    /// A source transaction is seen whole or not at all.
    #[default]
    Whole,
    /// Streams may be seen one after the other.
    Split,
}

/// What happens with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The table follows the stream.
    Evolve,
    /// The stream stops before any row of the new shape.
    Freeze,
    /// Rows are loaded without the values that the table has no place for.
    DiscardValue,
    /// Rows that hold such a value are left out and recorded.
    DiscardRow,
    /// The stream waits until somebody approves the difference.
    #[serde(alias = "block_until_approved")]
    Block,
}

/// The kinds of change a stream can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    NewColumn,
    MissingColumn,
    WidenedType,
    ChangedType,
    Nullability,
}

/// A policy per kind of change. Where nothing is said, the table follows (`evolve`), except that a type which cannot hold
/// the old values stops the stream, unless the table is replaced whole anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_column: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_column: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widened_type: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_type: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nullability: Option<Policy>,
}

impl Drift {
    /// One policy for every kind. `Evolve` for all is the default itself: types that cannot hold the old values still stop.
    pub fn all(policy: Policy) -> Self {
        if policy == Policy::Evolve {
            return Self::default();
        }
        let all = Some(policy);
        Self { new_column: all, missing_column: all, widened_type: all, changed_type: all, nullability: all }
    }
    /// What the user said about this kind, if anything.
    pub fn said(&self, kind: Kind) -> Option<Policy> {
        match kind {
            Kind::NewColumn => self.new_column,
            Kind::MissingColumn => self.missing_column,
            Kind::WidenedType => self.widened_type,
            Kind::ChangedType => self.changed_type,
            Kind::Nullability => self.nullability,
        }
    }
}

impl Policies {
    /// The policy of a stream: the longest pattern that means it, else the general one.
    pub fn of(&self, stream: &StreamName) -> Drift {
        let named = self.streams.iter().filter(|(pattern, _)| crate::plan::matches(pattern, stream));
        named.max_by_key(|(pattern, _)| pattern.len()).map_or(self.drift, |(_, drift)| *drift)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewColumn => "new column",
            Self::MissingColumn => "missing column",
            Self::WidenedType => "wider type",
            Self::ChangedType => "other type",
            Self::Nullability => "nulls where none were",
        })
    }
}

/// The map form; the word form is `Drift::all`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct PerKind {
    /// A column that the table lacks.
    new_column: Option<Policy>,
    /// A column of the table that the stream no longer has.
    missing_column: Option<Policy>,
    /// A type that holds all old values and more (int to bigint).
    widened_type: Option<Policy>,
    /// A type that does not hold the old values.
    changed_type: Option<Policy>,
    /// Nulls in a column that had none.
    nullability: Option<Policy>,
}

/// For the JSON Schema only: a word or a map.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum WordOrMap {
    Word(Policy),
    Map(PerKind),
}

impl JsonSchema for Drift {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Drift".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        WordOrMap::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Drift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Drift;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy (evolve, freeze, discard_value, discard_row, block) or one per kind of change")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Drift, E> {
                Policy::deserialize(de::value::StrDeserializer::new(word)).map(Drift::all)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Drift, A::Error> {
                let PerKind { new_column, missing_column, widened_type, changed_type, nullability } =
                    PerKind::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Drift { new_column, missing_column, widened_type, changed_type, nullability })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_a_word_or_a_map() {
        let policies: Policies = serde_json::from_value(json!({
            "drift": "block_until_approved",
            "streams": {"public.*": {"new_column": "discard_value"}, "public.orders": "freeze"},
            "transactions": "split",
        }))
        .unwrap();
        assert_eq!(policies.of(&StreamName::parse("other.t")), Drift::all(Policy::Block));
        assert_eq!(policies.of(&StreamName::parse("public.orders")), Drift::all(Policy::Freeze));
        assert_eq!(policies.of(&StreamName::parse("public.t")).said(Kind::NewColumn), Some(Policy::DiscardValue));
        assert_eq!(policies.of(&StreamName::parse("public.t")).said(Kind::ChangedType), None);
    }

    #[test]
    fn an_unknown_word_or_kind_is_named() {
        let e = serde_json::from_value::<Policies>(json!({"drift": "evolv"})).unwrap_err();
        assert!(e.to_string().contains("evolv"), "{e}");
        let e = serde_json::from_value::<Policies>(json!({"drift": {"new_colum": "evolve"}})).unwrap_err();
        assert!(e.to_string().contains("new_colum"), "{e}");
    }
}
