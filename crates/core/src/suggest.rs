//! The nearest right name, for errors about unknown ones.

/// Slips in the longest of names.
const MOST: usize = 3;

/// The candidate nearest to `wrong`, if it is near enough to be meant: one slip in a short word, one more for every four letters.
/// A wrong hint is worse than none.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    let slips = |c: &str| {
        let letters = c.chars().count().max(lower.chars().count());
        (letters / 4).clamp(1, MOST).min(letters.saturating_sub(1))
    };
    // A name that is only begun is meant, too.
    let is_begun = |c: &str| lower.chars().count() >= 4 && c.to_lowercase().starts_with(&lower);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(d, c)| *d <= slips(c) || is_begun(c))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// `did you mean "x"?` or nothing.
pub fn did_you_mean<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, candidates).map(|c| format!("did you mean \"{c}\"?"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(super::nearest("pasword", ["host", "password"]), Some("password"));
        assert_eq!(super::nearest("zzz", ["host", "password"]), None);
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        for (slip, meant) in [
            ("fakr", "faker"),
            ("Custmoer", "customers"),
            ("connecters", "connectors"),
            ("bb", "b"),
            ("typ", "type"),
            ("updated", "updated_at"),
        ] {
            assert_eq!(super::nearest(slip, ["zebra", meant]), Some(meant));
        }
        for (word, other) in [("orders", "users"), ("host", "port"), ("name", "mode"), ("shop", "lake"), ("a", "b"), ("email", "name")] {
            assert_eq!(super::nearest(word, [other]), None, "{word} is not {other}");
        }
    }
}
