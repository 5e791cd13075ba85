//! The tree of a template.

pub(crate) type Name = String;

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Name),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Arguments),
    Filter(Option<Box<Expr>>, Name, Arguments),
    Test(Box<Expr>, Name, Arguments),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Concat(Vec<Expr>),
    /// Condition, value, otherwise.
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Name, Expr)>,
    pub(super) rest: Option<Box<Expr>>,
    pub(super) named_rest: Option<Box<Expr>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

/// What a value is given to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    Field(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Output(Expr),
    If(Vec<(Expr, Vec<Node>)>, Vec<Node>),
    For(Box<For>),
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Vec<Node>),
    With(Vec<(Target, Expr)>, Vec<Node>),
    Macro(Name, MacroBody),
    /// The call, and what its `caller` is.
    CallBlock(Expr, MacroBody),
    Filtered(Expr, Vec<Node>),
    Scoped(Vec<Node>),
    /// Needs another template, which there is none.
    Foreign,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) test: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct MacroBody {
    pub(super) name: Name,
    pub(super) parameters: Vec<Name>,
    /// Of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Node>,
    pub(super) uses_rest: bool,
    pub(super) uses_named_rest: bool,
}
