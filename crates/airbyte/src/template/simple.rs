//! Paths such as `{{ config['a'].b }}`; the whole language follows.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{Scope, scope::Bound};

#[derive(Debug)]
pub(super) struct Program(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Path(String, Vec<String>),
}

impl Program {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            pieces.push(Piece::Text(before.into()));
            let (inside, behind) = after.split_once("}}").ok_or_else(|| bad(text))?;
            let mut names = inside.split(['[', ']', '.', '\'', '"', ' ']).filter(|name| !name.is_empty()).map(str::to_owned);
            pieces.push(Piece::Path(names.next().ok_or_else(|| bad(text))?, names.collect()));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces))
    }

    pub(super) fn is_static(&self) -> bool {
        self.0.len() == 1
    }

    pub(super) fn render(&self, scope: &Scope<'_>, parameters: &Value) -> Result<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Path(name, path) => {
                    let bound = match name.as_str() {
                        "parameters" => Bound::Json(parameters),
                        name => scope.get(name).ok_or_else(|| bad(name))?,
                    };
                    let owned = match bound {
                        Bound::Json(value) | Bound::Headers(value) => value.clone(),
                        Bound::Slice(slice) => slice.to_json(),
                        Bound::Integer(n) => n.into(),
                    };
                    let found = path.iter().try_fold(&owned, |value, key| value.get(key));
                    out.push_str(&found.map(crate::python::text).unwrap_or_default());
                }
            }
        }
        Ok(out)
    }
}

fn bad(text: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the template cannot be evaluated").with("template", text)
}
