//! Rendering.

use std::{cell::Cell, cell::RefCell, rc::Rc};

use super::{
    access::{attribute, contains, item, list_of, slice},
    arguments::Given,
    arithmetic, builtins, filters, methods,
    names::GLOBALS,
    order::equal,
    show::show,
    statements::Program,
    syntax::{Arguments, Comparison, Expr, For, MacroBody, Node, Target},
    tests,
    value::{Loop, Macro, Names, Outcome, Py, Run, other, type_error},
};

/// Macros and recursive loops within each other.
const DEEPEST: usize = 24;

/// The text that a template gives.
pub(crate) fn render<'a>(program: &'a Program, names: &dyn Names<'a>, now: jiff::Timestamp) -> Outcome<String> {
    let run = Run::new(now);
    let mut eval = Eval { run: &run, names, scopes: vec![Vec::new()], depth: 0 };
    let mut out = String::new();
    eval.nodes(&program.body, &mut out)?;
    Ok(out)
}

struct Eval<'r, 'a> {
    run: &'r Run,
    names: &'r dyn Names<'a>,
    scopes: Vec<Vec<(&'a str, Py<'a>)>>,
    depth: usize,
}

impl<'a> Eval<'_, 'a> {
    fn nodes(&mut self, nodes: &'a [Node], out: &mut String) -> Outcome<()> {
        nodes.iter().try_for_each(|node| self.node(node, out))
    }

    fn node(&mut self, node: &'a Node, out: &mut String) -> Outcome<()> {
        self.run.step(1)?;
        match node {
            Node::Text(text) => {
                self.run.bytes(text.len())?;
                out.push_str(text);
            }
            Node::Output(expr) => {
                let value = self.expr(expr)?;
                show(self.run, out, &value)?;
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.expr(condition)?.is_true()? {
                        return self.nodes(body, out);
                    }
                }
                return self.nodes(otherwise, out);
            }
            Node::For(inside) => {
                let over = self.expr(&inside.over)?;
                return self.for_loop(inside, &over, 0, out);
            }
            Node::Set(target, value) => {
                let value = self.expr(value)?;
                return self.give(target, value);
            }
            Node::SetBlock(target, filter, body) => {
                let text = self.captured(body)?;
                let value = self.filtered_text(filter.as_ref(), text)?;
                return self.give(target, value);
            }
            Node::With(pairs, body) => {
                let values = pairs.iter().map(|(_, value)| self.expr(value)).collect::<Outcome<Vec<_>>>()?;
                return self.inner(|eval| {
                    pairs.iter().zip(values).try_for_each(|((target, _), value)| eval.give(target, value))?;
                    eval.nodes(body, out)
                });
            }
            Node::Macro(name, body) => {
                let made = self.made_macro(body);
                self.set(name, made);
            }
            Node::CallBlock(call, body) => return self.call_block(call, body, out),
            Node::Filtered(filter, body) => {
                let text = self.captured(body)?;
                // Jinja joins this as it is, with no text made of it.
                match self.filtered_text(Some(filter), text)? {
                    value @ Py::Text(_) => show(self.run, out, &value)?,
                    value => return type_error(format!("sequence item 0: expected str instance, {} found", value.kind())),
                }
            }
            Node::Scoped(body) => return self.inner(|eval| eval.nodes(body, out)),
            Node::Foreign => return type_error("no loader for this environment specified"),
        }
        Ok(())
    }

    fn inner<T>(&mut self, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.scopes.push(Vec::new());
        let result = body(self);
        self.scopes.pop();
        result
    }

    fn captured(&mut self, body: &'a [Node]) -> Outcome<String> {
        let mut out = String::new();
        self.inner(|eval| eval.nodes(body, &mut out))?;
        Ok(out)
    }

    fn filtered_text(&mut self, filter: Option<&'a Expr>, text: String) -> Outcome<Py<'a>> {
        match filter {
            None => Ok(Py::text(text)),
            Some(filter) => self.chain(filter, Py::text(text)),
        }
    }

    /// Filters whose innermost one has no value of its own.
    fn chain(&mut self, filter: &'a Expr, value: Py<'a>) -> Outcome<Py<'a>> {
        let Expr::Filter(inside, name, arguments) = filter else { return self.expr(filter) };
        let value = match inside {
            Some(inside) => self.chain(inside, value)?,
            None => value,
        };
        let given = self.arguments(arguments)?;
        filters::apply(self.run, name, &value, given)
    }

    fn for_loop(&mut self, inside: &'a For, over: &Py<'a>, depth: usize, out: &mut String) -> Outcome<()> {
        let mut items = list_of(self.run, over)?;
        if let Some(test) = &inside.test {
            let mut kept = Vec::new();
            for item in items {
                let fits = self.inner(|eval| {
                    eval.give(&inside.target, item.clone())?;
                    eval.expr(test)?.is_true()
                })?;
                if fits {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.inner(|eval| eval.nodes(&inside.otherwise, out));
        }
        let recursive = inside.recursive.then_some(inside);
        let state = Rc::new(Loop { items, at: Cell::new(0), depth, recursive, changed: RefCell::new(None) });
        for at in 0..state.items.len() {
            state.at.set(at);
            self.run.step(1)?;
            self.inner(|eval| {
                eval.set("loop", Py::Loop(state.clone()));
                eval.give(&inside.target, state.items[at].clone())?;
                eval.nodes(&inside.body, out)
            })?;
        }
        Ok(())
    }

    fn set(&mut self, name: &'a str, value: Py<'a>) {
        let Some(scope) = self.scopes.last_mut() else { return };
        match scope.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => scope.push((name, value)),
        }
    }

    fn give(&mut self, target: &'a Target, value: Py<'a>) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Field(object, field) => match self.name(object) {
                Py::Namespace(fields) => {
                    let mut fields = fields.borrow_mut();
                    match fields.iter_mut().find(|(known, _)| known == field) {
                        Some(entry) => entry.1 = value,
                        None => fields.push((field.clone(), value)),
                    }
                }
                _ => return other("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let values = list_of(self.run, &value)?;
                if values.len() != targets.len() {
                    return other("the number of values to unpack is another one");
                }
                targets.iter().zip(values).try_for_each(|(target, value)| self.give(target, value))?;
            }
        }
        Ok(())
    }

    fn name(&self, name: &str) -> Py<'a> {
        for scope in self.scopes.iter().rev() {
            if let Some((_, value)) = scope.iter().find(|(known, _)| *known == name) {
                return value.clone();
            }
        }
        if let Some(value) = self.names.get(name) {
            return value;
        }
        match GLOBALS.iter().find(|known| **known == name) {
            Some(known) => Py::Builtin(known),
            None => Py::UNDEFINED,
        }
    }

    fn made_macro(&self, body: &'a MacroBody) -> Py<'a> {
        let scope = self.scopes.iter().flatten().map(|(name, value)| (*name, value.clone())).collect();
        Py::Macro(Rc::new(Macro { body, scope }))
    }

    fn call_block(&mut self, call: &'a Expr, body: &'a MacroBody, out: &mut String) -> Outcome<()> {
        let Expr::Call(callee, arguments) = call else { return type_error("a call is expected") };
        let callee = self.expr(callee)?;
        let mut given = self.arguments(arguments)?;
        given.named.push(("caller".into(), self.made_macro(body)));
        let value = self.called(&callee, given)?;
        show(self.run, out, &value)
    }

    fn call_macro(&mut self, body: &Rc<Macro<'a>>, mut given: Given<'a>) -> Outcome<Py<'a>> {
        let mut scope: Vec<(&'a str, Py<'a>)> = body.scope.clone();
        scope.push((body.body.name.as_str(), Py::Macro(body.clone())));
        let mut rest = given.positional.split_off(given.positional.len().min(body.body.parameters.len())).into_iter().peekable();
        if rest.peek().is_some() && !body.body.uses_rest {
            return type_error("the macro takes fewer arguments");
        }
        let caller = given.named.iter().position(|(name, _)| name == "caller").map(|at| given.named.remove(at).1);
        let mut places: Vec<Option<Py<'a>>> = given.positional.into_iter().map(Some).collect();
        places.resize(body.body.parameters.len(), None);
        let mut more = Vec::new();
        for (name, value) in given.named {
            match body.body.parameters.iter().position(|known| *known == name) {
                Some(at) => places[at] = Some(value),
                None if body.body.uses_named_rest => more.push((Py::text(name), value)),
                None => return type_error(format!("the macro takes no keyword argument '{name}'")),
            }
        }
        let shown = std::mem::replace(&mut self.scopes, vec![scope, Vec::new()]);
        let result = self.deeper(|eval| eval.macro_text(body.body, places, caller, [Py::tuple(rest.collect()), Py::dict(more)]));
        self.scopes = shown;
        result
    }

    fn macro_text(
        &mut self,
        body: &'a MacroBody,
        places: Vec<Option<Py<'a>>>,
        caller: Option<Py<'a>>,
        rests: [Py<'a>; 2],
    ) -> Outcome<Py<'a>> {
        let without_default = body.parameters.len() - body.defaults.len();
        for (at, (name, value)) in body.parameters.iter().zip(places).enumerate() {
            let value = match value {
                Some(value) => value,
                None if at >= without_default => self.expr(&body.defaults[at - without_default])?,
                None => Py::UNDEFINED,
            };
            self.set(name, value);
        }
        let [rest, named_rest] = rests;
        self.set("varargs", rest);
        self.set("kwargs", named_rest);
        self.set("caller", caller.unwrap_or(Py::UNDEFINED));
        let mut out = String::new();
        self.nodes(&body.body, &mut out)?;
        Ok(Py::text(out))
    }

    fn deeper<T>(&mut self, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return other("macros or loops call each other too deeply");
        }
        let result = body(self);
        self.depth -= 1;
        result
    }

    fn expr(&mut self, expr: &'a Expr) -> Outcome<Py<'a>> {
        self.run.step(1)?;
        Ok(match expr {
            Expr::None => Py::None,
            Expr::Bool(b) => Py::Bool(*b),
            Expr::Int(n) => Py::Int(*n),
            Expr::Float(f) => Py::Float(*f),
            Expr::Text(text) => Py::Text(super::value::Text::Borrowed(text)),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => Py::list(self.all(items)?),
            Expr::Tuple(items) => Py::tuple(self.all(items)?),
            Expr::Dict(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| Ok((self.expr(key)?, self.expr(value)?))).collect::<Outcome<Vec<_>>>()?;
                arithmetic::dict(self.run, pairs)?
            }
            Expr::Attribute(value, name) => attribute(self.run, &self.expr(value)?, name)?,
            Expr::Item(value, key) => self.subscript(value, key)?,
            Expr::Slice(_) => Py::UNDEFINED,
            Expr::Call(callee, arguments) => {
                let callee = self.expr(callee)?;
                let given = self.arguments(arguments)?;
                self.called(&callee, given)?
            }
            Expr::Filter(..) => self.filter(expr)?,
            Expr::Test(value, name, arguments) => {
                let value = self.expr(value)?;
                let given = self.arguments(arguments)?;
                Py::Bool(tests::is(self.run, name, &value, given, filters::NAMES)?)
            }
            Expr::Not(value) => Py::Bool(!self.expr(value)?.is_true()?),
            Expr::And(a, b) => {
                let a = self.expr(a)?;
                if a.is_true()? { self.expr(b)? } else { a }
            }
            Expr::Or(a, b) => {
                let a = self.expr(a)?;
                if a.is_true()? { a } else { self.expr(b)? }
            }
            Expr::Compare(first, parts) => self.compare(first, parts)?,
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.expr(a)?, self.expr(b)?);
                arithmetic::binary(self.run, *operator, &a, &b)?
            }
            Expr::Negative(value) => arithmetic::negative(&self.expr(value)?)?,
            Expr::Positive(value) => arithmetic::positive(&self.expr(value)?)?,
            Expr::Concat(parts) => {
                let parts = self.all(parts)?;
                arithmetic::concat(self.run, &parts)?
            }
            Expr::If(condition, value, otherwise) => match (self.expr(condition)?.is_true()?, otherwise) {
                (true, _) => self.expr(value)?,
                (false, Some(otherwise)) => self.expr(otherwise)?,
                (false, None) => Py::UNDEFINED,
            },
        })
    }

    fn all(&mut self, exprs: &'a [Expr]) -> Outcome<Vec<Py<'a>>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn subscript(&mut self, value: &'a Expr, key: &'a Expr) -> Outcome<Py<'a>> {
        let value = self.expr(value)?;
        if let Expr::Slice(parts) = key {
            let mut bounds = [None, None, None];
            for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                *bound = part.as_ref().map(|part| self.expr(part)).transpose()?;
            }
            return slice(self.run, &value, bounds);
        }
        let key = self.expr(key)?;
        item(self.run, &value, &key)
    }

    fn filter(&mut self, expr: &'a Expr) -> Outcome<Py<'a>> {
        let Expr::Filter(value, name, arguments) = expr else { return Ok(Py::UNDEFINED) };
        let value = match value {
            Some(value) => self.expr(value)?,
            None => Py::UNDEFINED,
        };
        let given = self.arguments(arguments)?;
        filters::apply(self.run, name, &value, given)
    }

    fn arguments(&mut self, arguments: &'a Arguments) -> Outcome<Given<'a>> {
        let mut given = Given { positional: self.all(&arguments.positional)?, named: Vec::new() };
        for (name, value) in &arguments.named {
            given.named.push((name.clone(), self.expr(value)?));
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.expr(rest)?;
            given.positional.extend(list_of(self.run, &rest)?);
        }
        if let Some(rest) = &arguments.named_rest {
            let rest = self.expr(rest)?;
            let Some(pairs) = super::access::pairs(&rest) else { return type_error("argument after ** must be a mapping") };
            for (key, value) in pairs {
                given.named.push((super::arguments::text(&key)?, value));
            }
        }
        Ok(given)
    }

    fn called(&mut self, callee: &Py<'a>, given: Given<'a>) -> Outcome<Py<'a>> {
        match callee.defined()? {
            Py::Method(object, name) => methods::call(self.run, object, name, given),
            Py::Builtin(name) => builtins::call(self.run, name, given),
            Py::Macro(body) => self.call_macro(body, given),
            Py::Joiner(joiner) => given.none().map(|()| builtins::join(joiner)),
            Py::Loop(state) => {
                let Some(inside) = state.recursive else {
                    return type_error("The loop must have the 'recursive' marker to be called recursively.");
                };
                let over = given.between(1, 1)?.remove(0);
                let depth = state.depth + 1;
                let mut out = String::new();
                self.deeper(|eval| eval.for_loop(inside, &over, depth, &mut out))?;
                Ok(Py::text(out))
            }
            other => type_error(format!("'{}' object is not callable", other.kind())),
        }
    }

    fn compare(&mut self, first: &'a Expr, parts: &'a [(Comparison, Expr)]) -> Outcome<Py<'a>> {
        let mut left = self.expr(first)?;
        for (comparison, right) in parts {
            let right = self.expr(right)?;
            let holds = match comparison {
                Comparison::Equal => equal(self.run, &left, &right)?,
                Comparison::NotEqual => !equal(self.run, &left, &right)?,
                Comparison::Less => tests::compared(self.run, &left, &right, "<")?,
                Comparison::LessEqual => tests::compared(self.run, &left, &right, "<=")?,
                Comparison::Greater => tests::compared(self.run, &left, &right, ">")?,
                Comparison::GreaterEqual => tests::compared(self.run, &left, &right, ">=")?,
                Comparison::In => contains(self.run, &right, &left)?,
                Comparison::NotIn => !contains(self.run, &right, &left)?,
            };
            if !holds {
                return Ok(Py::Bool(false));
            }
            left = right;
        }
        Ok(Py::Bool(true))
    }
}
