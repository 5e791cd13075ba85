//! Expressions.

use super::{
    lexer::Token,
    syntax::{Arguments, Comparison, Expr, Operator, Target},
};

/// Deeper than any real expression; the stack holds it.
const DEEPEST: usize = 60;
const LONGEST: usize = 250;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    pub(super) depth: usize,
}

pub(super) type Parsed<T> = Result<T, String>;

/// Each link of a chain is one level of the tree.
fn short(length: &mut usize) -> Parsed<()> {
    *length += 1;
    if *length > LONGEST { Err("an expression is too long".into()) } else { Ok(()) }
}

impl Parser {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }
    fn peek_next(&self) -> &Token {
        self.tokens.get(self.at + 1).unwrap_or(&Token::End)
    }
    pub(super) fn next(&mut self) -> Token {
        let token = self.tokens.get(self.at).cloned().unwrap_or(Token::End);
        self.at += 1;
        token
    }
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }
    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if found == name)
    }
    pub(super) fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }
    pub(super) fn eat_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }
    pub(super) fn expect_sign(&mut self, sign: &str) -> Parsed<()> {
        if self.eat_sign(sign) { Ok(()) } else { Err(format!("{sign:?} is expected {}", self.place())) }
    }
    pub(super) fn expect_name(&mut self) -> Parsed<String> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(format!("a name is expected {}", self.place())),
        }
    }
    pub(super) fn place(&self) -> String {
        match self.peek() {
            Token::End => "at the end of the template".into(),
            Token::Name(name) => format!("before {name:?}"),
            Token::Sign(sign) => format!("before {sign:?}"),
            Token::OutputEnd => "before the end of an expression".into(),
            Token::BlockEnd => "before the end of a statement".into(),
            _ => "before a value or a text".into(),
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("an expression is nested too deeply".into());
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Parsed<Expr> {
        let mut value = self.or()?;
        let mut length = 0;
        while self.eat_name("if") {
            short(&mut length)?;
            let condition = self.or()?;
            let otherwise = if self.eat_name("else") { Some(Box::new(self.deeper(Self::conditional)?)) } else { None };
            value = Expr::If(Box::new(condition), Box::new(value), otherwise);
        }
        Ok(value)
    }

    pub(super) fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        let mut length = 0;
        while self.eat_name("or") {
            short(&mut length)?;
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        let mut length = 0;
        while self.eat_name("and") {
            short(&mut length)?;
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        if self.eat_name("not") {
            return self.deeper(Self::not).map(|inner| Expr::Not(Box::new(inner)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Parsed<Expr> {
        let left = self.sum()?;
        let mut parts = Vec::new();
        while let Some(comparison) = self.comparison() {
            parts.push((comparison, self.sum()?));
        }
        Ok(if parts.is_empty() { left } else { Expr::Compare(Box::new(left), parts) })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let found = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterEqual,
            Token::Name(name) if name == "in" => Comparison::In,
            Token::Name(name) if name == "not" && matches!(self.peek_next(), Token::Name(next) if next == "in") => {
                self.at += 1;
                Comparison::NotIn
            }
            _ => return None,
        };
        self.at += 1;
        Some(found)
    }

    fn binary(&mut self, operators: &[(&str, Operator)], part: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        let mut left = part(self)?;
        let mut length = 0;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.is_sign(sign)) {
            short(&mut length)?;
            self.at += 1;
            left = Expr::Binary(*operator, Box::new(left), Box::new(part(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.binary(&[("+", Operator::Add), ("-", Operator::Sub)], Self::concat)
    }

    fn concat(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is_sign("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.eat_sign("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Parsed<Expr> {
        let operators = [("*", Operator::Mul), ("/", Operator::Div), ("//", Operator::FloorDiv), ("%", Operator::Mod)];
        self.binary(&operators, Self::power)
    }

    fn power(&mut self) -> Parsed<Expr> {
        self.binary(&[("**", Operator::Pow)], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filters: bool) -> Parsed<Expr> {
        let value = if self.eat_sign("-") {
            Expr::Negative(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else if self.eat_sign("+") {
            Expr::Positive(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if with_filters { self.filtered(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let place = self.place();
        Ok(match self.next() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => Expr::Name(name),
            },
            Token::Text(mut text) => {
                while let Token::Text(more) = self.peek() {
                    text += more;
                    self.at += 1;
                }
                Expr::Text(text)
            }
            Token::Int(value) => Expr::Int(value),
            Token::Float(value) => Expr::Float(value),
            Token::Sign("(") => {
                let inside = self.tuple(true, true, &[])?;
                self.expect_sign(")")?;
                inside
            }
            Token::Sign("[") => Expr::List(self.items("]")?),
            Token::Sign("{") => self.dict()?,
            _ => {
                self.at -= 1;
                return Err(format!("a value is expected {place}"));
            }
        })
    }

    fn items(&mut self, end: &str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.eat_sign(end) {
            if !items.is_empty() {
                self.expect_sign(",")?;
                if self.eat_sign(end) {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Parsed<Expr> {
        let mut pairs = Vec::new();
        while !self.eat_sign("}") {
            if !pairs.is_empty() {
                self.expect_sign(",")?;
                if self.eat_sign("}") {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect_sign(":")?;
            pairs.push((key, self.expression()?));
        }
        Ok(Expr::Dict(pairs))
    }

    /// Expressions with commas between them, or one expression. `ends` are names that stop it.
    pub(super) fn tuple(&mut self, in_parentheses: bool, with_conditions: bool, ends: &[&str]) -> Parsed<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_sign(",")?;
            }
            if self.is_tuple_end(ends) {
                break;
            }
            items.push(if with_conditions { self.expression()? } else { self.deeper(Self::or)? });
            if !self.is_sign(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            None if !in_parentheses => Err(format!("a value is expected {}", self.place())),
            last => {
                items.extend(last);
                Ok(Expr::Tuple(items))
            }
        }
    }

    fn is_tuple_end(&self, ends: &[&str]) -> bool {
        matches!(self.peek(), Token::OutputEnd | Token::BlockEnd | Token::End)
            || self.is_sign(")")
            || ends.iter().any(|name| self.is_name(name))
    }

    pub(super) fn postfix(&mut self, mut value: Expr) -> Parsed<Expr> {
        let mut length = 0;
        loop {
            value = if self.eat_sign(".") {
                self.attribute(value)?
            } else if self.eat_sign("[") {
                self.subscript(value)?
            } else if self.is_sign("(") {
                Expr::Call(Box::new(value), self.arguments()?)
            } else {
                return Ok(value);
            };
            short(&mut length)?;
        }
    }

    fn attribute(&mut self, value: Expr) -> Parsed<Expr> {
        match self.next() {
            Token::Name(name) => Ok(Expr::Attribute(Box::new(value), name)),
            Token::Int(at) => Ok(Expr::Item(Box::new(value), Box::new(Expr::Int(at)))),
            _ => Err("a name is expected behind a dot".into()),
        }
    }

    fn subscript(&mut self, value: Expr) -> Parsed<Expr> {
        let mut parts = Vec::new();
        while !self.eat_sign("]") {
            if !parts.is_empty() {
                self.expect_sign(",")?;
            }
            parts.push(self.subscribed()?);
        }
        let part = match parts.len() {
            1 => parts.remove(0),
            _ => Expr::Tuple(parts),
        };
        Ok(Expr::Item(Box::new(value), Box::new(part)))
    }

    fn subscribed(&mut self) -> Parsed<Expr> {
        let mut parts = [None, None, None];
        if !self.is_sign(":") {
            let first = self.expression()?;
            if !self.is_sign(":") {
                return Ok(first);
            }
            parts[0] = Some(first);
        }
        self.expect_sign(":")?;
        for part in &mut parts[1..] {
            if !self.is_sign(":") && !self.is_sign("]") && !self.is_sign(",") {
                *part = Some(self.expression()?);
            }
            if !self.eat_sign(":") {
                break;
            }
        }
        Ok(Expr::Slice(Box::new(parts)))
    }

    pub(super) fn filtered(&mut self, mut value: Expr) -> Parsed<Expr> {
        let mut length = 0;
        loop {
            value = if self.eat_sign("|") {
                self.filter(Some(value))?
            } else if self.eat_name("is") {
                self.test(value)?
            } else if self.is_sign("(") {
                Expr::Call(Box::new(value), self.arguments()?)
            } else {
                return Ok(value);
            };
            short(&mut length)?;
        }
    }

    fn dotted(&mut self) -> Parsed<String> {
        let mut name = self.expect_name()?;
        while self.eat_sign(".") {
            name = format!("{name}.{}", self.expect_name()?);
        }
        Ok(name)
    }

    /// One filter, its sign already read.
    pub(super) fn filter(&mut self, value: Option<Expr>) -> Parsed<Expr> {
        let name = self.dotted()?;
        let arguments = if self.is_sign("(") { self.arguments()? } else { Arguments::default() };
        Ok(Expr::Filter(value.map(Box::new), name, arguments))
    }

    fn test(&mut self, value: Expr) -> Parsed<Expr> {
        let negated = self.eat_name("not");
        let name = self.dotted()?;
        let arguments = if self.is_sign("(") {
            self.arguments()?
        } else if self.begins_argument()? {
            let argument = self.primary()?;
            Arguments { positional: vec![self.postfix(argument)?], ..Arguments::default() }
        } else {
            Arguments::default()
        };
        let test = Expr::Test(Box::new(value), name, arguments);
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }

    fn begins_argument(&self) -> Parsed<bool> {
        Ok(match self.peek() {
            Token::Name(name) if matches!(name.as_str(), "else" | "or" | "and") => false,
            Token::Name(name) if name == "is" => return Err("two tests follow each other without and".into()),
            Token::Name(_) | Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Sign("(" | "[" | "{") => true,
            _ => false,
        })
    }

    pub(super) fn arguments(&mut self) -> Parsed<Arguments> {
        self.expect_sign("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.eat_sign(")") {
            if !first {
                self.expect_sign(",")?;
                if self.eat_sign(")") {
                    break;
                }
            }
            first = false;
            self.argument(&mut arguments)?;
        }
        Ok(arguments)
    }

    fn argument(&mut self, arguments: &mut Arguments) -> Parsed<()> {
        let wrong = || Err("the arguments of a call are in a wrong order".into());
        if self.eat_sign("*") {
            if arguments.rest.is_some() || arguments.named_rest.is_some() {
                return wrong();
            }
            arguments.rest = Some(Box::new(self.expression()?));
        } else if self.eat_sign("**") {
            if arguments.named_rest.is_some() {
                return wrong();
            }
            arguments.named_rest = Some(Box::new(self.expression()?));
        } else if let (Token::Name(name), Token::Sign("=")) = (self.peek().clone(), self.peek_next()) {
            if arguments.named_rest.is_some() {
                return wrong();
            }
            self.at += 2;
            arguments.named.push((name, self.expression()?));
        } else if arguments.rest.is_some() || arguments.named_rest.is_some() || !arguments.named.is_empty() {
            return wrong();
        } else {
            arguments.positional.push(self.expression()?);
        }
        Ok(())
    }

    /// What stands left of `=` or `in`.
    pub(super) fn target(&mut self, with_tuples: bool, with_fields: bool, ends: &[&str]) -> Parsed<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if with_tuples && self.is_tuple_end(ends) && !targets.is_empty() {
                break;
            }
            targets.push(self.one_target(with_tuples, with_fields)?);
            if !with_tuples || !self.eat_sign(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn one_target(&mut self, with_tuples: bool, with_fields: bool) -> Parsed<Target> {
        if with_tuples && self.eat_sign("(") {
            let inside = self.deeper(|parser| parser.target(true, with_fields, &[]))?;
            self.expect_sign(")")?;
            return Ok(inside);
        }
        let name = self.expect_name()?;
        if matches!(name.as_str(), "true" | "false" | "none" | "True" | "False" | "None") {
            return Err("a constant cannot be given a value".into());
        }
        if with_fields && self.eat_sign(".") {
            return Ok(Target::Field(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }
}
