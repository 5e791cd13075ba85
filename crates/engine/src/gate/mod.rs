//! The gate as policies make it: whether rows of a schema may enter a table that stands, and what has to change before they do.
//! Pure decisions; destinations render the DDL, and names that collide there are theirs to settle.

mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use linkspan_core::{
    Admission, Alter, Capability, Error, ErrorKind, Gate, Misfit, SchemaPlan, StreamName, TableShape, is_feed_column, native, widen,
};

/// Marks a column whose values its server computes.
const GENERATED: &str = "ls.generated";

pub use policy::{Drift, Kind, Policies, Policy, Transactions};

/// A gate that follows the drift policies of a connection, within what the destination can alter.
pub struct PolicyGate {
    policies: Policies,
    can: Abilities,
}

/// The part of a destination's capability that a gate decides by.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    add_column: bool,
    widen_column: bool,
    drop_not_null: bool,
    specials: bool,
}

impl PolicyGate {
    pub fn new(policies: Policies, capability: &Capability) -> Self {
        let Capability { add_column, widen_column, drop_not_null, specials, .. } = *capability;
        Self { policies, can: Abilities { add_column, widen_column, drop_not_null, specials } }
    }
}

impl Gate for PolicyGate {
    fn admit(&self, stream: &StreamName, stands: Option<&TableShape>, next: &SchemaRef) -> Admission {
        let drift = self.policies.of(stream);
        let Some(stands) = stands else { return Admission::Load(SchemaPlan { misfit: misfit(drift), ..created(next.clone()) }) };
        let judge = Judge { drift, can: self.can, whole: false };
        judge.judge(stands, next).unwrap_or_else(|e| Admission::Park(e.with("stream", stream)))
    }
    fn replace(&self, stream: &StreamName, stands: &TableShape, next: &SchemaRef) -> Admission {
        let judge = Judge { drift: self.policies.of(stream), can: self.can, whole: true };
        judge.judge(stands, next).unwrap_or_else(|e| Admission::Park(e.with("stream", stream)))
    }
}

fn created(schema: SchemaRef) -> SchemaPlan {
    SchemaPlan { ddl: vec![Alter::Create { schema: schema.clone(), key: Vec::new() }], schema, misfit: Misfit::Fail }
}

/// What becomes of a single value that its column cannot hold, where nothing of the stream's shape has to be discarded.
fn misfit(drift: Drift) -> Misfit {
    match drift.said(Kind::ChangedType) {
        Some(Policy::DiscardValue) => Misfit::Null,
        Some(Policy::DiscardRow) => Misfit::Reject,
        _ => Misfit::Fail,
    }
}

/// One decision over one stream.
struct Judge {
    drift: Drift,
    can: Abilities,
    /// The table is replaced whole: nothing in it must fit.
    whole: bool,
}

/// What is planned so far.
struct Draft {
    ddl: Vec<Alter>,
    fields: Vec<FieldRef>,
    misfit: Misfit,
}

impl Judge {
    fn judge(&self, stands: &TableShape, next: &SchemaRef) -> Result<Admission, Error> {
        if self.whole && !stands.ours {
            return Err(in_the_way().with("reason", "it would be replaced"));
        }
        let mut draft = Draft { ddl: Vec::new(), fields: Vec::with_capacity(next.fields().len()), misfit: Misfit::Fail };
        for field in next.fields() {
            match stands.schema.field_with_name(field.name()) {
                Ok(standing) => self.known_column(&mut draft, stands, standing, field)?,
                // No column of the table: its values go into the number's own.
                Err(_) if self.can.specials && native::has_mark(field, native::SPECIAL_OF) => draft.fields.push(field.clone()),
                Err(_) => self.new_column(&mut draft, field)?,
            }
        }
        let missing = stands.schema.fields().iter().filter(|f| next.field_with_name(f.name()).is_err() && !fills_itself(f));
        for standing in missing {
            self.missing_column(&mut draft, stands, standing)?;
        }
        if !stands.ours && !draft.ddl.is_empty() {
            return Err(in_the_way().with("difference", describe(&draft.ddl)));
        }
        Ok(Admission::Load(self.plan(draft, next)))
    }

    fn plan(&self, draft: Draft, next: &SchemaRef) -> SchemaPlan {
        let same = draft.fields.len() == next.fields().len() && draft.fields.iter().zip(next.fields()).all(|(a, b)| a == b);
        let schema = if same { next.clone() } else { Arc::new(Schema::new(draft.fields)) };
        let ddl = if self.whole { vec![Alter::Create { schema: schema.clone(), key: Vec::new() }] } else { draft.ddl };
        let misfit = if draft.misfit == Misfit::Fail { misfit(self.drift) } else { draft.misfit };
        SchemaPlan { ddl, schema, misfit }
    }

    fn new_column(&self, draft: &mut Draft, field: &FieldRef) -> Result<(), Error> {
        match self.policy(Kind::NewColumn, field, None)? {
            Policy::Evolve if self.whole => draft.fields.push(field.clone()),
            Policy::Evolve if self.can.add_column => {
                let added: FieldRef = Arc::new(linkspan_core::nullable(field));
                draft.ddl.push(Alter::Add(added.clone()));
                draft.fields.push(added);
            }
            Policy::Evolve => return Err(cannot(Kind::NewColumn, field, "add a column to a table")),
            discard => draft.discard(discard),
        }
        Ok(())
    }

