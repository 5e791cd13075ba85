//! One stream's records on their way to rows: the columns of its schema, and the columns that say of each row where it came from and
//! what of it could not be kept.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::{
    Change, ChangeKind, Changes, Error, ErrorKind, OP_COLUMN, Reason, Result, native::JSON_TEXT, native::with_mark, rows::Rejected,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    kinds::{Kind, Lost, Values, text},
    latest::Latest,
    names::column as column_name,
};

pub(in crate::program) const RAW_ID: &str = "_airbyte_raw_id";
pub(in crate::program) const EXTRACTED_AT: &str = "_airbyte_extracted_at";
pub(in crate::program) const META: &str = "_airbyte_meta";
pub(in crate::program) const GENERATION_ID: &str = "_airbyte_generation_id";
/// When a source's change feed deleted the row.
const DELETED_AT: &str = "_ab_cdc_deleted_at";

fn is_ours(column: &str) -> bool {
    matches!(column, RAW_ID | EXTRACTED_AT | META | GENERATION_ID)
}

/// The columns that are written beside those of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::program) enum Marks {
    /// Those that Airbyte's platforms look for.
    Airbyte,
    None,
}

/// Whose rows these are, in the platform's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::program) struct Origin {
    pub generation_id: Option<i64>,
    pub sync_id: Option<i64>,
}

/// What a stream's rows are found by, and what tells which of two is newer.
#[derive(Clone, Debug, Default)]
pub(in crate::program) struct Identity {
    pub key: Vec<String>,
    pub cursor: Option<String>,
    /// A record with `_ab_cdc_deleted_at` takes its row away.
    pub deletes: bool,
}

struct Column {
    name: String,
    kind: Kind,
    values: Values,
}

/// A stream's rows as they gather.
pub(in crate::program) struct Gathering {
    columns: Vec<Column>,
    places: HashMap<String, usize>,
    key: Vec<usize>,
    cursor: Option<usize>,
    deleted_at: Option<usize>,
    latest: Latest,
    marks: Marks,
    origin: Origin,
    raw_ids: StringBuilder,
    extracted: TimestampMicrosecondBuilder,
    meta: StringBuilder,
    generations: Int64Builder,
    ops: StringBuilder,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    changes: Changes,
    /// Fields that no column is for; each is told of once.
    strange: Vec<String>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::program) enum Taken {
    Kept,
    /// A newer one of its key came before it.
    Outdated,
    /// It cannot be a row at all.
    Rejected,
}

/// The most fields without a column that are remembered by name.
const STRANGE: usize = 100;

