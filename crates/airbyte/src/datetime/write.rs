//! `strftime` in the C locale, with glibc's flags and widths.

use super::Moment;

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
/// No format needs more; a width beyond it is a bomb.
const WIDEST: usize = 1024;

pub(super) fn written(moment: &Moment, format: &str) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let flags = after.len() - after.trim_start_matches(['-', '_', '0', '^', '#']).len();
        let width = after[flags..].len() - after[flags..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let asked = Asked::new(&after[..flags], &after[flags..flags + width]);
        let Some(directive) = after[flags + width..].chars().next() else {
            out.push_str(&rest[at..]);
            return out;
        };
        let length = 1 + flags + width + directive.len_utf8();
        match piece(moment, directive) {
            Some(piece) => out.push_str(&asked.shaped(piece)),
            None => out.push_str(&rest[at..at + length]),
        }
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

enum Piece {
    /// A number, how wide it is, and with what it is filled.
    Number(i64, usize, char),
    Text(String),
}

struct Asked {
    fill: Option<char>,
    upper: bool,
    swap: bool,
    width: Option<usize>,
}

impl Asked {
    fn new(flags: &str, width: &str) -> Self {
        let fill = flags.chars().rev().find(|c| "-_0".contains(*c));
        Self { fill, upper: flags.contains('^'), swap: flags.contains('#'), width: width.parse().ok().map(|w: usize| w.min(WIDEST)) }
    }

    fn shaped(&self, piece: Piece) -> String {
        match piece {
            Piece::Number(value, width, fill) => {
                let width = self.width.unwrap_or(width);
                match self.fill.unwrap_or(fill) {
                    '-' => value.to_string(),
                    '_' | ' ' => format!("{value:>width$}"),
                    _ => format!("{value:0width$}"),
                }
            }
            Piece::Text(text) => {
                let text = if self.upper || self.swap { text.to_uppercase() } else { text };
                match self.width {
                    Some(width) if self.fill == Some('0') => "0".repeat(width.saturating_sub(text.len())) + &text,
                    Some(width) => format!("{text:>width$}"),
                    None => text,
                }
            }
        }
    }
}

fn piece(moment: &Moment, directive: char) -> Option<Piece> {
    let wall = moment.wall;
    let (date, hour) = (wall.date(), i64::from(wall.hour()));
    let two = |value: i64| Some(Piece::Number(value, 2, '0'));
    let text = |text: &str| Some(Piece::Text(text.to_owned()));
    let nested = |format: &str| Some(Piece::Text(written(moment, format)));
    let weekday = i64::from(date.weekday().to_monday_zero_offset());
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    match directive {
        'a' => text(&DAYS[weekday as usize][..3]),
        'A' => text(DAYS[weekday as usize]),
        'b' | 'h' => text(&MONTHS[date.month() as usize - 1][..3]),
        'B' => text(MONTHS[date.month() as usize - 1]),
        'c' => nested("%a %b %e %H:%M:%S %Y"),
        'C' => Some(Piece::Number(i64::from(date.year()) / 100, 0, '0')),
        'd' => two(date.day().into()),
        'D' | 'x' => nested("%m/%d/%y"),
        'e' => Some(Piece::Number(date.day().into(), 2, ' ')),
        'f' => text(&format!("{:06}", wall.subsec_nanosecond() / 1000)),
        'F' => nested("%Y-%m-%d"),
        'g' => two(i64::from(date.iso_week_date().year()) % 100),
        'G' => Some(Piece::Number(date.iso_week_date().year().into(), 0, '0')),
        'H' => two(hour),
        'I' => two(hour12),
        'j' => Some(Piece::Number(date.day_of_year().into(), 3, '0')),
        'k' => Some(Piece::Number(hour, 2, ' ')),
        'l' => Some(Piece::Number(hour12, 2, ' ')),
        'm' => two(date.month().into()),
        'M' => two(wall.minute().into()),
        'n' => text("\n"),
        'p' => text(if hour < 12 { "AM" } else { "PM" }),
        'P' => text(if hour < 12 { "am" } else { "pm" }),
        'r' => nested("%I:%M:%S %p"),
        'R' => nested("%H:%M"),
        // Inside a longer format the reference's own rule for %s does not hold: C reads the wall time as the machine's zone, which is UTC here.
        's' => Some(Piece::Number(Moment::utc(wall).epoch_micros().div_euclid(1_000_000) as i64, 0, '0')),
        'S' => two(wall.second().into()),
        't' => text("\t"),
        'T' | 'X' => nested("%H:%M:%S"),
        'u' => Some(Piece::Number(weekday + 1, 1, '0')),
        'U' => two((i64::from(date.day_of_year()) + 6 - (weekday + 1) % 7) / 7),
        'V' => two(date.iso_week_date().week().into()),
        'w' => Some(Piece::Number((weekday + 1) % 7, 1, '0')),
        'W' => two((i64::from(date.day_of_year()) + 6 - weekday) / 7),
        'y' => two(i64::from(date.year()) % 100),
        'Y' => Some(Piece::Number(date.year().into(), 0, '0')),
        'z' => Some(Piece::Text(offset(moment, ""))),
        'Z' if moment.offset.is_zero() => text("UTC"),
        'Z' => Some(Piece::Text(format!("UTC{}", offset(moment, ":")))),
        '%' => text("%"),
        _ => None,
    }
}

fn offset(moment: &Moment, colon: &str) -> String {
    let micros = moment.offset.as_micros();
    let (sign, micros) = if micros < 0 { ('-', -micros) } else { ('+', micros) };
    let seconds = micros / 1_000_000;
    let mut text = format!("{sign}{:02}{colon}{:02}", seconds / 3600, seconds / 60 % 60);
    if micros % 60_000_000 != 0 {
        text += &format!("{colon}{:02}", seconds % 60);
    }
    if micros % 1_000_000 != 0 {
        text += &format!(".{:06}", micros % 1_000_000);
    }
    text
}
