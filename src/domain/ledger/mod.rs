//! The ledger's vocabulary: what `accounts` decides and `storage` writes.
//!
//! Numbers I1–I8 in comments and messages are the invariants of the design (`ARCHITECTURE.md`,
//! chapter on the ledger):
//!
//! - **I1** solvency: `debits + leased <= credits + overdraft_limit` for each wallet;
//! - **I2** a hold is resolved at most once, and a charge carries its hold's id;
//! - **I3** gate 1: no content before the hold is durable; gate 2: no end before the settlement is;
//! - **I4** conservation: every transfer debits one account and credits one;
//! - **I5** `account.leased = Σ open lease (granted - folded)`, and what a lease has `posted` beyond
//!   `folded` is charged but not yet in `debits`;
//! - **I6** per lease `posted + Σ open holds <= granted`;
//! - **I7** the same in an instance's memory;
//! - **I8** `charge <= hold.amount`; the excess is the operator's `overrun`.

mod flush;
mod idem;

pub use flush::{
    AccountRow, Attempt, Checkpoint, ExtendVerdict, FlushBatch, FlushReply, FreeUse, HoldExtend,
    HoldOpen, HoldResolve, LeaseOp, LeaseRow, Leg, OpenVerdict,
};
pub use idem::{Fingerprint, IdemClaim, IdemEnd, IdemKey, IdemRecord, IdemState, StoredResponse};

use super::ids::AccountId;

/// Bit of `ledger_account.flags`: the account may not spend.
pub const FLAG_FROZEN: i32 = 1;
/// Bit of `ledger_account.flags`: the account is closed.
pub const FLAG_CLOSED: i32 = 2;

/// Kind of a ledger account. Kinds from 100 on belong to the operator and have no solvency check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// A customer's prepaid credit.
    Wallet,
    /// The budget of one key in one window: its `credits` are a limit and not money. It moves in
    /// the same flush as the wallet that pays (`parent_id`).
    KeyCap,
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
            Self::KeyCap => 2,
            Self::CashClearing => 100,
            Self::Revenue => 101,
            Self::ProviderCost => 102,
            Self::Overrun => 103,
            Self::Promo => 104,
        }
    }

    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        let customers = [Self::Wallet, Self::KeyCap];
        customers.into_iter().chain(Self::OPERATOR).find(|kind| kind.db_code() == code)
    }

    /// The word used in JSON and exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wallet => "wallet",
            Self::KeyCap => "key_cap",
            Self::CashClearing => "cash_clearing",
            Self::Revenue => "revenue",
            Self::ProviderCost => "provider_cost",
            Self::Overrun => "overrun",
            Self::Promo => "promo",
        }
    }

    /// Operator accounts have fixed ids, so that any instance can name them.
    #[must_use]
    pub const fn operator_id(self) -> Option<AccountId> {
        match self {
            Self::Wallet | Self::KeyCap => None,
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
    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        let all = [Self::Charge, Self::TopUp, Self::Promo, Self::Overrun, Self::ProviderCost];
        all.into_iter().find(|kind| kind.db_code() == code)
    }

    /// The word used in JSON and exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::TopUp => "top_up",
            Self::Promo => "promo",
            Self::Overrun => "overrun",
            Self::ProviderCost => "provider_cost",
        }
    }

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
    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        let all = [Self::Open, Self::Settled, Self::Voided, Self::Recovered];
        all.into_iter().find(|state| state.db_code() == code)
    }

    /// The word used in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Voided => "voided",
            Self::Recovered => "recovered",
        }
    }

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
    /// Its instance was gone: billed at the last checkpoint.
    Recovered,
    /// The credit ended before the answer did.
    CreditExhausted,
    /// Not ended yet: the usage of a checkpoint.
    Running,
}

impl Finish {
    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        let all = [
            Self::Complete,
            Self::ClientGone,
            Self::UpstreamError,
            Self::Shutdown,
            Self::Failed,
            Self::Recovered,
            Self::CreditExhausted,
            Self::Running,
        ];
        all.into_iter().find(|finish| finish.db_code() == code)
    }

    /// The number kept in `ledger_usage.finish`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Complete => 1,
            Self::ClientGone => 2,
            Self::UpstreamError => 3,
            Self::Shutdown => 4,
            Self::Failed => 5,
            Self::Recovered => 6,
            Self::CreditExhausted => 7,
            Self::Running => 8,
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
            Self::Recovered => "recovered",
            Self::CreditExhausted => "credit_exhausted",
            Self::Running => "running",
        }
    }
}
