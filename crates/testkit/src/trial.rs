//! Trials: named checks of a suite, run one after the other and collected into one report.

use std::{any::Any, collections::BTreeMap, future::Future, io::Write, panic::AssertUnwindSafe};

use futures::FutureExt;

/// Names what a trial is, as `postgresql/source/resumes_from_every_checkpoint`.
pub struct Trials {
    connector: String,
    suite: &'static str,
    waived: BTreeMap<String, String>,
    used: Vec<String>,
    failed: Vec<(String, String)>,
    passed: usize,
    only: Option<String>,
}

impl Trials {
    /// Reads the waivers of `connector` for this suite.
    pub fn new(connector: &str, suite: &'static str) -> Self {
        let waived = crate::waivers::of(connector).into_iter().filter(|(k, _)| k.starts_with(&format!("{suite}/"))).collect();
        let only = std::env::var("LINKSPAN_TRIAL").ok();
        Self { connector: connector.to_owned(), suite, waived, used: vec![], failed: vec![], passed: 0, only }
    }
    /// Only trials whose name contains this; `LINKSPAN_TRIAL` says the same from outside.
    pub fn only(&mut self, name: &str) {
        self.only = Some(name.to_owned());
    }
    /// Runs one trial. A panic inside it is its failure; the others go on. Within `limit` of 120 s, so that a hang has a name.
    pub async fn run(&mut self, name: &str, trial: impl Future<Output = ()>) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let started = std::time::Instant::now();
        let short = format!("{}/{name}", self.suite);
        let full = format!("{}/{short}", self.connector);
        let caught = AssertUnwindSafe(tokio::time::timeout(crate::scale().trial_limit, trial)).catch_unwind().await;
        let outcome = match caught {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(format!("did not end within {} s", crate::scale().trial_limit.as_secs())),
            Err(panic) => Err(panic_text(panic.as_ref())),
        };
        match (outcome, self.waived.get(&short)) {
            (Ok(()), None) => {
                self.passed += 1;
                self.note(&format!("ok ({:.1?})", started.elapsed()), &full);
            }
            (Ok(()), Some(_)) => {
                self.used.push(short);
                self.failed.push((full.clone(), "passes, but is waived: take the waiver out".into()));
                self.note("FAILED", &full);
            }
            (Err(why), Some(reason)) => {
                self.used.push(short);
                self.note("waived", &format!("{full} ({reason}): {why}"));
            }
            (Err(why), None) => {
                self.note("FAILED", &full);
                self.failed.push((full, why));
            }
        }
    }
    /// A line for a person who looks on, and for `./test`, which counts trials. A trial that was picked is not counted:
    /// the suites' own tests pick trials that must fail.
    fn note(&self, outcome: &str, name: &str) {
        #[allow(clippy::print_stdout, reason = "a test's output")]
        {
            println!("trial {name} ... {outcome}");
        }
        if self.only.is_none() {
            log(outcome.split(' ').next().unwrap_or(outcome), name);
        }
    }
    /// Fails with every failed trial, or with a waiver that nothing used.
    pub fn finish(mut self) {
        if self.only.is_none() {
            for short in self.waived.keys().filter(|k| !self.used.contains(k)) {
                self.failed.push((format!("{}/{short}", self.connector), "is waived, but no such trial ran: take the waiver out".into()));
            }
        }
        if self.failed.is_empty() {
            return;
        }
        let list: Vec<String> = self.failed.iter().map(|(name, why)| format!("--- {name}\n{why}")).collect();
        panic!("{} of {} trials failed\n{}", self.failed.len(), self.failed.len() + self.passed, list.join("\n"));
    }
}

/// Appends to the file that `./test` counts from, if it asked for one.
pub(crate) fn log(outcome: &str, name: &str) {
    let Some(path) = std::env::var_os("LINKSPAN_TEST_TRIALS") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        // One write, so that lines of parallel tests do not mix.
        file.write_all(format!("{outcome} {}\n", name.replace('\n', " ")).as_bytes()).ok();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "panicked".into())
}
