//! Streams over a real socket: every quirk and cut of an upstream, every way in which a client can
//! leave, many at once, and the server's own end in the midst of them. After each test the books
//! must balance and the log must hold neither a secret nor a prompt (see `support::server`).

#[cfg(test)]
mod cancel;
#[cfg(test)]
mod credit;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod many;
#[cfg(test)]
mod passthrough;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod route;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod slices;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod truncation;