    fn known_column(&self, draft: &mut Draft, stands: &TableShape, standing: &Field, field: &FieldRef) -> Result<(), Error> {
        let Some(typed) = self.typed(draft, standing, field)? else { return Ok(()) };
        let nullable = self.nullability(draft, stands, standing, field)?;
        let same = typed.data_type() == field.data_type() && nullable == field.is_nullable();
        draft.fields.push(if same { field.clone() } else { Arc::new(typed.with_nullable(nullable)) });
        Ok(())
    }

    /// The field with the type that its rows are written in; `None` when the column is left out.
    fn typed(&self, draft: &mut Draft, standing: &Field, field: &FieldRef) -> Result<Option<Field>, Error> {
        if fits(standing, field) {
            return Ok(Some(as_written(standing, field)));
        }
        let wider = widen::widen_field(standing, field);
        let kind = match &wider {
            Some(w) if same_family(standing.data_type(), w.data_type()) => Kind::WidenedType,
            _ => Kind::ChangedType,
        };
        match self.policy(kind, field, Some(standing))? {
            Policy::Evolve if self.whole => Ok(Some(field.as_ref().clone())),
            Policy::Evolve => match wider {
                Some(to) if self.can.widen_column => {
                    let to = to.with_nullable(standing.is_nullable());
                    draft.ddl.push(Alter::Widen { from: Arc::new(standing.clone()), to: Arc::new(to.clone()) });
                    Ok(Some(to))
                }
                Some(_) => Err(cannot(kind, field, "widen a column")),
                None => Err(drifted(kind, field, Some(standing))),
            },
            discard => {
                draft.discard(discard);
                // A value that fits the old type is no drift; only where no value can, the column is left out.
                let castable = arrow_cast::can_cast_types(field.data_type(), standing.data_type());
                Ok(castable.then(|| as_written(standing, field)))
            }
        }
    }

    fn nullability(&self, draft: &mut Draft, stands: &TableShape, standing: &Field, field: &Field) -> Result<bool, Error> {
        if self.whole || standing.is_nullable() || !field.is_nullable() {
            return Ok(field.is_nullable());
        }
        // A key never becomes nullable: a row without it could not be found again. Nor can a foreign table be altered.
        if stands.key.iter().any(|k| k == standing.name()) || !stands.ours || !self.can.drop_not_null {
            return Ok(false);
        }
        match self.policy(Kind::Nullability, field, Some(standing))? {
            Policy::Evolve => {
                draft.ddl.push(Alter::DropNotNull(Arc::new(standing.clone())));
                Ok(true)
            }
            // A null has no value to discard: its row is left out.
            _ => {
                draft.discard(Policy::DiscardRow);
                Ok(false)
            }
        }
    }

    fn missing_column(&self, draft: &mut Draft, stands: &TableShape, standing: &FieldRef) -> Result<(), Error> {
        if !stands.ours {
            return Ok(());
        }
        self.policy(Kind::MissingColumn, standing, None)?;
        match () {
            () if self.whole || standing.is_nullable() => Ok(()),
            () if self.can.drop_not_null => {
                draft.ddl.push(Alter::DropNotNull(standing.clone()));
                Ok(())
            }
            () => Err(cannot(Kind::MissingColumn, standing, "drop a NOT NULL constraint")),
        }
    }

    /// What to do with a change; `Err` when it stops the stream.
    fn policy(&self, kind: Kind, field: &Field, standing: Option<&Field>) -> Result<Policy, Error> {
        match self.drift.said(kind) {
            Some(Policy::Freeze) => Err(drifted(kind, field, standing).with("policy", "freeze")),
            Some(Policy::Block) => Err(Error::new(ErrorKind::SchemaDrift, format!("the stream waits for approval: {kind}"))
                .with("column", field.name())
                .with("change", change(field, standing))
                .with("policy", "block")
                .fix("look at the difference, then allow it: set the drift policy of this stream to `evolve`")),
            Some(policy) => Ok(policy),
            None if kind == Kind::ChangedType && !self.whole => Err(drifted(kind, field, standing)),
            None => Ok(Policy::Evolve),
        }
    }
}

impl Draft {
    /// Rows win over values: when both are asked for in one plan, no value is dropped unseen.
    fn discard(&mut self, policy: Policy) {
        self.misfit = match (policy, self.misfit) {
            (Policy::DiscardRow, _) | (_, Misfit::Reject) => Misfit::Reject,
            _ => Misfit::Null,
        };
    }
}

/// A column that no stream has to send: a feed's own, a decimal's carrier of NaN, one that the server computes.
fn fills_itself(field: &Field) -> bool {
    is_feed_column(field.name()) || native::has_mark(field, native::SPECIAL_OF) || native::has_mark(field, GENERATED)
}

