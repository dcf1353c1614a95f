//! Credit that comes in over the API: customers' top-ups and a payment provider's events.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Caller, Failure, Flows};
use crate::{
    config::TopUpMode,
    domain::{AccountId, ErrorCode, NanoUsd, clock, ledger::FLAG_FROZEN, money::NANO_PER_USD},
    storage::{
        StorageError,
        accounts::{self, TopUp},
        payments::{self, EventOutcome, PaymentEvent, PaymentEventKind},
    },
    wire::webhook::{self, WebhookEvent, WebhookPayment},
};

/// Smallest top-up of a customer.
const TOP_UP_MIN: NanoUsd = NanoUsd(NANO_PER_USD);
/// Longest reference of a payment and id of an event, characters.
const REFERENCE_CHARS_MAX: usize = 200;

#[derive(Debug, Deserialize)]
struct TopUpBody {
    #[serde(alias = "amount")]
    amount_usd: Option<Box<RawValue>>,
    payment_ref: Option<Value>,
}

impl Flows {
    /// `POST /v1/billing/topup`: books a payment once, however often it is asked for. A payment is
    /// one that a signed webhook told of; with `FACES_TOPUP=trusted` any reference is believed. A
    /// frozen account stays frozen: only the operator freezes, and only the operator undoes it.
    ///
    /// # Errors
    /// 403 when the payment is not known and references are not believed; 409 when the reference was
    /// booked with another amount or for another account; 422 for a wrong field.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the booking; a repeat answers the same.
    pub async fn top_up(&self, caller: &Caller, body: &[u8]) -> Result<Value, Failure> {
        let body: TopUpBody = object(body)?;
        let amount = amount_of("amount_usd", body.amount_usd.as_deref())?;
        if amount < TOP_UP_MIN {
            return Err(Failure::invalid("amount_usd", "the least that can be added is 1.00 USD"));
        }
        let reference = match &body.payment_ref {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(reference_of("payment_ref", text)?),
            Some(_) => return Err(Failure::invalid("payment_ref", "payment_ref must be a text")),
        };
        let Some(reference) = reference else {
            return Err(match self.inner.options.topup {
                TopUpMode::Off => not_yours(),
                TopUpMode::Trusted => Failure::invalid(
                    "payment_ref",
                    "payment_ref is missing: this server keeps no cards, so name the payment",
                ),
            });
        };
        let added = self.add_credit(caller.account_id, amount, &reference).await?;
        self.inner.platform.account_changed(caller.account_id);
        Ok(json!({
            "success": true,
            "amount_usd": amount.to_json_number(),
            "payment_ref": reference,
            "new_balance_usd": added.row.balance().to_json_number(),
            "frozen": added.row.flags & FLAG_FROZEN != 0,
        }))
    }

    async fn add_credit(
        &self,
        account: AccountId,
        amount: NanoUsd,
        reference: &str,
    ) -> Result<TopUp, Failure> {
        let db = &self.inner.platform.inner.db;
        if let Some(claimed) =
            payments::claim_payment(db, account, amount, reference).await.map_err(booking)?
        {
            return Ok(claimed);
        }
        match self.inner.options.topup {
            TopUpMode::Off => Err(not_yours()),
            TopUpMode::Trusted => {
                accounts::top_up(db, account, amount, reference).await.map_err(booking)
            }
        }
    }

    /// Whether events of a payment provider are taken at all.
    #[must_use]
    pub fn takes_webhooks(&self) -> bool {
        !self.inner.options.webhook_secrets.is_empty()
    }

