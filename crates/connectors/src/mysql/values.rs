//! Single values of the binary protocol: numbers, decimals, dates and times. Pure: bytes in, values out; nothing is trusted to be
//! long enough.

use arrow_buffer::i256;

pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// Takes a value of so many bytes off the front.
#[inline]
pub(super) fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// Takes a value behind its length off the front.
#[inline]
pub(super) fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&first, tail) = rest.split_first()?;
    let (len, tail) = match first {
        0..=250 => (usize::from(first), tail),
        0xfc => (long(tail, 2)?, &tail[2..]),
        0xfd => (long(tail, 3)?, &tail[3..]),
        0xfe => (long(tail, 8)?, &tail[8..]),
        _ => return None,
    };
    let (value, tail) = tail.split_at_checked(len)?;
    *rest = tail;
    Some(value)
}

fn long(bytes: &[u8], n: usize) -> Option<usize> {
    usize::try_from(bytes.get(..n)?.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b))).ok()
}

/// A date, perhaps with a time of day, as the server holds it: any part may be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

impl Moment {
    #[inline]
    pub fn take(rest: &mut &[u8]) -> Option<Self> {
        let v = sized(rest)?;
        let mut m = Self::default();
        if v.len() >= 4 {
            (m.year, m.month, m.day) = (u16::from_le_bytes([v[0], v[1]]), v[2], v[3]);
        }
        if v.len() >= 7 {
            (m.hour, m.minute, m.second) = (v[4], v[5], v[6]);
        }
        if v.len() >= 11 {
            m.micros = u32::from_le_bytes([v[7], v[8], v[9], v[10]]);
        }
        matches!(v.len(), 0 | 4 | 7 | 11).then_some(m)
    }

