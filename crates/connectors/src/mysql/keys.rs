//! Values of a column as SQL: how a bound is asked for, and how it is written back into a condition.

use super::{
    catalog::Column,
    sql::{ident, literal},
    types::Form,
};

/// Whether ranges of this column can be read: its values have an order, and each can be written down exactly.
pub(super) fn is_sliceable(column: &Column) -> bool {
    column.form.is_orderable() || matches!(column.form, Form::Binary | Form::Uuid | Form::UuidBytes)
}

/// A value of the column in a SELECT list, as text that `written` takes back.
pub(super) fn asked(column: &Column) -> String {
    let name = ident(&column.name);
    if matches!(column.form, Form::Binary | Form::UuidBytes) { format!("HEX({name})") } else { name }
}

/// A value that `asked` brought, as SQL. Digits stay a number, so that it is compared as one and not as a double.
pub(super) fn written(column: &Column, value: &str) -> String {
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    match column.form {
        Form::Binary | Form::UuidBytes => format!("X'{}'", value.bytes().filter(u8::is_ascii_hexdigit).map(char::from).collect::<String>()),
        form if form.is_number() && is_number => value.to_owned(),
        _ => literal(value),
    }
}

/// `c > after AND c <= to`, as far as there are such bounds; `TRUE` without any.
pub(super) fn between(column: &Column, after: Option<&str>, to: Option<&str>) -> String {
    let name = ident(&column.name);
    let after = after.map(|v| format!("{name} > {}", written(column, v)));
    let to = to.map(|v| format!("{name} <= {}", written(column, v)));
    match (after, to) {
        (Some(after), Some(to)) => format!("{after} AND {to}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "TRUE".to_owned(),
    }
}

/// A text that is the same for equal rows and another one for others: a hash of the columns' values. Nulls count.
pub(super) fn hash(columns: impl IntoIterator<Item = String>) -> String {
    let each = columns.into_iter().map(|c| format!("IFNULL(SHA2({c}, 224), '-')")).collect::<Vec<_>>().join(", ");
    format!("LEFT(SHA2(CONCAT({each}), 256), 32)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(form: Form) -> Column {
        Column { name: "k".into(), form, native: "x".into(), nullable: false, marks: Default::default() }
    }

    #[test]
    fn a_bound_is_written_as_its_type_is_compared() {
        assert_eq!(written(&column(Form::Int64), "-7"), "-7");
        assert_eq!(written(&column(Form::Int64), "1 OR 1"), "'1 OR 1'");
        assert_eq!(written(&column(Form::Binary), "00FF"), "X'00FF'");
        assert_eq!(written(&column(Form::Text), "it's"), "'it\\'s'");
        assert_eq!(between(&column(Form::Int64), Some("1"), Some("5")), "`k` > 1 AND `k` <= 5");
        assert_eq!(between(&column(Form::Int64), None, None), "TRUE");
    }
}
