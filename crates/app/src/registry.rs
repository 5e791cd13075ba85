//! The connector types that a binary brings, and how a word becomes one of them.

use std::path::Path;

use linkspan_core::{ConnectorType, Error, ErrorKind, Result, Role, UrlForm, suggest};
use serde_json::Value;

/// A type and a config for it.
pub type Resolved = (ConnectorType, Value);

/// Every type, in catalog order.
#[derive(Clone)]
pub struct Registry(Vec<ConnectorType>);

impl Registry {
    /// The types as the binary lists them.
    pub fn of(types: Vec<ConnectorType>) -> Self {
        Self(types)
    }
    /// These types behind the others.
    pub fn and(mut self, more: Vec<ConnectorType>) -> Self {
        self.0.extend(more);
        self
    }
    pub fn types(&self) -> &[ConnectorType] {
        &self.0
    }
    /// A type by name or alias; the error, of the given kind, names the nearest one.
    pub fn named(&self, name: &str, otherwise: ErrorKind) -> Result<&ConnectorType> {
        self.0.iter().find(|t| t.answers_to(name)).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|t| t.spec.name.as_ref()).collect();
            let every = self.0.iter().flat_map(|t| t.spec.aliases.iter().map(AsRef::as_ref)).chain(names.iter().copied());
            let near = suggest::nearest(name, every).filter(|near| begin_alike(near, name));
            let near = near.map(|n| format!("did you mean \"{n}\"? ")).unwrap_or_default();
            let fix =
                format!("{near}the types are: {}; `linkspan catalog add FILE|URL|NAME` makes one of a low-code manifest", names.join(", "));
            Error::new(otherwise, format!("there is no connector type `{name}`")).fix(fix)
        })
    }
    /// What a URL or a file's path stands for: by scheme, then by the file's ending, then by what lies at the path.
    pub fn resolve(&self, text: &str) -> Result<Resolved> {
        if let Some(scheme) = scheme(text) {
            return self.by_scheme(scheme, text);
        }
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        if let Some((kind, form)) = self.by_ending(path).or_else(|| self.by_content(Path::new(path))) {
            return Ok((kind.clone(), (form.config)(text)?));
        }
        Err(self.unknown(text, path))
    }
    fn by_scheme(&self, scheme: &str, text: &str) -> Result<Resolved> {
        let found =
            self.forms().find(|(_, form)| form.schemes.contains(&scheme)).or_else(|| self.forms().find(|(t, _)| t.answers_to(scheme)));
        if let Some((kind, form)) = found {
            return Ok((kind.clone(), (form.config)(text)?));
        }
        let known = self.schemes();
        let nearest = suggest::did_you_mean(scheme, known.iter().copied()).map(|s| format!("{s} ")).unwrap_or_default();
        Err(Error::new(ErrorKind::ConfigInvalid, format!("no connector answers to `{scheme}:`"))
            .fix(format!("{nearest}(known: {})", known.iter().map(|s| format!("{s}:")).collect::<Vec<_>>().join(" "))))
    }
    fn by_ending(&self, path: &str) -> Option<(&ConnectorType, UrlForm)> {
        let lower = path.to_lowercase();
        let bare = [".gz", ".zst", ".zstd"].iter().find_map(|c| lower.strip_suffix(c));
        let fits = |form: &UrlForm, path: &str| form.extensions.iter().any(|e| path.ends_with(e));
        let whole = self.forms().find(|(_, form)| fits(form, &lower));
        whole.or_else(|| bare.and_then(|bare| self.forms().find(|(_, form)| fits(form, bare))))
    }
    /// A folder is what the files in it are.
    fn by_content(&self, path: &Path) -> Option<(&ConnectorType, UrlForm)> {
        let mut names: Vec<String> =
            std::fs::read_dir(path).ok()?.filter_map(|f| f.ok()).map(|f| f.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().find_map(|name| self.by_ending(name))
    }
    fn unknown(&self, text: &str, path: &str) -> Error {
        let shown = linkspan_core::mask_url(text);
        let endings: Vec<&str> = self.forms().flat_map(|(_, f)| f.extensions.iter().copied()).collect();
        let known = self.schemes();
        if Path::new(path).exists() {
            return Error::new(ErrorKind::ConfigInvalid, "the path's ending does not say what it is")
                .with("path", shown)
                .fix(format!("put the type before it (`csv:{path}`), or use one of the endings {}", endings.join(" ")));
        }
        let nearest = suggest::nearest(text, known.iter().copied()).map(|s| format!("did you mean `{s}:`? ")).unwrap_or_default();
        Error::new(ErrorKind::ConfigInvalid, "this is neither a URL nor a file with a known ending").with("given", shown).fix(format!(
            "{nearest}write a URL ({}) or a path that ends in one of {}",
            shorthand(&known),
            endings.join(" ")
        ))
    }
    fn forms(&self) -> impl Iterator<Item = (&ConnectorType, UrlForm)> {
        self.0.iter().filter_map(|t| t.spec.url.map(|form| (t, form)))
    }
    /// Every scheme of a URL that names a type.
    pub fn schemes(&self) -> Vec<&'static str> {
        self.forms().flat_map(|(_, form)| form.schemes.iter().copied()).collect()
    }
    /// A config for a type by name, as project files give it.
    pub fn typed(&self, name: &str, config: impl FnOnce(&Value) -> Value) -> Result<Resolved> {
        let kind = self.named(name, ErrorKind::ConfigInvalid)?;
        Ok((kind.clone(), config(&kind.config_schema())))
    }
}

/// A type is a word that people know: one that begins otherwise is another one, not a slip.
fn begin_alike(one: &str, other: &str) -> bool {
    one.chars().zip(other.chars()).take(2).all(|(a, b)| a.eq_ignore_ascii_case(&b))
}

fn shorthand(schemes: &[&str]) -> String {
    schemes.iter().map(|s| format!("{s}:")).collect::<Vec<_>>().join(" ")
}

/// The scheme of `scheme:...`; a single letter is a drive, and a path with a colon in it is a path.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let valid = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '-'));
    valid.then_some(scheme)
}

/// The direction of a type that has only one; a type that can be both takes it when a connector is made.
pub fn direction_of(t: &ConnectorType) -> Option<&'static str> {
    match (t.has_role(Role::Source) || t.has_role(Role::Webhooks), t.has_role(Role::Destination)) {
        (true, false) => Some("inbound"),
        (false, true) => Some("outbound"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_letter_and_a_dotted_path_are_no_schemes() {
        assert_eq!((scheme("C:\\x"), scheme("./a:b"), scheme("s3://b/p")), (None, None, Some("s3")));
    }

    #[test]
    fn another_word_is_not_taken_for_a_slip() {
        assert!(begin_alike("sqlite", "sqlight") && begin_alike("csv", "CSX") && !begin_alike("sqlite", "stripe"));
    }
}
