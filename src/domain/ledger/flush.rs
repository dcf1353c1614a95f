//! What one flush carries and answers.

use super::{FLAG_CLOSED, FLAG_FROZEN, Finish, IdemClaim, IdemEnd};
use crate::domain::{
    ids::{AccountId, FaceId, HoldId, KeyId, PriceId},
    money::NanoUsd,
    usage::{Usage, UsageBasis},
};

/// What an operation needs of one account row, because this instance's lease does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leg {
    /// The wallet, or a cap.
    pub account_id: AccountId,
    /// The part of the amount that the lease gives by itself: already set aside in memory. The row
    /// must give the rest.
    pub aside: NanoUsd,
    /// What the lease has beyond `aside`. It counts as credit that the account can afford.
    pub spare: NanoUsd,
    /// How much the lease would like to get in all, at least what is missing; more than that is
    /// granted only from what is left (see `is_shared`).
    pub want: NanoUsd,
    /// Whether other instances may want credit of the account too: then a slice is at most
    /// `available / (2 × leases)`, and exact when little is left.
    pub is_shared: bool,
}

/// A hold to be opened: the worst case of one client request, or of its first slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOpen {
    /// Made by the caller before anything is sent, so that a retry is the same hold.
    pub hold_id: HoldId,
    /// Whose wallet.
    pub account_id: AccountId,
    /// The key's budget that is held too.
    pub cap_id: Option<AccountId>,
    /// The key that asked, when it was a key.
    pub key_id: Option<KeyId>,
    /// The face that was asked for.
    pub face_id: Option<FaceId>,
    /// Worst-case cost (I8).
    pub amount: NanoUsd,
    /// What the account must be able to afford. Less than `amount` when the request may be made
    /// smaller (an omitted `max_tokens` is clamped); more when `amount` is only its first slice.
    pub funds_min: NanoUsd,
    /// The price that is pinned.
    pub price_id: PriceId,
    /// The catalog's model id.
    pub model: String,
    /// The rows that must agree, all or none. Empty when the leases cover the hold already.
    pub legs: Vec<Leg>,
    /// The idempotency key that is claimed with the hold. One of the legs is the wallet then: the
    /// lock on its row is what lets only one of two instances claim a key.
    pub idem: Option<Box<IdemClaim>>,
}

/// A hold that becomes larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldExtend {
    /// Which hold.
    pub hold_id: HoldId,
    /// Whose wallet.
    pub account_id: AccountId,
    /// The key's budget that is held too.
    pub cap_id: Option<AccountId>,
    /// The hold's amount before.
    pub from: NanoUsd,
    /// The amount that is wanted, above `from`.
    pub to: NanoUsd,
    /// As [`HoldOpen::legs`]; `aside` is a part of `to - from`.
    pub legs: Vec<Leg>,
}

/// What an open hold has used so far: what recovery would charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which hold.
    pub hold_id: HoldId,
    /// Cost so far, at most the hold's amount.
    pub cost: NanoUsd,
    /// Metered tokens so far.
    pub usage: Usage,
    /// How they were learned.
    pub basis: UsageBasis,
}

/// One try at an upstream, for `ledger_attempt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Provider's name in the catalog.
    pub provider: String,
    /// Upstream's model id.
    pub upstream_model: String,
    /// HTTP status of the upstream; 0 when none came.
    pub status: u16,
    /// Upstream's id of the response.
    pub upstream_id: Option<String>,
    /// Wall time of the dispatch, microseconds.
    pub started_at: i64,
    /// Wall time of the end, microseconds.
    pub ended_at: i64,
}

/// How a hold is resolved. Applied at most once per hold (I2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldResolve {
    /// Which hold.
    pub hold_id: HoldId,
    /// Whose wallet.
    pub account_id: AccountId,
    /// The key's budget that is held too.
    pub cap_id: Option<AccountId>,
    /// What the hold reserves.
    pub amount: NanoUsd,
    /// What the wallet pays: 0 for a void, at most `amount` (I8).
    pub charge: NanoUsd,
    /// Cost above `amount`, paid by the operator.
    pub overrun: NanoUsd,
    /// Cost of a failed request, paid by the operator.
    pub provider_cost: NanoUsd,
    /// Metered tokens.
    pub usage: Usage,
    /// How they were learned.
    pub basis: UsageBasis,
    /// How the request ended.
    pub finish: Finish,
    /// The tries at an upstream in their order; their rows are numbered from 1.
    pub attempts: Vec<Attempt>,
    /// What is kept for the hold's idempotency key; `None` when it claimed none.
    pub idem: Option<Box<IdemEnd>>,
}

