//! Files sent by the command line into a server and into a data dir, read by a connection, and what a kill leaves of them.

use std::{fs::File, io::Write};

use linkspan_testkit::process::{Process, Signal};
use serde_json::Value;

use crate::{
    hub::Hub,
    program::{Place, said},
};

fn hub_and_key(place: &Place) -> (Hub, String) {
    let hub = Hub::start(place);
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    (hub, key.trim().to_owned())
}

fn files(place: &Place) -> Vec<(String, u64)> {
    let listed = place.run(&["connectors", "files", "leads", "--output", "json"]).succeeds().json();
    let one = |f: &Value| (f["name"].as_str().unwrap().to_owned(), f["bytes"].as_u64().unwrap());
    listed["files"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn files_are_uploaded_to_a_data_dir_and_a_server_and_flow_on() {
    let place = Place::new();
    place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
    place.write("leads.csv", "id,name\n1,Ada\n2,Bob\n");
    let sent = place.run(&["connectors", "upload", "leads", "leads.csv"]).succeeds();
    assert!(sent.out.contains("uploaded leads.csv"), "{sent:?}");
    let (hub, key) = hub_and_key(&place);
    place.write("more.csv", "id,name\n3,Cyd\n");
    let server = format!("http://{}", hub.address);
    let at = ["--server", server.as_str(), "--api-key", key.as_str()];
    let sent = place.run(&[&["connectors", "upload", "leads", "leads.csv", "more.csv"][..], &at].concat()).succeeds();
    assert!(sent.out.contains("replaced leads.csv") && sent.out.contains("uploaded more.csv"), "{sent:?}");
    assert_eq!(files(&place), [("leads.csv".to_owned(), 20), ("more.csv".to_owned(), 14)]);
    place.run(&[&["connectors", "create", "shop", "--type", "sqlite", "--config", "path=shop.db"][..], &at].concat()).succeeds();
    place.run(&[&["connections", "create", "in", "--from", "leads", "--dest", "shop", "--mode", "full"][..], &at].concat()).succeeds();
    place.run(&[&["connections", "run", "in", "--wait"][..], &at].concat()).succeeds();
    assert_eq!(place.sqlite("data/files/shop.db", "select count(*), max(name) from leads"), "2|Bob");
    assert_eq!(place.sqlite("data/files/shop.db", "select count(*) from more"), "1");
    place.run(&[&["connectors", "delete-file", "leads", "more.csv"][..], &at].concat()).succeeds();
    assert_eq!(files(&place).len(), 1);
}

#[test]
fn what_cannot_be_uploaded_is_told_with_a_fix() {
    let place = Place::new();
    place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
    place.write("a.csv", "id\n1\n");
    place.write("a.pdf", "%PDF-1.7");
    place.write("b.csv", "%PDF-1.7");
    place.run(&["connectors", "upload", "leads", "nothing.csv"]).refuses(4, &["nothing.csv"]);
    place.run(&["connectors", "upload", "nobody", "a.csv"]).refuses(4, &["no such connector"]);
    place.run(&["connectors", "upload", "leads", "a.pdf"]).refuses(2, &["ending"]);
    place.run(&["connectors", "upload", "leads", "b.csv"]).refuses(7, &["something else"]);
    place.run(&["connectors", "upload", "leads", "."]).refuses(2, &["folder"]);
    place.run(&["connectors", "upload", "leads", "a.csv", "--name", "../a.csv"]).refuses(2, &["path"]);
    assert_eq!(place.run(&["connectors", "upload", "leads"]).code, 2);
    place.run(&["connectors", "check", "leads"]).refuses(6, &["nothing was uploaded", "linkspan connectors upload"]);
    let mut small = place.command(&["connectors", "upload", "leads", "large.csv"]);
    place.write("large.csv", "0123456789,abcdefghijklm\n".repeat(50_000));
    said(small.env("LINKSPAN_UPLOAD_MAX_MB", "1")).refuses(2, &["LINKSPAN_UPLOAD_MAX_MB"]);
    assert!(files(&place).is_empty());
}

/// At each step that crosses durability the server dies: the file is there whole, or as it was before, and nothing else lies about.
#[test]
fn a_server_that_is_killed_at_any_step_leaves_whole_files_only() {
    for (point, arrives) in [("upload.staged", false), ("upload.commit.before", false), ("upload.commit.after", true)] {
        let place = Place::new();
        place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
        place.write("a.csv", "id\n1\n");
        place.run(&["connectors", "upload", "leads", "a.csv"]).succeeds();
        place.write("a.csv", "id\n1\n2\n3\n");
        let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
        let hub = Hub::started(command.env("LINKSPAN_FAILPOINTS", format!("{point}=abort")));
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
        let server = format!("http://{}", hub.address);
        let sent = place.run(&["connectors", "upload", "leads", "a.csv", "--server", &server, "--api-key", key.trim()]);
        assert_ne!(sent.code, 0, "{point}: {sent:?}");
        drop(hub);
        let bytes = if arrives { 9 } else { 5 };
        assert_eq!(files(&place), [("a.csv".to_owned(), bytes)], "{point}");
        place.run(&["connectors", "check", "leads"]).succeeds();
        let mut left = vec![];
        for folder in ["files", "incoming"] {
            let find = place.shell(&format!("find data/uploads -path '*/{folder}/*' -type f -printf '%f %s\\n'"));
            left.extend(find.out.lines().map(str::to_owned).collect::<Vec<_>>());
        }
        assert_eq!(left, [format!("a.csv {bytes}")], "{point}");
    }
}

#[test]
fn a_kill_in_the_middle_of_a_body_leaves_nothing() {
    let place = Place::new();
    place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
    let (mut hub, key) = hub_and_key(&place);
    let mut stream = std::net::TcpStream::connect(&hub.address).unwrap();
    let head = format!(
        "POST /v1/connectors/leads/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nid\n1\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let incoming = || place.shell("find data/uploads -path '*/incoming/*' -type f").out.lines().count();
    let began = std::time::Instant::now();
    while incoming() == 0 {
        assert!(began.elapsed().as_secs() < 20, "the upload never began");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    hub.process.signal(Signal::Kill);
    hub.process.wait(std::time::Duration::from_secs(20));
    assert_eq!(incoming(), 1, "what a dead process left");
    assert!(files(&place).is_empty());
    place.write("b.csv", "id\n1\n");
    place.run(&["connectors", "upload", "leads", "b.csv"]).succeeds();
    assert_eq!((incoming(), files(&place).len()), (0, 1));
}

/// Who asks before sending is told no before they send, and who does not ask hears it too.
#[test]
fn too_large_a_body_is_refused_in_words_whether_it_was_asked_for_or_not() {
    let place = Place::new();
    place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
    let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
    let hub = Hub::started(command.env("LINKSPAN_UPLOAD_MAX_MB", "1"));
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    for (expect, sends) in [("Expect: 100-continue\r\n", false), ("", true)] {
        let mut stream = std::net::TcpStream::connect(&hub.address).unwrap();
        let head = format!(
            "POST /v1/connectors/leads/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             {expect}Content-Length: {}\r\n\r\n",
            key.trim(),
            8 << 20
        );
        stream.write_all(head.as_bytes()).unwrap();
        if sends {
            stream.write_all(&vec![b'x'; 8 << 20]).unwrap();
        }
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut said = vec![0; 4096];
        let read = std::io::Read::read(&mut stream, &mut said).unwrap();
        let said = String::from_utf8_lossy(&said[..read]).into_owned();
        assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("LINKSPAN_UPLOAD_MAX_MB"), "{said}");
    }
}

/// Peak memory of a process so far, in kB.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse().ok()).unwrap()
}

#[test]
fn two_hundred_megabytes_pass_through_little_memory() {
    let place = Place::new();
    place.run(&["connectors", "create", "leads", "--type", "csv"]).succeeds();
    let mut file = File::create(place.path("large.csv")).unwrap();
    let row = "0123456789,abcdefghijklmnopqrstuvwxyz,0.125\n".repeat(20_000);
    let times = (199 << 20) / row.len();
    (0..times).for_each(|_| file.write_all(row.as_bytes()).unwrap());
    let (hub, key) = hub_and_key(&place);
    let before = peak(&hub.process);
    let server = format!("http://{}", hub.address);
    place.run(&["connectors", "upload", "leads", "large.csv", "--server", &server, "--api-key", &key]).succeeds();
    let grew = (peak(&hub.process) - before) / 1024;
    assert_eq!(files(&place), [("large.csv".to_owned(), (times * row.len()) as u64)]);
    assert!(grew <= 24, "the server grew by {grew} MB");
    println!("uploaded {} MB; the server grew by {grew} MB to {} MB", (times * row.len()) >> 20, peak(&hub.process) / 1024);
}
