//! People: register, log in, stay logged in, change the password, and who they are.
//!
//! Whether an address has an account is told by a registration (its owner must learn it), never by
//! a login: an unknown address and a wrong password get the same answer after the same work.

use std::{net::IpAddr, time::Instant};

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    Caller, Failure, Platform,
    failure::Details,
    fields::Fields,
    passwords::{Passwords, internal, random},
    platform::refused,
    throttle::Throttle,
    tokens::{Login, Tokens},
};
use crate::{
    config::Limits,
    domain::{AccountId, EmailAddress, ErrorCode, NanoUsd, PasswordFault, Scopes, Username, clock},
    storage::{
        StorageError,
        accounts::{CreditSource, NewAccount, find_account},
        logins::{self, LoginInfo, NewLogin},
    },
};

/// Name of the secret that signs login tokens, when the operator gives none.
const TOKEN_SECRET: &str = "login_tokens";
/// Most characters of a person's name.
const NAME_CHARS_MAX: usize = 200;
/// Most bytes of an address, a username or an invitation that is read at all.
const WORD_CHARS_MAX: usize = 1_000;
/// How many usernames are tried for somebody who chose none.
const USERNAMES_MAX: u32 = 50;

/// What identity takes from the configuration.
#[derive(Debug, Clone, Default)]
pub struct IdentityOptions {
    /// Whether accounts may be made over HTTP.
    pub takes_registrations: bool,
    /// Address of the account that has `is_admin`.
    pub admin_email: Option<EmailAddress>,
    /// Credit of each account that registers, as a gift.
    pub welcome_credit: NanoUsd,
    /// Secrets of login tokens; the first signs. None: the database keeps one.
    pub jwt_secrets: Vec<SecretString>,
}

/// Passwords, tokens and the counts of attempts.
#[derive(Debug)]
pub(super) struct Identity {
    options: IdentityOptions,
    passwords: Passwords,
    throttle: Throttle,
    tokens: OnceCell<Tokens>,
}

impl Identity {
    pub(super) fn new(options: IdentityOptions, limits: &Limits) -> Self {
        Self {
            options,
            passwords: Passwords::new(limits),
            throttle: Throttle::new(limits),
            tokens: OnceCell::new(),
        }
    }

    /// Whether this address is the administrator's.
    pub(super) fn is_admin(&self, email: &str) -> bool {
        self.options.admin_email.as_ref().is_some_and(|admin| admin.as_str() == email)
    }
}

/// What a person sends to log in.
struct Credentials {
    email: EmailAddress,
    password: SecretString,
}

impl Platform {
    /// `POST /auth/register-email` and `/v1/auth/register`, from `address`: makes an account with a
    /// login and logs in.
    ///
    /// # Errors
    /// 403 where registration is closed; 422 with `messages` (`EMAIL_EXISTS`, `USERNAME_EXISTS`, what
    /// the password lacks); 429 after too many; 503 when too many passwords wait to be hashed.
    ///
    /// # Cancel safety
    /// Dropped, the account may still be made; a repeat then answers `EMAIL_EXISTS`.
    pub async fn register(&self, address: IpAddr, body: &[u8]) -> Result<Value, Failure> {
        let identity = &self.inner.identity;
        identity.throttle.attempt_registration(address, Instant::now())?;
        if !identity.options.takes_registrations {
            return Err(Failure::new(
                ErrorCode::Forbidden,
                "Registration is closed on this server. Ask its operator for an account.",
            ));
        }
        let fields = Fields::parse(body)?;
        let email = email_of(&fields)?;
        let password = password_of(&fields, "password")?;
        let name = fields.line(&["name"], NAME_CHARS_MAX)?;
        let username = match fields.line(&["username"], WORD_CHARS_MAX)? {
            Some(text) => {
                Some(Username::parse(&text).map_err(|rule| Failure::invalid("username", rule))?)
            }
            None => None,
        };
        self.check_password("password", &password)?;
        // Asked before the expensive part; the database decides at the end.
        self.check_free(&email, username.as_ref()).await?;
        let password_hash = identity.passwords.hash(password).await?;
        let login = self.insert_login(email, username, name, password_hash).await?;
        self.session(&login).await
    }

