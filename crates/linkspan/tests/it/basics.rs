//! Help, completions, the catalog, and what every verb has in common.

use crate::program::Place;

#[test]
fn every_verbs_help_has_examples() {
    let place = Place::new();
    for verb in [
        &["--help"][..],
        &["sync", "--help"],
        &["demo", "--help"],
        &["serve", "--help"],
        &["apply", "--help"],
        &["catalog", "--help"],
        &["connectors", "--help"],
        &["completions", "--help"],
    ] {
        let said = place.run(verb).succeeds();
        assert!(said.out.contains("Example"), "{verb:?}: {}", said.out);
    }
    insta::assert_snapshot!("help", place.run(&["--help"]).succeeds().out);
    insta::assert_snapshot!("help_sync", place.run(&["sync", "--help"]).succeeds().out);
}

#[test]
fn completions_are_scripts_of_their_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).succeeds().out.contains("linkspan"));
    }
    let script = place.run(&["completions", "bash"]).out;
    place.write("c.bash", &script);
    assert_eq!(place.shell("bash -n c.bash").code, 0);
}

#[test]
fn the_version_needs_no_data_dir() {
    let place = Place::new();
    assert!(place.run(&["--version"]).succeeds().out.starts_with("linkspan "));
    assert!(!place.path("data").exists());
}

#[test]
fn the_catalog_lists_and_shows_every_type() {
    let place = Place::new();
    let list = place.run(&["catalog", "list", "--output", "json"]).succeeds().json();
    for entry in list["types"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let shown = place.run(&["catalog", "show", name]).succeeds().out;
        assert!(shown.contains("## Setup") && shown.contains("## Limits"), "{name}: {shown}");
        let json = place.run(&["catalog", "show", name, "--output", "json"]).succeeds().json();
        assert!(json["config_schema"]["properties"].is_object(), "{json:#}");
    }
    place.run(&["catalog", "show", "fakre"]).refuses(4, &["fakre", "faker"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let said = place.shell("linkspan catalog show faker | head -1; linkspan --help | head -1; linkspan completions bash | head -1");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:#?}");
}

#[test]
fn an_unknown_word_is_usage() {
    let place = Place::new();
    let said = place.run(&["synk"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("sync"), "{}", said.err);
    place.run(&["sync", "fakr:", "x"]).refuses(2, &["faker"]);
    assert!(!place.path("data").exists(), "a mistake in the command line leaves nothing behind");
}

#[test]
fn errors_are_json_when_asked_for() {
    let said = Place::new().run(&["sync", "fakr:", "x", "--output", "json"]);
    assert_eq!(said.code, 2);
    let error = said.json();
    assert_eq!((&error["error"]["kind"], &error["exit_code"]), (&"config_invalid".into(), &2.into()), "{error:#}");
    assert!(error["error"]["suggested_fix"].as_str().unwrap().contains("faker"));
}

#[test]
fn colours_are_for_people() {
    let place = Place::new();
    assert!(!place.run(&["catalog", "list"]).out.contains('\u{1b}'));
    let error = place.run(&["sync", "fakr:", "x", "--color", "always"]).err;
    assert!(error.contains('\u{1b}'), "{error}");
}

#[test]
fn check_and_discover_answer_for_a_url() {
    let place = Place::new();
    let check = place.run(&["connectors", "check", "faker:", "--output", "json"]).succeeds().json();
    assert_eq!(check["ok"], true);
    let streams = place.run(&["connectors", "discover", "faker:?customers=5&orders=9", "--output", "json"]).succeeds().json();
    assert_eq!(streams["streams"][0]["key"][0], "id", "{streams:#}");
    assert_eq!(streams["streams"][1]["estimated_rows"], 9);
    place.run(&["instances", "discover", "faker:?customer=5"]).refuses(2, &["customer", "customers"]);
}