impl Gathering {
    /// Columns for the properties of a JSON schema.
    pub(in crate::program) fn new(json_schema: &Value, identity: &Identity, marks: Marks, origin: Origin) -> Result<Self> {
        let properties = json_schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten().filter(|(name, _)| marks == Marks::None || !is_ours(name));
        let columns: Vec<Column> = properties
            .map(|(name, property)| {
                let kind = Kind::of(property);
                Column { name: name.clone(), kind, values: kind.values() }
            })
            .collect();
        let places: HashMap<String, usize> = columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)).collect();
        let place = |role: &'static str, name: &String| {
            places.get(name).copied().ok_or_else(|| {
                Error::new(ErrorKind::ConfigInvalid, format!("the {role} of a stream is not in its schema"))
                    .with("column", name)
                    .fix("discover the source again, so that the catalog has the column")
            })
        };
        let key = identity.key.iter().map(|name| place("key", name)).collect::<Result<Vec<usize>>>()?;
        // A cursor only breaks ties; one that is not there breaks none.
        let cursor = identity.cursor.as_ref().and_then(|name| places.get(name).copied()).filter(|_| !key.is_empty());
        let deleted_at = places.get(DELETED_AT).copied().filter(|_| identity.deletes);
        let schema = schema_of(&columns, &key, marks, deleted_at.is_some());
        Ok(Self {
            columns,
            places,
            key,
            cursor,
            deleted_at,
            latest: Latest::default(),
            marks,
            origin,
            raw_ids: StringBuilder::new(),
            extracted: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            meta: StringBuilder::new(),
            generations: Int64Builder::new(),
            ops: StringBuilder::new(),
            schema,
            rows: 0,
            bytes: 0,
            changes: Changes::default(),
            strange: Vec::new(),
        })
    }

    pub(in crate::program) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    pub(in crate::program) fn rows(&self) -> usize {
        self.rows
    }
    pub(in crate::program) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a record in. `meta` is what its source says of it; `place` is where it stands in the input.
    pub(in crate::program) fn take(&mut self, record: &Record<'_>, place: impl Fn() -> String) -> (Taken, Option<String>) {
        let mut slots: Vec<Option<&str>> = vec![None; self.columns.len()];
        let mut stranger = None;
        for (at, (name, value)) in record.data.0.iter().enumerate() {
            // Records keep to the schema's order more often than not.
            let here = self.columns.get(at).filter(|c| c.name == *name).map(|_| at);
            match here.or_else(|| self.places.get(name.as_ref()).copied()) {
                Some(place) => slots[place] = Some(value.get()).filter(|raw| *raw != "null"),
                None => stranger = self.meet(name).or(stranger),
            }
        }
        if self.key.iter().any(|at| slots[*at].is_none()) {
            self.changes.rejected.push(Rejected { place: place(), reason: "a column of the key is null".into() });
            return (Taken::Rejected, stranger);
        }
        if let Some(cursor) = self.cursor
            && !self.latest.is_news(self.key.iter().filter_map(|at| slots[*at]), slots[cursor])
        {
            return (Taken::Outdated, stranger);
        }
        self.put(&slots, record);
        (Taken::Kept, stranger)
    }

    /// A field's name, the first time that it is met.
    fn meet(&mut self, name: &str) -> Option<String> {
        if is_ours(name) || self.strange.len() >= STRANGE || self.strange.iter().any(|known| known == name) {
            return None;
        }
        self.strange.push(name.to_owned());
        Some(name.to_owned())
    }

    fn put(&mut self, slots: &[Option<&str>], record: &Record<'_>) {
        let mut lost: Vec<(usize, Lost)> = Vec::new();
        for (at, (column, slot)) in self.columns.iter_mut().zip(slots).enumerate() {
            match slot {
                None => column.values.null(),
                Some(raw) => {
                    self.bytes += raw.len();
                    lost.extend(column.values.put(column.kind, raw).map(|lost| (at, lost)));
                }
            }
        }
        for (at, lost) in &lost {
            self.changes.changed.push(self.change(*at, *lost));
        }
        if self.marks == Marks::Airbyte {
            self.mark(&lost, record);
        }
        if let Some(deleted_at) = self.deleted_at {
            self.ops.append_value(if slots[deleted_at].is_some() { "d" } else { "u" });
        }
        self.bytes += 128;
        self.rows += 1;
    }

    fn mark(&mut self, lost: &[(usize, Lost)], record: &Record<'_>) {
        self.raw_ids.append_value(Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        self.extracted.append_value(record.at.saturating_mul(1_000));
        self.meta.append_value(self.meta_of(lost, record.meta));
        self.generations.append_option(self.origin.generation_id);
    }

    fn change(&self, at: usize, lost: Lost) -> Change {
        let (kind, reason) = match lost {
            Lost::NotOfType => (ChangeKind::Nulled, Reason::Invalid),
            Lost::TooLarge => (ChangeKind::Nulled, Reason::OutOfRange),
            Lost::Rounded => (ChangeKind::Truncated, Reason::NotRepresentable),
        };
        Change { row: u32::try_from(self.rows).unwrap_or(u32::MAX), field: self.columns[at].name.clone(), kind, reason }
    }

    /// The row's own account of itself: which sync brought it, and what was changed before and here.
    fn meta_of(&self, lost: &[(usize, Lost)], given: Option<&RawValue>) -> String {
        let mut out = String::from("{");
        if let Some(sync) = self.origin.sync_id {
            let _ = write!(out, "\"sync_id\":{sync},");
        }
        out.push_str("\"changes\":[");
        let before = given.and_then(|given| serde_json::from_str::<Given<'_>>(given.get()).ok()).map(|given| given.changes);
        let mut all: Vec<String> = before.into_iter().flatten().map(|change| change.get().to_owned()).collect();
        all.extend(lost.iter().map(|(at, lost)| {
            let (change, reason) = match lost {
                Lost::NotOfType => ("NULLED", "DESTINATION_TYPECAST_ERROR"),
                Lost::TooLarge => ("NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"),
                Lost::Rounded => ("TRUNCATED", "DESTINATION_FIELD_SIZE_LIMITATION"),
            };
            format!("{{\"field\":{},\"change\":\"{change}\",\"reason\":\"{reason}\"}}", Value::from(self.columns[*at].name.as_str()))
        }));
        out.push_str(&all.join(","));
        out.push_str("]}");
        out
    }

    /// A record that could not even be read as one.
    pub(in crate::program) fn reject(&mut self, place: String, reason: &'static str) {
        self.changes.rejected.push(Rejected { place, reason: reason.into() });
    }

    pub(in crate::program) fn has_something(&self) -> bool {
        self.rows > 0 || !self.changes.is_empty()
    }

    /// What gathered since the last time.
    pub(in crate::program) fn finish(&mut self) -> Result<(RecordBatch, Changes)> {
        (self.rows, self.bytes) = (0, 0);
        let mut columns: Vec<ArrayRef> = self.columns.iter_mut().map(|c| c.values.finish()).collect();
        if self.marks == Marks::Airbyte {
            columns.push(Arc::new(self.raw_ids.finish()));
            columns.push(Arc::new(self.extracted.finish()));
            columns.push(Arc::new(self.meta.finish()));
            columns.push(Arc::new(self.generations.finish()));
        }
        if self.deleted_at.is_some() {
            columns.push(Arc::new(self.ops.finish()));
        }
        let rows = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|e| Error::new(ErrorKind::Internal, "records could not be made rows").because(e))?;
        Ok((rows, std::mem::take(&mut self.changes)))
    }
}

