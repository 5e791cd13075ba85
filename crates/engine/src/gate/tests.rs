use DataType::*;
use Policy::*;
use linkspan_core::Misfit;

use super::*;

fn table(fields: Vec<Field>) -> TableShape {
    TableShape { schema: Arc::new(Schema::new(fields)), key: vec!["id".into()], ours: true }
}
fn base() -> Vec<Field> {
    vec![Field::new("id", Int64, false), Field::new("n", Int32, true)]
}
fn with(field: Field) -> Vec<Field> {
    let mut fields: Vec<Field> = base().into_iter().filter(|f| f.name() != field.name()).collect();
    fields.push(field);
    fields
}
const ALL: Abilities = Abilities { add_column: true, widen_column: true, drop_not_null: true, specials: false };
const NONE: Abilities = Abilities { add_column: false, widen_column: false, drop_not_null: false, specials: false };

fn judge(stands: &TableShape, next: Vec<Field>, drift: Drift, can: Abilities, whole: bool) -> Result<SchemaPlan, Error> {
    match (Judge { drift, can, whole }).judge(stands, &Arc::new(Schema::new(next)))? {
        Admission::Load(plan) => Ok(plan),
        Admission::Park(e) => Err(e),
    }
}
/// `+c` add, `~c` widen, `?c` nullable, `=` create; then the columns sent, then the misfit rule; or the error's kind.
fn shown(outcome: Result<SchemaPlan, Error>) -> String {
    let plan = match outcome {
        Err(e) => {
            assert!(e.suggested_fix().is_some(), "{e:?}");
            return format!("{:?}", e.kind());
        }
        Ok(plan) => plan,
    };
    let ddl = plan.ddl.iter().map(|alter| match alter {
        Alter::Create { .. } => "=".to_owned(),
        Alter::Add(f) => format!("+{}:{}", f.name(), f.data_type()),
        Alter::Widen { to, .. } => format!("~{}:{}", to.name(), to.data_type()),
        Alter::DropNotNull(f) => format!("?{}", f.name()),
    });
    let columns = plan.schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(",");
    let misfit = match plan.misfit {
        Misfit::Fail => "",
        Misfit::Null => " null",
        Misfit::Reject => " reject",
    };
    format!("{} {columns}{misfit}", ddl.collect::<Vec<_>>().join(" ")).trim_start().to_owned()
}

#[test]
fn every_kind_of_change_meets_its_policy() {
    type Next = fn() -> Vec<Field>;
    let new = || with(Field::new("x", Utf8, true));
    let wider = || with(Field::new("n", Int64, true));
    let other = || with(Field::new("n", Utf8, true));
    let gone = || vec![Field::new("id", Int64, false)];
    // (name, next, default, freeze, discard_value, discard_row)
    let rows: [(&str, Next, [&str; 4]); 4] = [
        ("new column", new, ["+x:Utf8 id,n,x", "SchemaDrift", "id,n null", "id,n reject"]),
        ("wider type", wider, ["~n:Int64 id,n", "SchemaDrift", "id,n null", "id,n reject"]),
        ("other type", other, ["SchemaDrift", "SchemaDrift", "id,n null", "id,n reject"]),
        ("missing column", gone, ["id", "SchemaDrift", "id null", "id reject"]),
    ];
    for (name, next, expected) in rows {
        for (policy, expected) in [Evolve, Freeze, DiscardValue, DiscardRow].into_iter().zip(expected) {
            assert_eq!(shown(judge(&table(base()), next(), Drift::all(policy), ALL, false)), expected, "{name} {policy:?}");
        }
        assert_eq!(shown(judge(&table(base()), next(), Drift::all(Block), ALL, false)), "SchemaDrift", "{name} block");
    }
}

