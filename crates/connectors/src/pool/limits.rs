//! How many sessions a connector may have: the three fields that every SQL connector shares, and what they mean.

use std::{ops::RangeInclusive, time::Duration};

use linkspan_core::{Error, ErrorKind, Result};

const SIZE: RangeInclusive<i64> = 1..=1_000;
const OVERFLOW: RangeInclusive<i64> = 0..=1_000;
/// A year.
const RECYCLE: RangeInclusive<i64> = 1..=31_536_000;
const NEVER: i64 = -1;

/// What `pool_size` is when left out.
pub(crate) fn pool_size() -> i64 {
    5
}
/// What `max_overflow` is when left out.
pub(crate) fn max_overflow() -> i64 {
    15
}
/// What `pool_recycle` is when left out.
pub(crate) fn pool_recycle() -> i64 {
    1_800
}

/// The limits of one connector's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// So many idle sessions are kept.
    pub keep: usize,
    /// So many are open at once, at most.
    pub most: usize,
    /// An older one is replaced when it would be taken next.
    pub recycle: Option<Duration>,
}

impl Limits {
    pub fn of(pool_size: i64, max_overflow: i64, pool_recycle: i64) -> Result<Self> {
        let keep = within("pool_size", pool_size, &SIZE, "it is the number of idle connections that are kept; 5 when left out")?;
        let over = within(
            "max_overflow",
            max_overflow,
            &OVERFLOW,
            "it is how many connections there may be beyond `pool_size`; 15 when left out, and there is always a limit",
        )?;
        let recycle = match pool_recycle {
            NEVER => None,
            seconds => {
                let seconds = within(
                    "pool_recycle",
                    seconds,
                    &RECYCLE,
                    "it is the age in seconds at which a connection is replaced; -1 means never",
                )?;
                Some(Duration::from_secs(seconds as u64))
            }
        };
        Ok(Self { keep, most: keep + over, recycle })
    }

    /// The same, with every session closed after its use.
    pub fn keeping_none(self) -> Self {
        Self { keep: 0, ..self }
    }
}

fn within(field: &'static str, value: i64, range: &RangeInclusive<i64>, means: &str) -> Result<usize> {
    if range.contains(&value) {
        return Ok(usize::try_from(value).unwrap_or(0));
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "a setting of the connection pool is out of range")
        .with("field", field)
        .with("given", value)
        .fix(format!("use {} to {}: {means}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_mean_what_they_mean_elsewhere() {
        let usual = Limits::of(pool_size(), max_overflow(), pool_recycle()).unwrap();
        assert_eq!(usual, Limits { keep: 5, most: 20, recycle: Some(Duration::from_secs(1800)) });
        assert_eq!(Limits::of(10, 30, 60).unwrap().most, 40);
        assert_eq!(Limits::of(1, 0, -1).unwrap(), Limits { keep: 1, most: 1, recycle: None });
        assert_eq!(usual.keeping_none(), Limits { keep: 0, ..usual });
    }

    #[test]
    fn a_number_out_of_range_is_named_with_what_to_write() {
        let cases = [
            (0, 15, -1, "pool_size"),
            (-1, 15, -1, "pool_size"),
            (1_001, 15, -1, "pool_size"),
            (5, -1, -1, "max_overflow"),
            (5, i64::MAX, -1, "max_overflow"),
            (5, 15, 0, "pool_recycle"),
            (5, 15, -2, "pool_recycle"),
            (5, 15, 31_536_001, "pool_recycle"),
        ];
        for (size, overflow, recycle, field) in cases {
            let e = Limits::of(size, overflow, recycle).unwrap_err();
            assert_eq!((e.kind(), e.context()[0].1.as_str()), (ErrorKind::ConfigInvalid, field));
            assert!(e.suggested_fix().is_some_and(|fix| fix.starts_with("use ")), "{e:?}");
        }
    }
}
