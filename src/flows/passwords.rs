//! argon2id off the threads that serve requests, and no more of it at once than the machine bears.
//!
//! A hash takes tens of milliseconds of a core and `password_memory_kib` of memory, on purpose. At
//! most `password_hashes_max` run at once, as blocking tasks; `password_queue_max` more may wait,
//! and further ones are refused with 503. A place is held by the task itself, so that callers that
//! hang up free nothing early.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Failure, failure::INTERNAL_MESSAGE};
use crate::{config::Limits, domain::ErrorCode};

/// When a client should come back to a full queue: some hashes are done by then.
const FULL_RETRY_AFTER_MS: u64 = 1_000;
const SALT_BYTES: usize = 16;

/// Hashes and checks passwords.
pub(super) struct Passwords {
    params: Params,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// How often argon2 ran over a password that was given.
    #[cfg(test)]
    pub(super) verified: Arc<std::sync::atomic::AtomicU32>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("free", &self.running.available_permits()).finish()
    }
}

impl Passwords {
    pub(super) fn new(limits: &Limits) -> Self {
        let permits = |count: u32| usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
        let (memory, passes) = (limits.password_memory_kib, limits.password_passes);
        // The limits' ranges lie within what argon2 takes.
        let params = Params::new(memory, passes, 1, None).unwrap_or_default();
        let queue = permits(limits.password_hashes_max) + permits(limits.password_queue_max);
        Self {
            params,
            running: Arc::new(Semaphore::new(permits(limits.password_hashes_max))),
            waiting: Arc::new(Semaphore::new(queue)),
            #[cfg(test)]
            verified: Arc::default(),
        }
    }

    /// A new password's hash, as a PHC string.
    ///
    /// # Errors
    /// 503 when too many wait already.
    ///
    /// # Cancel safety
    /// Dropped, a hash that has begun runs to its end for nobody.
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, Failure> {
        let argon2 = self.argon2();
        let salt = random::<SALT_BYTES>()?;
        let hashed = self.blocking(move || {
            let hash = argon2
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
                .map(|hash| hash.to_string());
            hash.map_err(|error| internal(&format!("a password can't be hashed: {error}")))
        });
        hashed.await?
    }

    /// Whether this is the password of that hash. Without a hash (nobody of that address) the same
    /// work is done for nothing: the answer is `false`, and comes no sooner.
    ///
    /// # Errors
    /// 503 when too many wait already.
    ///
    /// # Cancel safety
    /// As [`Passwords::hash`].
    pub(super) async fn verify(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, Failure> {
        let argon2 = self.argon2();
        let hash = match hash {
            Some(hash) => hash,
            None => self.nobodys_hash()?,
        };
        #[cfg(test)]
        let count = Arc::clone(&self.verified);
        let verified = self.blocking(move || {
            #[cfg(test)]
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            argon2.verify_password(password.expose_secret().as_bytes(), hash.as_str()).is_ok()
        });
        verified.await
    }

    /// Whether a hash was made at another cost than new ones are.
    pub(super) fn is_outdated(&self, hash: &str) -> bool {
        let current = argon2::password_hash::phc::ParamsString::try_from(&self.params);
        match (argon2::PasswordHash::new(hash), current) {
            (Ok(hash), Ok(current)) => hash.params != current,
            _ => false,
        }
    }

    /// A hash of the same cost that no password has: its output is random.
    fn nobodys_hash(&self) -> Result<String, Failure> {
        let salt = random::<SALT_BYTES>()?;
        let output = random::<{ Params::DEFAULT_OUTPUT_LEN }>()?;
        let hash = argon2::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: (&self.params)
                .try_into()
                .map_err(|error| internal(&format!("the parameters of argon2: {error}")))?,
            salt: Some(phc_part(argon2::password_hash::phc::Salt::new(&salt))?),
            hash: Some(phc_part(argon2::password_hash::phc::Output::new(&output))?),
        };
        Ok(hash.to_string())
    }

    fn argon2(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let place = self.place().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        done.await.map_err(|error| internal(&format!("argon2 broke off: {error}")))
    }

    /// A place in the queue, and when it is its turn one among those that run.
    pub(super) async fn place(
        &self,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Failure> {
        let full = || {
            Failure::new(
                ErrorCode::Overloaded,
                "Too many logins are being checked right now. Try again shortly.",
            )
            .retry_after(FULL_RETRY_AFTER_MS)
        };
        let queued = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| full())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| full())?;
        Ok((queued, running))
    }
}

fn phc_part<T, E: std::fmt::Display>(part: Result<T, E>) -> Result<T, Failure> {
    part.map_err(|error| internal(&format!("a part of a password hash: {error}")))
}

/// Bytes from the operating system.
///
/// # Errors
/// 500 when it gives none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| internal(&format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// A 500 whose reason stands in the log.
pub(super) fn internal(reason: &str) -> Failure {
    log::error!(target: "faces::flows", "{reason}");
    Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(limits: &Limits) -> Passwords {
        Passwords::new(&Limits { password_memory_kib: 64, password_passes: 1, ..limits.clone() })
    }

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[tokio::test]
    async fn a_hash_knows_its_password_and_no_other() {
        let passwords = passwords(&Limits::default());
        let hash = passwords.hash(secret("Correct-horse-1")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let again = passwords.hash(secret("Correct-horse-1")).await.unwrap();
        assert_ne!(hash, again, "each has its own salt");
        let verify = |password, hash| passwords.verify(secret(password), hash);
        assert!(verify("Correct-horse-1", Some(hash.clone())).await.unwrap());
        assert!(!verify("Correct-horse-2", Some(hash.clone())).await.unwrap());
        assert!(!verify("", Some(hash)).await.unwrap());
        assert!(!verify("Correct-horse-1", Some("no hash".to_owned())).await.unwrap());
    }

    #[tokio::test]
    async fn nobodys_hash_costs_what_a_real_one_costs() {
        let passwords = passwords(&Limits::default());
        let real = passwords.hash(secret("Correct-horse-1")).await.unwrap();
        let nobodys = passwords.nobodys_hash().unwrap();
        let shape = |hash: &str| hash.rsplitn(3, '$').last().unwrap().to_owned();
        assert_eq!(shape(&nobodys), shape(&real), "algorithm, version, memory, passes, lanes");
        assert_eq!(nobodys.len(), real.len(), "salt and output");
        // It is read as a hash, so argon2 runs over it like over any other.
        assert!(argon2::PasswordHash::new(&nobodys).is_ok(), "{nobodys}");
        assert!(!passwords.verify(secret("Correct-horse-1"), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_hash_gives_its_place_back() {
        let limits = Limits { password_hashes_max: 1, password_queue_max: 1, ..Limits::default() };
        let passwords = passwords(&limits);
        let running = passwords.place().await.unwrap();
        let mut queued = Box::pin(passwords.place());
        assert!(futures_util::poll!(queued.as_mut()).is_pending(), "it waits");
        let refused = passwords.hash(secret("Correct-horse-1")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert!(refused.retry_after_ms.is_some());
        drop(running);
        drop(queued.await.unwrap());
        passwords.hash(secret("Correct-horse-1")).await.unwrap();
        assert_eq!(passwords.waiting.available_permits(), 2);
    }
}
