//! The guard against internal addresses: which hosts a request may reach. Names are resolved once, the answers are filtered,
//! and the connection goes to an address that passed: nothing is resolved a second time.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use linkspan_core::{Error, ErrorKind, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Where requests may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anywhere: for commands that a person runs on their own machine.
    Open,
    /// Public addresses, and the networks named here.
    Guarded { allow: Vec<Network> },
}

/// A network by its prefix (`10.1.0.0/16`, `fd00::/8`, or one address).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }
    const fn v6(head: [u16; 2], prefix: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(head[0], head[1], 0, 0, 0, 0, 0, 0)), prefix }
    }
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, unwrapped(address)) {
            (IpAddr::V4(base), IpAddr::V4(a)) => same_head(u128::from(base.to_bits()) << 96, u128::from(a.to_bits()) << 96, self.prefix),
            (IpAddr::V6(base), IpAddr::V6(a)) => same_head(base.to_bits(), a.to_bits(), self.prefix),
            _ => false,
        }
    }
}

fn same_head(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

impl FromStr for Network {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(ErrorKind::ConfigInvalid, "not a network")
                .with("text", text)
                .fix("write an address with a prefix, such as 10.1.0.0/16")
        };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let base: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |p| p.parse::<u8>().map_err(|_| bad()))?;
        if prefix > most {
            return Err(bad());
        }
        Ok(Self { base, prefix })
    }
}

/// What is no place on the public internet, by the registries of special addresses.
const REFUSED: &[(Network, &str)] = &[
    (Network::v4(0, 0, 0, 0, 8), "this network"),
    (Network::v4(10, 0, 0, 0, 8), "private"),
    (Network::v4(100, 64, 0, 0, 10), "carrier NAT"),
    (Network::v4(127, 0, 0, 0, 8), "loopback"),
    (Network::v4(169, 254, 0, 0, 16), "link local and metadata"),
    (Network::v4(172, 16, 0, 0, 12), "private"),
    (Network::v4(192, 0, 0, 0, 24), "reserved"),
    (Network::v4(192, 0, 2, 0, 24), "documentation"),
    (Network::v4(192, 88, 99, 0, 24), "6to4 relay"),
    (Network::v4(192, 168, 0, 0, 16), "private"),
    (Network::v4(198, 18, 0, 0, 15), "benchmark"),
    (Network::v4(198, 51, 100, 0, 24), "documentation"),
    (Network::v4(203, 0, 113, 0, 24), "documentation"),
    (Network::v4(224, 0, 0, 0, 4), "multicast"),
    (Network::v4(240, 0, 0, 0, 4), "reserved or broadcast"),
    (Network::v6([0x2001, 0], 32), "Teredo"),
    (Network::v6([0x2001, 0xdb8], 32), "documentation"),
    (Network::v6([0x2002, 0], 16), "6to4"),
    (Network::v6([0x3fff, 0], 20), "documentation"),
];
/// Global unicast: every IPv6 address outside of it (loopback, NAT64, unique local, link local, multicast) is refused.
const GLOBAL_V6: Network = Network::v6([0x2000, 0], 3);

/// An IPv4 address in IPv6 clothes is judged as what it is.
fn unwrapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn special(address: IpAddr) -> Option<&'static str> {
    let address = unwrapped(address);
    if let Some((_, what)) = REFUSED.iter().find(|(network, _)| network.contains(address)) {
        return Some(what);
    }
    (address.is_ipv6() && !GLOBAL_V6.contains(address)).then_some("not global unicast")
}

