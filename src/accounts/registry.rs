//! Who has an actor: spawns them, sets accounts aside whose actor panicked, lets idle ones go.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message, MessageResult};
use tokio::time::Instant;

use super::{
    account::{AccountActor, AccountShared},
    error::HoldError,
    handle::{Live, deliver},
    messages::{OpenHoldRequest, Passivate, Sweep},
    observe::RegistryObservation,
};
use crate::domain::AccountId;

/// Account actors that may panic within [`PANICS_WINDOW`] before the ledger stops: one panic may be
/// one account's bad luck, a series is a bug that must not keep spending.
const PANICS_MAX: usize = 5;
/// See [`PANICS_MAX`].
const PANICS_WINDOW: Duration = Duration::from_secs(60);
/// Bounds of the time between two looks for idle actors: a quarter of their idle time.
const SWEEP_MIN: Duration = Duration::from_millis(25);
/// See [`SWEEP_MIN`].
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// A hold for an account whose actor is missing or dead.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), HoldError>")]
pub(super) struct Revive(pub(super) OpenHoldRequest);

/// An account actor is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Exited {
    pub(super) account: AccountId,
    pub(super) generation: u64,
    pub(super) orderly: bool,
}

/// An account actor has nothing to do.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Idle {
    pub(super) account: AccountId,
    pub(super) generation: u64,
}

/// Asks for a [`RegistryObservation`].
#[derive(Debug, Message)]
#[rtype(result = "RegistryObservation")]
pub(super) struct ObserveRegistry;

/// The parent of every `AccountActor`.
#[derive(Debug)]
pub(super) struct AccountRegistry {
    live: Arc<Live>,
    generations: HashMap<AccountId, u64>,
    shared: AccountShared,
    idle: Duration,
    /// Accounts whose actor panicked: what their leases have is known to nobody.
    broken: HashSet<AccountId>,
    panics: VecDeque<Instant>,
    seen: RegistryObservation,
}

impl AccountRegistry {
    pub(super) fn new(live: Arc<Live>, shared: AccountShared, idle: Duration) -> Self {
        Self {
            live,
            generations: HashMap::new(),
            shared,
            idle,
            broken: HashSet::new(),
            panics: VecDeque::new(),
            seen: RegistryObservation::default(),
        }
    }

    /// Takes the account out of the map, unless a younger actor is there already. Afterwards no
    /// other thread can send to the old one.
    fn forget(&mut self, account: AccountId, generation: u64) -> Option<Addr<AccountActor>> {
        if self.generations.get(&account) != Some(&generation) {
            return None;
        }
        self.generations.remove(&account);
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(&account)
    }

    fn spawn(&mut self, account: AccountId) -> Addr<AccountActor> {
        self.seen.started += 1;
        let generation = self.seen.started;
        let actor = AccountActor::new(account, generation, self.shared.clone()).start();
        self.generations.insert(account, generation);
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.insert(account, actor.clone());
        actor
    }

    fn sweep(&self) {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        for actor in live.values() {
            drop(deliver(actor, Sweep { idle: self.idle }));
        }
    }
}

impl Actor for AccountRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = (self.idle / 4).clamp(SWEEP_MIN, SWEEP_MAX);
        ctx.run_interval(interval, |registry, _| registry.sweep());
    }
}

impl Handler<Revive> for AccountRegistry {
    type Result = Result<(), HoldError>;

    fn handle(&mut self, Revive(open): Revive, _ctx: &mut Self::Context) -> Self::Result {
        let account = open.request.open.account_id;
        let known = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            live.get(&account).cloned()
        };
        if let Some(actor) = known {
            // Who is in the map and gone has panicked; its last message is on its way here.
            return deliver(&actor, open).map_err(|_| HoldError::Unavailable);
        }
        if self.broken.contains(&account) {
            return Err(HoldError::Unavailable);
        }
        let actor = self.spawn(account);
        deliver(&actor, open).map_err(|_| HoldError::Unavailable)
    }
}

impl Handler<Exited> for AccountRegistry {
    type Result = ();

    fn handle(&mut self, exited: Exited, _ctx: &mut Self::Context) {
        self.forget(exited.account, exited.generation);
        if exited.orderly {
            self.seen.passivated += 1;
            return;
        }
        self.seen.panicked += 1;
        self.broken.insert(exited.account);
        log::error!(
            "the actor of account {} panicked; it gets no new holds until the server starts again",
            exited.account
        );
        let now = Instant::now();
        self.panics.retain(|&at| now.duration_since(at) < PANICS_WINDOW);
        self.panics.push_back(now);
        if self.panics.len() > PANICS_MAX {
            self.shared.gate.stop("account actors keep panicking".to_owned());
        }
    }
}

impl Handler<Idle> for AccountRegistry {
    type Result = ();

    fn handle(&mut self, idle: Idle, _ctx: &mut Self::Context) {
        if let Some(actor) = self.forget(idle.account, idle.generation) {
            drop(deliver(&actor, Passivate));
        }
    }
}

impl Handler<ObserveRegistry> for AccountRegistry {
    type Result = MessageResult<ObserveRegistry>;

    fn handle(&mut self, _: ObserveRegistry, _ctx: &mut Self::Context) -> Self::Result {
        let live = u64::try_from(self.generations.len()).unwrap_or(u64::MAX);
        MessageResult(RegistryObservation { live, ..self.seen })
    }
}
