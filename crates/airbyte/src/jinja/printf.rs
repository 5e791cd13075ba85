//! Formatting: the operator `%` on texts, and `str.format`.

use super::{
    access::{attribute, item},
    arguments::Given,
    show::{repr, shown},
    value::{Outcome, Py, Run, other, type_error},
};

/// A conversion as both languages know it.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    comma: Option<char>,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `format % value`.
pub(super) fn percent<'a>(run: &Run, format: &str, value: &Py<'a>) -> Outcome<String> {
    let (arguments, is_tuple) = match value {
        Py::Tuple(items) => (items.0.borrow().clone(), true),
        other => (vec![other.clone()], false),
    };
    let mut percent = Percent { run, rest: format, arguments: arguments.into(), mapping: value, used_names: false };
    let mut out = String::new();
    while let Some((before, after)) = percent.rest.split_once('%') {
        out.push_str(before);
        percent.rest = after;
        out.push_str(&percent.conversion()?);
        run.bytes(out.len())?;
    }
    out.push_str(percent.rest);
    let may_be_left = percent.used_names
        || (!is_tuple
            && matches!(
                value,
                Py::Undefined(_) | Py::Dict(_) | Py::JsonDict(_) | Py::List(_) | Py::JsonList(_) | Py::Slice(_) | Py::Record(_)
            ));
    if !percent.arguments.is_empty() && !may_be_left {
        return type_error("not all arguments converted during string formatting");
    }
    Ok(out)
}

struct Percent<'r, 'a> {
    run: &'r Run,
    rest: &'r str,
    arguments: std::collections::VecDeque<Py<'a>>,
    mapping: &'r Py<'a>,
    used_names: bool,
}

impl<'a> Percent<'_, 'a> {
    fn take(&mut self, most: usize, fits: impl Fn(char) -> bool) -> &str {
        let length = self.rest.char_indices().take(most).take_while(|(_, c)| fits(*c)).map(|(at, c)| at + c.len_utf8()).last().unwrap_or(0);
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn argument(&mut self) -> Outcome<Py<'a>> {
        match self.arguments.pop_front() {
            Some(value) => Ok(value),
            None => type_error("not enough arguments for format string"),
        }
    }

    fn size(&mut self) -> Outcome<usize> {
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            let value = super::arguments::int(&self.argument()?)?;
            return Ok(usize::try_from(value).unwrap_or_default());
        }
        let digits = self.take(9, |c| c.is_ascii_digit());
        Ok(digits.parse().unwrap_or_default())
    }

    fn conversion(&mut self) -> Outcome<String> {
        let mut named = None;
        if let Some(rest) = self.rest.strip_prefix('(') {
            let Some((name, rest)) = rest.split_once(')') else { return other("incomplete format key") };
            self.rest = rest;
            self.used_names = true;
            if super::access::pairs(self.mapping).is_none() {
                return type_error("format requires a mapping");
            }
            let value = item(self.run, self.mapping, &Py::text(name))?;
            if value.is_undefined() {
                return other("a key of the format is not in the mapping");
            }
            named = Some(value);
        }
        let flags = self.take(16, |c| "-+ 0#".contains(c)).to_owned();
        let width = self.size()?;
        let precision = match self.rest.strip_prefix('.') {
            Some(rest) => {
                self.rest = rest;
                Some(self.size()?)
            }
            None => None,
        };
        self.take(1, |c| "hlL".contains(c));
        let Some(kind) = self.rest.chars().next() else { return other("incomplete format") };
        self.rest = &self.rest[kind.len_utf8()..];
        if kind == '%' {
            return Ok("%".into());
        }
        let value = match named {
            Some(value) => value,
            None => self.argument()?,
        };
        let spec = Spec {
            fill: (flags.contains('0') && !flags.contains('-') && !"sra".contains(kind)).then_some('0'),
            align: flags.contains('-').then_some('<'),
            sign: if flags.contains('+') { Some('+') } else { flags.contains(' ').then_some(' ') },
            alternate: flags.contains('#'),
            comma: None,
            width,
            precision,
            kind: Some(kind),
        };
        one_percent(self.run, &value, spec)
    }
}