impl Policy {
    /// Why this address may not be reached; `None` when it may.
    pub fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::Guarded { allow } if allow.iter().any(|network| network.contains(address)) => None,
            Self::Guarded { .. } => special(address),
        }
    }
    /// Judges what a URL itself says: its scheme, and its host when that is an address. Names are judged when they are resolved.
    pub fn check(&self, url: &Url) -> Result<()> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::new(ErrorKind::ConfigInvalid, "only http and https are spoken here").with("scheme", url.scheme()));
        }
        let address = match url.host() {
            Some(Host::Ipv4(a)) => IpAddr::V4(a),
            Some(Host::Ipv6(a)) => IpAddr::V6(a),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Error::new(ErrorKind::ConfigInvalid, "the URL names no host")),
        };
        self.refuses(address).map_or(Ok(()), |what| Err(Refused { host: address.to_string(), what }.error()))
    }
}

/// A host whose addresses were all refused. Travels through the client's errors as their cause.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub host: String,
    pub what: &'static str,
}

impl Refused {
    pub fn error(&self) -> Error {
        Error::new(ErrorKind::PermissionDenied, "requests to internal addresses are refused")
            .with("host", &self.host)
            .with("address", self.what)
            .fix("use a public host, or let an operator allow its network")
    }
}
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused: {}", self.host, self.what)
    }
}
impl std::error::Error for Refused {}

/// Resolves a name once and hands on only what the policy lets through.
pub(crate) struct GuardedResolver(pub Policy);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(admitted(&policy, host, found)?.into_iter()) as Addrs)
        })
    }
}

fn admitted(policy: &Policy, host: String, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let first = found.iter().find_map(|a| policy.refuses(a.ip()));
    let kept: Vec<_> = found.into_iter().filter(|a| policy.refuses(a.ip()).is_none()).collect();
    match first {
        Some(what) if kept.is_empty() => Err(Refused { host, what }),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARDED: Policy = Policy::Guarded { allow: Vec::new() };

    #[test]
    fn the_published_vectors_hold() {
        let Ok(shared) = std::env::var("LINKSPAN_SHARED") else {
            println!("skipped: LINKSPAN_SHARED does not name the vectors");
            return;
        };
        let (mut cases, mut folders) = (0, 0);
        for folder in std::fs::read_dir(format!("{shared}/vectors")).unwrap() {
            let Ok(text) = std::fs::read_to_string(folder.unwrap().path().join("ssrf.json")) else { continue };
            folders += 1;
            for case in serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap() {
                let url = Url::parse(case["url"].as_str().unwrap());
                let allowed = url.is_ok_and(|u| GUARDED.check(&u).is_ok());
                assert_eq!(allowed, case["expect"]["allowed"].as_bool().unwrap(), "{case}");
                cases += 1;
            }
        }
        assert!(folders >= 1 && cases >= 30, "{cases} vectors in {folders} files");
    }

    #[test]
    fn an_internal_address_is_found_in_any_spelling() {
        for url in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://[::ffff:10.0.0.1]/",
            "http://[::127.0.0.1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[100::1]/",
            "http://[64:ff9b:1::1]/",
            "http://[3fff::1]/",
            "http://[5f00::1]/",
            "http://127.0.0.1.:80/",
            "http://１２７.0.0.1/",
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(GUARDED.check(&url).unwrap_err().kind(), ErrorKind::PermissionDenied, "{url}");
        }
    }

    #[test]
    fn an_allowed_network_opens_only_itself() {
        let policy = Policy::Guarded { allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()] };
        assert!(policy.refuses("10.1.2.3".parse().unwrap()).is_none());
        assert!(policy.refuses("::ffff:10.1.2.3".parse().unwrap()).is_none());
        assert!(policy.refuses("fd00:1::5".parse().unwrap()).is_none());
        assert!(policy.refuses("10.2.0.1".parse().unwrap()).is_some());
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("host/8".parse::<Network>().is_err());
    }

    #[test]
    fn of_a_names_answers_only_the_public_ones_are_kept() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let kept = admitted(&GUARDED, "h".into(), vec![at("127.0.0.1"), at("8.8.8.8")]).unwrap();
        assert_eq!(kept, [at("8.8.8.8")]);
        assert!(admitted(&GUARDED, "h".into(), vec![at("127.0.0.1"), at("::1")]).is_err());
    }
}
