//! The arguments of a call, given out to parameters as Python does.

use super::value::{Outcome, Py, type_error};

#[derive(Clone, Default)]
pub(super) struct Given<'a> {
    pub(super) positional: Vec<Py<'a>>,
    pub(super) named: Vec<(String, Py<'a>)>,
}

impl<'a> Given<'a> {
    /// One place for each parameter, in order. A TypeError for too many, for unknown names and for those given twice.
    pub(super) fn places<const N: usize>(self, names: [&str; N]) -> Outcome<[Option<Py<'a>>; N]> {
        let mut places = std::array::from_fn(|_| None);
        if self.positional.len() > N {
            return type_error(format!("at most {N} arguments are expected, {} are given", self.positional.len()));
        }
        for (place, value) in places.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|known| *known == name) else {
                return type_error(format!("an unexpected argument '{name}'"));
            };
            if places[at].is_some() {
                return type_error(format!("the argument '{name}' is given twice"));
            }
            places[at] = Some(value);
        }
        Ok(places)
    }

    /// Positional arguments only, as most methods of built-in types want them.
    pub(super) fn plain(self) -> Outcome<Vec<Py<'a>>> {
        match self.named.first() {
            Some(_) => type_error("no keyword arguments are taken"),
            None => Ok(self.positional),
        }
    }

    /// Between `least` and `most` positional arguments.
    pub(super) fn between(self, least: usize, most: usize) -> Outcome<Vec<Py<'a>>> {
        let given = self.plain()?;
        if given.len() < least || given.len() > most {
            return type_error(format!("between {least} and {most} arguments are expected, {} are given", given.len()));
        }
        Ok(given)
    }

    pub(super) fn none(self) -> Outcome<()> {
        self.between(0, 0).map(drop)
    }
}

pub(super) fn required<'a>(place: Option<Py<'a>>, name: &str) -> Outcome<Py<'a>> {
    match place {
        Some(value) => Ok(value),
        None => type_error(format!("the argument '{name}' is missing")),
    }
}

pub(super) fn text(value: &Py<'_>) -> Outcome<String> {
    match value {
        Py::Text(text) => Ok(text.to_string()),
        other => type_error(format!("a text is expected, not {}", other.kind())),
    }
}

pub(super) fn int(value: &Py<'_>) -> Outcome<i128> {
    match value.as_int() {
        Some(n) => Ok(n),
        None => {
            value.defined()?;
            type_error(format!("'{}' object cannot be interpreted as an integer", value.kind()))
        }
    }
}
