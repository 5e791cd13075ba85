//! The cursor column of an incremental read of a table, as every SQL source judges it.

use linkspan_core::{Cursor, Error, ErrorKind, Result, Selected, suggest};

/// A column, as far as a cursor cares.
pub(crate) trait Ordered {
    fn name(&self) -> &str;
    /// Its type in the database's own words.
    fn native(&self) -> &str;
    /// Whether its values have an order to go on by.
    fn is_orderable(&self) -> bool;
}

/// The column that the selection names; an error that names the nearest right one otherwise. `usable` comes best first.
pub(crate) fn cursor_of<'a, C: Ordered>(selected: &Selected, columns: &'a [C], usable: Cursor) -> Result<&'a C> {
    let usable: Vec<String> = match usable {
        Cursor::Columns(names) => names,
        _ => Vec::new(),
    };
    let best = usable.first().map_or_else(|| "no column has an order to go on by: use mode full".to_owned(), |c| format!("use \"{c}\""));
    let invalid = |message: &'static str| Error::new(ErrorKind::ConfigInvalid, message);
    let Some(name) = &selected.cursor else {
        return Err(invalid("an incremental read needs a cursor column").fix(best));
    };
    match columns.iter().find(|c| c.name() == name) {
        Some(column) if column.is_orderable() => Ok(column),
        Some(column) => Err(invalid("values of the cursor column have no order to go on by")
            .with("column", name)
            .with("type", column.native())
            .fix(best)),
        None => {
            let fix = suggest::did_you_mean(name, usable.iter().map(String::as_str)).unwrap_or(best);
            Err(invalid("the table has no such cursor column").with("column", name).fix(fix))
        }
    }
}

/// A position of a stream that was a table and is a query now, or the other way round.
pub(crate) fn of_another_kind() -> Error {
    Error::new(ErrorKind::PositionLost, "the position was written for a stream of another kind")
        .fix("reset the connection: the next run reads everything again")
}
