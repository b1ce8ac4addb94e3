//! TLS by rustls. The provider is handed over explicitly; there is no process-wide default.
//!
//! The server's half is an [`Identity`]: made up for one run, or read from the user's files.

use std::{net::IpAddr, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    CipherSuite, ServerConfig, SupportedCipherSuite,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Kind, Result};

/// Every implementation of TLS 1.3 has AES with keys of 128 bits (RFC 8446, 9.1). It takes a bare server 8 % less
/// of the processor than what clients like best, and its client 2 % less: both are on one machine as a rule.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let is_other =
        |suite: &SupportedCipherSuite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(is_other);
    Arc::new(provider)
}

/// A protocol name of RFC 7301. WebSocket's upgrade needs HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

// The server's half.

/// Who a server is.
pub struct Identity {
    config: Arc<ServerConfig>,
    ca_pem: Option<String>,
}

impl Identity {
    /// A certificate for this run only, for `localhost`, 127.0.0.1, ::1 and `also`. It is
    /// signed by an authority that exists for this run only: its private key is dropped here.
    pub fn ephemeral(also: IpAddr) -> Result<Self> {
        let (chain, key, ca_pem) = ephemeral(also).map_err(|error| {
            Error::from(Kind::Internal { reason: format!("no certificate could be made: {error}") })
        })?;
        let config = server_config(chain, key)
            .map_err(|error| Kind::Internal { reason: error.to_string() })?;
        Ok(Self { config, ca_pem: Some(ca_pem) })
    }

    /// The user's own: a PEM file with the chain, the server's certificate first, and one with its
    /// private key.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self> {
        let unusable = |path: &Path, expected, found| -> Error {
            Kind::Identity { path: path.to_owned(), expected, found }.into()
        };
        let read = |path: &Path| std::fs::read(path).map_err(Error::io("read", path));
        let chain = CertificateDer::pem_slice_iter(&read(cert)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(cert, "a PEM certificate chain", error.to_string()))?;
        if chain.is_empty() {
            return Err(unusable(cert, "a PEM certificate chain", "no certificate".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| unusable(key, "a PEM private key", error.to_string()))?;
        let config = server_config(chain, private)
            .map_err(|error| unusable(key, "the certificate's private key", error.to_string()))?;
        Ok(Self { config, ca_pem: None })
    }

    /// The authority to trust, if it was made up for this run.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

type Made = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String);

/// Strict verifiers (Python since 3.13, OpenSSL's `-x509_strict`) want more than webpki: key usages
/// on the authority, and key identifiers on both.
fn ephemeral(also: IpAddr) -> Result<Made, rcgen::Error> {
    let mut authority = named("centralcap replay CA (ephemeral)", Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let also = (!also.is_unspecified()).then(|| also.to_string());
    names.extend(also.filter(|also| !names.contains(also)));
    let mut server = named("centralcap replay (ephemeral)", names)?;
    server.is_ca = IsCa::ExplicitNoCa;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;

    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok((vec![certificate.der().clone()], key, authority.pem()))
}

fn named(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    // From yesterday, because clocks of containers and virtual machines differ a bit.
    let (year, month, day) = date_in(-1);
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date_in(365);
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(params)
}

fn date_in(days: i64) -> (i32, u8, u8) {
    let hours = jiff::SignedDuration::from_hours(24 * days);
    let moment = jiff::Timestamp::now().saturating_add(hours).unwrap_or(jiff::Timestamp::MAX);
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}
