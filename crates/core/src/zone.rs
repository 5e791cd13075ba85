//! Time zones by name: by the machine's own rules where it has them, else by those in this binary.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A zone of the time zone database: `Europe/Berlin`. The machine's rules come first, because they are renewed without this binary;
/// a machine that has none, or lacks the name, has the rules of the day the binary was built.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ZONES: [&str; 5] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "US/Eastern"];

    #[test]
    fn every_zone_is_there_and_a_wrong_name_is_none() {
        for name in ZONES {
            assert_eq!(time_zone(name).unwrap().iana_name(), Some(name));
        }
        assert!(time_zone("Berlin").is_none() && time_zone("").is_none() && time_zone("../../etc/passwd").is_none());
    }

    #[test]
    fn what_is_bundled_has_the_changes_of_the_clocks() {
        let zone = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let changes: Vec<String> =
            zone.following("2026-01-01T00:00:00Z".parse().unwrap()).take(2).map(|t| t.timestamp().to_string()).collect();
        assert_eq!(changes, ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"]);
    }

    /// Run by itself in a process whose machine has no database, or one with a single zone.
    #[test]
    fn a_machine_without_the_database_still_has_every_zone() {
        const INSIDE: &str = "LINKSPAN_CORE_TEST_ZONES";
        if std::env::var_os(INSIDE).is_some() {
            return every_zone_is_there_and_a_wrong_name_is_none();
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("poor")).unwrap();
        std::fs::write(dir.path().join("poor/UTC"), utc()).unwrap();
        for place in ["missing", "poor"] {
            let test = "zone::tests::a_machine_without_the_database_still_has_every_zone";
            let me = Command::new(std::env::current_exe().unwrap())
                .args([test, "--exact"])
                .env("TZDIR", dir.path().join(place))
                .env(INSIDE, "1")
                .output()
                .unwrap();
            assert!(me.status.success(), "{place}: {}", String::from_utf8_lossy(&me.stdout));
        }
    }

    /// The smallest file of a zone, in version 2 of its form.
    fn utc() -> Vec<u8> {
        let head = [b"TZif2".as_slice(), &[0; 34], &[1, 0, 0, 0, 4], &[0; 6], b"UTC\0"].concat();
        [head.as_slice(), &head, b"\nUTC0\n"].concat()
    }
}
