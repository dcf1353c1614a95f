//! Payments that a payment provider told of, and credit that customers claim by their references.
//!
//! A payment is booked once, as the top-up with its reference: whoever comes first, the event or the
//! customer, and whatever is repeated.

use entity::billing_event;
use sea_orm::{
    ActiveValue::Set, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::OnConflict,
};

use super::{
    Db, StorageError,
    accounts::{TopUp, book_top_up},
};
use crate::domain::{AccountId, NanoUsd, clock};

const EVENT: &str = "an event of a payment";
const OTHER_EVENT: &str = "a different event with this id";
const REFUND: &str = "a refund of this payment";
const OTHER_PAYMENT: &str = "a payment with this reference and another amount";

/// What happened to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentEventKind {
    /// It came in.
    Succeeded,
    /// It was given back.
    Refunded,
}

impl PaymentEventKind {
    /// The word of the event's type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "payment.succeeded",
            Self::Refunded => "payment.refunded",
        }
    }
}

/// An event of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's id of it.
    pub id: String,
    /// What happened.
    pub kind: PaymentEventKind,
    /// The payment's own id.
    pub payment_ref: String,
    /// Whose it is; `None`: whoever names the reference.
    pub account_id: Option<AccountId>,
    /// How much.
    pub amount: NanoUsd,
}

/// What was done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// The payment is in the account's books.
    Booked,
    /// It waits for a customer who names its reference.
    Unclaimed,
    /// Written down for the operator; nothing was booked.
    Noted,
}

impl EventOutcome {
    /// The word in the row and in the answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Unclaimed => "unclaimed",
            Self::Noted => "noted",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        [Self::Booked, Self::Unclaimed, Self::Noted].into_iter().find(|one| one.as_str() == text)
    }
}

/// Writes an event down and books its payment, in one transaction. The same event again answers what
/// the first one did.
///
/// # Errors
/// [`StorageError::Conflict`] for another event with this id, or when the reference was booked with
/// another amount or for another account; [`StorageError::Missing`] without such an account;
/// [`StorageError::OutOfRange`] when the amount can't be booked. Nothing is written then.
///
/// # Cancel safety
/// Dropping the future does not stop it; a repeat answers the same.
pub async fn record_event(db: &Db, event: PaymentEvent) -> Result<EventOutcome, StorageError> {
    db.in_transaction(EVENT, move |tx| {
        let event = event.clone();
        Box::pin(async move { record(tx, event).await })
    })
    .await
}

async fn record(
    tx: &DatabaseTransaction,
    event: PaymentEvent,
) -> Result<EventOutcome, StorageError> {
    let outcome = match (event.kind, event.account_id) {
        (PaymentEventKind::Succeeded, Some(_)) => EventOutcome::Booked,
        (PaymentEventKind::Succeeded, None) => EventOutcome::Unclaimed,
        (PaymentEventKind::Refunded, _) => EventOutcome::Noted,
    };
    let row = billing_event::ActiveModel {
        event_id: Set(event.id.clone()),
        kind: Set(event.kind.as_str().to_owned()),
        payment_ref: Set(event.payment_ref.clone()),
        account_id: Set(event.account_id.map(|id| id.0)),
        amount: Set(event.amount.0),
        outcome: Set(outcome.as_str().to_owned()),
        received_at: Set(clock::now().0),
    };
    let once = OnConflict::column(billing_event::Column::EventId).do_nothing().to_owned();
    let inserted = billing_event::Entity::insert(row)
        .on_conflict(once)
        .exec_without_returning(tx)
        .await
        .map_err(StorageError::on(EVENT))?;
    if inserted == 0 {
        return known_event(tx, &event).await;
    }
    if let (EventOutcome::Booked, Some(account)) = (outcome, event.account_id) {
        book_top_up(tx, account, event.amount, event.payment_ref, clock::now()).await?;
    }
    Ok(outcome)
}

async fn known_event(
    tx: &DatabaseTransaction,
    event: &PaymentEvent,
) -> Result<EventOutcome, StorageError> {
    let found = billing_event::Entity::find_by_id(event.id.clone()).one(tx).await;
    let known = found
        .map_err(StorageError::on(EVENT))?
        .ok_or(StorageError::Bug { what: EVENT, source: None })?;
    let same = known.kind == event.kind.as_str()
        && known.payment_ref == event.payment_ref
        && known.account_id == event.account_id.map(|id| id.0)
        && known.amount == event.amount.0;
    if !same {
        return Err(StorageError::Conflict { what: OTHER_EVENT });
    }
    let outcome = EventOutcome::from_str(&known.outcome);
    outcome.ok_or(StorageError::Bug { what: EVENT, source: None })
}

/// Books a payment for the customer who names its reference: one that an event told of, for nobody or
/// for this account. `None` when there is no such payment.
///
/// # Errors
/// [`StorageError::Conflict`] when the payment has another amount, was booked for another account, or
/// was given back before it was booked.
///
/// # Cancel safety
/// Dropping the future does not stop it; a repeat answers the same.
pub async fn claim_payment(
    db: &Db,
    account_id: AccountId,
    amount: NanoUsd,
    payment_ref: &str,
) -> Result<Option<TopUp>, StorageError> {
    let payment_ref = payment_ref.to_owned();
    db.in_transaction(EVENT, move |tx| {
        let payment_ref = payment_ref.clone();
        Box::pin(async move {
            let events = billing_event::Entity::find()
                .filter(billing_event::COLUMN.payment_ref.eq(payment_ref.clone()))
                .all(tx)
                .await
                .map_err(StorageError::on(EVENT))?;
            let (paid, refunds): (Vec<_>, Vec<_>) = events
                .into_iter()
                .partition(|event| event.kind == PaymentEventKind::Succeeded.as_str());
            let mine = |event: &&billing_event::Model| {
                event.account_id.is_none_or(|owner| owner == account_id.0)
            };
            let Some(paid) = paid.iter().find(mine) else { return Ok(None) };
            if paid.amount != amount.0 {
                return Err(StorageError::Conflict { what: OTHER_PAYMENT });
            }
            let booked = book_top_up(tx, account_id, amount, payment_ref, clock::now()).await?;
            // An error takes the booking back. Credit that was there before the refund stays.
            if !booked.repeated && !refunds.is_empty() {
                return Err(StorageError::Conflict { what: REFUND });
            }
            Ok(Some(booked))
        })
    })
    .await
}