impl HoldResolve {
    /// Whether this releases the hold without a charge: nothing was delivered, nothing was used.
    #[must_use]
    pub fn is_void(&self) -> bool {
        matches!(self.finish, Finish::Failed)
            && self.usage.is_empty()
            && self.charge == NanoUsd::ZERO
            && self.overrun == NanoUsd::ZERO
            && self.provider_cost == NanoUsd::ZERO
    }

    /// Whether the hold's idempotency key is free again: the request did not end well and cost its
    /// customer nothing, so a retry runs.
    #[must_use]
    pub fn frees_key(&self) -> bool {
        self.finish != Finish::Complete && self.charge == NanoUsd::ZERO
    }
}

/// What a lease gives back. It left the memory of its owner before this is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseOp {
    /// The account that gets it.
    pub account_id: AccountId,
    /// Credit that is free again.
    pub give_back: NanoUsd,
    /// Whether what was posted so far moves into the account's `debits`.
    pub fold: bool,
}

/// A request that takes no hold (its model is free): one usage row and a transfer of 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeUse {
    /// The opening that a priced request would have had (`amount` is 0).
    pub open: HoldOpen,
    /// Its resolution (`charge` is 0).
    pub resolve: HoldResolve,
}

/// Everything that one flush writes, in one transaction.
///
/// Charges are posted first, then leases give back, then holds are opened in arrival order, then
/// extended: what a flush frees can be granted in the same flush.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushBatch {
    /// Holds to open, in arrival order; each is granted or denied (FIFO per account).
    pub opens: Vec<HoldOpen>,
    /// Holds to extend. Every one was opened by an earlier flush of this instance, is extended once
    /// and neither checkpointed nor resolved in this one.
    pub extends: Vec<HoldExtend>,
    /// What open holds have used so far.
    pub checkpoints: Vec<Checkpoint>,
    /// Holds to resolve. Every one was opened by an earlier flush of this instance.
    pub resolves: Vec<HoldResolve>,
    /// What leases give back: at most one per account.
    pub leases: Vec<LeaseOp>,
    /// Free requests to record.
    pub free: Vec<FreeUse>,
}

impl FlushBatch {
    /// Whether there is nothing to write but the heartbeat.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.opens.is_empty()
            && self.extends.is_empty()
            && self.checkpoints.is_empty()
            && self.resolves.is_empty()
            && self.leases.is_empty()
            && self.free.is_empty()
    }

    /// The accounts whose rows the flush needs: those that grant, and those that get back.
    pub fn row_ids(&self) -> impl Iterator<Item = AccountId> + '_ {
        let opens = self.opens.iter().flat_map(|open| &open.legs);
        let extends = self.extends.iter().flat_map(|extend| &extend.legs);
        let legs = opens.chain(extends).map(|leg| leg.account_id);
        let leases = self.leases.iter().map(|lease| lease.account_id);
        let free = self.free.iter().map(|free| free.open.account_id);
        legs.chain(leases).chain(free)
    }

    /// The accounts whose leases the flush needs: those of [`FlushBatch::row_ids`] and those that
    /// are charged.
    pub fn lease_ids(&self) -> impl Iterator<Item = AccountId> + '_ {
        let charged = self.resolves.iter().filter(|end| end.charge > NanoUsd::ZERO);
        let charged = charged.flat_map(|end| std::iter::once(end.account_id).chain(end.cap_id));
        self.row_ids().chain(charged)
    }
}

/// An account's counters after a flush: absolute, never deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountRow {
    /// Which account.
    pub account_id: AccountId,
    /// All that ever came in; a cap's limit.
    pub credits: NanoUsd,
    /// All that was charged and folded.
    pub debits: NanoUsd,
    /// What instances have: held by running requests, kept for the next ones, or charged and not
    /// yet folded.
    pub leased: NanoUsd,
    /// The charged and not yet folded part of `leased`.
    pub unfolded: NanoUsd,
    /// Instances that have a lease on the account.
    pub leases: i64,
    /// How far `debits + leased` may exceed `credits`.
    pub overdraft_limit: NanoUsd,
    /// [`FLAG_FROZEN`] and [`FLAG_CLOSED`].
    pub flags: i32,
    /// Grows when instances shall give back what they don't use.
    pub recall_seq: i64,
}

