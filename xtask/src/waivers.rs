//! `xtask/waivers`: which finding is allowed, and why. A waiver that nothing needs is a finding itself.

use std::{fs, io, path::Path};

use crate::Finding;

struct Waiver {
    rule: String,
    about: String,
    reason: String,
    line: usize,
}

pub struct Waivers(Vec<Waiver>);

impl Waivers {
    pub fn read(root: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(root.join("xtask/waivers")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        Ok(Self::parse(&text))
    }
    /// Lines of `rule | about | reason`; `#` starts a comment.
    fn parse(text: &str) -> Self {
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
        let part = |parts: &[&str], i: usize| parts.get(i).map(|p| p.trim().to_owned()).unwrap_or_default();
        Self(
            lines
                .map(|(i, l)| {
                    let parts: Vec<&str> = l.splitn(3, '|').collect();
                    Waiver { rule: part(&parts, 0), about: part(&parts, 1), reason: part(&parts, 2), line: i + 1 }
                })
                .collect(),
        )
    }
    /// What is left of the findings, with bad and unused waivers added.
    pub fn apply(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let waives = |w: &Waiver, f: &Finding| w.rule == f.rule && w.about == f.about;
        let mut left: Vec<Finding> = vec![];
        for w in &self.0 {
            let place = format!("xtask/waivers:{}", w.line);
            if w.reason.len() < 20 {
                left.push(Finding::new("waiver", place, "a waiver is `rule | about | reason`, and its reason is a sentence"));
            } else if !findings.iter().any(|f| waives(w, f)) {
                left.push(Finding::new("waiver", place, format!("nothing needs the waiver of {} for {}", w.rule, w.about)));
            }
        }
        left.extend(findings.into_iter().filter(|f| !self.0.iter().any(|w| waives(w, f))));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiver_needs_a_reason_and_a_use() {
        let finding = || Finding::new("size", "a.rs", "900 lines");
        assert!(Waivers::parse("size | a.rs | one table that reads best whole\n").apply(vec![finding()]).is_empty());
        assert_eq!(Waivers::parse("size | a.rs | no\n").apply(vec![finding()]).len(), 1);
        assert_eq!(Waivers::parse("size | b.rs | one table that reads best whole\n").apply(vec![finding()]).len(), 2);
    }
}
