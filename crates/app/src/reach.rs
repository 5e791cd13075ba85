//! Where databases may be when others than the person at this machine name them: anywhere but link-local and metadata addresses.
//! A name is resolved once, and the connection goes to an address that passed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use linkspan_core::{BoxDuplex, Error, ErrorKind, Net, Result};

/// A guard before another way to hosts; for the context of a server.
pub struct GuardedNet(pub Arc<dyn Net>);

#[async_trait]
impl Net for GuardedNet {
    async fn tcp(&self, host: &str, port: u16, within: Duration) -> Result<BoxDuplex> {
        let unknown = || Error::new(ErrorKind::Unavailable, "the host cannot be reached").with("address", format!("{host}:{port}"));
        let found = tokio::time::timeout(within, tokio::net::lookup_host((host, port))).await;
        let found = found.map_err(|_| unknown().fix("look at the name servers"))?;
        let all: Vec<IpAddr> = found.map_err(|e| unknown().fix("check the host's name").because(e))?.map(|a| a.ip()).collect();
        let mut last = refused(host);
        for address in all.into_iter().filter(|a| !is_forbidden(*a)) {
            match self.0.tcp(&address.to_string(), port, within).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
    async fn unix(&self, path: &Path, within: Duration) -> Result<BoxDuplex> {
        self.0.unix(path, within).await
    }
}

fn refused(host: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, "this address is not for databases: link-local, metadata or none")
        .with("host", host)
        .fix("name the database's own address")
}

/// Link-local, unspecified, and the addresses at which clouds tell a machine its secrets.
fn is_forbidden(address: IpAddr) -> bool {
    const METADATA_V6: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
    match address.to_canonical() {
        IpAddr::V4(a) => {
            a.is_link_local()
                || a.is_unspecified()
                || a.is_broadcast()
                || a.is_multicast()
                || [[100, 100, 100, 200], [192, 0, 0, 192]].contains(&a.octets())
        }
        IpAddr::V6(a) => match a.segments() {
            // An IPv4 address behind a translator.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_forbidden(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into()),
            [first, ..] => a.is_unspecified() || a.is_multicast() || first & 0xffc0 == 0xfe80 || METADATA_V6.contains(&a),
        },
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::SystemNet;

    use super::*;

    #[test]
    fn metadata_and_link_local_addresses_are_forbidden_in_any_form() {
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "64:ff9b::169.254.169.254",
        ] {
            assert!(is_forbidden(bad.parse().unwrap()), "{bad}");
        }
        for good in ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(!is_forbidden(good.parse().unwrap()), "{good}");
        }
    }

    #[tokio::test]
    async fn a_database_on_this_machine_is_reached_and_the_metadata_service_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let net = GuardedNet(Arc::new(SystemNet));
        assert!(net.tcp("localhost", port, Duration::from_secs(5)).await.is_ok());
        // However the address is spelled.
        for host in ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
            let e = net.tcp(host, 80, Duration::from_secs(5)).await.err().unwrap();
            assert!(matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unavailable), "{host}: {e:?}");
        }
        assert_eq!(net.tcp("169.254.169.254", 80, Duration::from_secs(5)).await.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }
}
