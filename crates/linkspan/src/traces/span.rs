//! A span as it is told: ids, times, attributes. And where it hangs: its parent here, or the caller's that `traceparent` names.

use uuid::Uuid;

/// Which traces are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Of all traces that begin here: 0 to 1.
    pub share: f64,
    /// Whether a caller's trace is told exactly when the caller says so.
    pub follows_parent: bool,
}

/// What a span passes to those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Whole(i64),
    Float(f64),
    Bool(bool),
}

/// One that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub place: Place,
    pub parent: Option<[u8; 8]>,
    pub name: String,
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub from: u64,
    pub to: u64,
    pub attributes: Vec<(&'static str, Value)>,
    pub failed: bool,
}

impl Place {
    /// The caller's, by the W3C's header; nothing when it is not whole.
    pub fn of_header(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let more_is_fine = version != "00" || parts.next().is_none();
        if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) || !more_is_fine {
            return None;
        }
        let place = Self {
            trace: u128::from_str_radix(trace, 16).ok()?.to_be_bytes(),
            span: u64::from_str_radix(span, 16).ok()?.to_be_bytes(),
            told: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (place.trace != [0; 16] && place.span != [0; 8]).then_some(place)
    }
    /// Below a span of this process.
    pub fn below(self) -> Self {
        Self { span: fresh_span(), ..self }
    }
    /// Below a caller's span, or at the root of a new trace.
    pub fn begun(caller: Option<Self>, sampler: Sampler) -> Self {
        let trace = caller.map_or_else(fresh_trace, |c| c.trace);
        let told = match caller {
            Some(caller) if sampler.follows_parent => caller.told,
            _ => sampler.takes(trace),
        };
        Self { trace, span: fresh_span(), told }
    }
}

impl Sampler {
    /// The same answer for a trace wherever it is asked.
    fn takes(self, trace: [u8; 16]) -> bool {
        let low = u64::from_be_bytes([trace[8], trace[9], trace[10], trace[11], trace[12], trace[13], trace[14], trace[15]]) >> 1;
        self.share >= 1.0 || (low as f64) < self.share * (1_u64 << 63) as f64
    }
}

/// Random to the last bit, since samplers judge by them.
fn fresh_trace() -> [u8; 16] {
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&fresh_span());
    trace[8..].copy_from_slice(&fresh_span());
    trace
}

/// From a UUID without the bits that it fixes.
fn fresh_span() -> [u8; 8] {
    let random = Uuid::new_v4().into_bytes();
    let mut span = [0; 8];
    span[..6].copy_from_slice(&random[..6]);
    span[6..].copy_from_slice(&random[14..]);
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_place_is_read_whole_or_not_at_all() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let place = Place::of_header(text).unwrap();
        assert_eq!((place.trace[0], place.span[7], place.told), (0x0a, 0x31, true));
        assert!(!Place::of_header(&text.replace("-01", "-00")).unwrap().told);
        assert!(Place::of_header(&format!("{}-more", text.replacen("00", "01", 1))).is_some(), "a later version may say more");
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Place::of_header(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sampler_takes_its_share_and_follows_its_caller() {
        let share = |share, follows_parent| Sampler { share, follows_parent };
        let told = |s: Sampler| (0..2_000).filter(|_| Place::begun(None, s).told).count();
        assert_eq!((told(share(1.0, true)), told(share(0.0, true))), (2_000, 0));
        assert!((300..700).contains(&told(share(0.25, false))));
        let caller = Place { trace: [255; 16], span: [1; 8], told: true };
        assert!(Place::begun(Some(caller), share(0.0, true)).told && !Place::begun(Some(caller), share(0.0, false)).told);
        let below = caller.below();
        assert!(below.trace == caller.trace && below.span != caller.span && below.told);
    }
}
