//! The ledger's vocabulary: what `accounts` decides and `storage` writes.
//!
//! Numbers I1–I8 in comments and messages are the invariants of the design (`ARCHITECTURE.md`,
//! chapter on money):
//!
//! - **I1** solvency: `debits + leased <= credits + overdraft_limit` for each wallet;
//! - **I2** a hold is resolved at most once, and a charge carries its hold's id;
//! - **I3** gate 1: no content before the hold is durable; gate 2: no end before the settlement is;
//! - **I4** conservation: every transfer debits one account and credits one;
//! - **I5** `account.leased = Σ open lease (granted - folded)`;
//! - **I6** per lease `posted + Σ open holds <= granted`;
//! - **I7** the same in an instance's memory;
//! - **I8** `charge <= hold.amount`; the excess is the operator's `overrun`.

use super::{
    ids::{AccountId, FaceId, HoldId, KeyId, PriceId},
    money::NanoUsd,
    usage::{Usage, UsageBasis},
};

/// Bit of `ledger_account.flags`: the account may not spend.
pub const FLAG_FROZEN: i32 = 1;
/// Bit of `ledger_account.flags`: the account is closed.
pub const FLAG_CLOSED: i32 = 2;

/// Kind of a ledger account. Kinds from 100 on belong to the operator and have no solvency check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// A customer's prepaid credit.
    Wallet,
    /// Where top-ups come from.
    CashClearing,
    /// Where charges go to.
    Revenue,
    /// Provider cost that no customer pays (errors after output).
    ProviderCost,
    /// Cost above a hold, paid by the operator (I8).
    Overrun,
    /// Gifts: demo credit, promotions.
    Promo,
}

impl AccountKind {
    /// The number kept in `ledger_account.kind`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Wallet => 1,
            Self::CashClearing => 100,
            Self::Revenue => 101,
            Self::ProviderCost => 102,
            Self::Overrun => 103,
            Self::Promo => 104,
        }
    }

    /// Operator accounts have fixed ids, so that any instance can name them.
    #[must_use]
    pub const fn operator_id(self) -> Option<AccountId> {
        match self {
            Self::Wallet => None,
            Self::CashClearing
            | Self::Revenue
            | Self::ProviderCost
            | Self::Overrun
            | Self::Promo => Some(AccountId(uuid::Uuid::from_u128(self.db_code() as u128))),
        }
    }

    /// The kinds of the operator's accounts.
    pub const OPERATOR: [Self; 5] =
        [Self::CashClearing, Self::Revenue, Self::ProviderCost, Self::Overrun, Self::Promo];
}

/// Kind of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferKind {
    /// Wallet → revenue, for a settled hold.
    Charge,
    /// Cash clearing → wallet.
    TopUp,
    /// Promo → wallet.
    Promo,
    /// Overrun → revenue: what a hold did not cover.
    Overrun,
    /// Provider cost → revenue: what a failed request cost us.
    ProviderCost,
}

impl TransferKind {
    /// The number kept in `ledger_transfer.kind`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Charge => 1,
            Self::TopUp => 2,
            Self::Promo => 3,
            Self::Overrun => 4,
            Self::ProviderCost => 5,
        }
    }
}

/// State of a hold row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// Not resolved yet.
    Open,
    /// Charged.
    Settled,
    /// Released without a charge.
    Voided,
    /// Resolved by recovery after its instance was gone.
    Recovered,
}

impl HoldState {
    /// The number kept in `ledger_hold.state`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Open => 1,
            Self::Settled => 2,
            Self::Voided => 3,
            Self::Recovered => 4,
        }
    }
}

/// How a request ended, as written on its usage row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The upstream's own end was seen.
    Complete,
    /// The client left; billed for input and what was produced.
    ClientGone,
    /// The upstream failed after output.
    UpstreamError,
    /// The server's shutdown deadline cut it.
    Shutdown,
    /// Nothing was delivered.
    Failed,
}

