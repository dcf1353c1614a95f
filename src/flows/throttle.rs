//! How often one address may try to log in or register, and how often a login may fail.
//!
//! Attempts are counted in windows of `login_window_ms`, in memory: each server counts for itself,
//! so N servers behind a load balancer allow N times as much. An attempt is counted before the
//! password is looked at, so that attempts at the same time count too.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use quick_cache::unsync::Cache;
use sha2::{Digest, Sha256};

use super::Failure;
use crate::{
    config::Limits,
    domain::{EmailAddress, ErrorCode},
};

/// Counts attempts.
pub(super) struct Throttle {
    window: Duration,
    per_address_max: u32,
    per_login_max: u32,
    registrations_max: u32,
    counts: Mutex<Cache<Subject, Count>>,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("window", &self.window).finish_non_exhaustive()
    }
}

/// Whose attempts are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// Logins from an address.
    Address(IpAddr),
    /// Registrations from an address.
    Registering(IpAddr),
    /// Failed logins of an e-mail address, known or not; its hash, so that none is kept.
    Login([u8; 32]),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    began: Instant,
    attempts: u32,
}

impl Throttle {
    pub(super) fn new(limits: &Limits) -> Self {
        let entries = usize::try_from(limits.login_throttle_entries_max).unwrap_or(usize::MAX);
        Self {
            window: Duration::from_millis(limits.login_window_ms),
            per_address_max: limits.logins_per_address_max,
            per_login_max: limits.login_failures_per_account_max,
            registrations_max: limits.registrations_per_address_max,
            counts: Mutex::new(Cache::new(entries)),
        }
    }

    /// Counts an attempt to log in.
    ///
    /// # Errors
    /// 429 when the address, or anybody for this login, tried too often.
    pub(super) fn attempt_login(
        &self,
        address: IpAddr,
        email: &EmailAddress,
        now: Instant,
    ) -> Result<(), Failure> {
        self.count(Subject::Address(network(address)), self.per_address_max, now)?;
        self.count(subject_of(email), self.per_login_max, now)
    }

    /// Forgets the failures of a login that has just succeeded.
    pub(super) fn succeeded(&self, email: &EmailAddress) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&subject_of(email));
    }

    /// Takes back an attempt whose password nobody could look at, so that a server that was busy
    /// or without its database has locked nobody out. The address' attempt stays.
    pub(super) fn not_checked(&self, email: &EmailAddress) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut count) = counts.get_mut(&subject_of(email)) {
            count.attempts = count.attempts.saturating_sub(1);
        }
    }

    /// Counts an attempt to register.
    ///
    /// # Errors
    /// 429 when the address did it too often.
    pub(super) fn attempt_registration(
        &self,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), Failure> {
        self.count(Subject::Registering(network(address)), self.registrations_max, now)
    }

    fn count(&self, subject: Subject, most: u32, now: Instant) -> Result<(), Failure> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let running = counts.get(&subject).copied();
        let running = running.filter(|count| now.duration_since(count.began) < self.window);
        let count = running.unwrap_or(Count { began: now, attempts: 0 });
        if count.attempts >= most {
            let left = self.window.saturating_sub(now.duration_since(count.began));
            return Err(too_many(left));
        }
        counts.insert(subject, Count { attempts: count.attempts + 1, ..count });
        Ok(())
    }
}

fn too_many(left: Duration) -> Failure {
    let retry_after_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    Failure::new(
        ErrorCode::TooManyAttempts,
        "Too many attempts. Wait as the header retry-after says, then try again.",
    )
    .retry_after(retry_after_ms)
}

fn subject_of(email: &EmailAddress) -> Subject {
    Subject::Login(Sha256::digest(email.as_str().as_bytes()).into())
}

/// One subscriber: an IPv4 address, or the /64 that an IPv6 host may choose its addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(&Limits {
            login_window_ms: 60_000,
            logins_per_address_max: 5,
            login_failures_per_account_max: 3,
            registrations_per_address_max: 2,
            login_throttle_entries_max: 100,
            ..Limits::default()
        })
    }

    fn email(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_fails_so_often_from_anywhere_and_then_waits_for_the_window() {
        let (throttle, now) = (throttle(), Instant::now());
        let ada = email("ada@x");
        for host in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            throttle.attempt_login(ip(host), &ada, now).unwrap();
        }
        let refused = throttle.attempt_login(ip("10.0.0.4"), &ada, now).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyAttempts);
        assert_eq!(refused.retry_after_ms, Some(60_000));
        throttle.attempt_login(ip("10.0.0.4"), &email("bob@x"), now).unwrap();
        let later = now + Duration::from_millis(59_000);
        let refused = throttle.attempt_login(ip("10.0.0.5"), &ada, later).unwrap_err();
        assert_eq!(refused.retry_after_ms, Some(1_000));
        throttle.attempt_login(ip("10.0.0.5"), &ada, now + Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn success_forgets_the_failures_but_not_the_address() {
        let (throttle, now) = (throttle(), Instant::now());
        let (ada, host) = (email("ada@x"), ip("10.0.0.1"));
        for _ in 0..5 {
            throttle.attempt_login(host, &ada, now).unwrap();
            throttle.succeeded(&ada);
        }
        let refused = throttle.attempt_login(host, &ada, now).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyAttempts);
    }

    #[test]
    fn addresses_of_one_subscriber_count_together() {
        let (throttle, now) = (throttle(), Instant::now());
        for host in ["2001:db8::1", "2001:db8::ffff:1"] {
            throttle.attempt_registration(ip(host), now).unwrap();
        }
        assert!(throttle.attempt_registration(ip("2001:db8::2"), now).is_err());
        throttle.attempt_registration(ip("2001:db8:0:1::1"), now).unwrap();
        throttle.attempt_registration(ip("10.0.0.1"), now).unwrap();
        throttle.attempt_registration(ip("::ffff:10.0.0.1"), now).unwrap();
        assert!(throttle.attempt_registration(ip("10.0.0.1"), now).is_err(), "the same host");
        assert!(throttle.attempt_login(ip("10.0.0.1"), &email("ada@x"), now).is_ok());
    }

    #[test]
    fn the_memory_is_bounded() {
        let (throttle, now) = (throttle(), Instant::now());
        for host in 0..1_000_u32 {
            throttle.attempt_registration(IpAddr::V4(host.into()), now).unwrap();
        }
        assert!(throttle.counts.lock().unwrap().len() <= 100);
    }
}
