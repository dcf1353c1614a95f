//! One actor per live account: owns the account's leases in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler};
use tokio::{sync::oneshot, time::Instant};

use super::{
    core::{AccountCore, Reserved},
    demand::Demand,
    error::HoldError,
    extension::Extension,
    gate::Gate,
    handle::{Link, deliver},
    hold::Hold,
    lease::{Policy, Violation},
    messages::{
        AskAgain, Changed, Durable, EndHold, Halt, OpenHoldRequest, Passivate, Seen, Sweep,
    },
    outcome::HoldTerms,
    presence::{Presence, Watch},
    registry::{AccountRegistry, Exited, Idle, Revive},
    writer::{EnqueueEnd, EnqueueOpen, EnqueueReturn, LedgerWriter, Waiter},
};
use crate::domain::{AccountId, HoldId, ledger::AccountRow};

/// Messages that fit without the detour of a full mailbox.
const MAILBOX: usize = 1_024;
/// Time that other instances need to give back what they don't use: how long a denied hold waits
/// for it. They notice at their next flush or look ([`super::keeper`]).
pub(super) const RECALL_WAIT: Duration = Duration::from_millis(1_500);
/// How often a hold that waits for a recall asks again.
pub(super) const RECALL_POLL: Duration = Duration::from_millis(100);
/// After a recall nothing is kept for this long, so that those who asked get it, ms.
const EXACT_AFTER_RECALL_MS: u64 = 5_000;
/// A slice that nobody has used for this long goes back, ms.
const SLICE_IDLE_MS: u64 = 5_000;

/// Who else spends from accounts, and what leases keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseMode {
    /// Nothing is kept.
    Exact {
        /// Whether other instances use the same books.
        is_shared: bool,
    },
    /// This is the only owner: everything is kept.
    Sole,
    /// Busy accounts keep a slice.
    Shared {
        /// All accounts do.
        always: bool,
    },
}

/// What all account actors share.
#[derive(Debug, Clone)]
pub(super) struct AccountShared {
    pub(super) registry: Addr<AccountRegistry>,
    pub(super) writer: Addr<LedgerWriter>,
    pub(super) gate: Arc<Gate>,
    pub(super) watch: Watch,
    /// How long a row is believed.
    pub(super) fresh_for: Duration,
    /// Longest wait for durability.
    pub(super) wait: Duration,
    pub(super) mode: LeaseMode,
}

/// Serialises the holds of one account: reserves them in its leases, and asks the rows when the
/// leases do not have enough or a row was not seen for a while.
///
/// It refuses a hold by itself only when the row it saw moments ago was frozen or closed;
/// sufficiency is decided on the rows, inside the flush.
#[derive(Debug)]
pub(super) struct AccountActor {
    pub(super) core: AccountCore,
    pub(super) shared: AccountShared,
    /// Holds that are being made larger. Bounded by the open holds.
    pub(super) extensions: BTreeMap<HoldId, Extension>,
    /// Holds that wait for what the lease is about to get. Bounded by the gate's places.
    parked: VecDeque<OpenHoldRequest>,
    demand: Demand,
    presence: Presence,
    born: Instant,
    used: Instant,
    /// When the oldest question that waits for its answer was asked.
    asked: Option<Instant>,
    /// It has told the registry that it has nothing to do, and takes no work any more: what it took
    /// would be forgotten with it.
    is_leaving: bool,
    /// Nothing is kept until then, by this actor's clock.
    exact_until_ms: u64,
    link: Option<Arc<Link>>,
    exit: ExitGuard,
}

