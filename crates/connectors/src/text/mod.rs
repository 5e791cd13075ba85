//! The text forms of values that files and SQLite share: ISO 8601 dates and times, exact decimals, shortest doubles.
//! What `write` writes, `parse` reads back equal.

pub(crate) mod cells;
pub(crate) mod parse;
pub(crate) mod write;

use arrow_schema::TimeUnit;

/// Ticks of a unit in a second.
pub(crate) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Digits after the second's point that hold a tick of the unit.
pub(crate) fn digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        f(&mut out);
        out
    }

    proptest! {
        #[test]
        fn every_instant_reads_back(value in any::<i64>(), unit in 0..4usize, zoned in any::<bool>()) {
            let unit = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond][unit];
            // Seconds reach years that no calendar has digits for; dates are enough for those.
            let value = if unit == TimeUnit::Second { value / 1_000_000 } else { value };
            let written = text(|b| write::instant(b, value, unit, b'T', if zoned { write::Zone::Utc } else { write::Zone::None }));
            let read = parse::instant(&written).unwrap();
            prop_assert_eq!(read.zoned, zoned);
            prop_assert_eq!(read.ticks(unit), Some(value));
        }
        #[test]
        fn every_date_reads_back(days in any::<i32>()) {
            let written = text(|b| write::date(b, i64::from(days)));
            prop_assert_eq!(parse::date(&written), Some(i64::from(days)));
        }
        #[test]
        fn every_decimal_reads_back(value in any::<i128>(), scale in 0..38i8) {
            let value = value / 10;
            let written = text(|b| write::decimal(b, value, scale));
            prop_assert_eq!(parse::decimal(&written, scale), Some(value));
        }
        #[test]
        fn every_double_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let written = text(|b| write::double(b, value));
            let read: f64 = std::str::from_utf8(&written).unwrap().parse().unwrap();
            prop_assert!(read.to_bits() == bits || (value.is_nan() && read.is_nan()));
        }
    }

    #[test]
    fn the_forms_are_the_usual_ones() {
        let at = |v, u| String::from_utf8(text(|b| write::instant(b, v, u, b' ', write::Zone::Utc))).unwrap();
        assert_eq!(at(1_577_836_800_000_001, TimeUnit::Microsecond), "2020-01-01 00:00:00.000001Z");
        assert_eq!(at(-1, TimeUnit::Millisecond), "1969-12-31 23:59:59.999Z");
        let decimal = |v, s| String::from_utf8(text(|b| write::decimal(b, v, s))).unwrap();
        assert_eq!([decimal(-5, 2), decimal(110, 2), decimal(7, 0), decimal(7, -2)], ["-0.05", "1.10", "7", "700"]);
        assert_eq!(parse::decimal(b"1.1", 2), Some(110));
        assert_eq!(parse::decimal(b"1.111", 2), None, "a digit would be lost");
        assert_eq!(parse::instant(b"2024-02-30T00:00:00"), None);
        assert_eq!(parse::instant(b"2024-01-01T00:00:00+02:00").unwrap().ticks(TimeUnit::Second), Some(1_704_060_000));
        assert_eq!(parse::date(b"2023-02-29"), None);
        assert_eq!(parse::date(b"20230201"), None);
        assert_eq!(parse::time(b"23:59:59.5"), Some(86_399_500_000_000));
    }
}
