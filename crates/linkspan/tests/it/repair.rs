//! When data dir and destination disagree: the run stops and names the flag that decides.

use crate::program::{Place, Said, counts};

const ARGS: [&str; 6] = ["sync", "faker:?customers=2000&orders=0", "./shop.db", "--stream", "customers", "--mode=incremental"];

fn sync(place: &Place, more: &[&str]) -> Said {
    place.run(&[&ARGS[..], more].concat())
}

fn forget_data_dir(place: &Place) {
    std::fs::remove_dir_all(place.path("data")).unwrap();
}

fn remove_destination(place: &Place) {
    for file in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        std::fs::remove_file(place.path(file)).ok();
    }
}

#[test]
fn a_lost_data_dir_is_adopted_only_when_told() {
    let place = Place::new();
    sync(&place, &[]).succeeds();
    forget_data_dir(&place);
    sync(&place, &[]).refuses(6, &["--adopt"]);
    let adopted = sync(&place, &["--adopt", "--output", "json"]).succeeds().summary();
    assert!(counts(&adopted, "customers").0 < 2000, "it goes on where the destination stands: {adopted:#}");
    sync(&place, &[]).succeeds();
}

#[test]
fn an_id_in_the_project_file_makes_adoption_a_matter_of_course() {
    let place = Place::new();
    place.write(
        "p.yaml",
        "connections:\n  c:\n    id: 6f1f3c1e-6d2f-4a5d-9b1e-0c8f6a3f7d21\n    from: 'faker:?customers=2000&orders=0'\n    to: 'sqlite:./shop.db'\n    streams: [customers]\n    mode: incremental\n",
    );
    let run = || place.run(&["sync", "-f", "p.yaml", "--output", "json"]).succeeds().summary();
    run();
    forget_data_dir(&place);
    assert!(counts(&run(), "customers").0 < 2000);
}

#[test]
fn a_replaced_destination_is_filled_again_only_when_told() {
    let place = Place::new();
    sync(&place, &[]).succeeds();
    remove_destination(&place);
    sync(&place, &[]).refuses(6, &["--accept"]);
    let again = sync(&place, &["--accept", "--output", "json"]).succeeds().summary();
    assert_eq!(counts(&again, "customers").0, 2000, "{again:#}");
    assert_eq!(place.sqlite("shop.db", "SELECT count(*) FROM customers"), "2000");
}

#[test]
fn a_reset_fills_a_replaced_destination_too() {
    let place = Place::new();
    sync(&place, &[]).succeeds();
    remove_destination(&place);
    let again = sync(&place, &["--reset", "--output", "json"]).succeeds().summary();
    assert_eq!(counts(&again, "customers").0, 2000, "{again:#}");
}
