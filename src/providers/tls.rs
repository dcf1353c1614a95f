//! Which certificates of providers are trusted.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::SetupError;

/// Builds the TLS client: the bundled Mozilla roots, the system's roots, and the certificates of
/// `ca_file` (PEM; for providers of one's own). The bundled ones make it work in an empty
/// container; the system's honour what an administrator added.
///
/// ALPN offers HTTP/1.1 only; see [`super`].
///
/// # Errors
/// [`SetupError`] when the file can't be read or holds no certificate, or TLS can't be set up. A
/// root of the system that does not parse is left out.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, SetupError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let system = rustls_native_certs::load_native_certs();
    let (_, ignored) = roots.add_parsable_certificates(system.certs);
    if ignored > 0 || !system.errors.is_empty() {
        let errors = system.errors.len();
        log::debug!("system root certificates: {ignored} left out, {errors} not readable");
    }
    if let Some(path) = ca_file {
        add_ca_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let pem =
        std::fs::read(path).map_err(|source| SetupError::Read { path: path.to_owned(), source })?;
    let wrong = |problem: String| SetupError::CaFile { path: path.to_owned(), problem };
    let mut added = 0_usize;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| wrong(format!("not PEM: {error}; export it again")))?;
        roots.add(certificate).map_err(|error| wrong(format!("not a CA certificate: {error}")))?;
        added += 1;
    }
    if added == 0 {
        return Err(wrong("it holds no -----BEGIN CERTIFICATE-----; give a PEM file".to_owned()));
    }
    Ok(())
}