impl AccountRow {
    /// What a lease can take: `credits + overdraft_limit - debits - leased`, at least 0.
    #[must_use]
    pub fn available(&self) -> NanoUsd {
        self.funds_less(self.leased)
    }

    /// What could be spent if nothing were held: `credits + overdraft_limit` less everything
    /// charged, at least 0.
    #[must_use]
    pub fn spendable(&self) -> NanoUsd {
        self.funds_less(self.unfolded)
    }

    fn funds_less(&self, taken: NanoUsd) -> NanoUsd {
        let wide = i128::from(self.credits.0) + i128::from(self.overdraft_limit.0)
            - i128::from(self.debits.0)
            - i128::from(taken.0);
        NanoUsd(i64::try_from(wide.max(0)).unwrap_or(i64::MAX))
    }

    /// All that was ever charged, folded or not.
    #[must_use]
    pub const fn spent(&self) -> NanoUsd {
        NanoUsd(self.debits.0.saturating_add(self.unfolded.0))
    }

    /// What is left after everything settled so far.
    #[must_use]
    pub const fn balance(&self) -> NanoUsd {
        NanoUsd(self.credits.0.saturating_sub(self.spent().0))
    }

    /// Whether the account may not spend (frozen or closed).
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.flags & (FLAG_FROZEN | FLAG_CLOSED) != 0
    }
}

/// This instance's lease on an account after a flush: absolute, never deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseRow {
    /// On which account.
    pub account_id: AccountId,
    /// All that was granted and not given back.
    pub granted: NanoUsd,
    /// The charged part of it.
    pub posted: NanoUsd,
    /// The part of `posted` that is in the account's `debits`.
    pub folded: NanoUsd,
}

/// The verdict on one [`HoldOpen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenVerdict {
    /// Durable: `amount` is reserved.
    Granted {
        /// What was reserved: the asked amount, or less when `funds_min` is less.
        amount: NanoUsd,
        /// What the account could afford for this request, the hold included.
        affordable: NanoUsd,
    },
    /// Not enough credit.
    Denied {
        /// The wallet or the cap that does not have it, at the moment of the decision.
        row: AccountRow,
        /// Whether other instances were asked to give back what they don't use: ask again soon.
        is_recalled: bool,
    },
    /// The account is frozen or closed.
    Blocked(AccountRow),
    /// There is no such account.
    NoAccount,
    /// Another request has the idempotency key: it is running, or it is over and the key is kept.
    Claimed,
}

/// The verdict on one [`HoldExtend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendVerdict {
    /// Durable: the hold's new amount, above `from` and at most `to`.
    Granted {
        /// The new amount.
        amount: NanoUsd,
    },
    /// The hold stays as it is.
    Denied {
        /// Whether other instances were asked to give back what they don't use: ask again soon.
        is_recalled: bool,
    },
}

/// What a flush did, once it is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReply {
    /// One verdict per `opens`, same order.
    pub opens: Vec<OpenVerdict>,
    /// One verdict per `extends`, same order.
    pub extends: Vec<ExtendVerdict>,
    /// Every account row that the flush read or changed, absolute, after the flush.
    pub accounts: Vec<AccountRow>,
    /// This instance's lease on every account that the flush named, absolute, after the flush.
    pub leases: Vec<LeaseRow>,
}

impl FlushReply {
    /// How many holds were granted.
    #[must_use]
    pub fn granted(&self) -> u64 {
        let granted = |verdict: &&OpenVerdict| matches!(verdict, OpenVerdict::Granted { .. });
        u64::try_from(self.opens.iter().filter(granted).count()).unwrap_or(u64::MAX)
    }

    /// How many holds were not granted.
    #[must_use]
    pub fn denied(&self) -> u64 {
        let all = u64::try_from(self.opens.len()).unwrap_or(u64::MAX);
        all.saturating_sub(self.granted())
    }
}
