//! Another process of the store: this test binary again, doing what a script says, one word per line.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use linkspan_core::{Context, Failpoints};
use linkspan_store::{Claim, Options, Store};

use crate::desk::{commit, named, scope, stream, succeeded, sync};

const DIR: &str = "LINKSPAN_STORE_TEST_DIR";
const POINTS: &str = "LINKSPAN_STORE_TEST_POINTS";
const LEASE: &str = "LINKSPAN_STORE_TEST_LEASE_MS";

/// A child under a test's hand; killed when dropped.
pub struct Other {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

pub struct How<'a> {
    pub points: &'a str,
    pub lease: Duration,
    /// A shell's words before the command, for limits.
    pub shell: Option<&'a str>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { points: "", lease: Duration::from_secs(30), shell: None }
    }
}

impl Other {
    pub fn start(dir: &Path, how: How<'_>) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut command = match how.shell {
            None => Command::new(&me),
            Some(words) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{words}; exec \"$0\" \"$@\"")]).arg(&me);
                shell
            }
        };
        command.args(["child::obeys_its_parent", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(DIR, dir).env(POINTS, how.points).env(LEASE, how.lease.as_millis().to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test harness of the child may have begun a line of its own.
                if let Some((_, word)) = line.split_once("@@")
                    && tell.send(word.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, input, said }
    }
    pub fn say(&mut self, word: &str) {
        // A child that died does not hear; the test looks at what it said before.
        writeln!(self.input.as_mut().unwrap(), "{word}").ok();
    }
    /// The next line; nothing when the child ended.
    pub fn hear(&self) -> Option<String> {
        self.said.recv_timeout(Duration::from_secs(30)).ok()
    }
    pub fn ask(&mut self, word: &str) -> String {
        self.say(word);
        self.hear().unwrap_or_else(|| panic!("the child ended at {word:?}"))
    }
    /// What was said and not yet heard.
    pub fn overhear(&self) -> Vec<String> {
        self.said.try_iter().collect()
    }
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().collect()
    }
    /// Waits for a child that ends by itself.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        (status, self.said.iter().collect())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn tell(text: impl std::fmt::Display) {
    println!("@@{text}");
    std::io::stdout().flush().unwrap();
}

/// Not a test of its own: without a parent it does nothing.
#[test]
fn obeys_its_parent() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(obey(Path::new(&dir)));
    std::process::exit(0);
}

async fn obey(dir: &Path) {
    let ctx = Context::with_failpoints(Failpoints::parse(&std::env::var(POINTS).unwrap()).unwrap());
    let lease = Duration::from_millis(std::env::var(LEASE).unwrap().parse().unwrap());
    let store = match Store::open_with(dir, &ctx, Options { lease, ..Options::default() }).await {
        Ok(store) => store,
        Err(e) => return tell(format!("error {e:?}")),
    };
    tell(format!("{:?}", store.role().unwrap()));
    let mut claim: Option<Claim> = None;
    let (words, mut heard) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if words.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = heard.recv().await {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "claim" => match hold(&store, rest).await {
                Ok(held) => {
                    tell(format!("claimed {}", held.fence()));
                    claim = Some(held);
                }
                Err(e) => tell(format!("error {:?}", e.kind())),
            },
            "draw" => {
                let drawn = claim.as_ref().unwrap().memory().draw_generation(&stream("t")).await;
                tell(drawn.map_or_else(|e| format!("error {:?}", e.kind()), |n| format!("drew {n}")));
            }
            // Saves for ever, from the number said; tells each that was answered.
            "save" => save_from(claim.as_ref().unwrap(), rest.parse().unwrap()).await,
            "once" => tell(save_once(claim.as_ref().unwrap(), rest.parse().unwrap()).await),
            // Claims, saves three times where the last one stopped, finishes; for ever, beside others that do the same.
            "work" => work(&store, rest).await,
            "finish" => tell(format!("{:?}", claim.take().unwrap().finish(succeeded()).await.map_err(|e| e.kind()))),
            other => panic!("what is {other}?"),
        }
    }
}

async fn hold(store: &Store, name: &str) -> linkspan_core::Result<Claim> {
    let connection = store.connection(named(name)).await?;
    store.claim(connection.id, sync()).await
}

async fn work(store: &Store, name: &str) {
    loop {
        let claim = match hold(store, name).await {
            Ok(claim) => claim,
            Err(e) if e.kind() == linkspan_core::ErrorKind::Conflict => continue,
            Err(e) => return tell(format!("error {e:?}")),
        };
        let stands = claim.memory().load().await.unwrap().scopes.get(&scope("t")).map_or(0, |r| r.number);
        for number in stands + 1..stands + 4 {
            let said = save_once(&claim, number).await;
            tell(format!("{said} {}", claim.fence()));
        }
        if let Err(e) = claim.finish(succeeded()).await {
            return tell(format!("error {e:?}"));
        }
    }
}

async fn save_once(claim: &Claim, number: u64) -> String {
    let saved = claim.memory().save(&[commit(claim, scope("t"), 1, number, "x".repeat(500))]).await;
    saved.map_or_else(|e| format!("error {:?}", e.kind()), |()| format!("saved {number}"))
}

async fn save_from(claim: &Claim, first: u64) {
    for number in first.. {
        let said = save_once(claim, number).await;
        let failed = said.starts_with("error");
        tell(said);
        if failed {
            return;
        }
    }
}
