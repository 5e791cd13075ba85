//! Exact decimals in PostgreSQL's binary form: base-10000 digits, straight from integers or from decimal text.
//! It knows nothing of columns or rows.

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

const BASE: u64 = 10_000;
const POW10: [u64; 5] = [1, 10, 100, 1_000, 10_000];
/// 10^16: four base-10000 digits that fit a `u64`.
const CHUNK: u128 = 10_000_000_000_000_000;
/// A `u128` has 39 decimal digits: ten whole groups and one that the scale cuts.
const GROUPS: usize = 12;
/// What the server can hold before and after the point.
const MAX_WHOLE: usize = 131_072;
const MAX_SCALE: usize = 16_383;

/// A value that `numeric` has beside its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    NotANumber,
    Infinity,
    NegativeInfinity,
}

impl Special {
    /// The code that the sibling column of a decimal carries.
    pub(super) fn of_code(code: i8) -> Self {
        match code {
            0 => Self::NotANumber,
            1.. => Self::Infinity,
            _ => Self::NegativeInfinity,
        }
    }
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NotANumber => "NaN",
            Self::Infinity => "Infinity",
            Self::NegativeInfinity => "-Infinity",
        }
    }
}

/// Appends length and value of a special.
pub(super) fn push_special(out: &mut Vec<u8>, special: Special) {
    let sign = match special {
        Special::NotANumber => NAN,
        Special::Infinity => POSITIVE_INFINITY,
        Special::NegativeInfinity => NEGATIVE_INFINITY,
    };
    out.extend_from_slice(&8u32.to_be_bytes());
    push_header(out, 0, 0, sign, 0);
}

/// Appends length and value of `value / 10^scale`.
#[inline]
pub(super) fn push_i128(out: &mut Vec<u8>, value: i128, scale: u16) {
    let magnitude = value.unsigned_abs();
    let mut groups = [0u16; GROUPS];
    let cut = usize::from(scale % 4);
    let count = match u64::try_from(magnitude) {
        Ok(small) => split_small(small, cut, &mut groups),
        Err(_) => split_large(magnitude, cut, &mut groups),
    };
    push_groups(out, &groups[..count], value < 0, scale);
}

/// Groups of four digits, least significant first; the first one is filled up where the scale is no multiple of four.
#[inline]
fn split_small(mut value: u64, cut: usize, groups: &mut [u16; GROUPS]) -> usize {
    let mut count = 0;
    if cut != 0 {
        groups[0] = (value % POW10[cut] * POW10[4 - cut]) as u16;
        value /= POW10[cut];
        count = 1;
    }
    while value != 0 {
        groups[count] = (value % BASE) as u16;
        value /= BASE;
        count += 1;
    }
    count
}

fn split_large(mut value: u128, cut: usize, groups: &mut [u16; GROUPS]) -> usize {
    let mut count = 0;
    if cut != 0 {
        let pow = u128::from(POW10[cut]);
        groups[0] = (value % pow) as u16 * POW10[4 - cut] as u16;
        value /= pow;
        count = 1;
    }
    // 128-bit divisions are slow: take sixteen digits with each, and the groups of those with 64-bit ones.
    while value > u128::from(u64::MAX) {
        let mut chunk = (value % CHUNK) as u64;
        value /= CHUNK;
        for group in &mut groups[count..count + 4] {
            *group = (chunk % BASE) as u16;
            chunk /= BASE;
        }
        count += 4;
    }
    let mut rest = value as u64;
    while rest != 0 {
        groups[count] = (rest % BASE) as u16;
        rest /= BASE;
        count += 1;
    }
    count
}