    /// Days since 1970; none for a date that the calendar does not have.
    #[inline]
    pub fn days(&self) -> Option<i32> {
        let (y, m, d) = (i32::from(self.year), i32::from(self.month), i32::from(self.day));
        if !(1..=12).contains(&m) || d < 1 || d > days_in(y, m) {
            return None;
        }
        // The year begins in March, so that the leap day is its last.
        let (y, m) = if m > 2 { (y, m - 3) } else { (y - 1, m + 9) };
        let era = y.div_euclid(400);
        let of_era = y.rem_euclid(400);
        let of_year = (153 * m + 2) / 5 + d - 1;
        Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    #[inline]
    pub fn micros(&self) -> Option<i64> {
        let seconds = (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second);
        Some(i64::from(self.days()?) * DAY_MICROS + seconds * 1_000_000 + i64::from(self.micros))
    }

    pub fn date_text(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// As the server writes it, with so many digits of a second.
    pub fn text(&self, digits: u8) -> String {
        let Self { hour, minute, second, .. } = self;
        format!("{} {hour:02}:{minute:02}:{second:02}{}", self.date_text(), fraction(self.micros, digits))
    }
}

fn days_in(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn fraction(micros: u32, digits: u8) -> String {
    match usize::from(digits) {
        0 => String::new(),
        n => format!(".{}", &format!("{micros:06}")[..n.min(6)]),
    }
}

/// A length of time, up to 838 hours either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub micros: i64,
}

impl Span {
    #[inline]
    pub fn take(rest: &mut &[u8]) -> Option<Self> {
        let v = sized(rest)?;
        if v.len() < 8 {
            return v.is_empty().then(Self::default);
        }
        let days = u32::from_le_bytes([v[1], v[2], v[3], v[4]]);
        let seconds = i64::from(days) * 86_400 + i64::from(v[5]) * 3_600 + i64::from(v[6]) * 60 + i64::from(v[7]);
        let part = if v.len() >= 12 { u32::from_le_bytes([v[8], v[9], v[10], v[11]]) } else { 0 };
        let micros = seconds * 1_000_000 + i64::from(part);
        Some(Self { micros: if v[0] == 1 { -micros } else { micros } })
    }

    pub fn of_day(self) -> Option<i64> {
        (0..DAY_MICROS).contains(&self.micros).then_some(self.micros)
    }

    pub fn text(self, digits: u8) -> String {
        let sign = if self.micros < 0 { "-" } else { "" };
        let all = self.micros.unsigned_abs();
        let (seconds, part) = (all / 1_000_000, (all % 1_000_000) as u32);
        format!("{sign}{:02}:{:02}:{:02}{}", seconds / 3_600, seconds / 60 % 60, seconds % 60, fraction(part, digits))
    }
}

/// The digits of a decimal's text, as a whole number of `scale` places; none when the text is no such number.
#[inline]
pub(super) fn decimal128(text: &[u8], scale: i8) -> Option<i128> {
    let (negative, whole, part) = pieces(text)?;
    let places = usize::try_from(scale).ok()?;
    if part.len() > places || whole.len() + places > 38 {
        return None;
    }
    let value = match whole.len() + places {
        ..19 => i128::from(pad(digits(part, digits(whole, 0)?)?, places - part.len())),
        _ => {
            let mut value = long_digits(whole, 0)?;
            value = long_digits(part, value)?;
            value * 10i128.pow(u32::try_from(places - part.len()).ok()?)
        }
    };
    Some(if negative { -value } else { value })
}

pub(super) fn decimal256(text: &[u8], scale: i8) -> Option<i256> {
    let (negative, whole, part) = pieces(text)?;
    let places = usize::try_from(scale).ok()?;
    let missing = places.checked_sub(part.len())?;
    let mut value = i256::ZERO;
    for digit in whole.iter().chain(part).copied().chain(std::iter::repeat_n(b'0', missing)) {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        value = value.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(digit.into()))?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

#[inline]
fn pieces(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (whole, part) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    (!whole.is_empty() || !part.is_empty()).then_some((negative, whole, part))
}

#[inline]
fn digits(text: &[u8], from: u64) -> Option<u64> {
    let mut value = from;
    for b in text {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

fn long_digits(text: &[u8], from: i128) -> Option<i128> {
    let mut value = from;
    for chunk in text.chunks(18) {
        value = value * 10i128.pow(chunk.len() as u32) + i128::from(digits(chunk, 0)?);
    }
    Some(value)
}

#[inline]
fn pad(value: u64, zeros: usize) -> u64 {
    (0..zeros).fold(value, |v, _| v * 10)
}

/// The bits of a `bit(n)`, most significant first.
pub(super) fn bits(value: &[u8]) -> Option<u64> {
    (value.len() <= 8).then(|| value.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// The 16 bytes of a UUID's text.
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    uuid::Uuid::try_parse_ascii(text).ok().map(|u| u.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal128(b"-123.45", 2), Some(-12345));
        assert_eq!(decimal128(b"0.5", 4), Some(5000));
        assert_eq!(decimal128(b"12345678901234567890123456789012345678", 0), Some(12_345_678_901_234_567_890_123_456_789_012_345_678));
        assert_eq!(decimal128(b"-.0001", 4), Some(-1));
        for wrong in [&b"1.234"[..], b"", b"-", b"1x", b"999999999999999999999999999999999999999"] {
            assert_eq!(decimal128(wrong, 2), None);
        }
        let nines = "9".repeat(65);
        assert_eq!(decimal256(nines.as_bytes(), 0).unwrap().to_string(), nines);
        assert_eq!(decimal256(b"-1.5", 30).unwrap().to_string(), format!("-15{}", "0".repeat(29)));
    }

    #[test]
    fn a_date_counts_from_1970_and_an_odd_one_is_none() {
        let on = |year, month, day| Moment { year, month, day, ..Moment::default() };
        assert_eq!(on(1970, 1, 1).days(), Some(0));
        assert_eq!(on(2000, 2, 29).days(), Some(11_016));
        assert_eq!(on(9999, 12, 31).days(), Some(2_932_896));
        assert_eq!(on(1, 1, 1).days(), Some(-719_162));
        for odd in [on(0, 0, 0), on(2024, 0, 5), on(2024, 5, 0), on(2023, 2, 29), on(1900, 2, 29), on(2024, 4, 31)] {
            assert_eq!(odd.days(), None, "{odd:?}");
        }
        assert_eq!(Moment { micros: 120_000, ..on(2024, 0, 5) }.text(2), "2024-00-05 00:00:00.12");
    }

    #[test]
    fn a_span_goes_beyond_a_day_and_below_zero() {
        let mut long = &[12, 1, 34, 0, 0, 0, 22, 59, 59, 0, 0, 0, 0][..];
        let span = Span::take(&mut long).unwrap();
        assert_eq!((span.text(0).as_str(), span.of_day()), ("-838:59:59", None));
        let mut zero = &[0][..];
        assert_eq!(Span::take(&mut zero).unwrap().of_day(), Some(0));
    }

    #[test]
    fn what_is_cut_short_is_none() {
        for cut in [&[7, 1][..], &[0xfc, 1], &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255], &[0xff]] {
            let (mut a, mut b, mut c) = (cut, cut, cut);
            assert!(Moment::take(&mut a).is_none() && Span::take(&mut b).is_none() && sized(&mut c).is_none());
        }
    }
}
