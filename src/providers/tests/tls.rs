//! Real TLS: a private authority is trusted when it is named, and only then.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::{
    super::{ProviderError, SetupError},
    chat, pool, pool_with,
};

/// A TLS server that answers every request with `{}`, and the PEM of its authority.
fn server() -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream.unwrap());
            let mut request = [0; 4_096];
            if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                stream.flush().unwrap();
            }
        }
    });
    (url, authority.pem())
}

#[actix::test]
async fn a_provider_of_a_named_authority_is_trusted() {
    let (url, pem) = server();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let providers = pool_with(&url, |_| {}, Some(&ca_file)).unwrap();
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(response.body.collect(10).await.unwrap(), "{}");
}

#[actix::test]
async fn a_provider_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let (url, _) = server();
    let providers = pool(&url, |_| {});
    let error = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Tls { .. }), "{error:?}");
    assert!(!error.may_have_been_billed());
}

#[test]
fn a_ca_file_without_a_certificate_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let load = || pool_with("http://127.0.0.1:9", |_| {}, Some(&ca_file)).unwrap_err();
    assert!(matches!(load(), SetupError::Read { .. }));
    std::fs::write(&ca_file, "not a certificate").unwrap();
    let message = load().to_string();
    assert!(message.contains("ca.pem") && message.contains("PEM file"), "{message}");
}
