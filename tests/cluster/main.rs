//! Several instances over one PostgreSQL, as operators run them.

#[cfg(test)]
mod budget;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod compile;
#[cfg(test)]
mod last_cent;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod smoke;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
