//! Who holds a lease, and whether that process is certainly gone.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process, named so that another process of the same machine can tell whether it still lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub host: String,
    /// This boot of this machine, seen from this process namespace; empty where the system does not say.
    pub machine: String,
    pub pid: u32,
    /// When the process started, in the kernel's ticks: a pid is used again, a pid with its start is not.
    pub started: Option<u64>,
}

impl Holder {
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { host: host(), machine: machine(), pid, started: started(pid).map(|p| p.since) }
    }
    /// Whether the process ran on this machine and is certainly gone. Not sure counts as alive: then only expiry frees its lease.
    pub fn is_gone(&self) -> bool {
        let (Some(since), here) = (self.started, machine()) else { return false };
        if here.is_empty() || here != self.machine {
            return false;
        }
        started(self.pid).is_none_or(|p| p.since != since || p.dead)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "this machine".into())
}

/// Two containers share a boot but not their pids, so the pid namespace is part of the name.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match (boot.trim(), pids.to_string_lossy()) {
        ("", _) => String::new(),
        (boot, pids) => format!("{boot} {pids}"),
    }
}

struct Process {
    since: u64,
    dead: bool,
}

/// Field 22 of `/proc/<pid>/stat` (start) and field 3 (state). The name in parentheses may hold anything, so fields count from its end.
fn started(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let since = fields.nth(18)?.parse().ok()?;
    Some(Process { since, dead: matches!(state, "Z" | "X" | "x") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_a_reused_pid_is_another_process() {
        let me = Holder::this_process();
        assert!(!me.is_gone());
        let other = Holder { started: me.started.map(|s| s + 1), ..me.clone() };
        assert_eq!(other.is_gone(), me.started.is_some() && !me.machine.is_empty());
        let elsewhere = Holder { machine: "another".into(), pid: u32::MAX, ..me };
        assert!(!elsewhere.is_gone(), "of another machine nothing is certain");
    }

    #[test]
    fn a_killed_process_is_gone_even_before_its_parent_asks() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let holder = Holder { pid: child.id(), started: started(child.id()).map(|p| p.since), ..Holder::this_process() };
        assert!(!holder.is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(holder.is_gone());
    }
}
