//! Canary secrets appear in no output and in no file of the data dir.

use std::path::Path;

use linkspan_testkit::servers::TestDatabase;

use crate::program::{Place, Said};

const CANARY: &str = "c4nary_s3cret_";

fn clean(said: &Said) {
    assert!(!said.out.contains(CANARY) && !said.err.contains(CANARY), "{said:#?}");
}

fn clean_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            clean_files(&entry);
        } else if let Ok(bytes) = std::fs::read(&entry) {
            let found = bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes());
            assert!(!found, "{} holds the secret", entry.display());
        }
    }
}

#[tokio::test]
async fn a_password_is_in_no_output_and_no_file() {
    let Some(db) = TestDatabase::create().await else { return };
    let role = linkspan_testkit::servers::unique("ls_canary");
    let password = format!("{CANARY}{role}");
    db.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{password}'; CREATE TABLE t (id int PRIMARY KEY, updated_at int); INSERT INTO t VALUES (1, 1);
         GRANT ALL ON SCHEMA public TO {role}; GRANT ALL ON t TO {role}"
    ))
    .await;
    let (_, rest) = db.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:{password}@{rest}");
    let bare = url.replacen(&format!(":{password}@"), "@", 1);
    let place = Place::new();
    let file = "connectors:\n  pg:\n    type: postgresql\n    config: {url: '${CANARY_URL}'}\nconnections:\n  c: {from: pg, to: 'sqlite:./p.db', streams: [public.t], mode: incremental, cursor: updated_at}\n";
    place.write("p.yaml", file);
    let runs: Vec<Vec<&str>> = vec![
        vec!["-vv", "sync", &url, "sqlite:./x.db", "--stream", "public.t", "--mode", "incremental", "--cursor", "updated_at"],
        vec!["sync", &url, "sqlite:./x.db", "--stream", "public.t", "--output", "json"],
        vec!["sync", &url, "sqlite:./x.db", "--dry-run"],
        vec!["sync", &url, "sqlite:./x.db", "--stream", "public.nope"],
        vec!["sync", &url, "sqlite:./x.db", "--stream", "public.t", "--mode", "incremental", "--cursor", "nope"],
        vec!["connectors", "check", &url],
        vec!["sync", &bare, "sqlite:./x.db", "--stream", "public.t", "--output", "json"],
        vec!["connectors", "discover", &url, "--output", "json"],
        vec!["-vv", "sync", "-f", "p.yaml"],
        vec!["sync", "-f", "p.yaml", "--dry-run", "--output", "json"],
    ];
    for args in runs {
        let mut command = place.command(&args);
        clean(&crate::program::said(command.env("CANARY_URL", &url).env("PGPASSWORD", &password)));
    }
    let mut check = place.command(&["connectors", "check", &bare]);
    let said = crate::program::said(check.env("PGPASSWORD", &password)).succeeds();
    clean(&said);
    clean_files(&place.path("data"));
    db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[test]
fn a_mistake_beside_a_secret_does_not_show_it() {
    let place = Place::new();
    for config in [
        format!("{{pasword: {CANARY}}}"),
        format!("{{host: h, port: {CANARY}}}"),
        format!("{{url: {CANARY}}}"),
        format!("{{url: 'postgres://u:{CANARY}@h:notaport/db'}}"),
        format!("{{host: h, username: u, password: [{CANARY}]}}"),
        format!("{{host: h, password: {CANARY}, password: {CANARY}}}"),
        format!("{{host: h, password: '{CANARY}"),
    ] {
        place.write(
            "p.yaml",
            format!(
                "connectors:\n  pg:\n    type: postgresql\n    config: {config}\nconnections:\n  c: {{from: pg, to: 'sqlite:./s.db'}}\n"
            ),
        );
        let said = place.run(&["sync", "-f", "p.yaml"]).refuses(2, &["p.yaml:"]);
        clean(&said);
        clean(&place.run(&["sync", "-f", "p.yaml", "--output", "json"]));
    }
    clean(&place.run(&["sync", &format!("postgres://u:{CANARY}@h:notaport/db"), "stdout:"]));
    clean(&place.run(&["sync", &format!("nothing://u:{CANARY}@h/db"), "stdout:"]));
    clean(&place.run(&["connectors", "check", &format!("postgers://u:{CANARY}@h/db")]));
}
