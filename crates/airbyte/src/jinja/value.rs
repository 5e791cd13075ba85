//! The values of a template while it runs: Python's, borrowed from JSON where nothing changes them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    ops::Deref,
    rc::Rc,
};

use jiff::civil::{Date, Time};
use serde_json::{Map, Value};

use super::syntax::{For, MacroBody};
use crate::{datetime::Moment, slice::Slice};

/// Enough for any real template; a bomb ends within milliseconds.
const MOST_STEPS: u64 = 2_000_000;
const MOST_BYTES: usize = 64 << 20;

/// Why rendering stopped. Only the first two are more than errors: the language falls back to another text for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// An operation on something undefined.
    Undefined(String),
    /// Python's TypeError.
    Type(String),
    /// Any other exception.
    Other(String),
}

pub(crate) type Outcome<T> = Result<T, Fault>;

pub(super) fn type_error<T>(words: impl Into<String>) -> Outcome<T> {
    Err(Fault::Type(words.into()))
}
pub(super) fn other<T>(words: impl Into<String>) -> Outcome<T> {
    Err(Fault::Other(words.into()))
}

/// What one rendering may use, and the moment that counts as now.
pub(super) struct Run {
    pub(super) now: jiff::Timestamp,
    steps: Cell<u64>,
    bytes: Cell<usize>,
}

impl Run {
    pub(super) fn new(now: jiff::Timestamp) -> Self {
        Self { now, steps: Cell::new(0), bytes: Cell::new(0) }
    }
    pub(super) fn step(&self, steps: usize) -> Outcome<()> {
        let total = self.steps.get().saturating_add(steps as u64);
        self.steps.set(total);
        if total > MOST_STEPS { other("the template takes too many steps") } else { Ok(()) }
    }
    /// Counted before the bytes are made.
    pub(super) fn bytes(&self, bytes: usize) -> Outcome<()> {
        let total = self.bytes.get().saturating_add(bytes);
        self.bytes.set(total);
        if total > MOST_BYTES { other("the template makes too much text") } else { Ok(()) }
    }
}

/// A text, borrowed from the manifest or from a value, or shared.
#[derive(Clone)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
    /// MarkupSafe's kind of text: what is put together with it is escaped for HTML first, and `repr` shows the kind.
    Markup(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) | Self::Markup(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// How something came to be undefined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Missing {
    Plain,
    /// An attribute that the sandbox hides: any use is an error that nothing falls back from.
    Hidden,
}

pub(crate) type Pairs<'a> = Vec<(Py<'a>, Py<'a>)>;

