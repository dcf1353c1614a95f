//! Chaos on real processes: three instances behind nginx over one PostgreSQL, clients that hang
//! up, and a nemesis that kills, stops, cuts and freezes. At the end a checker joins what every
//! client saw with the books.
//!
//! `CHAOS_SEED` plays a schedule again, `CHAOS_FAULTS` says how many faults there are (200 by
//! default), `CHAOS_SECONDS` for how long at least there is load.

#[cfg(test)]
mod books;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod nemesis;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod plan;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod run;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod standstill;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod zombie;