fn one_percent(run: &Run, value: &Py<'_>, mut spec: Spec) -> Outcome<String> {
    let kind = spec.kind.unwrap_or('s');
    match kind {
        's' => {
            let text = shown(run, value)?;
            text_padded(run, &text, &spec, '>')
        }
        'r' | 'a' => {
            let mut text = String::new();
            repr(run, &mut text, value, 0)?;
            text_padded(run, &text, &spec, '>')
        }
        'c' => match (value.as_int(), value.as_text()) {
            (Some(code), _) => match u32::try_from(code).ok().and_then(char::from_u32) {
                Some(c) => text_padded(run, &c.to_string(), &spec, '>'),
                None => other("%c arg not in range"),
            },
            (_, Some(text)) if text.chars().count() == 1 => text_padded(run, text, &spec, '>'),
            _ => type_error("%c requires int or char"),
        },
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = match value {
                Py::Float(f) if matches!(kind, 'd' | 'i' | 'u') => *f as i128,
                value => match value.as_int() {
                    Some(n) => n,
                    None => return type_error(format!("%{kind} format: a number is required, not {}", value.kind())),
                },
            };
            let least = spec.precision.take().unwrap_or(0);
            let digits = format!("{:0>least$}", radix_digits(number.unsigned_abs(), kind), least = least.min(10_000));
            let prefix = if spec.alternate && "xXo".contains(kind) { format!("0{kind}") } else { String::new() };
            number_padded(run, number < 0, &(prefix + &digits), &spec)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_number() {
            Some(number) => {
                let digits = float_digits(number.abs(), kind, spec.precision.unwrap_or(6), spec.alternate);
                number_padded(run, number.is_sign_negative() && !number.is_nan(), &digits, &spec)
            }
            None => type_error(format!("must be real number, not {}", value.kind())),
        },
        other_kind => other(format!("unsupported format character {other_kind:?}")),
    }
}

fn radix_digits(value: u128, kind: char) -> String {
    match kind {
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        'o' => format!("{value:o}"),
        'b' => format!("{value:b}"),
        _ => value.to_string(),
    }
}

fn float_digits(value: f64, kind: char, precision: usize, alternate: bool) -> String {
    let precision = precision.min(1000);
    if !value.is_finite() {
        let text = if value.is_nan() { "nan" } else { "inf" };
        return if kind.is_uppercase() { text.to_uppercase() } else { text.into() };
    }
    let text = match kind.to_ascii_lowercase() {
        'f' => format!("{value:.precision$}"),
        'e' => exponent_form(value, precision),
        '%' => format!("{:.precision$}%", value * 100.0),
        _ => general(value, precision.max(1), alternate),
    };
    if kind.is_uppercase() { text.to_uppercase() } else { text }
}

fn exponent_form(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let scientific = exponent_form(value, precision - 1);
    let exponent: i32 = scientific.rsplit_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or_default();
    let plain = (-4..precision as i32).contains(&exponent);
    let text = if plain { format!("{value:.*}", (precision as i32 - 1 - exponent).max(0) as usize) } else { scientific };
    if alternate || !text.contains('.') {
        return text;
    }
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.')),
        None => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn text_padded(run: &Run, text: &str, spec: &Spec, default: char) -> Outcome<String> {
    let text: String = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    aligned(run, &text, spec, spec.align.unwrap_or(default), spec.fill.unwrap_or(' '))
}

fn aligned(run: &Run, text: &str, spec: &Spec, align: char, fill: char) -> Outcome<String> {
    let missing = spec.width.saturating_sub(text.chars().count());
    run.bytes(missing.saturating_mul(fill.len_utf8()))?;
    let fills = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match align {
        '<' => text.to_owned() + &fills(missing),
        '^' => fills(missing / 2) + text + &fills(missing - missing / 2),
        _ => fills(missing) + text,
    })
}

fn number_padded(run: &Run, is_negative: bool, digits: &str, spec: &Spec) -> Outcome<String> {
    let sign = match spec.sign {
        _ if is_negative => "-",
        Some('+') => "+",
        Some(' ') => " ",
        _ => "",
    };
    if spec.align == Some('=') || (spec.fill == Some('0') && spec.align.is_none()) {
        let missing = spec.width.saturating_sub(sign.len() + digits.chars().count());
        run.bytes(missing)?;
        return Ok(format!("{sign}{}{digits}", std::iter::repeat_n(spec.fill.unwrap_or(' '), missing).collect::<String>()));
    }
    aligned(run, &format!("{sign}{digits}"), spec, spec.align.unwrap_or('>'), spec.fill.unwrap_or(' '))
}

