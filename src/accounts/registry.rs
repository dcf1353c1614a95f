//! Who has an actor: spawns them, replaces those that panicked, lets idle ones go.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message, MessageResult};

use super::{
    account::{AccountActor, OpenHoldRequest, Passivate, Sweep},
    error::HoldError,
    gate::Gate,
    handle::{Live, deliver},
    observe::RegistryObservation,
    writer::LedgerWriter,
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
    writer: Addr<LedgerWriter>,
    gate: Arc<Gate>,
    idle: Duration,
    blocked_for: Duration,
    panics: VecDeque<Instant>,
    seen: RegistryObservation,
}

impl AccountRegistry {
    pub(super) fn new(
        live: Arc<Live>,
        writer: Addr<LedgerWriter>,
        gate: Arc<Gate>,
        idle: Duration,
        blocked_for: Duration,
    ) -> Self {
        Self {
            live,
            generations: HashMap::new(),
            writer,
            gate,
            idle,
            blocked_for,
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

    fn spawn(&mut self, account: AccountId, ctx: &Context<Self>) -> Addr<AccountActor> {
        self.seen.started += 1;
        let generation = self.seen.started;
        let actor = AccountActor::new(
            account,
            generation,
            ctx.address(),
            self.writer.clone(),
            Arc::clone(&self.gate),
            self.blocked_for,
        )
        .start();
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

    fn handle(&mut self, Revive(open): Revive, ctx: &mut Self::Context) -> Self::Result {
        let account = open.request.open.account_id;
        let known = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            live.get(&account).cloned()
        };
        let unsent = match known {
            Some(actor) => match deliver(&actor, open) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent,
            },
            None => open,
        };
        let actor = self.spawn(account, ctx);
        deliver(&actor, unsent).map_err(|_| HoldError::Unavailable)
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
        log::error!("the actor of account {} panicked; it is made anew", exited.account);
        let now = Instant::now();
        self.panics.retain(|&at| now.duration_since(at) < PANICS_WINDOW);
        self.panics.push_back(now);
        if self.panics.len() > PANICS_MAX {
            self.gate.stop("account actors keep panicking".to_owned());
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
