//! When tokens end, in the ways that configs and token endpoints write it.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde_json::Value;

/// Seconds since 1970 as a number or digits, or a date with or without time and zone; without one it is UTC.
pub fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(n) => seconds(n.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            if let Ok(number) = text.parse::<f64>() {
                return seconds(number);
            }
            if let Ok(at) = text.parse::<Timestamp>() {
                return Some(at);
            }
            if let Ok(at) = Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text) {
                return Some(at);
            }
            let utc = |at: civil::DateTime| at.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
            text.parse::<civil::DateTime>()
                .ok()
                .and_then(utc)
                .or_else(|| text.parse::<civil::Date>().ok().map(|d| d.at(0, 0, 0, 0)).and_then(utc))
        }
        _ => None,
    }
}

fn seconds(number: f64) -> Option<Timestamp> {
    if !number.is_finite() || number.abs() > 1e11 {
        return None;
    }
    Timestamp::from_microsecond((number * 1e6) as i64).ok()
}

/// So many seconds from now, as `expires_in` says it.
pub fn after(now: Timestamp, value: &Value) -> Option<Timestamp> {
    let number = match value {
        Value::Number(n) => n.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if !number.is_finite() || number.abs() > 1e11 {
        return None;
    }
    now.checked_add(SignedDuration::from_secs(number.trunc() as i64)).ok()
}

/// As a config keeps it.
pub fn written(at: Timestamp) -> String {
    let format = if at.subsec_nanosecond() == 0 { "%Y-%m-%dT%H:%M:%S+00:00" } else { "%Y-%m-%dT%H:%M:%S.%6f+00:00" };
    at.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let noon = "2024-03-15T12:00:00Z".parse().unwrap();
        for text in [
            json!(1_710_504_000),
            json!("1710504000"),
            json!("2024-03-15T12:00:00Z"),
            json!("2024-03-15T12:00:00"),
            json!("2024-03-15 12:00:00"),
            json!("2024-03-15T14:00:00+02:00"),
            json!("2024-03-15T12:00:00+0000"),
            json!("2024-03-15T12:00:00.000000+00:00"),
        ] {
            assert_eq!(moment(&text), Some(noon), "{text}");
        }
        assert_eq!(moment(&json!("2024-03-15")), Some("2024-03-15T00:00:00Z".parse().unwrap()));
        assert_eq!(moment(&json!("soon")), None);
        assert_eq!(after(noon, &json!("3600.9")), Some("2024-03-15T13:00:00Z".parse().unwrap()));
        assert_eq!(written(noon), "2024-03-15T12:00:00+00:00");
        assert_eq!(moment(&json!(written(noon))), Some(noon));
    }
}