/// `str.format`.
pub(super) fn braces(run: &Run, format: &str, given: &Given<'_>) -> Outcome<String> {
    let mut next = 0;
    braces_at(run, format, given, &mut next, 0)
}

fn braces_at(run: &Run, format: &str, given: &Given<'_>, next: &mut usize, depth: usize) -> Outcome<String> {
    if depth > 1 {
        return other("Max string recursion exceeded");
    }
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}'].as_slice()) {
        out.push_str(&rest[..at]);
        let sign = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(sign) {
            out.push_str(sign);
            rest = after;
            continue;
        }
        if sign == "}" {
            return other("Single '}' encountered in format string");
        }
        let Some(end) = closing(rest) else { return other("Single '{' encountered in format string") };
        out.push_str(&field(run, &rest[..end], given, next, depth)?);
        run.bytes(out.len())?;
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn field(run: &Run, field: &str, given: &Given<'_>, next: &mut usize, depth: usize) -> Outcome<String> {
    let (name, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = match name.rsplit_once('!') {
        Some((name, conversion)) => (name, Some(conversion)),
        None => (name, None),
    };
    let value = looked_up(run, name, given, next)?;
    let spec = if spec.contains('{') { braces_at(run, spec, given, next, depth + 1)? } else { spec.to_owned() };
    match conversion {
        None => formatted(run, &value, &spec),
        Some("s") => formatted(run, &Py::text(shown(run, &value)?), &spec),
        Some("r" | "a") => {
            let mut text = String::new();
            repr(run, &mut text, &value, 0)?;
            formatted(run, &Py::text(text), &spec)
        }
        Some(_) => other("Unknown conversion specifier"),
    }
}

fn looked_up<'a>(run: &Run, name: &str, given: &Given<'a>, next: &mut usize) -> Outcome<Py<'a>> {
    let end = name.find(['.', '['].as_slice()).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let position = if first.is_empty() {
        *next += 1;
        Some(*next - 1)
    } else {
        first.parse::<usize>().ok()
    };
    let found = match position {
        Some(at) => given.positional.get(at).cloned(),
        None => given.named.iter().find(|(known, _)| known == first).map(|(_, value)| value.clone()),
    };
    let Some(mut value) = found else { return other("a field of the format has no value") };
    while !path.is_empty() {
        if let Some(rest) = path.strip_prefix('.') {
            let end = rest.find(['.', '['].as_slice()).unwrap_or(rest.len());
            value = attribute(run, &value, &rest[..end])?;
            path = &rest[end..];
        } else {
            let Some((key, rest)) = path[1..].split_once(']') else { return other("Missing ']' in format string") };
            let key = key.parse::<i128>().map_or_else(|_| Py::text(key), Py::Int);
            value = item(run, &value, &key)?;
            path = rest;
        }
    }
    Ok(value)
}

/// Python's `format(value, spec)`.
pub(super) fn formatted(run: &Run, value: &Py<'_>, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return shown(run, value);
    }
    match value {
        Py::Moment(moment, zoned) => return Ok(super::time_methods::strftime(moment, *zoned, spec)),
        Py::Date(date) => {
            return Ok(crate::datetime::strftime(&crate::datetime::Moment::utc(date.to_datetime(jiff::civil::Time::midnight())), spec));
        }
        _ => {}
    }
    let spec = parsed(spec)?;
    match (value, value.as_int()) {
        (Py::Text(text), _) => match spec.kind {
            None | Some('s') => text_padded(run, text, &spec, '<'),
            Some(kind) => other(format!("Unknown format code '{kind}' for object of type 'str'")),
        },
        (Py::Bool(_), _) if spec.kind.is_none() => text_padded(run, &shown(run, value)?, &spec, '<'),
        (_, Some(number)) => int_formatted(run, number, &spec),
        (Py::Float(number), _) => float_formatted(run, *number, &spec),
        _ => type_error(format!("unsupported format string passed to {}.__format__", value.kind())),
    }
}

