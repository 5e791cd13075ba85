//! What a request makes of a connection. Pure: connectors are looked up before.

use linkspan_core::{Error, ErrorKind, ReadMode, Result};
use linkspan_engine::plan::Request;
use uuid::Uuid;

use super::{
    fields::{Changes, New, length},
    kept::{Kept, RetryPolicy, To},
};
use crate::{operation::Patch, schedule::Schedule};

/// Both ends, looked up.
pub(super) struct Ends {
    pub from: Uuid,
    pub to: To,
    pub target: Option<String>,
}

/// Whether positions still mean what they meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positions {
    Stay,
    /// Another source or destination: they mean nothing there.
    Reset,
}

const LONGEST_NAME: usize = 100;
const MOST_LANES: u32 = 1_024;
const MOST_MEMORY: u32 = 1 << 20;

pub(super) fn checked_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let odd = name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '?' | '#'));
    if odd || matches!(name, "." | "..") {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a connection needs a name of 1 to 100 characters that can stand in a URL")
            .with("field", "name")
            .fix("use letters, digits, `-`, `_` and `.`"));
    }
    Ok(name)
}

pub(super) fn made(new: New, ends: Ends, now_ms: i64) -> Result<Kept> {
    let New {
        streams,
        mode,
        cursor,
        write,
        key,
        swap,
        schedule,
        policies,
        options,
        enabled,
        description,
        retry,
        timeout,
        concurrency,
        memory,
        ..
    } = new;
    let request = Request { streams: streams.0, mode, cursor, write, key, target: ends.target, swap: swap.unwrap_or_default() };
    let kept = Kept {
        description,
        enabled: enabled.unwrap_or(true),
        from: ends.from,
        to: ends.to,
        request,
        schedule: schedule.map(Schedule::try_from).transpose()?,
        scheduled_since_ms: now_ms,
        policies: options.unwrap_or_default().into_policies(policies.unwrap_or_default()),
        retry: retry.map_or(Ok(RetryPolicy::default()), |r| r.policy())?,
        timeout: timeout.as_deref().map(|text| length("timeout", text)).transpose()?,
        with_source: false,
        concurrency,
        memory,
    };
    refuse_nonsense(&kept.request)?;
    refuse_excess(&kept)?;
    Ok(kept)
}

/// `ends` holds what stands where the request says nothing.
pub(super) fn changed(kept: &mut Kept, changes: Changes, ends: Ends, now_ms: i64) -> Result<Positions> {
    let elsewhere = (kept.from, &kept.to) != (ends.from, &ends.to);
    kept.with_source &= kept.from == ends.from;
    (kept.from, kept.to, kept.request.target) = (ends.from, ends.to, ends.target);
    let request = &mut kept.request;
    if let Some(streams) = or_empty(changes.streams) {
        request.streams = streams.0;
    }
    changes.mode.apply(&mut request.mode);
    changes.cursor.apply(&mut request.cursor);
    changes.write.apply(&mut request.write);
    if let Some(key) = or_empty(changes.key) {
        request.key = key;
    }
    if let Some(swap) = or_empty(changes.swap) {
        request.swap = swap;
    }
    refuse_nonsense(request)?;
    let policies = or_empty(changes.policies).unwrap_or_else(|| kept.policies.clone());
    kept.policies = or_empty(changes.options).unwrap_or_default().into_policies(policies);
    changes.description.apply(&mut kept.description);
    if let Some(retry) = or_empty(changes.retry) {
        kept.retry = retry.policy()?;
    }
    match changes.timeout {
        Patch::Absent => {}
        Patch::Null => kept.timeout = None,
        Patch::Set(text) => kept.timeout = Some(length("timeout", &text)?),
    }
    changes.concurrency.apply(&mut kept.concurrency);
    changes.memory.apply(&mut kept.memory);
    refuse_excess(kept)?;
    reschedule(kept, changes.schedule, changes.enabled, now_ms)?;
    Ok(if elsewhere { Positions::Reset } else { Positions::Stay })
}

fn refuse_excess(kept: &Kept) -> Result<()> {
    for (field, given, most, usual) in [
        ("concurrency", kept.concurrency, MOST_LANES, "it is how many lanes move at once"),
        ("memory", kept.memory, MOST_MEMORY, "it is in MB"),
    ] {
        if given.is_some_and(|n| !(1..=most).contains(&n)) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a limit of the connection's runs is out of range")
                .with("field", field)
                .fix(format!("use 1 to {most}: {usual}; or leave it out")));
        }
    }
    Ok(())
}