/// Whether every value of `next` has its exact place in the column that stands.
fn fits(standing: &Field, next: &Field) -> bool {
    let (a, b) = (plain(standing.data_type()), plain(next.data_type()));
    a == b || is_rendered(standing, &b) || holds_times(&a, &b) || widen::widen(&a, &b).is_some_and(|w| w == a)
}

/// Whether the column is the form in which its destination keeps such values: documents for nested ones, its own intervals for spans
/// of time. It knows how to write them, so they are sent as they are.
fn is_rendered(standing: &Field, next: &DataType) -> bool {
    let text = plain(standing.data_type()) == DataType::Utf8;
    let spans = || native::native_of(standing).is_some_and(|n| n.type_name.starts_with("interval"));
    text && match next {
        DataType::Interval(_) | DataType::Duration(_) => spans(),
        nested => nested.is_nested() && native::has_mark(standing, native::JSON_TEXT),
    }
}

/// Times of day in a column that counts at least as finely.
fn holds_times(standing: &DataType, next: &DataType) -> bool {
    use DataType::{Time32, Time64};
    let rank = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    match (standing, next) {
        (Time32(a) | Time64(a), Time32(b) | Time64(b)) => rank(a) >= rank(b),
        _ => false,
    }
}

/// The field as its rows are written: of the stream's own type where only the Arrow encoding differs, else of the table's.
fn as_written(standing: &Field, next: &Field) -> Field {
    let next_plain = plain(next.data_type());
    if plain(standing.data_type()) == next_plain || is_rendered(standing, &next_plain) {
        return next.clone();
    }
    Field::new(standing.name(), standing.data_type().clone(), next.is_nullable()).with_metadata(standing.metadata().clone())
}

/// The type without what is only encoding: text is text, bytes are bytes, a list is a list.
fn plain(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        List(f) | LargeList(f) | FixedSizeList(f, _) => List(Arc::new(Field::new("item", plain(f.data_type()), true))),
        Dictionary(_, values) => plain(values),
        Date64 => Date32,
        other => other.clone(),
    }
}

/// Whether a widening stays what it was: a number a number, a time a time. Becoming text is another type.
fn same_family(a: &DataType, b: &DataType) -> bool {
    let number = |d: &DataType| d.is_numeric();
    let text = |d: &DataType| matches!(d, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    a == &DataType::Null || (number(a) && number(b)) || (a.is_temporal() && b.is_temporal()) || (text(a) && text(b))
}

fn change(field: &Field, standing: Option<&Field>) -> String {
    let shown = |f: &Field| native::native_of(f).map_or_else(|| f.data_type().to_string(), |n| n.type_name);
    match standing {
        Some(s) => format!("{} -> {}", shown(s), shown(field)),
        None => shown(field),
    }
}

fn drifted(kind: Kind, field: &Field, standing: Option<&Field>) -> Error {
    Error::new(ErrorKind::SchemaDrift, format!("the stream no longer fits its table: {kind}"))
        .with("column", field.name())
        .with("change", change(field, standing))
        .fix("choose a drift policy for this stream (evolve, discard_value, discard_row), write to another --target, or replace the table")
}

fn cannot(kind: Kind, field: &Field, what: &'static str) -> Error {
    Error::new(ErrorKind::SchemaDrift, format!("the stream no longer fits its table ({kind}), and this destination cannot {what}"))
        .with("column", field.name())
        .fix("replace the table with --mode full --write replace, or choose the drift policy discard_value for this stream")
}

fn in_the_way() -> Error {
    Error::new(ErrorKind::AlreadyExists, "destination schema in the way: a table that Linkspan did not make does not fit this stream")
        .fix("choose another place with --target, or rename or drop that table")
}

fn describe(ddl: &[Alter]) -> String {
    let part = |alter: &Alter| match alter {
        Alter::Create { .. } => "the table".to_owned(),
        Alter::Add(f) => format!("it lacks {}", f.name()),
        Alter::Widen { from, to } => format!("{} is {} and not {}", from.name(), from.data_type(), to.data_type()),
        Alter::DropNotNull(f) => format!("{} forbids nulls", f.name()),
    };
    ddl.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// The shape after a plan is carried out.
pub(crate) fn planned(stands: Option<&TableShape>, plan: &SchemaPlan) -> TableShape {
    let mut shape = stands.cloned().unwrap_or_else(|| TableShape { schema: plan.schema.clone(), key: Vec::new(), ours: true });
    for alter in &plan.ddl {
        let mut fields: Vec<FieldRef> = shape.schema.fields().iter().cloned().collect();
        let mut change = |name: &str, to: &dyn Fn(&Field) -> Field| {
            for field in fields.iter_mut().filter(|f| f.name() == name) {
                *field = Arc::new(to(field));
            }
        };
        match alter {
            Alter::Create { schema, key } => {
                shape = TableShape { schema: schema.clone(), key: key.clone(), ours: true };
                continue;
            }
            Alter::Add(field) => fields.push(field.clone()),
            Alter::Widen { from, to } => change(from.name(), &|_| to.as_ref().clone()),
            Alter::DropNotNull(field) => change(field.name(), &linkspan_core::nullable),
        }
        shape.schema = Arc::new(Schema::new(fields));
    }
    shape
}
