//! PostgreSQL's binary numeric: base-10000 digits, read straight into an integer of the column's scale.

use arrow_buffer::i256;
use linkspan_core::{Error, ErrorKind, Result};

/// A numeric value: its digits as an integer of the wanted scale, or one that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numeric<T> {
    Value(T),
    /// 0 = NaN, 1 = Infinity, -1 = -Infinity.
    Special(i8),
}

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const MINUS_INFINITE: u16 = 0xF000;

/// The parts of the binary form.
struct Parts<'a> {
    digits: &'a [u8],
    /// Decimal exponent of the last digit group once the scale is applied.
    exponent: i32,
    negative: bool,
}

fn parts(bytes: &[u8], scale: i8) -> Result<Numeric<Parts<'_>>> {
    let (head, digits) = bytes.split_first_chunk::<8>().ok_or_else(garbled)?;
    let [n0, n1, w0, w1, s0, s1, ..] = *head;
    let count = u16::from_be_bytes([n0, n1]);
    let weight = i16::from_be_bytes([w0, w1]);
    let negative = match u16::from_be_bytes([s0, s1]) {
        POSITIVE => false,
        NEGATIVE => true,
        NAN => return Ok(Numeric::Special(0)),
        INFINITE => return Ok(Numeric::Special(1)),
        MINUS_INFINITE => return Ok(Numeric::Special(-1)),
        _ => return Err(garbled()),
    };
    if digits.len() != usize::from(count) * 2 {
        return Err(garbled());
    }
    let exponent = 4 * (i32::from(weight) - i32::from(count) + 1) + i32::from(scale);
    Ok(Numeric::Value(Parts { digits, exponent, negative }))
}

fn group(pair: &[u8]) -> u64 {
    u64::from(u16::from_be_bytes([pair[0], pair[1]]))
}

