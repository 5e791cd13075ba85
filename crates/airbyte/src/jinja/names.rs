//! Which names a template takes from outside. The reference refuses a template when one of them is not there, even under `is defined`.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::syntax::{Arguments, Expr, For, MacroBody, Node, Target};

/// Names that every template has.
pub(super) const GLOBALS: &[&str] = &[
    "now_utc",
    "today_utc",
    "timestamp",
    "max",
    "min",
    "day_delta",
    "duration",
    "format_datetime",
    "today_with_timezone",
    "str_to_datetime",
    "sanitize_url",
    "camel_case_to_snake_case",
    "generate_uuid",
    "dict",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
];

pub(super) fn undeclared(body: &[Node]) -> Vec<String> {
    let mut walk = Walk { frames: vec![Frame::default()], found: BTreeSet::new() };
    walk.nodes(body);
    walk.leave();
    walk.found.into_iter().collect()
}

/// Where a name of a frame comes from when the frame is entered.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Outside,
    Inside,
}

#[derive(Clone, Default)]
struct Frame<'a> {
    names: HashMap<&'a str, Origin>,
    stores: HashSet<&'a str>,
}

struct Walk<'a> {
    frames: Vec<Frame<'a>>,
    found: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn frame(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("the outermost frame is never left before the end")
    }
    fn leave(&mut self) {
        for (name, origin) in self.frames.pop().unwrap_or_default().names {
            if origin == Origin::Outside && !GLOBALS.contains(&name) {
                self.found.insert(name.to_owned());
            }
        }
    }
    fn inner(&mut self, parameters: impl IntoIterator<Item = &'a str>, walk: impl FnOnce(&mut Self)) {
        let names = parameters.into_iter().map(|name| (name, Origin::Inside)).collect();
        self.frames.push(Frame { names, stores: HashSet::new() });
        walk(self);
        self.leave();
    }

    fn load(&mut self, name: &'a str) {
        if !self.frames.iter().any(|frame| frame.names.contains_key(name)) {
            self.frame().names.insert(name, Origin::Outside);
        }
    }
    fn store(&mut self, name: &'a str) {
        let frame = self.frame();
        frame.stores.insert(name);
        frame.names.entry(name).or_insert(Origin::Inside);
    }
    fn give(&mut self, target: &'a Target) {
        match target {
            Target::Name(name) => self.store(name),
            Target::Field(name, _) => self.load(name),
            Target::Tuple(all) => all.iter().for_each(|target| self.give(target)),
        }
    }

    fn nodes(&mut self, nodes: &'a [Node]) {
        nodes.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &'a Node) {
        match node {
            Node::Text(_) | Node::Foreign => {}
            Node::Output(expr) => self.expr(expr),
            Node::If(branches, otherwise) => self.branches(branches, otherwise),
            Node::For(inside) => self.for_loop(inside),
            Node::Set(target, value) => {
                self.expr(value);
                self.give(target);
            }
            Node::SetBlock(target, filter, body) => {
                self.inner([], |walk| {
                    walk.nodes(body);
                    filter.iter().for_each(|filter| walk.expr(filter));
                });
                self.give(target);
            }
            Node::With(pairs, body) => {
                pairs.iter().for_each(|(_, value)| self.expr(value));
                let names: Vec<&str> = pairs.iter().flat_map(|(target, _)| target.names()).collect();
                self.inner(names, |walk| walk.nodes(body));
            }
            Node::Macro(name, body) => {
                self.store(name);
                self.macro_body(body);
            }
            Node::CallBlock(call, body) => {
                self.expr(call);
                self.macro_body(body);
            }
            Node::Filtered(filter, body) => {
                self.expr(filter);
                self.inner([], |walk| walk.nodes(body));
            }
            Node::Scoped(body) => self.inner([], |walk| walk.nodes(body)),
        }
    }

    /// A name that only some branches set is looked up outside as well.
    fn branches(&mut self, branches: &'a [(Expr, Vec<Node>)], otherwise: &'a [Node]) {
        branches.iter().take(1).for_each(|(condition, _)| self.expr(condition));
        let before = self.frame().clone();
        let mut stored = HashSet::new();
        let mut merged = before.clone();
        for (at, (condition, body)) in branches.iter().enumerate() {
            *self.frame() = before.clone();
            if at > 0 {
                self.expr(condition);
            }
            self.nodes(body);
            merge(&mut merged, self.frame(), &mut stored);
        }
        *self.frame() = before.clone();
        self.nodes(otherwise);
        merge(&mut merged, self.frame(), &mut stored);
        let outer: HashSet<&str> = self.frames[..self.frames.len() - 1].iter().flat_map(|frame| frame.names.keys().copied()).collect();
        for name in stored.difference(&before.stores) {
            if !outer.contains(name) {
                merged.names.insert(name, Origin::Outside);
            }
        }
        *self.frame() = merged;
    }

    fn for_loop(&mut self, inside: &'a For) {
        self.expr(&inside.over);
        let names = inside.target.names();
        if let Some(test) = &inside.test {
            self.inner(names.clone(), |walk| walk.expr(test));
        }
        self.inner(names.into_iter().chain(["loop"]), |walk| walk.nodes(&inside.body));
        self.inner([], |walk| walk.nodes(&inside.otherwise));
    }

    fn macro_body(&mut self, body: &'a MacroBody) {
        let names: Vec<&str> = body.parameters.iter().map(String::as_str).chain(["caller", "varargs", "kwargs"]).collect();
        self.inner(names, |walk| {
            body.defaults.iter().for_each(|value| walk.expr(value));
            walk.nodes(&body.body);
        });
    }

    fn arguments(&mut self, arguments: &'a Arguments) {
        arguments.positional.iter().for_each(|value| self.expr(value));
        arguments.named.iter().for_each(|(_, value)| self.expr(value));
        arguments.rest.iter().chain(&arguments.named_rest).for_each(|value| self.expr(value));
    }

    fn expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::None | Expr::Bool(_) | Expr::Int(_) | Expr::Float(_) | Expr::Text(_) => {}
            Expr::Name(name) => self.load(name),
            Expr::List(all) | Expr::Tuple(all) | Expr::Concat(all) => all.iter().for_each(|one| self.expr(one)),
            Expr::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            Expr::Attribute(value, _) | Expr::Not(value) | Expr::Negative(value) | Expr::Positive(value) => self.expr(value),
            Expr::Item(a, b) | Expr::And(a, b) | Expr::Or(a, b) | Expr::Binary(_, a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Expr::Slice(parts) => parts.iter().flatten().for_each(|part| self.expr(part)),
            Expr::Call(value, arguments) | Expr::Test(value, _, arguments) => {
                self.expr(value);
                self.arguments(arguments);
            }
            Expr::Filter(value, _, arguments) => {
                value.iter().for_each(|value| self.expr(value));
                self.arguments(arguments);
            }
            Expr::Compare(value, parts) => {
                self.expr(value);
                parts.iter().for_each(|(_, part)| self.expr(part));
            }
            Expr::If(condition, value, otherwise) => {
                self.expr(condition);
                self.expr(value);
                otherwise.iter().for_each(|value| self.expr(value));
            }
        }
    }
}

fn merge<'a>(merged: &mut Frame<'a>, branch: &Frame<'a>, stored: &mut HashSet<&'a str>) {
    stored.extend(&branch.stores);
    merged.stores.extend(&branch.stores);
    merged.names.extend(branch.names.iter().map(|(name, origin)| (*name, *origin)));
}