/// Ticks count from the change on: what an old schedule or a disabled one passed was not missed.
fn reschedule(kept: &mut Kept, schedule: Patch<crate::schedule::Form>, enabled: Patch<bool>, now_ms: i64) -> Result<()> {
    let before = (kept.schedule.clone(), kept.enabled);
    match schedule {
        Patch::Absent => {}
        Patch::Null => kept.schedule = None,
        Patch::Set(form) => kept.schedule = Some(Schedule::try_from(form)?),
    }
    match enabled {
        Patch::Absent => {}
        Patch::Null => kept.enabled = true,
        Patch::Set(enabled) => kept.enabled = enabled,
    }
    if before != (kept.schedule.clone(), kept.enabled) {
        kept.scheduled_since_ms = now_ms;
    }
    Ok(())
}

/// Null means what a new connection has when it says nothing.
fn or_empty<T: Default>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(T::default()),
        Patch::Set(value) => Some(value),
    }
}

fn refuse_nonsense(request: &Request) -> Result<()> {
    if request.cursor.is_some() && request.mode.unwrap_or(ReadMode::Full) == ReadMode::Full {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a full read uses no cursor")
            .with("field", "cursor")
            .fix("add `mode: incremental`, or leave the cursor out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ends() -> Ends {
        Ends { from: Uuid::from_u128(1), to: To::Lake, target: None }
    }
    fn new(body: Value) -> Result<Kept> {
        made(serde_json::from_value(body).unwrap(), ends(), 1000)
    }
    fn patched(kept: &mut Kept, body: Value) -> Result<Positions> {
        changed(kept, serde_json::from_value(body).unwrap(), ends(), 2000)
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_takes_away() {
        let mut kept = new(json!({
            "name": "x", "from": "a", "dest": "lake", "streams": "Lead, Contact", "mode": "incremental", "cursor": "updated_at",
            "schedule": "*/15 * * * *", "timeout": "2h", "retry": {"attempts": 5}, "options": {"schema_drift": "block_until_approved"},
        }))
        .unwrap();
        assert_eq!(kept.request.streams.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["Lead", "Contact"]);
        assert_eq!((kept.retry.attempts, kept.timeout), (5, Some(std::time::Duration::from_secs(7200))));
        assert!(kept.policies != linkspan_engine::gate::Policies::default());
        let before = kept.clone();
        assert_eq!(patched(&mut kept, json!({"connection": "x", "description": "d"})).unwrap(), Positions::Stay);
        assert_eq!(kept, Kept { description: Some("d".into()), ..before });
        assert_eq!(kept.scheduled_since_ms, 1000, "the schedule stands as it was");
        patched(&mut kept, json!({"connection": "x", "timeout": null, "cursor": null, "schedule": null, "streams": null})).unwrap();
        assert_eq!((kept.timeout, kept.request.cursor.clone(), kept.schedule.clone()), (None, None, None));
        assert!(kept.request.streams.is_empty());
        assert_eq!(kept.scheduled_since_ms, 2000);
    }

    #[test]
    fn another_end_forgets_the_positions() {
        let mut kept = new(json!({"name": "x", "from": "a", "dest": "lake"})).unwrap();
        let elsewhere = Ends { from: Uuid::from_u128(2), ..ends() };
        assert_eq!(changed(&mut kept, Changes::default(), elsewhere, 2000).unwrap(), Positions::Reset);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (body, word) in [
            (json!({"name": "x", "from": "a", "dest": "b", "cursor": "c"}), "cursor"),
            (json!({"name": "x", "from": "a", "dest": "b", "schedule": "61 * * * *"}), "cron"),
            (json!({"name": "x", "from": "a", "dest": "b", "retry": {"attempts": 0}}), "attempts"),
            (json!({"name": "x", "from": "a", "dest": "b", "timeout": "long"}), "length of time"),
        ] {
            let e = new(body).unwrap_err();
            assert!(e.message().contains(word), "{e:?}");
        }
        for name in ["", "a/b", "..", "a\nb", &"x".repeat(101)] {
            assert!(checked_name(name).is_err(), "{name}");
        }
    }
}
