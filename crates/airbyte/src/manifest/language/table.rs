//! Reads the table of components: `Name: field=shape, field!=shape`. `!` behind a name: it must be there; behind an object: nothing else
//! may be. `?` behind a component: its type may go without saying. `[a]` is a list, `[a]+2` one of at least two, `[a]u` one without doubles;
//! `{*=a}` an object of `a`; `a|b` a choice.

use std::collections::HashMap;

use super::{Field, Least, Shape};

pub(super) fn parsed(text: &'static str) -> HashMap<&'static str, Shape> {
    let mut reader = Reader { text };
    let mut table = HashMap::new();
    while !reader.rest().is_empty() {
        let (name, shape) = reader.definition();
        table.insert(name, shape);
    }
    table
}

struct Reader {
    text: &'static str,
}

impl Reader {
    fn rest(&mut self) -> &'static str {
        self.text = self.text.trim_start();
        self.text
    }
    fn takes(&mut self, token: &str) -> bool {
        match self.rest().strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }
    fn word(&mut self) -> &'static str {
        let text = self.rest();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        self.text = &text[end..];
        &text[..end]
    }

    /// A definition begins a line; what continues one is indented.
    fn definition(&mut self) -> (&'static str, Shape) {
        let name = self.word();
        let is_closed = self.text.starts_with('!') && self.takes("!");
        let is_silent = self.text.starts_with('?') && self.takes("?");
        let is_plain = self.text.starts_with(" =");
        if is_plain && self.takes("=") {
            return (name, self.shape());
        }
        let mut fields = vec![Field { name: "type", is_required: !is_silent, shape: Shape::Word(name) }];
        if self.text.starts_with(':') && self.takes(":") {
            fields.extend(self.fields());
        }
        (name, Shape::Fields { fields, is_closed })
    }

    fn fields(&mut self) -> Vec<Field> {
        let mut fields = Vec::new();
        loop {
            let name = self.word();
            let is_required = self.takes("!");
            let shape = if self.takes("=") { self.shape() } else { Shape::Any };
            fields.push(Field { name, is_required, shape });
            if !self.takes(",") {
                return fields;
            }
        }
    }

    fn shape(&mut self) -> Shape {
        let mut shapes = vec![self.single()];
        while self.text.starts_with('|') && self.takes("|") {
            shapes.push(self.single());
        }
        if shapes.len() == 1 { shapes.remove(0) } else { Shape::OneOf(shapes) }
    }

    fn single(&mut self) -> Shape {
        if self.takes("[") {
            return self.items();
        }
        if self.takes("{*=") {
            let of = Box::new(self.shape());
            self.takes("}");
            return Shape::Each(of);
        }
        if self.takes("{") {
            let fields = self.fields();
            self.takes("}");
            return Shape::Fields { fields, is_closed: self.text.starts_with('!') && self.takes("!") };
        }
        if self.takes("'") {
            let (word, rest) = self.text.split_once('\'').expect("every quote of the table is closed");
            self.text = rest;
            return Shape::Word(word);
        }
        match self.word() {
            "any" => Shape::Any,
            "str" => Shape::Text,
            "int" => Shape::Whole(self.least()),
            "num" => Shape::Number(self.least()),
            "bool" => Shape::Flag,
            "obj" => Shape::Object,
            "list" => Shape::List,
            "null" => Shape::Null,
            name => Shape::Named(name),
        }
    }

    fn items(&mut self) -> Shape {
        let of = Box::new(self.shape());
        self.takes("]");
        let least = if self.text.starts_with('+') && self.takes("+") { self.number() as usize } else { 0 };
        Shape::Items { of, least, unique: self.text.starts_with('u') && self.takes("u") }
    }

    fn least(&mut self) -> Least {
        if self.text.starts_with(">=") && self.takes(">=") {
            return Least::At(self.number());
        }
        if self.text.starts_with('>') && self.takes(">") {
            return Least::Above(self.number());
        }
        Least::None
    }

    fn number(&mut self) -> f64 {
        let text = self.rest();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        self.text = &text[end..];
        text[..end].parse().unwrap_or_default()
    }
}