/// A NaN for a column that has none: nothing of the shape is wrong, and what becomes of the value is said by the same policy, in a
/// new table as in one that stands.
#[test]
fn a_value_without_a_place_follows_the_policy_of_types() {
    let policies = |drift| Policies { drift, ..Policies::default() };
    let type_only = |policy| Drift { changed_type: Some(policy), ..Drift::default() };
    let next: SchemaRef = Arc::new(Schema::new(base()));
    for (drift, expected) in [
        (Drift::default(), Misfit::Fail),
        (Drift::all(Freeze), Misfit::Fail),
        (Drift::all(DiscardValue), Misfit::Null),
        (type_only(DiscardRow), Misfit::Reject),
        (Drift { new_column: Some(DiscardRow), ..Drift::default() }, Misfit::Fail),
    ] {
        let gate = PolicyGate { policies: policies(drift), can: ALL };
        for stands in [None, Some(table(base()))] {
            let Admission::Load(plan) = gate.admit(&StreamName::parse("t"), stands.as_ref(), &next) else { panic!("{drift:?}") };
            assert_eq!(plan.misfit, expected, "{drift:?}");
        }
    }
}

#[test]
fn rows_that_fit_change_nothing() {
    for (standing, next) in [
        (Int64, Int32),
        (Utf8, LargeUtf8),
        (Utf8, Int64),
        (Float64, Int16),
        (Decimal128(20, 2), Int32),
        (Binary, FixedSizeBinary(16)),
        (Timestamp(TimeUnit::Microsecond, None), Date32),
        (Time64(TimeUnit::Microsecond), Time32(TimeUnit::Millisecond)),
        (Date32, Date64),
    ] {
        let stands = table(with(Field::new("x", standing.clone(), true)));
        let plan = judge(&stands, with(Field::new("x", next.clone(), true)), Drift::all(Freeze), NONE, false);
        assert_eq!(shown(plan), "id,n,x", "{standing} <- {next}");
    }
}

/// A destination that has no such type shows the column as what it made of it; that is no drift.
#[test]
fn values_go_as_they_are_into_the_form_that_their_destination_made_of_them() {
    let documents = native::with_mark(Field::new("x", Utf8, true), native::JSON_TEXT, "");
    let spans = native::with_native(Field::new("x", Utf8, true), "postgresql", "interval");
    let list = List(Arc::new(Field::new("item", Int32, true)));
    for (standing, next) in [(documents, list.clone()), (spans, Duration(TimeUnit::Second))] {
        let plan = judge(&table(with(standing)), with(Field::new("x", next.clone(), true)), Drift::all(Freeze), NONE, false).unwrap();
        assert_eq!(plan.schema.field(2).data_type(), &next);
    }
    let text = table(with(Field::new("x", Utf8, true)));
    assert_eq!(shown(judge(&text, with(Field::new("x", list, true)), Drift::default(), ALL, false)), "SchemaDrift", "plain text is none");
}

#[test]
fn columns_that_fill_themselves_are_not_missed() {
    let special = native::with_mark(Field::new("n__special", Int8, true), native::SPECIAL_OF, "n");
    let computed = native::with_mark(Field::new("total", Int64, false), GENERATED, "");
    let mut fields = base();
    fields.extend([special, computed]);
    assert_eq!(shown(judge(&table(fields), base(), Drift::all(Freeze), NONE, false)), "id,n");
}

#[test]
fn a_special_is_a_column_only_where_the_number_cannot_hold_it() {
    let next = || with(native::with_mark(Field::new("n__special", Int8, true), native::SPECIAL_OF, "n"));
    let holds = Abilities { specials: true, ..NONE };
    assert_eq!(shown(judge(&table(base()), next(), Drift::all(Freeze), holds, false)), "id,n,n__special");
    assert_eq!(shown(judge(&table(base()), next(), Drift::all(Freeze), ALL, false)), "SchemaDrift");
    assert_eq!(shown(judge(&table(base()), next(), Drift::default(), ALL, false)), "+n__special:Int8 id,n,n__special");
}

#[test]
fn a_type_becomes_text_only_when_that_was_asked_for() {
    let asked = Drift { changed_type: Some(Evolve), ..Drift::default() };
    let next = || with(Field::new("n", Boolean, true));
    assert_eq!(shown(judge(&table(base()), next(), asked, ALL, false)), "~n:Utf8 id,n");
    assert_eq!(shown(judge(&table(base()), next(), Drift::default(), ALL, false)), "SchemaDrift");
    let bytes = table(with(Field::new("n", Binary, true)));
    assert_eq!(shown(judge(&bytes, next(), asked, ALL, false)), "SchemaDrift", "nothing holds both");
}

