//! What an uploaded file may be called. Pure. A name that is odd in any way is refused and never quietly made another one.

use linkspan_core::{Error, ErrorKind, Result};

/// In bytes: file systems hold 255, and something is put before it in the store.
const LONGEST: usize = 200;
/// Workbooks that are no .xlsx.
const OTHER_BOOKS: [&str; 4] = [".xls", ".xlsb", ".xlsm", ".ods"];
/// Some systems take these for devices, whatever follows the first dot.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The name, when it can be a file's on any system and looks like what it is.
pub(super) fn checked<'a>(name: &'a str, endings: &[&str]) -> Result<&'a str> {
    if let Some(why) = odd(name) {
        return Err(Error::new(ErrorKind::ConfigInvalid, why)
            .with("field", "filename")
            .fix("give the file a plain name, such as orders-2026.csv"));
    }
    let lower = name.to_lowercase();
    if OTHER_BOOKS.iter().any(|ending| lower.ends_with(ending)) && !endings.iter().any(|ending| lower.ends_with(ending)) {
        // How large they are laid out cannot be told before they are.
        return Err(Error::new(ErrorKind::ConfigInvalid, "workbooks of this kind are not taken as uploads")
            .with("name", name)
            .fix("save it as .xlsx, or its sheets as .csv, and send that"));
    }
    if !endings.iter().any(|ending| lower.len() > ending.len() && lower.ends_with(ending)) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the file's ending does not say what it is")
            .with("name", name)
            .fix(format!("files end in one of {}", endings.join(" "))));
    }
    Ok(name)
}

fn odd(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let numbered = |device: &str| stem.strip_prefix(device).is_some_and(|n| n.chars().count() == 1 && n.chars().all(char::is_numeric));
    match name {
        "" => Some("the file has no name"),
        _ if name.len() > LONGEST => Some("the file's name is longer than 200 bytes"),
        _ if name.contains(['/', '\\']) || name.contains("..") => Some("the file's name is a path"),
        _ if name.chars().any(unseen) => Some("the file's name holds characters that nobody sees"),
        _ if name.chars().any(|c| matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '[' | ']') || like_a_slash(c)) => {
            Some("the file's name holds characters that mean something else in paths")
        }
        _ if name.starts_with(['.', ' ', '-', '~']) || name.ends_with(['.', ' ']) => Some("the file's name begins or ends oddly"),
        _ if DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt") => Some("the file's name is reserved"),
        _ => None,
    }
}

/// Control characters, and those that turn, join or hide others.
fn unseen(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

fn like_a_slash(c: char) -> bool {
    matches!(c, '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{fe68}' | '\u{ff0f}' | '\u{ff3c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_of_any_language_are_taken() {
        for name in
            ["orders.csv", "Orders 2026 (final).CSV", "übersicht_é.xlsx", "注文.csv", "o'neil & co.csv.gz", "a=b,c;d%20.csv", "console.csv"]
        {
            checked(name, &[".csv", ".xlsx", ".csv.gz"]).unwrap();
        }
    }

    #[test]
    fn odd_names_are_refused() {
        let long = format!("{}.csv", "x".repeat(200));
        let names = [
            "",
            "../a.csv",
            "a/b.csv",
            "C:\\a.csv",
            "..\\a.csv",
            "ok.csv\0.png",
            "a\n.csv",
            ".csv",
            ".hidden.csv",
            "a.csv.",
            "a.csv ",
            " a.csv",
            "-rf.csv",
            "nul.csv",
            "CON.csv",
            "com1.csv",
            "lpt¹.x.csv",
            "a:b.csv",
            "a*.csv",
            "a?.csv",
            "[a].csv",
            "a\"b.csv",
            "a\u{202e}vsc.csv",
            "a\u{200b}.csv",
            "a\u{ff0f}b.csv",
            "a\u{2215}b.csv",
            "a\u{feff}.csv",
            "a\u{e000}.csv",
            "a\u{a0}.csv",
            "a..csv",
            "a.exe",
            "csv",
            "a.csv.exe",
            long.as_str(),
        ];
        for name in names {
            assert_eq!(checked(name, &[".csv"]).expect_err(name).kind(), ErrorKind::ConfigInvalid);
        }
        for name in ["old.xls", "Free.ODS", "macros.xlsm"] {
            let e = checked(name, &[".csv", ".xlsx"]).expect_err(name);
            assert!(e.suggested_fix().is_some_and(|fix| fix.contains("save it as .xlsx")), "{e:?}");
        }
    }
}