impl Finish {
    /// The number kept in `ledger_usage.finish`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Complete => 1,
            Self::ClientGone => 2,
            Self::UpstreamError => 3,
            Self::Shutdown => 4,
            Self::Failed => 5,
        }
    }

    /// The word used in logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamError => "upstream_error",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
        }
    }
}

/// A hold to be opened: the worst case of one client request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOpen {
    /// Made by the caller before anything is sent, so that a retry is the same hold.
    pub hold_id: HoldId,
    /// Whose wallet.
    pub account_id: AccountId,
    /// The key that asked, when it was a key.
    pub key_id: Option<KeyId>,
    /// The face that was asked for.
    pub face_id: Option<FaceId>,
    /// Worst-case cost (I8).
    pub amount: NanoUsd,
    /// The least that would do (an omitted `max_tokens` is clamped between the two); equal to
    /// `amount` when the request can't be made smaller.
    pub amount_min: NanoUsd,
    /// The price that is pinned.
    pub price_id: PriceId,
    /// The catalog's model id.
    pub model: String,
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
    /// What the hold reserved.
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
    /// The upstream call, if one was made.
    pub attempt: Option<Attempt>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushBatch {
    /// Holds to open, in arrival order; each is granted or denied (FIFO per account).
    pub opens: Vec<HoldOpen>,
    /// Holds to resolve. Every one was opened by an earlier flush of this instance.
    pub resolves: Vec<HoldResolve>,
    /// Free requests to record.
    pub free: Vec<FreeUse>,
}

/// An account's counters after a flush: absolute, never deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountRow {
    /// Which account.
    pub account_id: AccountId,
    /// All that ever came in.
    pub credits: NanoUsd,
    /// All that was ever charged.
    pub debits: NanoUsd,
    /// Held by running requests (and, later, retained slices).
    pub leased: NanoUsd,
    /// How far `debits + leased` may exceed `credits`.
    pub overdraft_limit: NanoUsd,
    /// [`FLAG_FROZEN`] and [`FLAG_CLOSED`].
    pub flags: i32,
}

impl AccountRow {
    /// What a new hold can take: `credits + overdraft_limit - debits - leased`, at least 0.
    #[must_use]
    pub fn available(&self) -> NanoUsd {
        let wide = i128::from(self.credits.0) + i128::from(self.overdraft_limit.0)
            - i128::from(self.debits.0)
            - i128::from(self.leased.0);
        NanoUsd(i64::try_from(wide.max(0)).unwrap_or(i64::MAX))
    }

    /// What is left after everything settled so far: `credits - debits`.
    #[must_use]
    pub fn balance(&self) -> NanoUsd {
        NanoUsd(self.credits.0.saturating_sub(self.debits.0))
    }

    /// Whether the account may not spend (frozen or closed).
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.flags & (FLAG_FROZEN | FLAG_CLOSED) != 0
    }
}

/// The verdict on one [`HoldOpen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenVerdict {
    /// Durable: `amount` is reserved (between `amount_min` and the asked `amount`).
    Granted {
        /// What was reserved.
        amount: NanoUsd,
    },
    /// Not enough credit; the row at the moment of the decision says why.
    Denied(AccountRow),
    /// The account is frozen or closed.
    Blocked(AccountRow),
    /// There is no such account.
    NoAccount,
}

/// What a flush did, once it is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReply {
    /// One verdict per `opens`, same order.
    pub verdicts: Vec<OpenVerdict>,
    /// Every account row that the flush read or changed, absolute, after the flush.
    pub accounts: Vec<AccountRow>,
}

impl FlushReply {
    /// How many holds were not granted.
    #[must_use]
    pub fn denied(&self) -> u64 {
        let denied = |verdict: &&OpenVerdict| !matches!(verdict, OpenVerdict::Granted { .. });
        u64::try_from(self.verdicts.iter().filter(denied).count()).unwrap_or(u64::MAX)
    }
}
