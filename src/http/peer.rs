//! Whose address a request comes from, where proxies stand before the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use ipnet::IpNet;

/// The client's address: the connection's own, or where that is a trusted proxy's, the last one in
/// `X-Forwarded-For` that no trusted proxy has. What stands before it could be anybody's invention.
pub(super) fn client_address(req: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    let peer = req.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let values = req.headers().get_all("x-forwarded-for");
    // A client can put bytes that are no text before what a proxy adds to the same line: left out,
    // an earlier line of the client's would count as the proxy's word.
    let texts: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    client_of(peer, &texts, trusted)
}

fn client_of(peer: IpAddr, forwarded: &[impl AsRef<str>], trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    let mut client = peer.to_canonical();
    for text in forwarded.iter().rev().flat_map(|value| value.as_ref().rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = address_in(text.trim()) else { break };
        client = address.to_canonical();
    }
    client
}

/// An address, with or without a port.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], trusted: &[&str], expected: &str) {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let found = client_of(peer.parse().unwrap(), forwarded, &trusted);
        assert_eq!(found.to_string(), expected, "{peer} {forwarded:?} {trusted:?}");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        check("10.0.0.1", &["1.2.3.4"], &[], "10.0.0.1");
        check("10.0.0.1", &["1.2.3.4"], &["127.0.0.0/8"], "10.0.0.1");
        check("10.0.0.1", &["1.2.3.4"], &["10.0.0.0/8"], "1.2.3.4");
        check("10.0.0.1", &[], &["10.0.0.0/8"], "10.0.0.1");
        check("::ffff:10.0.0.1", &["1.2.3.4"], &["10.0.0.0/8"], "1.2.3.4");
        check("::1", &["[2001:db8::1]:443"], &["::1/128"], "2001:db8::1");
    }

    #[test]
    fn the_last_untrusted_address_counts_whatever_a_client_sends_before_it() {
        let trusted = ["10.0.0.0/8"];
        check("10.0.0.1", &["6.6.6.6, 1.2.3.4"], &trusted, "1.2.3.4");
        check("10.0.0.1", &["6.6.6.6", "1.2.3.4:55, 10.0.0.2"], &trusted, "1.2.3.4");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &trusted, "10.0.0.3");
        check("10.0.0.1", &["6.6.6.6, nonsense"], &trusted, "10.0.0.1");
        check("10.0.0.1", &["6.6.6.6, , 10.0.0.2"], &trusted, "10.0.0.2");
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing() {
        use actix_web::{http::header::HeaderValue, test::TestRequest};
        let own = HeaderValue::from_bytes(b"\xff, 1.2.3.4").unwrap();
        let req = TestRequest::default()
            .peer_addr("10.0.0.1:5".parse().unwrap())
            .append_header(("x-forwarded-for", "6.6.6.6"))
            .append_header(("x-forwarded-for", own))
            .to_http_request();
        let client = client_address(&req, &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(client.to_string(), "1.2.3.4");
    }
}
