//! Streams over a real socket: every quirk and cut of an upstream, every way in which a client can
//! leave, many at once, and the server's own end in the midst of them. After each test the books
//! must balance and the log must hold neither a secret nor a prompt (see `support::server`).

#[cfg(test)]
mod kit;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
