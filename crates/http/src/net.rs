//! Plain sockets with a guard: databases live on private networks, but nobody's database lives where a cloud hands out its
//! machine's credentials. Names are resolved once and the connection goes to an address that passed.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use linkspan_core::{BoxDuplex, Error, ErrorKind, Net, Result};

use crate::guard::{Network, Refused};

/// Link local addresses and those at which clouds tell a machine who it is.
const REFUSED: &[&str] =
    &["169.254.0.0/16", "fe80::/10", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"];

/// Reaches any host but those that only this machine should ask, unless their network is allowed.
pub struct GuardedNet {
    inner: Arc<dyn Net>,
    allow: Vec<Network>,
    refused: Vec<Network>,
}

impl GuardedNet {
    pub fn new(inner: Arc<dyn Net>, allow: Vec<Network>) -> Self {
        let refused = REFUSED.iter().map(|text| text.parse().expect("the list is well written")).collect();
        Self { inner, allow, refused }
    }
    fn refuses(&self, address: IpAddr) -> bool {
        let address = translated(address);
        let within = |networks: &[Network]| networks.iter().any(|n| n.contains(address));
        within(&self.refused) && !within(&self.allow)
    }
}

#[async_trait]
impl Net for GuardedNet {
    async fn tcp(&self, host: &str, port: u16, within: Duration) -> Result<BoxDuplex> {
        let addresses = resolved(host, port, within).await?;
        let mut last = None;
        for address in addresses {
            if self.refuses(address) {
                last = last.or(Some(Refused { host: host.to_owned(), what: "link local and metadata" }.error()));
                continue;
            }
            match self.inner.tcp(&address.to_string(), port, within).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| unknown(host)))
    }
    /// Who asks over a socket of this machine may count there as the one who runs this process, without a password.
    async fn unix(&self, path: &Path, _: Duration) -> Result<BoxDuplex> {
        Err(Error::new(ErrorKind::PermissionDenied, "a server's connectors use no sockets of its machine")
            .with("socket", path.display())
            .fix("name the host and port"))
    }
}

/// The IPv4 address behind a translator's prefix (RFC 6052, `64:ff9b::/96`).
fn translated(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(a) => match a.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into(),
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

async fn resolved(host: &str, port: u16, within: Duration) -> Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let looked_up = tokio::time::timeout(within, tokio::net::lookup_host((host, port))).await;
    match looked_up {
        Ok(Ok(found)) => Ok(found.map(|a| a.ip()).collect()),
        Ok(Err(e)) => Err(unknown(host).because(e)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the host's name was not resolved in time").with("host", host)),
    }
}

fn unknown(host: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "the host cannot be reached").with("host", host).fix("check the host's name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Remembers where it was asked to go, and goes nowhere.
    #[derive(Default)]
    struct Asked(Mutex<Vec<String>>);

    #[async_trait]
    impl Net for Asked {
        async fn tcp(&self, host: &str, _: u16, _: Duration) -> Result<BoxDuplex> {
            self.0.lock().unwrap().push(host.to_owned());
            Err(Error::new(ErrorKind::Unavailable, "nobody is there"))
        }
        async fn unix(&self, _: &Path, _: Duration) -> Result<BoxDuplex> {
            Err(Error::new(ErrorKind::Unavailable, "nobody is there"))
        }
    }

    #[tokio::test]
    async fn a_machine_s_own_secrets_are_out_of_reach_and_private_hosts_are_not() {
        let asked = Arc::new(Asked::default());
        let net = GuardedNet::new(asked.clone(), vec![]);
        let second = Duration::from_secs(1);
        for host in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "[fd00:ec2::254]",
            "fd20:ce::254",
            "64:ff9b::169.254.169.254",
            "100.100.100.200",
        ] {
            let e = net.tcp(host, 5432, second).await.err().expect("refused");
            assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{host}");
        }
        let e = net.unix(Path::new("/run/postgresql/.s.PGSQL.5432"), second).await.err().expect("refused");
        assert_eq!(e.kind(), ErrorKind::PermissionDenied);
        assert!(asked.0.lock().unwrap().is_empty());
        for host in ["10.0.0.1", "127.0.0.1", "fd12::1"] {
            assert_eq!(net.tcp(host, 5432, second).await.err().expect("nobody").kind(), ErrorKind::Unavailable);
        }
        assert_eq!(*asked.0.lock().unwrap(), ["10.0.0.1", "127.0.0.1", "fd12::1"]);
    }

    #[tokio::test]
    async fn an_operator_may_allow_a_network() {
        let asked = Arc::new(Asked::default());
        let net = GuardedNet::new(asked.clone(), vec!["169.254.7.0/24".parse().unwrap()]);
        net.tcp("169.254.7.1", 1, Duration::from_secs(1)).await.err().expect("nobody");
        assert_eq!(*asked.0.lock().unwrap(), ["169.254.7.1"]);
    }
}