fn schema_of(columns: &[Column], key: &[usize], marks: Marks, has_feed: bool) -> SchemaRef {
    let field = |(at, c): (usize, &Column)| {
        let field = c.kind.field(&column_name(&c.name));
        // Records without their key are rejected before.
        field.with_nullable(!key.contains(&at) || has_feed)
    };
    let mut fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    if marks == Marks::Airbyte {
        fields.push(Field::new(RAW_ID, DataType::Utf8, false));
        fields.push(Field::new(EXTRACTED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false));
        fields.push(with_mark(Field::new(META, DataType::Utf8, false), JSON_TEXT, ""));
        fields.push(Field::new(GENERATION_ID, DataType::Int64, true));
    }
    if has_feed {
        fields.push(Field::new(OP_COLUMN, DataType::Utf8, false));
    }
    Arc::new(Schema::new(fields))
}

/// A record as it came: its fields in their order, each as the text that it is.
#[derive(Debug)]
pub(in crate::program) struct Record<'a> {
    pub data: Fields<'a>,
    /// When it was read, in milliseconds.
    pub at: i64,
    pub meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow, default)]
    changes: Vec<&'a RawValue>,
}

/// The members of an object, untouched.
#[derive(Debug, Default)]
pub(in crate::program) struct Fields<'a>(pub Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(name) = map.next_key::<&RawValue>()? {
                    let name = text(name.get()).unwrap_or_default();
                    members.push((name, map.next_value()?));
                }
                Ok(Fields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
