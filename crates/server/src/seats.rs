//! How many connections there may be at once, in all and from one address, so that nobody takes them all from the others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use linkspan_core::{Error, ErrorKind};

/// The most connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub in_all: usize,
    pub per_address: usize,
}

impl Default for Most {
    fn default() -> Self {
        Self { in_all: 8_192, per_address: 1_024 }
    }
}

/// Cheap to share.
#[derive(Clone, Debug)]
pub struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: Most,
    taken: Mutex<Taken>,
    refused: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    All,
    Address,
}

/// A connection's; dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    pub fn new(most: Most) -> Self {
        Self(Arc::new(Inner { most, taken: Mutex::default(), refused: Default::default() }))
    }

    pub fn take(&self, address: IpAddr) -> Result<Seat, Full> {
        let address = neighbourhood(address);
        let mut taken = self.held();
        let of_address = taken.by.get(&address).copied().unwrap_or(0);
        let full = match () {
            () if of_address >= self.0.most.per_address => Full::Address,
            () if taken.all >= self.0.most.in_all => Full::All,
            () => {
                taken.all += 1;
                taken.by.insert(address, of_address + 1);
                return Ok(Seat { seats: self.clone(), address });
            }
        };
        self.0.refused[full as usize].fetch_add(1, Relaxed);
        Err(full)
    }

    pub fn taken(&self) -> usize {
        self.held().all
    }

    /// How many were refused, by why.
    pub fn refused(&self) -> [(&'static str, u64); 2] {
        [("all", self.0.refused[0].load(Relaxed)), ("address", self.0.refused[1].load(Relaxed))]
    }

    /// Usable after a panic elsewhere.
    fn held(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.held();
        taken.all -= 1;
        if let Some(n) = taken.by.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                taken.by.remove(&self.address);
            }
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it, too.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Full {
    /// A whole answer: whoever gets it is not listened to any more.
    pub fn answer(self) -> String {
        let (status, error) = match self {
            Self::Address => (
                "429 Too Many Requests",
                Error::new(ErrorKind::RateLimited, "too many connections from one address at once")
                    .fix("send several requests over one connection; a server behind a proxy raises LINKSPAN_CONNECTIONS_PER_ADDRESS"),
            ),
            Self::All => (
                "503 Service Unavailable",
                Error::new(ErrorKind::Unavailable, "the server has no room for another connection").fix("try again in a moment"),
            ),
        };
        let body = serde_json::json!({ "error": error.to_json() }).to_string();
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{body}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_takes_its_own_share_and_gives_it_back() {
        let seats = Seats::new(Most { in_all: 3, per_address: 2 });
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut held = vec![seats.take(at("10.0.0.1")).unwrap(), seats.take(at("::ffff:10.0.0.1")).unwrap()];
        assert_eq!(seats.take(at("10.0.0.1")).unwrap_err(), Full::Address);
        held.push(seats.take(at("2001:db8::1")).unwrap());
        assert_eq!(seats.take(at("10.0.0.2")).unwrap_err(), Full::All);
        assert_eq!((seats.taken(), seats.refused()), (3, [("all", 1), ("address", 1)]));
        held.clear();
        let neighbours = [seats.take(at("2001:db8::1")).unwrap(), seats.take(at("2001:db8::ffff:1")).unwrap()];
        assert_eq!(seats.take(at("2001:db8::2")).unwrap_err(), Full::Address);
        assert!(seats.take(at("2001:db8:0:1::2")).is_ok());
        drop(neighbours);
        assert_eq!((seats.taken(), seats.held().by.len()), (0, 0));
    }
}