    /// `POST /v1/billing/webhook`: checks the signature, then does what the event says, once.
    ///
    /// # Errors
    /// 401 for a signature that is missing, wrong or old; 404 without secrets; 409 when another
    /// event has this id, or the payment was booked otherwise; 422 for a body that can't be used.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the booking; a repeat answers the same.
    pub async fn webhook(&self, signature: Option<&str>, body: &[u8]) -> Result<Value, Failure> {
        let secrets = &self.inner.options.webhook_secrets;
        let signature = signature.ok_or_else(|| {
            let message = "The header Faces-Signature is missing.";
            Failure::new(ErrorCode::Unauthenticated, message)
        })?;
        webhook::verify(signature, body, secrets, clock::now().seconds()).map_err(|error| {
            log::warn!(target: "faces::flows", "an event of a payment was refused: {error}");
            Failure::new(ErrorCode::Unauthenticated, format!("The event is not believed: {error}."))
        })?;
        let event: WebhookEvent = object(body)?;
        let id = reference_of("id", &event.id)?;
        let kind = [PaymentEventKind::Succeeded, PaymentEventKind::Refunded];
        let Some(kind) = kind.into_iter().find(|kind| kind.as_str() == event.kind) else {
            // A sender that knows more events than we do must not try again for ever.
            return Ok(json!({"received": true, "event_id": id, "outcome": "ignored"}));
        };
        let data = event.data.ok_or_else(|| Failure::invalid("data", "data is missing"))?;
        let payment: WebhookPayment = serde_json::from_str(data.get())
            .map_err(|error| Failure::invalid("data", format!("data is not a payment: {error}")))?;
        let event = self.payment_event(id, kind, &payment).await?;
        let (id, account) = (event.id.clone(), event.account_id);
        let reference = event.payment_ref.clone();
        let outcome = payments::record_event(&self.inner.platform.inner.db, event);
        let outcome = outcome.await.map_err(booking)?;
        if let Some(account) = account {
            self.inner.platform.account_changed(account);
        }
        if outcome == EventOutcome::Noted {
            log::warn!(
                target: "faces::flows",
                "the payment {reference:?} was refunded; credit is never taken back by itself: \
                 freeze the account if it must not spend it"
            );
        }
        Ok(json!({"received": true, "event_id": id, "outcome": outcome.as_str()}))
    }

    async fn payment_event(
        &self,
        id: String,
        kind: PaymentEventKind,
        payment: &WebhookPayment,
    ) -> Result<PaymentEvent, Failure> {
        let amount = amount_of("amount_usd", Some(&payment.amount_usd))?;
        if amount <= NanoUsd::ZERO {
            return Err(Failure::invalid("amount_usd", "amount_usd must be above 0"));
        }
        let payment_ref = reference_of("payment_ref", &payment.payment_ref)?;
        let account_id = match &payment.account {
            None => None,
            Some(text) => Some(text.parse::<AccountId>().map_err(|_| {
                Failure::invalid("account", "account must be the id of an account")
            })?),
        };
        if let Some(account) = account_id {
            let known = accounts::find_account(&self.inner.platform.inner.db, account).await?;
            known.ok_or_else(|| {
                Failure::invalid("account", "there is no account with this id on this server")
            })?;
        }
        Ok(PaymentEvent { id, kind, payment_ref, account_id, amount })
    }
}

/// A JSON number, or a text of one, as exact money.
fn amount_of(field: &str, raw: Option<&RawValue>) -> Result<NanoUsd, Failure> {
    let Some(raw) = raw.map(RawValue::get).filter(|text| *text != "null") else {
        return Err(Failure {
            validation: "missing",
            ..Failure::invalid(field, format!("{field} is missing"))
        });
    };
    let text = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(raw);
    text.parse().map_err(|error| Failure::invalid(field, format!("{field}: {error}")))
}

fn reference_of(field: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= REFERENCE_CHARS_MAX;
    if fits && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Failure::invalid(
        field,
        format!(
            "{field} must have 1 to {REFERENCE_CHARS_MAX} characters and no control characters"
        ),
    ))
}

/// Reads a JSON object; an array of its values is none.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    let not_text = |error| Failure {
        loc: vec!["body".to_owned()],
        validation: "json_invalid",
        ..Failure::new(ErrorCode::InvalidJson, format!("the body is no text: {error}"))
    };
    let text = std::str::from_utf8(body).map_err(not_text)?;
    let read = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    if body.trim_ascii_start().starts_with(b"[") {
        let message = "the body must be a JSON object";
        return Err(Failure {
            loc: vec!["body".to_owned()],
            ..Failure::new(ErrorCode::InvalidRequest, message)
        });
    }
    Ok(read)
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let (code, validation) = match error.classify() {
        serde_json::error::Category::Data => (ErrorCode::InvalidRequest, "type_error"),
        _ => (ErrorCode::InvalidJson, "json_invalid"),
    };
    Failure {
        loc: vec!["body".to_owned()],
        validation,
        ..Failure::new(code, format!("the body can't be used: {error}"))
    }
}

/// Clients sort 403s by the words `budget`, `face` and `model`: none may stand here.
fn not_yours() -> Failure {
    Failure::new(
        ErrorCode::Forbidden,
        "Credit can't be added this way: this server knows no such payment. Pay as its operator \
         says, or ask the operator to add the credit.",
    )
}

fn booking(error: StorageError) -> Failure {
    match error {
        StorageError::OutOfRange { .. } => {
            Failure::invalid("amount_usd", "this amount is more than an account can have")
        }
        other => other.into(),
    }
}
