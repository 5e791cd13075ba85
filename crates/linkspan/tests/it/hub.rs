//! A running server of a test, and a small client for it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use linkspan_testkit::process::Process;
use serde_json::Value;

use crate::program::Place;

/// A `linkspan serve` on a free port. Dropping it kills it.
pub struct Hub {
    pub process: Process,
    pub address: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    #[allow(dead_code, reason = "shown when a test fails")]
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Hub {
    pub fn start(place: &Place) -> Self {
        Self::started(&mut place.command(&["serve", "--port", "0", "--output", "json"]))
    }
    /// `serve --port 0 --output json` with an environment of the test's own.
    pub fn started(command: &mut std::process::Command) -> Self {
        let process = Process::start(command);
        assert!(process.wait_for_line("\"serving\"", Duration::from_secs(60)), "it does not start: {}", process.text());
        let line = process.text();
        let line = line.lines().find(|l| l.contains("\"serving\"")).unwrap();
        let said: Value = serde_json::from_str(line).unwrap();
        Self { process, address: said["url"].as_str().unwrap().trim_start_matches("http://").to_owned() }
    }
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "")
    }
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n", self.address);
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let (head, text) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no answer: {said:?}"));
        Answer { status, head: head.to_owned(), text: text.to_owned() }
    }
}
