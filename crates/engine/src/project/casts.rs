//! Casts between Arrow types that say which values they could not carry over. Where Arrow itself would round or cut, the result
//! is cast back and compared.

use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{DataType, Field};
use linkspan_core::{Error, ErrorKind, Result, widen};

const SAFE: CastOptions<'static> = CastOptions { safe: true, format_options: arrow_cast::display::FormatOptions::new() };

/// A cast of one column.
#[derive(Debug)]
pub struct Cast {
    to: DataType,
    /// Every value arrives or becomes null; else Arrow may round, so the result is compared with what went in.
    exact: bool,
}

/// A cast column, and the rows whose value did not arrive.
pub struct Outcome {
    pub array: ArrayRef,
    pub misfits: Option<BooleanArray>,
}

impl Cast {
    /// The cast between two columns; `None` when nothing has to be done.
    pub fn between(from: &Field, to: &Field) -> Result<Option<Self>> {
        let (a, b) = (from.data_type(), to.data_type());
        if a == b {
            return Ok(None);
        }
        if !can_cast_types(a, b) {
            return Err(Error::new(ErrorKind::SchemaDrift, "a column has a type that cannot become the table's")
                .with("column", from.name())
                .with("change", format!("{b} -> {a}"))
                .fix("write to another --target, or replace the table"));
        }
        let text = matches!(b, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let exact = text || widen::widen(b, a).is_some_and(|w| w == *b);
        Ok(Some(Self { to: b.clone(), exact }))
    }

    pub fn apply(&self, array: &ArrayRef) -> Result<Outcome> {
        let failed = |e| Error::new(ErrorKind::DataInvalid, "a column could not be cast").because(e);
        let out = cast_with_options(array, &self.to, &SAFE).map_err(failed)?;
        let lost = out.null_count() > array.null_count();
        if self.exact {
            let misfits = lost.then(|| BooleanArray::from_iter((0..out.len()).map(|i| Some(out.is_null(i) && array.is_valid(i)))));
            return Ok(Outcome { array: out, misfits });
        }
        let back = cast_with_options(&out, array.data_type(), &SAFE).map_err(failed)?;
        let differs = arrow_ord::cmp::distinct(&back, array).map_err(failed)?;
        let misfits = (differs.true_count() > 0).then_some(differs);
        Ok(Outcome { array: out, misfits })
    }
}
