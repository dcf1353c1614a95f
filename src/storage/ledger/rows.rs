//! Between rows of the ledger and the domain's values.

use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use super::payload::Payload;
use crate::domain::{
    AccountId, HoldId, NanoUsd, Usage, UsageBasis,
    ledger::{AccountKind, AccountRow, Attempt, Finish, HoldResolve, LeaseRow, TransferKind},
};

/// Reads `id, credits, debits, leased, overdraft_limit, flags, recall_seq`; what the leases say
/// comes from [`lease`].
pub(super) fn account(row: &QueryResult) -> Result<AccountRow, DbErr> {
    let id: Uuid = row.try_get_by_index(0)?;
    Ok(AccountRow {
        account_id: AccountId(id),
        credits: NanoUsd(row.try_get_by_index(1)?),
        debits: NanoUsd(row.try_get_by_index(2)?),
        leased: NanoUsd(row.try_get_by_index(3)?),
        overdraft_limit: NanoUsd(row.try_get_by_index(4)?),
        flags: row.try_get_by_index(5)?,
        recall_seq: row.try_get_by_index(6)?,
        unfolded: NanoUsd::ZERO,
        leases: 0,
    })
}

/// The leases of one account: what all of them have not folded, how many there are, and one's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leases {
    pub(super) unfolded: NanoUsd,
    pub(super) count: i64,
    pub(super) mine: LeaseRow,
}

/// Reads `account, unfolded, leases, granted, posted, folded`.
pub(super) fn lease(row: &QueryResult) -> Result<Leases, DbErr> {
    let account_id: Uuid = row.try_get_by_index(0)?;
    Ok(Leases {
        unfolded: NanoUsd(row.try_get_by_index(1)?),
        count: row.try_get_by_index(2)?,
        mine: LeaseRow {
            account_id: AccountId(account_id),
            granted: NanoUsd(row.try_get_by_index(3)?),
            posted: NanoUsd(row.try_get_by_index(4)?),
            folded: NanoUsd(row.try_get_by_index(5)?),
        },
    })
}

/// Reads `state, flush_seq, flush_digest`.
pub(super) fn instance(row: &QueryResult) -> Result<(i16, i64, i64), DbErr> {
    Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?))
}

/// The lines of the books that the end of a hold writes: always the charge (also of 0), and what
/// the operator pays.
pub(super) fn transfers(payload: &mut Payload, end: &HoldResolve) {
    let revenue = operator(AccountKind::Revenue);
    let mut line = |kind: TransferKind, from: AccountId, amount: NanoUsd| {
        payload
            .row()
            .id(end.hold_id.0)
            .int(kind.db_code().into())
            .id(from.0)
            .id(revenue.0)
            .int(amount.0);
    };
    line(TransferKind::Charge, end.account_id, end.charge);
    if end.overrun > NanoUsd::ZERO {
        line(TransferKind::Overrun, operator(AccountKind::Overrun), end.overrun);
    }
    if end.provider_cost > NanoUsd::ZERO {
        line(TransferKind::ProviderCost, operator(AccountKind::ProviderCost), end.provider_cost);
    }
}

/// The fixed id of one of the operator's accounts.
pub(super) fn operator(kind: AccountKind) -> AccountId {
    kind.operator_id().unwrap_or(AccountId(Uuid::nil()))
}

/// The usage row of a hold.
pub(super) fn usage(
    payload: &mut Payload,
    hold_id: HoldId,
    usage: &Usage,
    basis: UsageBasis,
    finish: Finish,
) {
    payload
        .row()
        .id(hold_id.0)
        .count(usage.input_uncached)
        .count(usage.cache_read)
        .count(usage.cache_write_5m)
        .count(usage.cache_write_1h)
        .count(usage.output_text)
        .count(usage.reasoning)
        .int(basis.db_code().into())
        .int(finish.db_code().into());
}

/// The rows of the tries at an upstream, numbered from 1.
pub(super) fn attempts(payload: &mut Payload, hold_id: HoldId, attempts: &[Attempt]) {
    for (n, attempt) in (1..).zip(attempts) {
        payload.row().id(hold_id.0).int(n).text(&attempt.provider).text(&attempt.upstream_model);
        match &attempt.upstream_id {
            Some(id) => payload.text(id),
            None => payload.null(),
        };
        payload.int(attempt.status.into()).int(attempt.started_at).int(attempt.ended_at);
    }
}
