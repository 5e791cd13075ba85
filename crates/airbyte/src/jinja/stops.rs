//! Whether a condition would take a full page for a short one once pages are asked for with a smaller size.

use super::{
    statements::Program,
    syntax::{Arguments, Comparison, Expr, Node},
};

const LAST: &str = "last_page_size";
const ASKED: &str = "page_size";

impl Program {
    /// The condition holds for some page that is full at a size of `least` or more, because it compares the page with a size that does
    /// not follow the one that was asked for. Only shapes whose meaning is plain are judged.
    pub(crate) fn ends_at_reduced_pages(&self, least: i64) -> bool {
        match self.body.as_slice() {
            [Node::Output(condition)] => ends_early(condition, least),
            [Node::If(branches, otherwise)] if otherwise.is_empty() => match branches.as_slice() {
                [(condition, body)] => is_true_text(body) && ends_early(condition, least),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the size that was asked for is looked at.
    pub(crate) fn names_page_size(&self) -> bool {
        self.names.iter().any(|name| name == ASKED)
    }
}

/// A branch that renders nothing but a text that counts as true.
fn is_true_text(body: &[Node]) -> bool {
    let mut text = String::new();
    for node in body {
        match node {
            Node::Text(part) | Node::Output(Expr::Text(part)) => text += part,
            Node::Output(Expr::Bool(value)) => text += if *value { "True" } else { "False" },
            Node::Output(Expr::Int(value)) => text += &value.to_string(),
            _ => return false,
        }
    }
    !matches!(text.as_str(), "False" | "false" | "{}" | "[]" | "()" | "" | "0" | "0.0")
}

fn ends_early(condition: &Expr, least: i64) -> bool {
    match condition {
        Expr::And(a, b) | Expr::Or(a, b) => ends_early(a, least) || ends_early(b, least),
        Expr::Compare(first, parts) => {
            let lefts = std::iter::once(&**first).chain(parts.iter().map(|(_, right)| right));
            lefts.zip(parts).any(|(left, (comparison, right))| is_upper_bound(left, *comparison, right, least))
        }
        _ => false,
    }
}

/// Whether the last page's size is compared with a larger one that is always the same.
fn is_upper_bound(left: &Expr, comparison: Comparison, right: &Expr, least: i64) -> bool {
    let (page, bound, is_strict) = match (comparison, mentions(left, LAST), mentions(right, LAST)) {
        (Comparison::Less, true, false) => (left, right, true),
        (Comparison::LessEqual, true, false) => (left, right, false),
        (Comparison::Greater, false, true) => (right, left, true),
        (Comparison::GreaterEqual, false, true) => (right, left, false),
        _ => return false,
    };
    if matches!(page, Expr::Binary(..) | Expr::Concat(_)) || mentions(bound, ASKED) {
        return false;
    }
    match bound {
        Expr::Int(size) => *size + i128::from(!is_strict) > least.into(),
        _ => true,
    }
}

fn mentions(expr: &Expr, name: &str) -> bool {
    let any = |exprs: &[Expr]| exprs.iter().any(|expr| mentions(expr, name));
    let given = |given: &Arguments| {
        any(&given.positional)
            || given.named.iter().any(|(_, value)| mentions(value, name))
            || [&given.rest, &given.named_rest].into_iter().flatten().any(|value| mentions(value, name))
    };
    match expr {
        Expr::None | Expr::Bool(_) | Expr::Int(_) | Expr::Float(_) | Expr::Text(_) => false,
        Expr::Name(found) => found == name,
        Expr::List(all) | Expr::Tuple(all) | Expr::Concat(all) => any(all),
        Expr::Dict(pairs) => pairs.iter().any(|(key, value)| mentions(key, name) || mentions(value, name)),
        Expr::Attribute(value, _) | Expr::Not(value) | Expr::Negative(value) | Expr::Positive(value) => mentions(value, name),
        Expr::Item(a, b) | Expr::And(a, b) | Expr::Or(a, b) | Expr::Binary(_, a, b) => mentions(a, name) || mentions(b, name),
        Expr::Slice(parts) => parts.iter().flatten().any(|part| mentions(part, name)),
        Expr::Call(callee, arguments) => mentions(callee, name) || given(arguments),
        Expr::Filter(value, _, arguments) => value.as_ref().is_some_and(|value| mentions(value, name)) || given(arguments),
        Expr::Test(value, _, arguments) => mentions(value, name) || given(arguments),
        Expr::Compare(first, parts) => mentions(first, name) || parts.iter().any(|(_, right)| mentions(right, name)),
        Expr::If(a, b, c) => mentions(a, name) || mentions(b, name) || c.as_ref().is_some_and(|c| mentions(c, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_stays_ends_reduced_pages_early() {
        let ends = |text: &str| Program::parse(text).unwrap().ends_at_reduced_pages(5);
        for early in [
            "{{ last_page_size < 100 }}",
            "{{ 100 > last_page_size }}",
            "{{ last_page_size | int <= config['page_size'] }}",
            "{{ not response.next or last_page_size < 6 }}",
            "{% if last_page_size < 100 %}true{% endif %}",
        ] {
            assert!(ends(early), "{early}");
        }
        for fine in [
            "{{ last_page_size == 0 }}",
            "{{ last_page_size < page_size }}",
            "{{ last_page_size < 5 }}",
            "{{ last_page_size <= 4 }}",
            "{{ last_page_size >= 100 }}",
            "{{ not (last_page_size >= 100) }}",
            "{{ last_page_size - 100 < 0 }}",
            "{{ last_page_size < 100 }} ",
            "{% if last_page_size < 100 %}true{% else %}false{% endif %}",
            "{{ response.data | length < 100 }}",
        ] {
            assert!(!ends(fine), "{fine}");
        }
    }
}
