//! `wordwrap`: a text in lines of a width, as Python's `textwrap` cuts them.

use super::{
    arguments::{Given, int, text},
    text_methods,
    value::{Outcome, Py, Run, other},
};

struct How {
    width: usize,
    breaks_words: bool,
    breaks_hyphens: bool,
}

pub(super) fn wrap(run: &Run, value: &Py<'_>, given: Given<'_>) -> Outcome<String> {
    let [width, long, between, hyphens] = given.places(["width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
    value.defined()?;
    let Py::Text(whole) = value else { return other(format!("'{}' object has no attribute 'splitlines'", value.kind())) };
    let between = match between {
        None | Some(Py::None) => "\n".to_owned(),
        Some(between) => text(&between)?,
    };
    let lines = text_methods::lines(whole, false);
    let width = width.map_or(Ok(79), |width| int(&width))?;
    if width <= 0 && !lines.is_empty() {
        return other("the width to wrap at must be above 0");
    }
    let flag = |value: Option<Py<'_>>| value.map_or(Ok(true), |value| value.is_true());
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    let how = How { width, breaks_words: flag(long)?, breaks_hyphens: flag(hyphens)? };
    let mut out = Vec::new();
    for line in &lines {
        run.step(line.len())?;
        out.push(wrapped(&pieces(&line.chars().collect::<Vec<_>>(), how.breaks_hyphens), &how).join(&between));
        run.bytes(out.last().map_or(0, String::len) + between.len())?;
    }
    Ok(out.join(&between))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
fn is_letter(c: char) -> bool {
    is_word(c) && !c.is_numeric()
}
fn before_dash(c: char) -> bool {
    is_word(c) || matches!(c, '!' | '"' | '\'' | '&' | '.' | ',' | '?')
}

/// White space, words, dashes between words; with `hyphens` a word of several ends behind its hyphens.
fn pieces(line: &[char], hyphens: bool) -> Vec<Vec<char>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < line.len() {
        let mut end = start + 1;
        if is_blank(line[start]) {
            end += line[end..].iter().take_while(|c| is_blank(**c)).count();
        } else if !hyphens {
            end += line[end..].iter().take_while(|c| !is_blank(**c)).count();
        } else if let Some(dash) = dash(line, start) {
            end = dash;
        } else {
            while end < line.len() && !is_blank(line[end]) && dash(line, end).is_none() {
                if ends_behind_hyphen(line, end) {
                    end += 1;
                    break;
                }
                end += 1;
            }
        }
        pieces.push(line[start..end].to_vec());
        start = end;
    }
    pieces
}

/// Where two hyphens or more end that stand between words.
fn dash(line: &[char], at: usize) -> Option<usize> {
    let before = line.get(at.checked_sub(1)?)?;
    let end = at + line[at..].iter().take_while(|c| **c == '-').count();
    (before_dash(*before) && end - at >= 2 && line.get(end).is_some_and(|c| is_word(*c))).then_some(end)
}

/// Whether the hyphen at `at` joins two words of letters.
fn ends_behind_hyphen(line: &[char], at: usize) -> bool {
    let letter = |at: Option<usize>| at.and_then(|at| line.get(at)).is_some_and(|c| is_letter(*c));
    let hyphen = |at: Option<usize>| at.and_then(|at| line.get(at)) == Some(&'-');
    let two = letter(at.checked_sub(2)) && letter(at.checked_sub(1));
    let one = letter(at.checked_sub(3)) && hyphen(at.checked_sub(2)) && letter(at.checked_sub(1));
    let next = if hyphen(Some(at + 2)) { at + 3 } else { at + 2 };
    line[at] == '-' && (two || one) && letter(Some(at + 1)) && letter(Some(next))
}

fn wrapped(pieces: &[Vec<char>], how: &How) -> Vec<String> {
    let blank = |piece: &[char]| piece.iter().all(|c| text_methods::is_space(*c));
    let mut left: std::collections::VecDeque<Vec<char>> = pieces.iter().cloned().collect();
    let mut lines: Vec<String> = Vec::new();
    while !left.is_empty() {
        let mut line: Vec<Vec<char>> = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && blank(&left[0]) {
            left.pop_front();
        }
        while left.front().is_some_and(|piece| length + piece.len() <= how.width) {
            line.extend(left.pop_front().inspect(|piece| length += piece.len()));
        }
        if let Some(piece) = left.front_mut().filter(|piece| piece.len() > how.width) {
            if how.breaks_words {
                let rest = piece.split_off(cut(piece, how.width - length, how.breaks_hyphens));
                line.push(std::mem::replace(piece, rest));
            } else if line.is_empty() {
                line.extend(left.pop_front());
            }
        }
        if line.last().is_some_and(|piece| blank(piece)) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.into_iter().flatten().collect());
        }
    }
    lines
}

/// How much of a word that fits on no line goes onto this one.
fn cut(piece: &[char], room: usize, hyphens: bool) -> usize {
    let at = piece[..room].iter().rposition(|c| *c == '-').filter(|at| *at > 0 && piece[..*at].iter().any(|c| *c != '-'));
    match at {
        Some(at) if hyphens => at + 1,
        _ => room,
    }
}
