//! `docs/types.md`: what became of every type on its way through every destination and back. Each lattice writes its own section.

use std::{collections::BTreeMap, fmt::Write, sync::Mutex};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/types.md");
const HEAD: &str = "# Types\n\nEvery type with its extremes was sent through each destination and back. `=` means that all values came back equal; what \
    does not is said. This page is written by the tests `lattice`.\n";
/// Sections in the order of the page.
const ORDER: [&str; 3] = ["PostgreSQL", "MySQL", "MariaDB"];

/// The cells of one source.
pub struct Section {
    from: &'static str,
    through: Vec<&'static str>,
    cells: usize,
    /// Types in the order of the lattice, with how many values each has.
    kinds: Vec<(&'static str, Vec<&'static str>)>,
    said: BTreeMap<(&'static str, &'static str), Vec<String>>,
}

impl Section {
    pub fn new(from: &'static str, through: impl IntoIterator<Item = &'static str>) -> Self {
        Self { from, through: through.into_iter().collect(), cells: 0, kinds: Vec::new(), said: BTreeMap::new() }
    }

    /// What became of one value; nothing when it came back equal.
    pub fn say(&mut self, kind: &'static str, literal: &'static str, through: &'static str, loss: Option<&str>) {
        self.cells += 1;
        match self.kinds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, literals)) if literals.contains(&literal) => {}
            Some((_, literals)) => literals.push(literal),
            None => self.kinds.push((kind, vec![literal])),
        }
        let said = self.said.entry((kind, through)).or_default();
        said.extend(loss.map(|why| format!("`{}`: {why}", literal.replace('|', "\\|"))));
    }

    fn text(&self) -> String {
        let mut text = format!("## {}\n\n{} cells.\n\n| type | values |", self.from, self.cells);
        self.through.iter().for_each(|name| write!(text, " {name} |").unwrap());
        text += &format!("\n|---|---|{}\n", "---|".repeat(self.through.len()));
        for (kind, literals) in &self.kinds {
            write!(text, "| {kind} | {} |", literals.len()).unwrap();
            for name in &self.through {
                let said = &self.said[&(*kind, *name)];
                write!(text, " {} |", if said.is_empty() { "=".to_owned() } else { said.join("; ") }).unwrap();
            }
            text.push('\n');
        }
        text
    }

    /// Compares the section of the page with the result; with `LINKSPAN_WRITE_DOCS` it is written.
    pub fn document(&self) {
        // The lattices run at the same time, and one page holds them all.
        static PAGE: Mutex<()> = Mutex::new(());
        let _page = PAGE.lock().unwrap();
        let page = std::fs::read_to_string(PATH).unwrap_or_default();
        let stands = |from: &str| {
            let begin = page.find(&format!("## {from}\n"))?;
            let end = page[begin + 3..].find("\n## ").map_or(page.len(), |at| begin + 3 + at + 1);
            Some(format!("{}\n", page[begin..end].trim_end()))
        };
        let text = self.text();
        if std::env::var_os("LINKSPAN_WRITE_DOCS").is_some() {
            let sections = ORDER.iter().filter_map(|from| if *from == self.from { Some(text.clone()) } else { stands(from) });
            let whole = sections.fold(HEAD.to_owned(), |page, section| format!("{page}\n{section}"));
            std::fs::write(PATH, whole).unwrap();
        } else {
            let stale = "docs/types.md is stale: run the lattices with LINKSPAN_WRITE_DOCS=1";
            assert_eq!(stands(self.from).unwrap_or_default(), text, "{stale}");
        }
    }
}
