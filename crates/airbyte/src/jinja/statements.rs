//! Whole templates: text, expressions and statements.

use super::{
    lexer::{Token, tokens},
    names::undeclared,
    parser::{Parsed, Parser},
    syntax::{Expr, For, MacroBody, Node, Target},
};

/// Deeper than any real template.
const DEEPEST: usize = 40;

/// A template, ready to be rendered, and the names that it takes from outside.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(super) body: Vec<Node>,
    pub(super) names: Vec<String>,
}

impl Program {
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let mut parser = Parser::new(tokens(source)?);
        let body = nodes(&mut parser, &[], 0)?;
        match parser.peek() {
            Token::End => {
                let names = undeclared(&body);
                Ok(Self { body, names })
            }
            _ => Err(format!("something is left {}", parser.place())),
        }
    }

    /// The text, when there is nothing but text.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.body.as_slice() {
            [] => Some(""),
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names that a scope must have.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// Nodes up to a statement with one of these names, whose name is left to read.
fn nodes(parser: &mut Parser, ends: &[&str], depth: usize) -> Parsed<Vec<Node>> {
    if depth > DEEPEST {
        return Err("statements are nested too deeply".into());
    }
    let mut nodes = Vec::new();
    loop {
        match parser.peek().clone() {
            Token::Data(text) => {
                parser.next();
                nodes.push(Node::Text(text));
            }
            Token::OutputStart => {
                parser.next();
                nodes.push(Node::Output(parser.tuple(false, true, &[])?));
                end_of(parser, Token::OutputEnd)?;
            }
            Token::BlockStart => {
                parser.next();
                if ends.iter().any(|end| parser.is_name(end)) {
                    return Ok(nodes);
                }
                nodes.push(statement(parser, depth)?);
            }
            _ if ends.is_empty() => return Ok(nodes),
            _ => return Err(format!("{:?} is missing", ends[ends.len() - 1])),
        }
    }
}

fn end_of(parser: &mut Parser, end: Token) -> Parsed<()> {
    if *parser.peek() != end {
        return Err(format!("a tag does not end where it should: {}", parser.place()));
    }
    parser.next();
    Ok(())
}

/// A body and its closing statement.
fn body(parser: &mut Parser, end: &str, depth: usize) -> Parsed<Vec<Node>> {
    end_of(parser, Token::BlockEnd)?;
    let nodes = nodes(parser, &[end], depth + 1)?;
    parser.next();
    Ok(nodes)
}

fn statement(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    let name = parser.expect_name()?;
    let node = match name.as_str() {
        "if" => conditions(parser, depth)?,
        "for" => Node::For(Box::new(for_loop(parser, depth)?)),
        "set" => set(parser, depth)?,
        "with" => with(parser, depth)?,
        "macro" => {
            let name = parser.expect_name()?;
            let body = macro_body(parser, name.clone(), "endmacro", depth)?;
            Node::Macro(name, body)
        }
        "call" => call(parser, depth)?,
        "filter" => {
            let mut chain = parser.filter(None)?;
            while parser.eat_sign("|") {
                chain = parser.filter(Some(chain))?;
            }
            Node::Filtered(chain, body(parser, "endfilter", depth)?)
        }
        "block" => block(parser, depth)?,
        "autoescape" => {
            parser.expression()?;
            Node::Scoped(body(parser, "endautoescape", depth)?)
        }
        "extends" | "include" | "import" | "from" => {
            while !matches!(parser.peek(), Token::BlockEnd | Token::End) {
                parser.next();
            }
            Node::Foreign
        }
        "print" => Node::Output(parser.tuple(false, true, &[])?),
        _ => return Err(format!("there is no statement {name:?}")),
    };
    end_of(parser, Token::BlockEnd)?;
    Ok(node)
}

fn conditions(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    let mut branches = Vec::new();
    loop {
        let condition = parser.tuple(false, false, &[])?;
        end_of(parser, Token::BlockEnd)?;
        let inside = nodes(parser, &["elif", "else", "endif"], depth + 1)?;
        branches.push((condition, inside));
        if parser.eat_name("elif") {
            continue;
        }
        let otherwise = if parser.eat_name("else") { body(parser, "endif", depth)? } else { Vec::new() };
        if otherwise.is_empty() {
            parser.eat_name("endif");
        }
        return Ok(Node::If(branches, otherwise));
    }
}

