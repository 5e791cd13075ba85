//! Text to values. Strict: what is not exactly the form, or would lose a digit, is `None`.

use arrow_schema::TimeUnit;

use super::per_second;

/// A date with a time of day, and whether a zone was written with it (then it is in UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    pub seconds: i64,
    pub nanos: u32,
    pub zoned: bool,
}

impl Instant {
    /// In ticks of the unit; `None` when it is out of range or finer than the unit.
    pub fn ticks(&self, unit: TimeUnit) -> Option<i64> {
        let per = per_second(unit);
        let fine = 1_000_000_000 / per;
        if i64::from(self.nanos) % fine != 0 {
            return None;
        }
        // In i128: the last second below i64's range is reached by adding, not by multiplying.
        i64::try_from(i128::from(self.seconds) * i128::from(per) + i128::from(i64::from(self.nanos) / fine)).ok()
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`, or of `±YYYYYY-MM-DD` beyond four digits.
pub(crate) fn date(text: &[u8]) -> Option<i64> {
    let (days, rest) = date_prefix(text)?;
    rest.is_empty().then_some(days)
}

fn date_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    if let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text {
        let year = i64::from(two(*y1, *y2)?) * 100 + i64::from(two(*y3, *y4)?);
        return Some((days(year, two(*m1, *m2)?, two(*d1, *d2)?)?, rest));
    }
    let (sign, unsigned) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let width = unsigned.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(4..=12).contains(&width) {
        return None;
    }
    let year = unsigned[..width].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
    let [b'-', m1, m2, b'-', d1, d2, rest @ ..] = &unsigned[width..] else { return None };
    Some((days(sign * year, two(*m1, *m2)?, two(*d1, *d2)?)?, rest))
}

/// Nanoseconds of `HH:MM:SS[.f]`. `24:00:00`, the end of a day, is a time in SQL.
pub(crate) fn time(text: &[u8]) -> Option<i64> {
    if text.strip_prefix(b"24:00:00").is_some_and(|rest| rest.iter().all(|b| matches!(b, b'.' | b'0'))) {
        return Some(86_400 * 1_000_000_000);
    }
    let (seconds, nanos, rest) = time_prefix(text)?;
    rest.is_empty().then_some(i64::from(seconds) * 1_000_000_000 + i64::from(nanos))
}

fn time_prefix(text: &[u8]) -> Option<(u32, u32, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (h, m, s) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if h > 23 || m > 59 || s > 59 {
        return None;
    }
    let seconds = h * 3600 + m * 60 + s;
    let [b'.', fraction @ ..] = rest else { return Some((seconds, 0, rest)) };
    let width = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&width) {
        return None;
    }
    let nanos = fraction[..width].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0')) * 10u32.pow(9 - width as u32);
    Some((seconds, nanos, &fraction[width..]))
}

/// `date[T or space]time[zone]`; the zone is `Z`, `+HH:MM`, `+HHMM` or `+HH`.
pub(crate) fn instant(text: &[u8]) -> Option<Instant> {
    let (days, rest) = date_prefix(text)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let (seconds, nanos, rest) = time_prefix(rest)?;
    let seconds = days.checked_mul(86_400)?.checked_add(i64::from(seconds))?;
    let offset = match rest {
        [] => return Some(Instant { seconds, nanos, zoned: false }),
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let (h, m) = match offset {
                [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (two(*h1, *h2)?, two(*m1, *m2)?),
                [h1, h2] => (two(*h1, *h2)?, 0),
                _ => return None,
            };
            if h > 23 || m > 59 {
                return None;
            }
            i64::from(h * 3600 + m * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    Some(Instant { seconds: seconds - offset, nanos, zoned: true })
}

/// An exact decimal as an integer of 10^-scale; `None` when digits beyond the scale are not zero, or it does not fit.
pub(crate) fn decimal(text: &[u8], scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let point = unsigned.iter().position(|b| *b == b'.').unwrap_or(unsigned.len());
    let (whole, fraction) = (&unsigned[..point], unsigned.get(point + 1..).unwrap_or_default());
    if whole.is_empty() || (point < unsigned.len() && fraction.is_empty()) {
        return None;
    }
    let mut value: i128 = 0;
    let kept = fraction.len().min(usize::try_from(scale).unwrap_or(0));
    for b in whole.iter().chain(&fraction[..kept]) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit(*b)?))?;
    }
    if fraction[kept..].iter().any(|b| *b != b'0') {
        return None;
    }
    let missing = i32::from(scale) - kept as i32;
    value = match u32::try_from(missing) {
        Ok(zeros) => value.checked_mul(10i128.checked_pow(zeros)?)?,
        Err(_) => {
            let unit = 10i128.checked_pow(missing.unsigned_abs())?;
            (value % unit == 0).then_some(value / unit)?
        }
    };
    Some(if negative { -value } else { value })
}

fn digit(b: u8) -> Option<u8> {
    let d = b.wrapping_sub(b'0');
    (d < 10).then_some(d)
}

fn two(a: u8, b: u8) -> Option<u32> {
    Some(u32::from(digit(a)?) * 10 + u32::from(digit(b)?))
}

/// Days since 1970-01-01; `None` for a day that the month does not have.
fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > length {
        return None;
    }
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}
