//! Child processes for whole-program tests: started, watched, killed, frozen.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// A running program whose output is kept. Dropping it kills it.
pub struct Process {
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    news: Condvar,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    open: usize,
}

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// At once, without a chance to clean up.
    Kill,
    /// Frozen, as by a debugger or a host that swaps.
    Stop,
    Continue,
    /// Ctrl-C.
    Interrupt,
    Terminate,
}

impl Process {
    /// Starts the command with its standard output and error read line by line.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        let output = Arc::new(Output { lines: Mutex::new(Lines { all: vec![], open: 2 }), news: Condvar::new() });
        read_lines(child.stdout.take().expect("piped"), output.clone());
        read_lines(child.stderr.take().expect("piped"), output.clone());
        Self { child, output }
    }
    pub fn id(&self) -> u32 {
        self.child.id()
    }
    pub fn signal(&mut self, signal: Signal) {
        let name = match signal {
            Signal::Kill => {
                self.child.kill().ok();
                return;
            }
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
        };
        // The shell's own kill: unsafe code is denied here, and a bare machine may lack the program.
        Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).stderr(Stdio::null()).status().expect("sh is there");
    }
    /// Waits until a line contains `text`; `false` when the program ended or the time is over without one.
    pub fn wait_for_line(&self, text: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if lines.all.iter().any(|l| l.contains(text)) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open == 0 {
                return false;
            }
            lines = self.output.news.wait_timeout(lines, left).unwrap().0;
        }
    }
    /// Waits for the end; kills and panics with the output when it takes longer.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        match self.wait_at_most(within) {
            Some(status) => status,
            None => {
                self.child.kill().ok();
                panic!("the program did not end within {within:?}:\n{}", self.text());
            }
        }
    }
    /// Waits for the end for so long; `None` when it still runs.
    pub fn wait_at_most(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Some(status);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(Duration::from_millis(2)));
        }
    }
    /// What it said so far, both streams as they came.
    pub fn text(&self) -> String {
        self.output.lines.lock().unwrap().all.join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read_lines(from: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            output.lines.lock().unwrap().all.push(String::from_utf8_lossy(&line).into_owned());
            output.news.notify_all();
        }
        output.lines.lock().unwrap().open -= 1;
        output.news.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_process_goes_on_and_a_killed_one_does_not() {
        let mut p = Process::start(Command::new("sh").args(["-c", "echo ready; read x < /dev/zero; sleep 30"]));
        assert!(p.wait_for_line("ready", Duration::from_secs(5)));
        p.signal(Signal::Stop);
        assert!(p.wait_at_most(Duration::from_millis(20)).is_none());
        p.signal(Signal::Continue);
        p.signal(Signal::Kill);
        assert!(!p.wait(Duration::from_secs(5)).success());
    }
}