    /// `POST /auth/login` and `/v1/auth/login`, from `address`.
    ///
    /// # Errors
    /// 401 for an unknown address and for a wrong password alike; 422; 429 after too many; 503 when
    /// too many passwords wait to be hashed.
    pub async fn login(&self, address: IpAddr, body: &[u8]) -> Result<Value, Failure> {
        let fields = Fields::parse(body)?;
        let Credentials { email, password } =
            Credentials { email: email_of(&fields)?, password: password_of(&fields, "password")? };
        let throttle = &self.inner.identity.throttle;
        throttle.attempt_login(address, &email, Instant::now())?;
        match self.check_login(&email, password.clone()).await {
            Ok(Some(login)) => {
                throttle.succeeded(&email);
                self.renew_hash(&login, password).await;
                self.session(&login).await
            }
            Ok(None) => Err(Failure::new(ErrorCode::InvalidLogin, "Invalid email or password")),
            Err(failure) => {
                throttle.not_checked(&email);
                Err(failure)
            }
        }
    }

    /// The login of this address, if this is its password.
    async fn check_login(
        &self,
        email: &EmailAddress,
        password: SecretString,
    ) -> Result<Option<LoginInfo>, Failure> {
        let known = logins::find_login_by_email(&self.inner.db, email).await?;
        let hash = known.as_ref().map(|login| login.password_hash.clone());
        let is_right = self.verify(password, hash).await?;
        Ok(known.filter(|_| is_right))
    }

    /// Hashes a password anew when hashes cost something else by now: else raising the cost would
    /// help only new accounts, and the time of a login would tell an old one from none. What fails
    /// is tried again at the next login.
    async fn renew_hash(&self, login: &LoginInfo, password: SecretString) {
        let passwords = &self.inner.identity.passwords;
        if !passwords.is_outdated(&login.password_hash) {
            return;
        }
        let Ok(hash) = passwords.hash(password).await else { return };
        let old = login.password_hash.clone();
        let renewed = logins::renew_hash(&self.inner.db, login.account_id, old, hash).await;
        if let Err(error) = renewed {
            let chain = crate::telemetry::chain(&error);
            log::warn!(target: "faces::flows", "a password's hash was not renewed: {chain}");
        }
    }

    /// `POST /auth/refresh` and `/v1/auth/refresh`: a new token for a valid one.
    ///
    /// # Errors
    /// 401 when the login is gone or another password has ended the token, 503 when the database
    /// can't be asked.
    pub async fn refresh(&self, caller: &Caller) -> Result<Value, Failure> {
        let login = self.login_of(caller.account_id).await?;
        // The epoch that let the caller in may be a cached one: a token that is over must not
        // become one of the new epoch.
        if caller.login_epoch != Some(login.token_epoch) {
            return Err(refused());
        }
        self.session(&login).await
    }

    /// `POST /auth/password` and `/v1/auth/password`, from `address`: another password for whoever
    /// knows the current one. All login tokens end; the answer has a new one.
    ///
    /// # Errors
    /// 401 when the current password is wrong or another was set at the same time; 422 for a new one
    /// that is an easy guess; 429 after too many attempts, those to log in included; 503 when too
    /// many passwords wait to be hashed.
    ///
    /// # Cancel safety
    /// Dropped, the password may still be changed.
    pub async fn change_password(
        &self,
        caller: &Caller,
        address: IpAddr,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = Fields::parse(body)?;
        let current = password_of(&fields, "current_password")?;
        let new = password_of(&fields, "new_password")?;
        self.check_password("new_password", &new)?;
        let identity = &self.inner.identity;
        let login = self.login_of(caller.account_id).await?;
        let email = EmailAddress::parse(&login.email)
            .map_err(|rule| internal(&format!("the address of a login: {rule}")))?;
        identity.throttle.attempt_login(address, &email, Instant::now())?;
        let verified = self.verify(current, Some(login.password_hash)).await;
        if !verified.inspect_err(|_| identity.throttle.not_checked(&email))? {
            return Err(Failure::new(ErrorCode::InvalidLogin, "The current password is wrong."));
        }
        identity.throttle.succeeded(&email);
        let hash = identity.passwords.hash(new).await?;
        let (id, epoch) = (login.account_id, login.token_epoch);
        let changed = logins::replace_password(&self.inner.db, id, hash, epoch).await;
        self.inner.directory.forget_login(id);
        match changed {
            Ok(login) => self.session(&login).await,
            // The token that was sent is over, like all others of before.
            Err(StorageError::Stale { .. }) => Err(refused()),
            Err(error) => Err(error.into()),
        }
    }

