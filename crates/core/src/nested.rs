//! Lists, structs and maps as JSON documents, for systems that have no columns of that kind.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, StringArray, builder::StringBuilder, cast::AsArray, types};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};

use crate::{Error, ErrorKind, Result};

/// Each value of a nested column as one JSON document; null stays null. JSON has no number for NaN and the infinities: they are
/// written as the texts `"NaN"`, `"Infinity"` and `"-Infinity"`, which a reader that knows the type takes for numbers again.
pub fn json_texts(name: &str, array: &ArrayRef) -> Result<StringArray> {
    texts(array).map_err(|e| Error::new(ErrorKind::Internal, "a nested value could not be written as JSON").with("column", name).because(e))
}

fn texts(array: &ArrayRef) -> std::result::Result<StringArray, ArrowError> {
    let field = Arc::new(Field::new("v", array.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats));
    let mut encoder = make_encoder(&field, array.as_ref(), &options)?;
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 16);
    let mut text = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(std::str::from_utf8(&text)?);
    }
    Ok(texts.finish())
}

#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float64 => Box::new(Float(array.as_primitive::<types::Float64Type>())),
            DataType::Float32 => Box::new(Float(array.as_primitive::<types::Float32Type>())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// Floats in the fewest digits that read back the same.
struct Float<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<f64> + serde::Serialize>> Encoder for Float<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let wide: f64 = value.into();
        let special: &[u8] = match wide {
            v if v.is_nan() => b"\"NaN\"",
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => {
                // A write into memory does not fail.
                let _ = serde_json::to_writer(out, &value);
                return;
            }
        };
        out.extend_from_slice(special);
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, ListArray, StructArray};
    use arrow_buffer::OffsetBuffer;

    use super::*;

    #[test]
    fn a_number_that_json_has_not_is_a_text_and_no_null() {
        let values = Float64Array::from(vec![Some(1.5), Some(f64::NAN), None, Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(0.1)]);
        let inner: ArrayRef =
            Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Float64, true)), Arc::new(values) as ArrayRef)]));
        let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([3, 3]), inner, None));
        let texts = json_texts("l", &list).unwrap();
        assert_eq!(texts.value(0), r#"[{"x":1.5},{"x":"NaN"},{"x":null}]"#);
        assert_eq!(texts.value(1), r#"[{"x":"Infinity"},{"x":"-Infinity"},{"x":0.1}]"#);
    }
}
