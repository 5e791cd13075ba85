//! The command line as a client: of a server over the wire, and of a data dir without one.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use linkspan_testkit::process::Signal;

use crate::{
    hub::Hub,
    program::{Place, said},
};

#[test]
fn a_command_works_on_the_data_dir_without_a_server_and_beside_one() {
    let place = Place::new();
    let made = place.run(&["projects", "create", "acme", "--description", "theirs", "--output", "json"]).succeeds();
    assert_eq!(made.json()["name"], "acme");
    let hub = Hub::start(&place);
    let listed = place.run(&["projects", "list"]).succeeds();
    assert!(listed.out.contains("acme") && listed.out.contains("theirs"), "{listed:?}");
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    let shown = hub.call("GET", "/v1/projects/acme", &[("Authorization", &format!("Bearer {}", key.trim()))], "");
    assert_eq!(shown.json()["description"], "theirs");
}

#[test]
fn a_person_signs_in_to_a_server_and_what_they_may_not_do_is_refused() {
    let (there, here) = (Place::new(), Place::new());
    let hub = Hub::start(&there);
    let server = format!("http://{}", hub.address);
    there
        .run(&["auth", "create-user", "ada@example.com", "--password", "correct-horse-9", "--roles", r#"{"default": "viewer"}"#])
        .succeeds();

    let wrong = here.run(&["auth", "login", "ada@example.com", "--password", "wrong-horse-9", "--server", &server]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    let signed = here.run(&["auth", "login", "ada@example.com", "--password", "correct-horse-9", "--server", &server]).succeeds();
    assert!(signed.out.contains("signed in to"), "{signed:?}");

    let mut whoami = here.command(&["auth", "whoami", "--output", "json"]);
    let me = said(whoami.env_remove("LINKSPAN_DATA_DIR")).succeeds();
    assert_eq!(me.json()["name"], "ada@example.com");
    let refused = said(here.command(&["auth", "keys", "create", "mine"]).env_remove("LINKSPAN_DATA_DIR"));
    assert!(refused.code == 3 && refused.err.contains("keys:write"), "{refused:?}");
    assert!(!signed.out.contains("eyJ") && !signed.err.contains("eyJ"), "a token is not for the screen");

    // Other programs get it when they ask, until the sign-in is over.
    let verb = |words: &[&str]| said(here.command(&[&["auth"], words].concat()).env_remove("LINKSPAN_DATA_DIR"));
    let token = verb(&["token"]).succeeds().out.trim().to_owned();
    let bearer = format!("Bearer {token}");
    assert_eq!(hub.call("GET", "/v1/auth/me", &[("Authorization", &bearer)], "").json()["name"], "ada@example.com");
    verb(&["logout"]).succeeds();
    assert_eq!(hub.call("GET", "/v1/auth/me", &[("Authorization", &bearer)], "").status, 401);
    verb(&["token"]).refuses(4, &["nobody is signed in"]);
    let given =
        said(here.command(&["auth", "token", "--server", &server]).env("LINKSPAN_API_KEY", "a-key-of-the-environment-1")).succeeds();
    assert_eq!(given.out.trim(), "a-key-of-the-environment-1", "what was asked for is shown, though it is a secret elsewhere");
    let own = there.run(&["auth", "token"]).succeeds();
    assert_eq!(own.out.trim(), std::fs::read_to_string(there.path("data/admin.key")).unwrap().trim());
}

#[test]
fn a_secret_may_come_from_stdin_and_a_missing_server_is_named() {
    let place = Place::new();
    let said_ = place.shell("echo correct-horse-9 | linkspan auth create-user bob@example.com --password - --output json");
    assert_eq!(said_.code, 0, "{said_:?}");
    let mut hub = Hub::start(&place);
    let server = format!("http://{}", hub.address);
    hub.process.signal(Signal::Kill);
    hub.process.wait(std::time::Duration::from_secs(20));
    let gone = place.run(&["auth", "whoami", "--server", &server, "--api-key", "x"]);
    assert!(gone.code == 5 && gone.err.contains("--server"), "{gone:?}");
}

/// On a terminal of its own, made by `script`: the prompt is seen, what is typed is not.
#[test]
fn a_password_is_typed_unseen_or_comes_from_stdin() {
    let (there, here) = (Place::new(), Place::new());
    let hub = Hub::start(&there);
    let server = format!("http://{}", hub.address);
    there.shell("echo correct-horse-9 | linkspan auth create-user ada@example.com --password-stdin").succeeds();
    let by_pipe = here.shell(&format!("echo correct-horse-9 | linkspan auth login ada@example.com --password-stdin --server {server}"));
    assert!(by_pipe.code == 0 && by_pipe.out.contains("signed in to"), "{by_pipe:?}");
    // Nobody can be asked here.
    here.run(&["auth", "login", "ada@example.com", "--server", &server]).refuses(2, &["no terminal", "--password-stdin"]);

    let line = format!("tty; exec {} auth login ada@example.com --server {server}", env!("CARGO_BIN_EXE_linkspan"));
    let mut script = Command::new("script");
    for (name, value) in here.command(&[]).get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = script.spawn() else { return };
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let seen = read_until(&mut screen, "password of ada@example.com: ");
    let tty = seen.lines().find(|l| l.starts_with("/dev/")).unwrap_or_else(|| panic!("{seen}")).trim().to_owned();
    // What is typed before the echo is off is shown, and thrown away: nobody types so fast, and this does not either.
    let until = Instant::now() + Duration::from_secs(30);
    let echoes = || {
        let state = Command::new("stty").args(["-F", &tty, "-a"]).output().unwrap();
        !String::from_utf8_lossy(&state.stdout).contains("-echo ")
    };
    while echoes() {
        assert!(Instant::now() < until, "the terminal goes on to echo");
        std::thread::yield_now();
    }
    keyboard.write_all(b"correct-horse-9\n").unwrap();
    let rest = read_until(&mut screen, "signed in to");
    drop((keyboard, screen));
    child.wait().unwrap();
    assert!(!format!("{seen}{rest}").contains("correct-horse"), "{seen}{rest}");
}

fn read_until(screen: &mut impl Read, word: &str) -> String {
    let (mut seen, mut piece) = (String::new(), [0; 256]);
    while !seen.contains(word) {
        let read = screen.read(&mut piece).unwrap();
        assert!(read > 0, "`{word}` is not said: {seen}");
        seen += &String::from_utf8_lossy(&piece[..read]);
    }
    seen
}

#[test]
fn a_mistake_in_an_option_is_a_usage_error_and_help_says_what_there_is() {
    let place = Place::new();
    assert_eq!(place.run(&["auth", "keys", "create"]).code, 2);
    assert_eq!(place.run(&["auth", "keys", "create", "x", "--role", "king"]).code, 2);
    let help = place.run(&["auth", "keys", "create", "--help"]).succeeds();
    for word in ["--role", "--expires-in-days", "--server", "POST /v1/keys"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
}

#[test]
fn a_connector_is_made_checked_and_discovered_by_name_without_a_server() {
    let place = Place::new();
    let made = place.run(&["connectors", "create", "gen", "--type", "faker", "--config", "customers=5", "--output", "json"]).succeeds();
    assert_eq!((made.json()["status"].as_str(), made.json()["config"]["customers"].as_i64()), (Some("unknown"), Some(5)));
    let checked = place.run(&["connectors", "check", "gen", "--output", "json"]).succeeds();
    assert_eq!((checked.json()["ok"].as_bool(), checked.json()["status"].as_str()), (Some(true), Some("connected")));
    let found = place.run(&["instances", "discover", "gen"]).succeeds();
    assert!(found.out.contains("customers"), "{found:?}");
    assert!(place.run(&["connectors", "list"]).succeeds().out.contains("gen"));
    assert_eq!(place.run(&["connectors", "check", "nobody"]).code, 4);
    place.run(&["connectors", "delete", "gen"]).succeeds();
    assert!(place.run(&["connectors", "list"]).succeeds().out.contains("no connectors"));
    // A URL is what it was: checked without being saved.
    place.run(&["connectors", "check", "faker:"]).succeeds();
}

#[test]
fn the_reference_s_own_command_lines_run() {
    let place = Place::new();
    place
        .run(&[
            "connect",
            "instances",
            "create",
            "my-pg",
            "--type",
            "postgresql",
            "--config",
            "host=db",
            "--config",
            "database=d",
            "--config",
            "username=u",
        ])
        .succeeds();
    let set = place.run(&["connect", "instances", "credentials", "my-pg", "--input", r#"{"password":"canary-7"}"#]).succeeds();
    assert!(!set.out.contains("canary-7"), "{set:?}");
    let key = place.run(&["keys", "generate"]).succeeds();
    assert_eq!(key.out.trim().len(), 44);
}