    /// `GET /v1/auth/me`.
    ///
    /// # Errors
    /// 401 when the login is gone, 503 when the database can't be asked.
    pub async fn me(&self, caller: &Caller) -> Result<Value, Failure> {
        let login = self.login_of(caller.account_id).await?;
        let account = find_account(&self.inner.db, caller.account_id).await?.ok_or_else(refused)?;
        Ok(json!({
            "object": "user",
            "id": login.account_id,
            "user_id": login.account_id,
            "email": login.email,
            "username": login.username,
            "name": account.name,
            "is_admin": self.inner.identity.is_admin(&login.email),
            "created_at": account.created_at.rfc3339(),
        }))
    }

    /// Reads the secret of login tokens, so that a server which can't does not start.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn prepare_tokens(&self) -> Result<(), Failure> {
        self.tokens().await.map(drop)
    }

    /// Checks a login token.
    pub(super) async fn authenticate_login(&self, token: &str) -> Result<Caller, Failure> {
        let login = self.tokens().await?.read(token, clock::now()).ok_or_else(refused)?;
        let directory = &self.inner.directory;
        let mut epoch = directory.token_epoch(login.account_id).await?;
        // A token that this signature covers is never ahead of the database: the cache is behind.
        if epoch < Some(login.epoch) {
            directory.forget_login(login.account_id);
            epoch = directory.token_epoch(login.account_id).await?;
        }
        if epoch != Some(login.epoch) {
            return Err(refused());
        }
        Ok(Caller {
            account_id: login.account_id,
            key_id: None,
            login_epoch: Some(login.epoch),
            allowed_faces: None,
            allowed_models: None,
            budget: None,
            scopes: Scopes::LOGIN,
        })
    }

    /// Gives an account another password, which ends its login tokens; with an address, an account
    /// that had no login gets one.
    ///
    /// # Errors
    /// 404 without such an account or login, 409 when the address is taken, 422 for a password that
    /// is an easy guess.
    pub(super) async fn set_password(
        &self,
        account: AccountId,
        email: Option<EmailAddress>,
        password: SecretString,
    ) -> Result<LoginInfo, Failure> {
        self.check_password("password", &password)?;
        let hash = self.inner.identity.passwords.hash(password).await?;
        let mut attempt = 1;
        let set = loop {
            let new = email.clone().map(|email| {
                let username = Username::of(&email, attempt);
                (email, username)
            });
            let set = logins::set_password(&self.inner.db, account, hash.clone(), new).await;
            let is_free = match (&set, &email) {
                (Err(StorageError::Conflict { .. }), Some(email)) => {
                    logins::find_login_by_email(&self.inner.db, email).await?.is_none()
                }
                _ => false,
            };
            if !is_free || attempt == USERNAMES_MAX {
                break set;
            }
            attempt += 1;
        };
        self.inner.directory.forget_login(account);
        Ok(set?)
    }

    async fn insert_login(
        &self,
        email: EmailAddress,
        chosen: Option<Username>,
        name: Option<String>,
        password_hash: String,
    ) -> Result<LoginInfo, Failure> {
        let most = if chosen.is_some() { 1 } else { USERNAMES_MAX };
        for attempt in 1..=most {
            let username = chosen.clone().unwrap_or_else(|| Username::of(&email, attempt));
            let account = NewAccount {
                id: AccountId::generate(),
                name: name.clone().unwrap_or_else(|| username.as_str().to_owned()),
                credit: self.inner.identity.options.welcome_credit,
                credit_source: CreditSource::Promo,
            };
            let login =
                NewLogin { email: email.clone(), username, password_hash: password_hash.clone() };
            match logins::register(&self.inner.db, account, login).await {
                Err(StorageError::Conflict { .. }) => {
                    self.check_free(&email, chosen.as_ref()).await?;
                }
                other => return Ok(other?),
            }
        }
        Err(exists("username", "USERNAME_EXISTS", "This username is taken. Choose another."))
    }

    async fn check_free(
        &self,
        email: &EmailAddress,
        username: Option<&Username>,
    ) -> Result<(), Failure> {
        if logins::find_login_by_email(&self.inner.db, email).await?.is_some() {
            let text = "An account with this e-mail address exists already. Log in instead.";
            return Err(exists("email", "EMAIL_EXISTS", text));
        }
        if let Some(username) = username
            && logins::is_username_taken(&self.inner.db, username).await?
        {
            let text = "This username is taken. Choose another.";
            return Err(exists("username", "USERNAME_EXISTS", text));
        }
        Ok(())
    }

    /// Whether this is the password of that hash; the same work without one. A password that is too
    /// long can't be right and is not hashed, whoever's it is.
    async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, Failure> {
        let is_short = password.expose_secret().len() <= self.password_bytes_max();
        let (password, hash) =
            if is_short { (password, hash) } else { (SecretString::default(), None) };
        self.inner.identity.passwords.verify(password, hash).await
    }

    fn check_password(&self, field: &'static str, password: &SecretString) -> Result<(), Failure> {
        let faults = PasswordFault::all_of(password.expose_secret(), self.password_bytes_max());
        if faults.is_empty() {
            return Ok(());
        }
        let needs: Vec<&str> = faults.iter().map(|fault| fault.need()).collect();
        let mut failure =
            Failure::invalid(field, format!("the password needs {}", needs.join(", ")));
        let words = faults.into_iter().map(PasswordFault::word).collect();
        failure.details = Some(Box::new(Details::Messages(words)));
        Err(failure)
    }

    fn password_bytes_max(&self) -> usize {
        usize::try_from(self.inner.limits.password_bytes_max).unwrap_or(usize::MAX)
    }

    async fn login_of(&self, account: AccountId) -> Result<LoginInfo, Failure> {
        logins::find_login(&self.inner.db, account).await?.ok_or_else(refused)
    }

    async fn tokens(&self) -> Result<&Tokens, Failure> {
        let life_ms = self.inner.limits.login_token_ms;
        let read = || async {
            let configured = self.inner.identity.options.jwt_secrets.iter();
            let mut secrets: Vec<SecretSlice<u8>> = configured
                .map(|secret| SecretSlice::from(secret.expose_secret().as_bytes().to_vec()))
                .collect();
            if secrets.is_empty() {
                let kept = logins::shared_secret(&self.inner.db, TOKEN_SECRET, random()?).await?;
                secrets.push(SecretSlice::from(kept));
            }
            let newest = secrets.remove(0);
            Ok(Tokens::new(&newest, &secrets, life_ms))
        };
        self.inner.identity.tokens.get_or_try_init(read).await
    }

    /// What a login answers: the envelope of the older API, with the token at the top level too.
    async fn session(&self, login: &LoginInfo) -> Result<Value, Failure> {
        let tokens = self.tokens().await?;
        let (user_id, epoch) = (login.account_id, login.token_epoch);
        let token = tokens.issue(Login { account_id: user_id, epoch }, clock::now())?;
        let is_admin = self.inner.identity.is_admin(&login.email);
        Ok(json!({
            "success": true,
            "messages": [],
            "data": {"token": token, "user_id": user_id, "is_admin": is_admin},
            "error": null,
            "meta": null,
            "token": token,
            "access_token": token,
            "token_type": "bearer",
            "expires_in": tokens.life_s(),
            "user_id": user_id,
            "is_admin": is_admin,
        }))
    }
}

fn email_of(fields: &Fields<'_>) -> Result<EmailAddress, Failure> {
    let text = fields.required_text("email", WORD_CHARS_MAX)?;
    EmailAddress::parse(&text).map_err(|rule| Failure::invalid("email", rule))
}

fn password_of(fields: &Fields<'_>, name: &'static str) -> Result<SecretString, Failure> {
    // Its length is judged by those who know whether it is a new one.
    fields.required_text(name, usize::MAX).map(SecretString::from)
}

fn exists(field: &str, word: &'static str, text: &str) -> Failure {
    let mut failure = Failure::invalid(field, text);
    failure.details = Some(Box::new(Details::Messages(vec![word])));
    failure
}

#[cfg(test)]
mod tests;
