//! OTLP's protobuf, as much of it as a span needs. The numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use super::span::{Ended, Value};

/// The body of an export request.
pub fn request(resource: &[(String, String)], spans: &[Ended]) -> Vec<u8> {
    let mut out = Message::default();
    out.message(1, |all| {
        all.message(1, |message| {
            for (key, value) in resource {
                message.message(1, |pair| attribute(pair, key, &Value::Text(value.clone())));
            }
        });
        all.message(2, |scope| {
            scope.message(1, |name| {
                name.bytes(1, b"linkspan");
                name.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                scope.message(2, |message| write(message, span));
            }
        });
    });
    out.0
}

/// How many spans the collector says it did not take.
pub fn rejected(answer: &[u8]) -> u64 {
    let partial = field(answer, 1).and_then(|found| match found {
        Found::Bytes(bytes) => Some(bytes),
        Found::Number(_) => None,
    });
    match partial.and_then(|partial| field(partial, 1)) {
        Some(Found::Number(count)) => count,
        _ => 0,
    }
}

fn write(out: &mut Message, span: &Ended) {
    const FAILED: u64 = 2;
    out.bytes(1, &span.place.trace);
    out.bytes(2, &span.place.span);
    if let Some(parent) = &span.parent {
        out.bytes(4, parent);
    }
    out.bytes(5, span.name.as_bytes());
    out.number(6, span.kind as u64);
    out.fixed(7, span.from);
    out.fixed(8, span.to);
    for (key, value) in &span.attributes {
        out.message(9, |pair| attribute(pair, key, value));
    }
    if span.failed {
        out.message(15, |status| status.number(3, FAILED));
    }
}

fn attribute(out: &mut Message, key: &str, value: &Value) {
    out.bytes(1, key.as_bytes());
    out.message(2, |any| match value {
        Value::Text(text) => any.bytes(1, text.as_bytes()),
        Value::Bool(b) => any.number(2, u64::from(*b)),
        Value::Whole(n) => any.number(3, n.cast_unsigned()),
        Value::Float(f) => any.fixed(4, f.to_bits()),
    });
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    fn number(&mut self, field: u64, n: u64) {
        self.varint(field << 3);
        self.varint(n);
    }
    fn fixed(&mut self, field: u64, n: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&n.to_le_bytes());
    }
    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}

enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of the number; nothing where the bytes are no message.
fn field(mut bytes: &[u8], wanted: u64) -> Option<Found<'_>> {
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let found = match tag & 7 {
            0 => Found::Number(take_varint(&mut bytes)?),
            1 => Found::Bytes(take(&mut bytes, 8)?),
            2 => {
                let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
                Found::Bytes(take(&mut bytes, len)?)
            }
            5 => Found::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_partial_refusal_is_counted_and_nonsense_is_none() {
        assert_eq!(rejected(&[]), 0);
        assert_eq!(rejected(&[0x0a, 0x03, 0x08, 0xac, 0x02]), 300);
        assert_eq!(rejected(&[0x0a, 0x05, 0x12, 0x01, b'x', 0x08, 0x07]), 7);
        for nonsense in [&b"<html>"[..], &[0x0a, 0xff], &[0xff; 20], &[0x0a, 0x01, 0x08]] {
            assert_eq!(rejected(nonsense), 0);
        }
    }
}
