//! Ctrl-C once and twice, SIGTERM, and two runs of one connection at once.

use std::{process::Command, time::Duration};

use linkspan_testkit::process::{Process, Signal};

use crate::program::{Place, counts};

const BIG: &str = "faker:?customers=40000000&orders=1";
const LONG: Duration = Duration::from_secs(60);

fn sync(place: &Place, more: &[&str]) -> Command {
    place.command(&[&["sync", BIG, "sqlite:./x.db", "--stream", "customers", "--mode", "incremental", "--output", "json"], more].concat())
}

/// Waits until something was committed.
#[track_caller]
fn wait_for_rows(run: &Process) {
    assert!(run.wait_for_line("\"event\":\"progress\"", LONG), "{}", run.text());
}

fn rows(place: &Place) -> u64 {
    place.sqlite("x.db", "SELECT count(*) FROM customers").parse().unwrap()
}

#[test]
fn one_signal_is_a_clean_stop_that_keeps_what_is_committed() {
    for signal in [Signal::Interrupt, Signal::Terminate] {
        let place = Place::new();
        let mut run = Process::start(&mut sync(&place, &[]));
        wait_for_rows(&run);
        run.signal(signal);
        assert_eq!(run.wait(LONG).code(), Some(130), "{}", run.text());
        assert!(run.text().contains("what is committed stays"), "{}", run.text());
        let kept = rows(&place);
        assert!(kept > 0 && kept < 40_000_000);
        let mut again = Process::start(&mut sync(&place, &[]));
        wait_for_rows(&again);
        again.signal(signal);
        again.wait(LONG);
        assert!(rows(&place) > kept);
        assert_eq!(
            place.sqlite("x.db", "SELECT count(*) - count(DISTINCT id), max(id) - count(*) FROM customers"),
            "0|0",
            "no row twice, none left out"
        );
    }
}

#[test]
fn two_signals_are_now() {
    let place = Place::new();
    let mut command = sync(&place, &[]);
    // The commit hangs, so a clean stop has to wait for it.
    command.env("LINKSPAN_FAILPOINTS", "pipe.commit.before=delay:600000");
    let mut run = Process::start(&mut command);
    wait_for_rows(&run);
    run.signal(Signal::Interrupt);
    assert!(run.wait_for_line("stopping", LONG), "{}", run.text());
    run.signal(Signal::Interrupt);
    assert_eq!(run.wait(Duration::from_secs(5)).code(), Some(130), "{}", run.text());
}

#[test]
fn a_second_run_of_the_connection_is_refused_and_the_first_goes_on() {
    let place = Place::new();
    let mut first = Process::start(&mut sync(&place, &[]));
    wait_for_rows(&first);
    let second = crate::program::said(&mut sync(&place, &[]));
    assert_eq!(second.code, 6, "{second:#?}");
    let error = second.lines().pop().unwrap();
    assert!(error["error"]["suggested_fix"].is_string(), "{error:#}");
    assert!(first.wait_at_most(Duration::from_millis(10)).is_none());
    let other =
        place.run(&["sync", "faker:?customers=5&orders=0", "sqlite:./other.db", "--stream", "customers", "--output", "json"]).succeeds();
    assert_eq!(counts(&other.summary(), "customers").0, 5, "another connection of the same data dir runs meanwhile");
    first.signal(Signal::Interrupt);
    assert_eq!(first.wait(LONG).code(), Some(130));
}

#[test]
fn a_killed_run_leaves_its_place_to_the_next() {
    let place = Place::new();
    let mut first = Process::start(&mut sync(&place, &[]));
    wait_for_rows(&first);
    first.signal(Signal::Kill);
    first.wait(LONG);
    let mut second = Process::start(&mut sync(&place, &[]));
    wait_for_rows(&second);
    second.signal(Signal::Interrupt);
    assert_eq!(second.wait(LONG).code(), Some(130), "{}", second.text());
}