#[test]
fn what_a_destination_cannot_alter_stops_the_stream() {
    let required = table(with(Field::new("n", Int32, false)));
    for next in [with(Field::new("x", Utf8, true)), with(Field::new("n", Int64, true))] {
        assert_eq!(shown(judge(&table(base()), next, Drift::default(), NONE, false)), "SchemaDrift");
    }
    assert_eq!(shown(judge(&required, vec![Field::new("id", Int64, false)], Drift::default(), NONE, false)), "SchemaDrift");
    assert_eq!(shown(judge(&required, vec![Field::new("id", Int64, false)], Drift::default(), ALL, false)), "?n id");
}

#[test]
fn nulls_are_let_in_except_into_the_key() {
    let required = table(vec![Field::new("id", Int64, false), Field::new("n", Int32, false)]);
    let loose = || vec![Field::new("id", Int64, true), Field::new("n", Int32, true)];
    let plan = judge(&required, loose(), Drift::default(), ALL, false).unwrap();
    assert!(!plan.schema.field(0).is_nullable() && plan.schema.field(1).is_nullable());
    assert_eq!(shown(Ok(plan)), "?n id,n");
    let kept = Drift { nullability: Some(DiscardValue), ..Drift::default() };
    assert_eq!(shown(judge(&required, loose(), kept, ALL, false)), "id,n reject", "a null has no value to discard: its row goes");
    let plan = judge(&required, loose(), Drift::default(), NONE, false).unwrap();
    assert!(!plan.schema.field(1).is_nullable(), "the table forbids nulls, and so does the plan");
}

#[test]
fn a_table_of_somebody_else_is_filled_when_it_fits_and_never_altered() {
    let foreign = TableShape { ours: false, ..table(with(Field::new("made_by_hand", Utf8, false))) };
    assert_eq!(shown(judge(&foreign, base(), Drift::default(), ALL, false)), "id,n");
    for next in [with(Field::new("x", Utf8, true)), with(Field::new("n", Int64, true))] {
        assert_eq!(shown(judge(&foreign, next, Drift::default(), ALL, false)), "AlreadyExists");
    }
    assert_eq!(shown(judge(&foreign, base(), Drift::default(), ALL, true)), "AlreadyExists", "nor replaced");
}

#[test]
fn a_replaced_table_takes_any_shape_unless_a_policy_says_no() {
    let other = || with(Field::new("n", Utf8, true));
    assert_eq!(shown(judge(&table(base()), other(), Drift::default(), NONE, true)), "= id,n");
    assert_eq!(shown(judge(&table(base()), other(), Drift::all(Freeze), NONE, true)), "SchemaDrift");
    assert_eq!(shown(judge(&table(base()), with(Field::new("x", Utf8, true)), Drift::all(DiscardValue), NONE, true)), "= id,n null");
}

#[test]
fn a_new_stream_makes_its_table() {
    let gate = PolicyGate { policies: Policies { drift: Drift::all(Freeze), ..Policies::default() }, can: NONE };
    let Admission::Load(plan) = gate.admit(&StreamName::parse("a"), None, &Arc::new(Schema::new(base()))) else { panic!("parked") };
    assert_eq!(shown(Ok(plan)), "= id,n");
}

#[test]
fn the_planned_shape_is_what_stands_afterwards() {
    let stands = table(vec![Field::new("id", Int64, false), Field::new("n", Int32, false)]);
    let next = vec![Field::new("id", Int64, false), Field::new("n", Int64, true), Field::new("x", Utf8, false)];
    let plan = judge(&stands, next, Drift::default(), ALL, false).unwrap();
    let after = planned(Some(&stands), &plan);
    let expected = vec![Field::new("id", Int64, false), Field::new("n", Int64, true), Field::new("x", Utf8, true)];
    assert_eq!(after.schema.as_ref(), &Schema::new(expected.clone()));
    assert_eq!(shown(judge(&after, expected, Drift::all(Freeze), NONE, false)), "id,n,x", "and then nothing has to change");
}
