//! The room `storage` on SQLite and, wherever it is found, on PostgreSQL: the same tests on both.

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod centroids;
#[cfg(test)]
mod compile;
#[cfg(test)]
mod faces;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod opening;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod prices;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod schema;
#[cfg(test)]
#[path = "../support/store.rs"]
mod store;
