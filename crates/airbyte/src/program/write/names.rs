//! Names at the destination: what databases keep, and what platforms look for when they read a table back.

use std::borrow::Cow;

/// The longest name that every database here keeps, in bytes.
const LONGEST: usize = 63;

/// A column's name. One that is too long ends with a few letters that are its own, so that two of them stay two.
pub(in crate::program) fn column(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST {
        return Cow::Borrowed(name);
    }
    let own = blake3::hash(name.as_bytes()).to_hex();
    let kept = LONGEST - 9;
    let end = (0..=kept).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}_{}", &name[..end], &own.as_str()[..8]))
}

/// A table's name: small letters, digits and underscores, and no digit first.
pub(in crate::program) fn table(name: &str) -> String {
    let plain: String = name.chars().flat_map(char::to_lowercase).map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let plain = if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{plain}") } else { plain };
    column(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_far_as_they_can_be_and_long_ones_stay_apart() {
        assert_eq!(column("Any Column"), "Any Column");
        let long = "é".repeat(40);
        let (a, b) = (column(&long).into_owned(), column(&format!("{long}x")).into_owned());
        assert!(a.len() <= 63 && b.len() <= 63 && a != b && a.starts_with("éé"), "{a} {b}");
        assert_eq!(table("CamelCase"), "camelcase");
        assert_eq!(table("Größe - m"), "größe___m");
        assert_eq!(table("1st"), "_1st");
        assert_eq!(table(&"a".repeat(64)).len(), 63);
    }
}