fn for_loop(parser: &mut Parser, depth: usize) -> Parsed<For> {
    let target = parser.target(true, false, &["in"])?;
    if !parser.eat_name("in") {
        return Err(format!("\"in\" is expected {}", parser.place()));
    }
    let over = parser.tuple(false, false, &["recursive"])?;
    let test = if parser.eat_name("if") { Some(parser.expression()?) } else { None };
    let recursive = parser.eat_name("recursive");
    end_of(parser, Token::BlockEnd)?;
    let inside = nodes(parser, &["endfor", "else"], depth + 1)?;
    let otherwise = if parser.eat_name("else") {
        body(parser, "endfor", depth)?
    } else {
        parser.next();
        Vec::new()
    };
    Ok(For { target, over, test, recursive, body: inside, otherwise })
}

fn set(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    let target = parser.target(true, true, &[])?;
    if parser.eat_sign("=") {
        return Ok(Node::Set(target, parser.tuple(false, true, &[])?));
    }
    let mut filter = None;
    while parser.eat_sign("|") {
        filter = Some(parser.filter(filter)?);
    }
    Ok(Node::SetBlock(target, filter, body(parser, "endset", depth)?))
}

fn with(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    let mut pairs = Vec::new();
    while *parser.peek() != Token::BlockEnd {
        if !pairs.is_empty() {
            parser.expect_sign(",")?;
        }
        let target = parser.target(true, false, &[])?;
        parser.expect_sign("=")?;
        pairs.push((target, parser.expression()?));
    }
    Ok(Node::With(pairs, body(parser, "endwith", depth)?))
}

fn macro_body(parser: &mut Parser, name: String, end: &str, depth: usize) -> Parsed<MacroBody> {
    let mut parameters = Vec::new();
    let mut defaults = Vec::new();
    if parser.eat_sign("(") {
        while !parser.eat_sign(")") {
            if !parameters.is_empty() {
                parser.expect_sign(",")?;
            }
            parameters.push(parser.expect_name()?);
            if parser.eat_sign("=") {
                defaults.push(parser.expression()?);
            } else if !defaults.is_empty() {
                return Err("a parameter without a default follows one with a default".into());
            }
        }
    } else if end == "endmacro" {
        return Err(format!("\"(\" is expected {}", parser.place()));
    }
    let body = body(parser, end, depth)?;
    let uses = |name: &str| undeclared(&body).iter().any(|found| found == name);
    let (uses_rest, uses_named_rest) = (uses("varargs"), uses("kwargs"));
    Ok(MacroBody { name, parameters, defaults, body, uses_rest, uses_named_rest })
}

fn call(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    // The caller's parameters stand before the call.
    let mut parameters = Vec::new();
    if parser.eat_sign("(") {
        while !parser.eat_sign(")") {
            if !parameters.is_empty() {
                parser.expect_sign(",")?;
            }
            parameters.push(parser.expect_name()?);
        }
    }
    let call = parser.expression()?;
    if !matches!(call, Expr::Call(..)) {
        return Err("a call is expected".into());
    }
    let inside = body(parser, "endcall", depth)?;
    let caller =
        MacroBody { name: "caller".into(), parameters, defaults: Vec::new(), body: inside, uses_rest: false, uses_named_rest: false };
    Ok(Node::CallBlock(call, caller))
}

fn block(parser: &mut Parser, depth: usize) -> Parsed<Node> {
    let name = parser.expect_name()?;
    parser.eat_name("scoped");
    parser.eat_name("required");
    let inside = body(parser, "endblock", depth)?;
    parser.eat_name(&name);
    Ok(Node::Scoped(inside))
}

impl Target {
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Name(name) | Self::Field(name, _) => vec![name],
            Self::Tuple(all) => all.iter().flat_map(Self::names).collect(),
        }
    }
}
