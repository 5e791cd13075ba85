//! TLS to a database server, shared by the connectors that ask for it inside their protocol. Modes as libpq means them: six modes, of which the two lowest checks (none, the chain alone) are not rustls's own.

use std::{path::Path, sync::Arc};

use linkspan_core::{BoxDuplex, Error, ErrorKind, Result, file_error};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// libpq's TLS modes, with libpq's meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only when the server refuses the login without it.
    Allow,
    /// TLS when the server offers it, else plain.
    #[default]
    Prefer,
    /// TLS or nothing; the certificate is not checked unless `sslrootcert` is set.
    Require,
    /// TLS with a certificate of a trusted authority; the host's name is not compared.
    VerifyCa,
    /// TLS with a trusted certificate for this very host.
    VerifyFull,
}

impl SslMode {
    const NAMES: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "not an sslmode")
                .with("sslmode", text)
                .fix("use disable, allow, prefer, require, verify-ca or verify-full")
        })
    }
}

/// What a config asks of the TLS to one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub host: &'a str,
    pub sslmode: SslMode,
    pub sslrootcert: Option<&'a Path>,
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

impl Check {
    fn of(wanted: Wanted<'_>) -> Self {
        match wanted.sslmode {
            SslMode::VerifyFull => Self::ChainAndName,
            SslMode::VerifyCa => Self::Chain,
            _ if wanted.sslrootcert.is_some() => Self::Chain,
            _ => Self::Nothing,
        }
    }
}

/// Puts TLS over a channel whose server has agreed to it.
pub(crate) async fn wrap(channel: BoxDuplex, wanted: Wanted<'_>) -> Result<BoxDuplex> {
    let host = wanted.host;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| {
        Error::new(ErrorKind::ConfigInvalid, "the host is not a name that TLS can check")
            .with("host", host)
            .fix("use a DNS name or an address")
            .because(e)
    })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(wanted)?));
    let stream = connector.connect(name, channel).await.map_err(|e| handshake_error(&e, host))?;
    Ok(Box::pin(stream))
}

fn client_config(wanted: Wanted<'_>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier::new(Check::of(wanted), wanted.sslrootcert, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::new(ErrorKind::Internal, "TLS cannot be set up").because(e))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    /// Certificates of `sslrootcert`: a self-signed server certificate may stand there itself, as libpq allows.
    trusted: Vec<CertificateDer<'static>>,
    webpki: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(check: Check, rootcert: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let provider = provider.clone();
        if check == Check::Nothing {
            return Ok(Self { check, provider, trusted: Vec::new(), webpki: None });
        }
        let trusted = trusted(rootcert)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map_err(|e| {
            Error::new(ErrorKind::ConfigInvalid, "there is no certificate to trust")
                .fix("set `sslrootcert` to a PEM file with the authority's certificate")
                .because(e)
        })?;
        Ok(Self { check, provider, trusted, webpki: Some(webpki) })
    }
}

fn trusted(rootcert: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    let Some(path) = rootcert.filter(|p| *p != Path::new("system")) else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    let pem = std::fs::read(path).map_err(|e| file_error("the file of `sslrootcert` cannot be read", path, e))?;
    let certs: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "the file of `sslrootcert` holds no certificate")
            .with("path", path.display())
            .fix("give a PEM file that starts with -----BEGIN CERTIFICATE-----")),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(webpki) = &self.webpki else { return Ok(ServerCertVerified::assertion()) };
        if self.trusted.iter().any(|c| c.as_ref() == end_entity.as_ref()) {
            if self.check == Check::ChainAndName {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // The chain is checked before the name: this error means that the chain is good.
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }))
                if self.check == Check::Chain =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server that has no TLS although the config asks for it.
pub(crate) fn not_offered() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the server does not offer TLS")
        .with("tls", "not offered")
        .fix("turn TLS on at the server, or use sslmode=prefer or sslmode=disable")
}

fn handshake_error(e: &std::io::Error, host: &str) -> Error {
    let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let cause = tls.map_or_else(|| e.to_string(), ToString::to_string);
    let (message, fix) = match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => (
            "the server's certificate is for another host",
            "connect by a name that is in the certificate, or use sslmode=verify-ca to check the authority only",
        ),
        Some(rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            ("the server's certificate has expired", "renew the server's certificate; sslmode=require encrypts without checking it")
        }
        Some(rustls::Error::InvalidCertificate(_)) => (
            "the server's certificate is not trusted",
            "set `sslrootcert` to the certificate of the authority that signed it; sslmode=require encrypts without checking it",
        ),
        Some(_) => ("the TLS handshake failed", "check the server's TLS settings, or try another sslmode"),
        None => {
            return Error::new(ErrorKind::Unavailable, "the connection broke during the TLS handshake")
                .with("host", host)
                .with("tls", "handshake")
                .fix("check the server's TLS settings, or try another sslmode")
                .because(std::io::Error::new(e.kind(), cause));
        }
    };
    Error::new(ErrorKind::ConfigInvalid, message).with("host", host).with("tls", "handshake").fix(fix).because(std::io::Error::other(cause))
}