impl AccountActor {
    pub(super) fn new(account: AccountId, generation: u64, shared: AccountShared) -> Self {
        let registry = shared.registry.clone();
        Self {
            core: AccountCore::new(account),
            extensions: BTreeMap::new(),
            parked: VecDeque::new(),
            demand: Demand::default(),
            presence: Presence::new(shared.watch.clone(), account),
            born: Instant::now(),
            used: Instant::now(),
            asked: None,
            is_leaving: false,
            exact_until_ms: 0,
            link: None,
            shared,
            exit: ExitGuard { registry, account, generation, orderly: false },
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What the leases may keep now.
    pub(super) fn policy(&mut self) -> Policy {
        let now = self.now_ms();
        let fresh_ms = u64::try_from(self.shared.fresh_for.as_millis()).unwrap_or(u64::MAX);
        let from = now.saturating_add(1).saturating_sub(fresh_ms);
        let is_kept = match self.shared.mode {
            LeaseMode::Exact { is_shared } => return Policy::exact(is_shared, from),
            LeaseMode::Sole => return Policy::sole(from),
            LeaseMode::Shared { .. } if now < self.exact_until_ms => false,
            LeaseMode::Shared { always: true } => true,
            LeaseMode::Shared { always: false } => {
                let leases = self.core.wallet().row().map_or(0, |row| row.leases);
                self.demand.is_hot(now, leases)
            }
        };
        if is_kept {
            let want = self.demand.want();
            Policy { retains: true, want, is_shared: true, believed_from_ms: from }
        } else {
            Policy::exact(true, from)
        }
    }

    fn open(&mut self, open: OpenHoldRequest) -> Result<(), Violation> {
        let Some(link) = self.link.clone() else { return Ok(()) };
        if open.reply.is_closed() {
            return Ok(());
        }
        if self.is_leaving {
            // Sent before the registry forgot this actor; by then the next one takes it.
            drop(deliver(&self.shared.registry, Revive(open)));
            return Ok(());
        }
        let policy = self.policy();
        if let Some(row) = self.core.wallet().believed(&policy).filter(|row| row.is_blocked()) {
            drop(open.reply.send(Err(HoldError::Blocked(*row))));
            return Ok(());
        }
        let reserved = self.core.reserve(&open.request.open, &policy)?;
        match reserved {
            Reserved::Later => self.parked.push_back(open),
            Reserved::Here { affordable } => {
                let OpenHoldRequest { request, reply, place, .. } = open;
                let (durable, ticket) = oneshot::channel();
                let terms = HoldTerms::of(&request, request.open.amount);
                let limits = request.limits(affordable);
                // First on its way, then told: whoever hears of the hold sends its end after this.
                let waiter = Waiter::Ticket(durable);
                let enqueue = EnqueueOpen { open: request.open, waiter, place };
                if deliver(&self.shared.writer, enqueue).is_err() {
                    drop(reply.send(Err(HoldError::Unavailable)));
                    return Ok(());
                }
                // Nobody waits any more: the hold is dropped here, and so voids itself.
                drop(reply.send(Ok(Hold::new(link, terms, limits, Some(ticket)))));
            }
            Reserved::Ask { legs } => {
                self.note_question();
                let OpenHoldRequest { mut request, reply, place, since } = open;
                request.open.legs = legs;
                let waiter = Waiter::Verdict {
                    rate: request.rate,
                    amount_max: request.amount_max,
                    slice: request.slice,
                    since,
                    reply,
                    link,
                };
                // A writer that is gone drops the reply: the outcome is unknown to the caller.
                drop(deliver(
                    &self.shared.writer,
                    EnqueueOpen { open: request.open, waiter, place },
                ));
            }
        }
        Ok(())
    }

    /// A question goes to the rows, for the time that verdicts take.
    pub(super) fn note_question(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
    }

    /// The lease got what there was: those that waited for it decide again, oldest first.
    fn open_parked(&mut self) -> Result<(), Violation> {
        for open in std::mem::take(&mut self.parked) {
            self.open(open)?;
        }
        self.extend_parked()
    }

    /// A hold ends, with what its extensions have made of it.
    pub(super) fn end(
        &mut self,
        EndHold { mut resolve, reply, ending, .. }: EndHold,
    ) -> Result<(), Violation> {
        self.core.adjust(&mut resolve);
        let retains = self.policy().retains;
        let give_back = self.core.end(&resolve, retains)?;
        let now = self.now_ms();
        self.demand.charged(now, resolve.charge.0);
        // A writer that is gone has stopped the ledger: recovery ends the hold.
        drop(deliver(&self.shared.writer, EnqueueEnd { resolve, give_back, reply, ending }));
        Ok(())
    }

    /// All but `keep` of what is not reserved leaves memory, and then the leases.
    fn give_back(&mut self, keep: i64) {
        for (account_id, amount) in self.core.give_back(keep) {
            let owner_id = self.exit.account;
            // A writer that is gone has stopped the ledger: recovery gives it back.
            let _ = deliver(&self.shared.writer, EnqueueReturn { account_id, owner_id, amount });
        }
    }

    /// What a new row asks of this instance: to give back what it does not use.
    fn heed(&mut self, row: &AccountRow, recall_before: Option<i64>) {
        if recall_before.is_some_and(|before| row.recall_seq > before) {
            self.exact_until_ms = self.now_ms().saturating_add(EXACT_AFTER_RECALL_MS);
            self.give_back(0);
        } else if row.is_blocked() {
            self.give_back(0);
        }
    }

    fn recall_seq(&self, account: AccountId) -> Option<i64> {
        let mut leases = self.core.leases();
        let lease = leases.find_map(|(id, lease)| (id == account).then_some(lease))?;
        lease.row().map(|row| row.recall_seq)
    }

    /// Looks whether a slice is still worth keeping.
    fn review(&mut self) {
        if !matches!(self.shared.mode, LeaseMode::Shared { .. }) {
            return;
        }
        let policy = self.policy();
        let idle_ms = self.used.elapsed().as_millis();
        if !policy.retains || idle_ms >= u128::from(SLICE_IDLE_MS) {
            self.give_back(0);
        } else if self.core.wallet().slack() / 2 > policy.want {
            self.give_back(policy.want);
        }
    }

    /// The end of every event.
    pub(super) fn conclude(&mut self, done: Result<(), Violation>) {
        self.presence.update(&self.core);
        if let Err(violation) = done {
            log::error!("the ledger stops: {violation}");
            self.shared.gate.stop(violation.to_string());
        }
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let AccountShared { writer, gate, wait, .. } = &self.shared;
        let link = Link::new(writer.clone(), Some(ctx.address()), Arc::clone(gate), *wait);
        self.link = Some(Arc::new(link));
    }
}

impl Handler<OpenHoldRequest> for AccountActor {
    type Result = ();

    fn handle(&mut self, open: OpenHoldRequest, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        let held = self.core.wallet().held().saturating_add(open.request.open.amount.0);
        let now = self.now_ms();
        self.demand.opened(now, held);
        let opened = self.open(open);
        self.conclude(opened);
    }
}

impl Handler<AskAgain> for AccountActor {
    type Result = ();

    fn handle(&mut self, AskAgain(open): AskAgain, ctx: &mut Self::Context) {
        ctx.run_later(RECALL_POLL, |actor, _| {
            let opened = actor.open(open);
            actor.conclude(opened);
        });
    }
}

impl Handler<EndHold> for AccountActor {
    type Result = ();

    fn handle(&mut self, end: EndHold, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        let ended = self.end_or_extend(end);
        self.conclude(ended);
    }
}

impl Handler<Durable> for AccountActor {
    type Result = ();

    fn handle(&mut self, Durable { account_id, change }: Durable, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        if change.answered > 0
            && let Some(asked) = self.asked.take()
        {
            let waited = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.demand.waited(waited);
        }
        let before = self.recall_seq(account_id);
        let now = self.now_ms();
        let mut done = self.core.durable(account_id, &change, now);
        if done.is_ok() && change.is_acquired {
            done = self.open_parked();
        }
        if let Some(row) = &change.row {
            self.heed(row, before);
        }
        self.conclude(done);
    }
}

impl Handler<Seen> for AccountActor {
    type Result = ();

    fn handle(&mut self, Seen(row): Seen, _ctx: &mut Self::Context) {
        let before = self.recall_seq(row.account_id);
        let now = self.now_ms();
        let seen = self.core.see(row, now);
        self.heed(&row, before);
        self.review();
        self.conclude(seen);
    }
}

impl Handler<Changed> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Changed, _ctx: &mut Self::Context) {
        self.core.changed();
    }
}