const POW10: [u64; 20] = {
    let mut powers = [1; 20];
    let mut i = 1;
    while i < 20 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The value as an `i128` of `scale`. A value that the column's precision cannot hold is an error: the server never sends one.
pub(super) fn to_i128(bytes: &[u8], scale: i8) -> Result<Numeric<i128>> {
    let parts = match parts(bytes, scale)? {
        Numeric::Value(parts) => parts,
        Numeric::Special(s) => return Ok(Numeric::Special(s)),
    };
    let value = match (parts.digits.len() / 2, parts.exponent) {
        (0, _) => 0,
        // Up to 16 digits fit in 64 bits, and a scale of 3 or less beyond them too.
        (1..=4, e @ -3..=3) => {
            let whole = parts.digits.chunks_exact(2).fold(0, |acc, pair| acc * 10_000 + group(pair));
            i128::from(if e >= 0 { whole * POW10[e.unsigned_abs() as usize] } else { exact(whole, e)? })
        }
        _ => wide_i128(&parts)?,
    };
    Ok(Numeric::Value(if parts.negative { -value } else { value }))
}

/// Divides away the zeros that pad the last group.
fn exact(whole: u64, exponent: i32) -> Result<u64> {
    let divisor = POW10[exponent.unsigned_abs() as usize];
    if whole.is_multiple_of(divisor) { Ok(whole / divisor) } else { Err(overflow()) }
}

fn wide_i128(parts: &Parts<'_>) -> Result<i128> {
    let (head, last) = parts.digits.split_at(parts.digits.len() - 2);
    let mut acc: i128 = 0;
    for pair in head.chunks_exact(2) {
        acc = acc.checked_mul(10_000).and_then(|a| a.checked_add(i128::from(group(pair)))).ok_or_else(overflow)?;
    }
    let last = group(last);
    // The padding of the last group is cut before it is added, so that 38 digits never need 41.
    match parts.exponent {
        e @ -3..=-1 => {
            let keep = 4 - e.unsigned_abs() as usize;
            let add = i128::from(exact(last, e)?);
            acc.checked_mul(i128::from(POW10[keep])).and_then(|a| a.checked_add(add)).ok_or_else(overflow)
        }
        e @ 0.. => {
            let whole = acc.checked_mul(10_000).and_then(|a| a.checked_add(i128::from(last)));
            let power = 10i128.checked_pow(e.unsigned_abs());
            whole.zip(power).and_then(|(w, p)| w.checked_mul(p)).ok_or_else(overflow)
        }
        _ => Err(overflow()),
    }
}

/// The value as an `i256` of `scale`.
pub(super) fn to_i256(bytes: &[u8], scale: i8) -> Result<Numeric<i256>> {
    let parts = match parts(bytes, scale)? {
        Numeric::Value(parts) => parts,
        Numeric::Special(s) => return Ok(Numeric::Special(s)),
    };
    let step = |acc: i256, factor: u64, add: u64| {
        acc.checked_mul(i256::from_i128(factor.into())).and_then(|a| a.checked_add(i256::from_i128(add.into())))
    };
    let mut acc = i256::ZERO;
    let Some((head, last)) = parts.digits.split_at_checked(parts.digits.len().wrapping_sub(2)) else {
        return Ok(Numeric::Value(acc));
    };
    for pair in head.chunks_exact(2) {
        acc = step(acc, 10_000, group(pair)).ok_or_else(overflow)?;
    }
    let last = group(last);
    acc = match parts.exponent {
        e @ -3..=-1 => step(acc, POW10[4 - e.unsigned_abs() as usize], exact(last, e)?).ok_or_else(overflow)?,
        e @ 0.. => {
            let mut whole = step(acc, 10_000, last).ok_or_else(overflow)?;
            for _ in 0..e {
                whole = step(whole, 10, 0).ok_or_else(overflow)?;
            }
            whole
        }
        _ => return Err(overflow()),
    };
    Ok(Numeric::Value(if parts.negative { acc.wrapping_neg() } else { acc }))
}

fn garbled() -> Error {
    Error::new(ErrorKind::DataInvalid, "a numeric of the server is not in PostgreSQL's binary form")
}
fn overflow() -> Error {
    Error::new(ErrorKind::DataInvalid, "a numeric does not fit the precision and scale of its column")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's form of a decimal text.
    fn binary(text: &str) -> Vec<u8> {
        let (sign, text) = text.strip_prefix('-').map_or((POSITIVE, text), |t| (NEGATIVE, t));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let scale = fraction.len();
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
        let mut weight = whole.len() as i16 / 4 - 1;
        let all = format!("{whole}{fraction}");
        let mut groups: Vec<u16> = all.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap().parse().unwrap()).collect();
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let mut out = Vec::new();
        for word in [groups.len() as u16, weight as u16, sign, scale as u16] {
            out.extend(word.to_be_bytes());
        }
        groups.iter().for_each(|g| out.extend(g.to_be_bytes()));
        out
    }

    #[test]
    fn digits_become_one_integer_of_the_columns_scale() {
        for (text, scale, want) in [
            ("0", 2, 0),
            ("0.00", 2, 0),
            ("1", 0, 1),
            ("12.5", 2, 1250),
            ("-12.34", 2, -1234),
            ("0.0001", 4, 1),
            ("0.01", 4, 100),
            ("10000", 0, 10_000),
            ("100000000", 3, 100_000_000_000),
            ("104899.99", 2, 10_489_999),
            ("9999999999999999.9999", 4, 99_999_999_999_999_999_999),
        ] {
            assert_eq!(to_i128(&binary(text), scale).unwrap(), Numeric::Value(want), "{text}");
            assert_eq!(to_i256(&binary(text), scale).unwrap(), Numeric::Value(i256::from_i128(want)), "{text}");
        }
    }

    #[test]
    fn the_widest_values_fit_exactly() {
        let nines = "9".repeat(38);
        let max: i128 = nines.parse().unwrap();
        for point in 0..38 {
            let text = format!("{}.{}", &nines[..38 - point], &nines[38 - point..]);
            assert_eq!(to_i128(&binary(text.trim_end_matches('.')), point as i8).unwrap(), Numeric::Value(max), "{text}");
        }
        let nines = "9".repeat(76);
        let text = format!("{}.{}", &nines[..66], &nines[66..]);
        assert_eq!(to_i256(&binary(&text), 10).unwrap(), Numeric::Value(i256::from_string(&nines).unwrap()));
    }

    #[test]
    fn what_is_no_number_is_told_apart_and_what_does_not_fit_is_refused() {
        assert_eq!(to_i128(&[0, 0, 0, 0, 0xC0, 0, 0, 0], 2).unwrap(), Numeric::Special(0));
        assert_eq!(to_i128(&[0, 0, 0, 0, 0xF0, 0, 0, 0], 2).unwrap(), Numeric::Special(-1));
        assert!(to_i128(&binary("0.005"), 2).is_err());
        assert!(to_i128(&[0, 1], 2).is_err());
    }
}
