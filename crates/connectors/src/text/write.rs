//! Values to text, into a buffer that the caller reuses.

use std::io::Write;

use arrow_schema::TimeUnit;

use super::{digits, per_second};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// A local time: nothing follows it.
    None,
    /// An instant: `Z` follows it.
    Utc,
}

/// `YYYY-MM-DD`; years beyond four digits carry a sign, as ISO 8601's expanded form does.
pub(crate) fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        padded(out, year as u64, 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        padded(out, year.unsigned_abs(), 6);
    }
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
}

/// `HH:MM:SS` with as many digits as the unit has.
pub(crate) fn time(out: &mut Vec<u8>, ticks: i64, unit: TimeUnit) {
    let (seconds, fraction) = (ticks.div_euclid(per_second(unit)), ticks.rem_euclid(per_second(unit)));
    padded(out, (seconds / 3600) as u64, 2);
    out.push(b':');
    padded(out, (seconds / 60 % 60) as u64, 2);
    out.push(b':');
    padded(out, (seconds % 60) as u64, 2);
    if unit != TimeUnit::Second {
        out.push(b'.');
        padded(out, fraction as u64, digits(unit));
    }
}

/// Date, `between`, time; then the zone.
pub(crate) fn instant(out: &mut Vec<u8>, ticks: i64, unit: TimeUnit, between: u8, zone: Zone) {
    let day = 86_400 * per_second(unit);
    date(out, ticks.div_euclid(day));
    out.push(between);
    time(out, ticks.rem_euclid(day), unit);
    if zone == Zone::Utc {
        out.push(b'Z');
    }
}

/// Exact decimal digits, never an exponent.
pub(crate) fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        out.push(b'-');
    }
    let mut text = [0u8; 40];
    let text = unsigned(&mut text, value.unsigned_abs());
    place_point(out, text, scale);
}

/// The same for text digits of any length, with their sign.
pub(crate) fn decimal_text(out: &mut Vec<u8>, value: &str, scale: i8) {
    let digits = match value.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => value,
    };
    place_point(out, digits.as_bytes(), scale);
}

fn place_point(out: &mut Vec<u8>, digits: &[u8], scale: i8) {
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    };
    if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

/// The shortest text that reads back as the same double; `NaN`, `Infinity`, `-Infinity`.
pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{value:?}");
    } else {
        out.extend_from_slice(special(value).as_bytes());
    }
}

/// The same for a float, whose shortest text is shorter.
pub(crate) fn float(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        let _ = write!(out, "{value:?}");
    } else {
        out.extend_from_slice(special(f64::from(value)).as_bytes());
    }
}

/// The name of a double that is not a number of digits.
pub(crate) fn special(value: f64) -> &'static str {
    match value {
        v if v.is_nan() => "NaN",
        v if v > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let mut text = [0u8; 40];
    out.extend_from_slice(unsigned64(&mut text, value.unsigned_abs()));
}

pub(crate) fn natural(out: &mut Vec<u8>, value: u64) {
    let mut text = [0u8; 40];
    out.extend_from_slice(unsigned64(&mut text, value));
}

/// Lower-case hexadecimal.
pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for b in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    }
}

fn unsigned(text: &mut [u8; 40], value: u128) -> &[u8] {
    if let Ok(small) = u64::try_from(value) {
        return unsigned64(text, small);
    }
    let (mut value, mut at) = (value, 40);
    while value > 0 {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    &text[at..]
}

fn unsigned64(text: &mut [u8; 40], mut value: u64) -> &[u8] {
    let mut at = 40;
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &text[at..];
        }
    }
}

fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let (mut value, mut at) = (value, 20);
    while value > 0 {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[at.min(20 - width)..]);
}

/// Year, month and day of a day count since 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month as u64, day as u64)
}