impl Handler<Halt> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Halt, _ctx: &mut Self::Context) {
        // Who waits here would wait for ever.
        self.parked.clear();
        self.extensions.clear();
    }
}

impl Handler<Sweep> for AccountActor {
    type Result = ();

    fn handle(&mut self, Sweep { idle }: Sweep, _ctx: &mut Self::Context) {
        if self.is_leaving || self.core.holds() != 0 || self.used.elapsed() < idle {
            return;
        }
        self.give_back(0);
        self.core.forget_idle_caps();
        if self.core.is_empty() {
            let exit = &self.exit;
            let message = Idle { account: exit.account, generation: exit.generation };
            drop(deliver(&exit.registry, message));
            self.is_leaving = true;
        }
        self.conclude(Ok(()));
    }
}

impl Handler<Passivate> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Passivate, ctx: &mut Self::Context) {
        self.exit.orderly = true;
        ctx.stop();
    }
}

/// Tells the registry that this actor is gone: orderly, or by a panic.
#[derive(Debug)]
struct ExitGuard {
    registry: Addr<AccountRegistry>,
    account: AccountId,
    generation: u64,
    orderly: bool,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let exited =
            Exited { account: self.account, generation: self.generation, orderly: self.orderly };
        // With the registry gone there is nobody to tell.
        drop(deliver(&self.registry, exited));
    }
}