#[derive(Clone)]
pub(crate) enum Py<'a> {
    Undefined(Missing),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    JsonList(&'a [Value]),
    JsonDict(&'a Map<String, Value>),
    /// Keys of any case.
    Headers(&'a Map<String, Value>),
    /// A record with the attributes of the reference's own class.
    Record(&'a Map<String, Value>),
    Slice(&'a Slice),
    List(Rc<Items<'a>>),
    Tuple(Rc<Items<'a>>),
    /// A tuple whose places have names.
    Named(&'static Named, Rc<Items<'a>>),
    Set(Rc<Items<'a>>),
    Dict(Rc<Fields<'a>>),
    /// `dict.keys()` and its like: the kind's name and what it shows.
    View(&'static str, Rc<Items<'a>>),
    /// Anything that is consumed by reading it.
    Iterator(&'static str, Rc<RefCell<VecDeque<Py<'a>>>>),
    /// With `false`, without a zone.
    Moment(Moment, bool),
    Date(Date),
    Clock(Time),
    /// Microseconds.
    Delta(i128),
    Months(Rc<Months>),
    Zone(jiff::SignedDuration),
    /// A method with its object.
    Method(Rc<Py<'a>>, &'static str),
    Builtin(&'static str),
    Macro(Rc<Macro<'a>>),
    Namespace(Rc<RefCell<Vec<(String, Py<'a>)>>>),
    Loop(Rc<Loop<'a>>),
    Cycler(Rc<(Vec<Py<'a>>, Cell<usize>)>),
    Joiner(Rc<(String, Cell<bool>)>),
}

/// A container's content. Dropping a deep nest takes no more stack than a flat one.
pub(crate) struct Items<'a>(pub(super) RefCell<Vec<Py<'a>>>);
pub(crate) struct Fields<'a>(pub(super) RefCell<Pairs<'a>>);

/// The names of a tuple's places, and what it is called.
#[derive(Debug)]
pub(crate) struct Named {
    pub(super) kind: &'static str,
    pub(super) fields: &'static [&'static str],
}

/// A duration of months beside one of microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Months {
    pub(super) years: f64,
    pub(super) months: f64,
    pub(super) micros: i128,
}

pub(crate) struct Macro<'a> {
    pub(super) body: &'a MacroBody,
    /// The names that were there where it was written.
    pub(super) scope: Vec<(&'a str, Py<'a>)>,
}

pub(crate) struct Loop<'a> {
    pub(super) items: Vec<Py<'a>>,
    pub(super) at: Cell<usize>,
    pub(super) depth: usize,
    /// What a call of the loop renders again.
    pub(super) recursive: Option<&'a For>,
    pub(super) changed: RefCell<Option<Vec<Py<'a>>>>,
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        dismantle(std::mem::take(self.0.get_mut()));
    }
}
impl Drop for Fields<'_> {
    fn drop(&mut self) {
        dismantle(std::mem::take(self.0.get_mut()).into_iter().flat_map(|(k, v)| [k, v]).collect());
    }
}

fn dismantle(mut left: Vec<Py<'_>>) {
    while let Some(next) = left.pop() {
        match next {
            Py::List(items) | Py::Tuple(items) | Py::Named(_, items) | Py::Set(items) | Py::View(_, items) => {
                if let Some(mut items) = Rc::into_inner(items) {
                    left.append(items.0.get_mut());
                }
            }
            Py::Dict(fields) => {
                if let Some(mut fields) = Rc::into_inner(fields) {
                    left.extend(std::mem::take(fields.0.get_mut()).into_iter().flat_map(|(k, v)| [k, v]));
                }
            }
            _ => {}
        }
    }
}

impl<'a> Py<'a> {
    pub(super) const UNDEFINED: Self = Self::Undefined(Missing::Plain);

    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }
    pub(super) fn markup(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Markup(text.into()))
    }
    pub(super) fn is_markup(&self) -> bool {
        matches!(self, Self::Text(Text::Markup(_)))
    }
    /// A text of the same kind as `self`.
    pub(super) fn like(&self, text: impl Into<Rc<str>>) -> Self {
        if self.is_markup() { Self::markup(text) } else { Self::text(text) }
    }
    pub(super) fn named(names: &'static Named, items: Vec<Py<'a>>) -> Self {
        Self::Named(names, Rc::new(Items(RefCell::new(items))))
    }
    pub(super) fn list(items: Vec<Py<'a>>) -> Self {
        Self::List(Rc::new(Items(RefCell::new(items))))
    }
    pub(super) fn tuple(items: Vec<Py<'a>>) -> Self {
        Self::Tuple(Rc::new(Items(RefCell::new(items))))
    }
    pub(super) fn set(items: Vec<Py<'a>>) -> Self {
        Self::Set(Rc::new(Items(RefCell::new(items))))
    }
    pub(super) fn view(kind: &'static str, items: Vec<Py<'a>>) -> Self {
        Self::View(kind, Rc::new(Items(RefCell::new(items))))
    }
    pub(super) fn dict(pairs: Pairs<'a>) -> Self {
        Self::Dict(Rc::new(Fields(RefCell::new(pairs))))
    }
    pub(super) fn iterator(kind: &'static str, items: Vec<Py<'a>>) -> Self {
        Self::Iterator(kind, Rc::new(RefCell::new(items.into())))
    }

    pub(crate) fn json(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Self::Int(n.into()),
                (_, Some(n)) => Self::Int(n.into()),
                _ => Self::Float(n.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(items) => Self::JsonList(items),
            Value::Object(fields) => Self::JsonDict(fields),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
    /// Also a boolean, which is an integer.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some((*b).into()),
            _ => None,
        }
    }
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            other => other.as_int().map(|n| n as f64),
        }
    }
    /// The name of the type, for words of errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::JsonList(_) | Self::List(_) => "list",
            Self::JsonDict(_) | Self::Dict(_) => "dict",
            Self::Headers(_) => "CaseInsensitiveDict",
            Self::Record(_) => "Record",
            Self::Slice(_) => "StreamSlice",
            Self::Tuple(_) => "tuple",
            Self::Named(names, _) => names.kind,
            Self::Set(_) => "set",
            Self::View(kind, _) | Self::Iterator(kind, _) => kind,
            Self::Moment(..) => "datetime.datetime",
            Self::Date(_) => "datetime.date",
            Self::Clock(_) => "datetime.time",
            Self::Delta(_) => "datetime.timedelta",
            Self::Months(_) => "Duration",
            Self::Zone(_) => "datetime.timezone",
            Self::Method(..) => "builtin_function_or_method",
            Self::Builtin(_) => "function",
            Self::Macro(_) => "Macro",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
        }
    }

    /// An error when it is undefined: for operations that Python's undefined refuses.
    pub(super) fn defined(&self) -> Outcome<&Self> {
        match self {
            Self::Undefined(missing) => Err(missing.fault()),
            value => Ok(value),
        }
    }

    pub(super) fn is_true(&self) -> Outcome<bool> {
        Ok(match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::JsonList(items) => !items.is_empty(),
            Self::JsonDict(fields) | Self::Headers(fields) | Self::Record(fields) => !fields.is_empty(),
            Self::Slice(slice) => slice.is_truthy(),
            Self::List(items) | Self::Tuple(items) | Self::Named(_, items) | Self::Set(items) | Self::View(_, items) => {
                !items.0.borrow().is_empty()
            }
            Self::Dict(fields) => !fields.0.borrow().is_empty(),
            Self::Delta(micros) => *micros != 0,
            Self::Months(months) => months.years != 0.0 || months.months != 0.0 || months.micros != 0,
            _ => true,
        })
    }
}

/// The names that a template sees from outside.
pub(crate) trait Names<'a> {
    fn get(&self, name: &str) -> Option<Py<'a>>;
}

impl Missing {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Plain => Fault::Undefined("something that is used is undefined".into()),
            Self::Hidden => Fault::Other("an attribute is used that templates may not see".into()),
        }
    }
}