#[inline]
fn push_groups(out: &mut Vec<u8>, groups: &[u16], negative: bool, scale: u16) {
    let low = groups.iter().position(|g| *g != 0).unwrap_or(groups.len());
    let high = groups.iter().rposition(|g| *g != 0).map_or(low, |i| i + 1);
    let digits = &groups[low..high];
    let fraction = i32::from(scale.div_ceil(4));
    let weight = if digits.is_empty() { 0 } else { high as i32 - 1 - fraction };
    let mut bytes = [0u8; 12 + 2 * GROUPS];
    let length = 8 + 2 * digits.len();
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    bytes[4..6].copy_from_slice(&(digits.len() as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&(weight as i16).to_be_bytes());
    let sign = if negative { NEGATIVE } else { 0 };
    bytes[8..10].copy_from_slice(&sign.to_be_bytes());
    bytes[10..12].copy_from_slice(&scale.to_be_bytes());
    for (at, digit) in digits.iter().rev().enumerate() {
        bytes[12 + 2 * at..14 + 2 * at].copy_from_slice(&digit.to_be_bytes());
    }
    out.extend_from_slice(&bytes[..4 + length]);
}

fn push_header(out: &mut Vec<u8>, digits: u16, weight: i16, sign: u16, scale: u16) {
    for word in [digits, weight as u16, sign, scale] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Decimal text taken apart: `-12.50e3`, `NaN`, `-Infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decimal<'a> {
    Special(Special),
    Number { negative: bool, whole: &'a [u8], fraction: &'a [u8], exponent: i32 },
}

impl<'a> Decimal<'a> {
    /// The parts, or nothing when the text is no decimal or is larger than the server can hold.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if let Some(special) = Self::special(negative, rest) {
            return Some(Self::Special(special));
        }
        let whole = digits_of(rest);
        let rest = &rest[whole.len()..];
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => {
                let fraction = digits_of(rest);
                (fraction, &rest[fraction.len()..])
            }
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => std::str::from_utf8(rest).ok()?.parse::<i32>().ok()?,
            _ => return None,
        };
        let number = Self::Number { negative, whole: trim_leading(whole), fraction, exponent };
        number.is_within_limits().then_some(number)
    }

    fn special(negative: bool, rest: &[u8]) -> Option<Special> {
        if rest.eq_ignore_ascii_case(b"nan") {
            return Some(Special::NotANumber);
        }
        let infinite = rest.eq_ignore_ascii_case(b"infinity") || rest.eq_ignore_ascii_case(b"inf");
        infinite.then_some(if negative { Special::NegativeInfinity } else { Special::Infinity })
    }

    fn is_within_limits(&self) -> bool {
        let Self::Number { whole, fraction, exponent, .. } = self else { return true };
        if exponent.unsigned_abs() as usize > MAX_WHOLE + MAX_SCALE {
            return false;
        }
        let exponent = *exponent as i64;
        whole.len() as i64 + exponent <= MAX_WHOLE as i64 && fraction.len() as i64 - exponent <= MAX_SCALE as i64
    }

    /// Whether a column `numeric(precision, scale)` holds the value without rounding it. Zeros behind the last digit do not count.
    pub(super) fn fits(&self, precision: u16, scale: i16) -> bool {
        match self {
            Self::Special(special) => *special == Special::NotANumber,
            Self::Number { whole, fraction, exponent, .. } => {
                let exponent = i64::from(*exponent);
                let significant = fraction.iter().rposition(|d| *d != b'0').map_or(0, |i| i as i64 + 1);
                let Some(last) = (if significant > 0 {
                    Some(significant)
                } else {
                    whole.iter().rposition(|d| *d != b'0').map(|i| i as i64 + 1 - whole.len() as i64)
                }) else {
                    return true;
                };
                let first =
                    if whole.is_empty() { -(fraction.iter().position(|d| *d != b'0').map_or(0, |i| i as i64)) } else { whole.len() as i64 };
                last - exponent <= i64::from(scale) && first + exponent <= i64::from(precision) - i64::from(scale)
            }
        }
    }
}

fn digits_of(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

fn trim_leading(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
    &digits[start..]
}

/// Appends length and value of decimal text; false, with nothing appended, when it is none.
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8]) -> bool {
    match Decimal::parse(text) {
        None => return false,
        Some(Decimal::Special(special)) => push_special(out, special),
        Some(Decimal::Number { negative, whole, fraction, exponent: 0 }) => push_digits(out, negative, whole, fraction),
        Some(Decimal::Number { negative, whole, fraction, exponent }) => {
            let (whole, fraction) = shift(whole, fraction, exponent);
            push_digits(out, negative, trim_leading(&whole), &fraction);
        }
    }
    true
}

/// Moves the point.
fn shift(whole: &[u8], fraction: &[u8], exponent: i32) -> (Vec<u8>, Vec<u8>) {
    let mut digits = [whole, fraction].concat();
    let point = whole.len() as i64 + i64::from(exponent);
    if point < 0 {
        digits.splice(0..0, std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        return (Vec::new(), digits);
    }
    let point = point as usize;
    if point > digits.len() {
        digits.resize(point, b'0');
    }
    let fraction = digits.split_off(point);
    (digits, fraction)
}

fn push_digits(out: &mut Vec<u8>, negative: bool, whole: &[u8], fraction: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0u8; 12]);
    // The first whole group holds what is over four; the last one of the fraction is filled up with zeros.
    let (head, body) = whole.split_at(whole.len() % 4);
    let heads = (!head.is_empty()).then_some(head);
    let mut weight = (whole.len().div_ceil(4)) as i32 - 1;
    let mut end = out.len();
    let whole_groups = heads.into_iter().chain(body.chunks(4)).map(|g| (g, 1));
    let fraction_groups = fraction.chunks(4).map(|g| (g, POW10[4 - g.len()] as u16));
    for (group, fill) in whole_groups.chain(fraction_groups) {
        let value = group.iter().fold(0u16, |v, d| v * 10 + u16::from(d - b'0')) * fill;
        if value == 0 && out.len() == start + 12 {
            weight -= 1;
            continue;
        }
        out.extend_from_slice(&value.to_be_bytes());
        if value != 0 {
            end = out.len();
        }
    }
    out.truncate(end);
    let digits = (end - start - 12) / 2;
    let weight = if digits == 0 { 0 } else { weight };
    let sign = if negative && digits > 0 { NEGATIVE } else { 0 };
    let mut header = [0u8; 12];
    header[..4].copy_from_slice(&((end - start - 4) as u32).to_be_bytes());
    for (at, word) in [digits as u16, weight as i16 as u16, sign, fraction.len() as u16].into_iter().enumerate() {
        header[4 + 2 * at..6 + 2 * at].copy_from_slice(&word.to_be_bytes());
    }
    out[start..start + 12].copy_from_slice(&header);
}

/// The decimal's text: what `value / 10^scale` looks like with exactly `scale` digits behind the point.
pub(super) fn decimal_text(unscaled: &str, scale: i16) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |d| ("-", d));
    if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { usize::from(scale.unsigned_abs()) };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let scale = scale as usize;
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The server's way to read the binary form: digits, weight, sign, scale -> text.
    fn read(bytes: &[u8]) -> String {
        let word = |i: usize| i16::from_be_bytes([bytes[4 + 2 * i], bytes[5 + 2 * i]]);
        assert_eq!(u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        let (count, weight, sign, scale) = (word(0), word(1), word(2) as u16, word(3));
        match sign {
            NAN => return "NaN".into(),
            POSITIVE_INFINITY => return "Infinity".into(),
            NEGATIVE_INFINITY => return "-Infinity".into(),
            _ => {}
        }
        let digit = |at: i32| -> i16 {
            let i = weight as i32 - at;
            if (0..count as i32).contains(&i) { word(4 + i as usize) } else { 0 }
        };
        let mut whole: String = (0..=(weight as i32).max(0)).rev().map(|at| format!("{:04}", digit(at))).collect();
        whole = whole.trim_start_matches('0').to_owned();
        if whole.is_empty() {
            whole = "0".into();
        }
        let fraction: String = (1..=(scale as i32 + 3) / 4).map(|at| format!("{:04}", digit(-at))).collect();
        let sign = if sign == NEGATIVE { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        if count > 0 {
            assert_ne!(word(4), 0, "no leading zero group");
            assert_ne!(word(3 + count as usize), 0, "no trailing zero group");
        }
        format!("{sign}{whole}{point}{}", &fraction[..scale as usize])
    }

    fn of_i128(value: i128, scale: u16) -> String {
        let mut out = Vec::new();
        push_i128(&mut out, value, scale);
        read(&out)
    }
    fn of_text(text: &str) -> Option<String> {
        let mut out = Vec::new();
        push_text(&mut out, text.as_bytes()).then(|| read(&out))
    }

    #[test]
    fn integers_become_groups_of_four_digits() {
        assert_eq!(of_i128(0, 0), "0");
        assert_eq!(of_i128(0, 5), "0.00000");
        assert_eq!(of_i128(-1, 2), "-0.01");
        assert_eq!(of_i128(123_456_789, 2), "1234567.89");
        assert_eq!(of_i128(100_000_000, 4), "10000.0000");
        assert_eq!(of_i128(i128::from(u64::MAX), 3), "18446744073709551.615");
        let most = 10i128.pow(38) - 1;
        assert_eq!(of_i128(most, 0), "9".repeat(38));
        assert_eq!(of_i128(-most, 38), format!("-0.{}", "9".repeat(38)));
        assert_eq!(of_i128(most, 37), format!("9.{}", "9".repeat(37)));
        assert_eq!(of_i128(10i128.pow(37), 0), format!("1{}", "0".repeat(37)));
    }

    #[test]
    fn text_keeps_every_digit_and_the_scale() {
        for text in ["0", "0.00", "1", "-12.50", "10000", "0.0001", "0.00000000000000000001", "99999999999999999999999999999999999999999.5"]
        {
            assert_eq!(of_text(text).as_deref(), Some(text));
        }
        assert_eq!(of_text("+007.10").as_deref(), Some("7.10"));
        assert_eq!(of_text("1.5e3").as_deref(), Some("1500"));
        assert_eq!(of_text("15e-4").as_deref(), Some("0.0015"));
        assert_eq!(of_text(".5").as_deref(), Some("0.5"));
        assert_eq!(of_text("5.").as_deref(), Some("5"));
        assert_eq!(of_text("-0").as_deref(), Some("0"));
        assert_eq!(of_text("NaN").as_deref(), Some("NaN"));
        assert_eq!(of_text("-inf").as_deref(), Some("-Infinity"));
        for wrong in ["", "-", ".", "1,5", "0x10", "1e", "1e999999", "twelve", "1 "] {
            assert_eq!(of_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_value_fits_when_no_digit_would_be_rounded_away() {
        let fits = |text: &str, p, s| Decimal::parse(text.as_bytes()).unwrap().fits(p, s);
        assert!(fits("123.45", 5, 2) && fits("123.4500", 5, 2) && fits("0.00", 1, 1) && fits("-0.5", 1, 1));
        assert!(!fits("123.456", 5, 2) && !fits("1234.5", 5, 2) && !fits("10", 1, 0));
        assert!(fits("12300", 3, -2) && !fits("12350", 3, -2) && fits("0.001", 1, 3) && fits("12e2", 4, 0));
        assert!(fits("NaN", 3, 0) && !fits("Infinity", 3, 0));
    }

    proptest! {
        #[test]
        fn integers_and_text_agree(value: i128, scale in 0u16..39) {
            let (text, mut a, mut b) = (decimal_text(&value.to_string(), scale as i16), Vec::new(), Vec::new());
            push_i128(&mut a, value, scale);
            prop_assert!(push_text(&mut b, text.as_bytes()));
            prop_assert_eq!(read(&a), text);
            prop_assert_eq!(a, b);
        }
        #[test]
        fn any_text_round_trips(whole in "[1-9][0-9]{0,60}|0", fraction in "[0-9]{0,60}") {
            let text = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            prop_assert_eq!(of_text(&text), Some(text));
        }
    }
}