fn parsed(text: &str) -> Outcome<Spec> {
    let mut spec = Spec::default();
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| "<>^=".contains(*c));
    if is_align(chars.get(1)) {
        (spec.fill, spec.align) = (Some(chars[0]), Some(chars[1]));
        at = 2;
    } else if is_align(chars.first()) {
        spec.align = Some(chars[0]);
        at = 1;
    }
    let mut eat = |all: &str| -> Option<char> {
        let found = chars.get(at).copied().filter(|c| all.contains(*c));
        at += usize::from(found.is_some());
        found
    };
    spec.sign = eat("+- ");
    spec.alternate = eat("#").is_some();
    if eat("0").is_some() && spec.fill.is_none() {
        spec.fill = Some('0');
        spec.align = spec.align.or(Some('='));
    }
    let number = |eat: &mut dyn FnMut(&str) -> Option<char>| {
        let mut found = None;
        while let Some(digit) = eat("0123456789").and_then(|c| c.to_digit(10)) {
            found = Some((found.unwrap_or(0usize) * 10 + digit as usize).min(1 << 30));
        }
        found
    };
    spec.width = number(&mut eat).unwrap_or(0);
    spec.comma = eat(",_");
    if eat(".").is_some() {
        spec.precision = number(&mut eat);
    }
    spec.kind = chars.get(at).copied();
    if chars.len() > at + 1 {
        return other("Invalid format specifier");
    }
    Ok(spec)
}

fn grouped(digits: &str, comma: Option<char>) -> String {
    let Some(comma) = comma else { return digits.to_owned() };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let mut out = String::new();
    for (at, c) in digits[..end].chars().enumerate() {
        if at > 0 && (end - at).is_multiple_of(3) {
            out.push(comma);
        }
        out.push(c);
    }
    out + &digits[end..]
}

fn int_formatted(run: &Run, number: i128, spec: &Spec) -> Outcome<String> {
    match spec.kind {
        None | Some('d' | 'n' | 'x' | 'X' | 'o' | 'b') => {
            let kind = spec.kind.unwrap_or('d');
            let digits = grouped(&radix_digits(number.unsigned_abs(), kind), spec.comma);
            let prefix = if spec.alternate && "xXob".contains(kind) { format!("0{kind}") } else { String::new() };
            number_padded(run, number < 0, &(prefix + &digits), spec)
        }
        Some('c') => match u32::try_from(number).ok().and_then(char::from_u32) {
            Some(c) => text_padded(run, &c.to_string(), spec, '<'),
            None => other("%c arg not in range"),
        },
        _ => float_formatted(run, number as f64, spec),
    }
}

fn float_formatted(run: &Run, number: f64, spec: &Spec) -> Outcome<String> {
    let digits = match spec.kind {
        None if spec.precision.is_none() => crate::python::float_text(number.abs()),
        None => {
            let text = general(number.abs(), spec.precision.unwrap_or(6).clamp(1, 1000), spec.alternate);
            if text.contains(['.', 'e', 'n', 'i'].as_slice()) { text } else { text + ".0" }
        }
        Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
            float_digits(number.abs(), kind, spec.precision.unwrap_or(6), spec.alternate)
        }
        Some('n') => float_digits(number.abs(), 'g', spec.precision.unwrap_or(6), spec.alternate),
        Some(kind) => return other(format!("Unknown format code '{kind}' for object of type 'float'")),
    };
    number_padded(run, number.is_sign_negative() && !number.is_nan(), &grouped(&digits, spec.comma), spec)
}

/// The arguments of the filter `format`.
pub(super) fn percent_filter(run: &Run, format: &str, given: Given<'_>) -> Outcome<String> {
    if !given.positional.is_empty() && !given.named.is_empty() {
        return other("can't handle positional and keyword arguments at the same time");
    }
    if given.named.is_empty() {
        return percent(run, format, &Py::tuple(given.positional));
    }
    let named = given.named.into_iter().map(|(name, value)| (Py::text(name), value)).collect();
    percent(run, format, &Py::dict(named))
}
