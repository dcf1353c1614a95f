//! Invoices: what an account owed and paid in a month, as JSON and as CSV.
//!
//! They are statements of prepaid credit, made from the books whenever they are asked for: opening
//! balance, what came in, charges by day and model, closing balance.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Caller, Failure, Platform, failure::INTERNAL_MESSAGE, usage::sums_json};
use crate::{
    domain::{
        Day, ErrorCode, Month, NanoUsd,
        clock::{self, UnixMicros},
        ledger::TransferKind,
    },
    storage::{
        accounts,
        ledger::usage::{self, Incoming, Statement, StatementCharge, UsageSums},
    },
};

/// Months in one page when the caller does not say, and at most.
const PAGE_DEFAULT: u32 = 24;
const PAGE_MAX: u32 = 1_200;

/// A month's invoice.
#[derive(Debug, Clone)]
pub struct Invoice {
    month: Month,
    is_open: bool,
    account: String,
    books: Statement,
}

impl Platform {
    /// `GET /v1/billing/invoices`: the months since the account was made, newest first.
    ///
    /// # Errors
    /// 422 for a cursor or limit that is none; 503 when the database can't be asked.
    pub async fn invoices(
        &self,
        caller: &Caller,
        before: Option<&str>,
        limit: Option<&str>,
    ) -> Result<Value, Failure> {
        let before = before.map(month_of).transpose()?;
        let limit = match limit {
            None => PAGE_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_MAX).contains(limit))
                .ok_or_else(|| wrong("limit", format!("limit must be from 1 to {PAGE_MAX}")))?,
        };
        let first = self.first_month(caller).await?;
        let days = usage::read_days(&self.inner.db, caller.account_id).await?;
        let mut months: BTreeMap<Month, (NanoUsd, NanoUsd)> = BTreeMap::new();
        let mut month = days.first().map_or(first, |(day, _)| first.min(Month::of(*day)));
        let this_month = Month::of(Day::of(clock::now()));
        while month <= this_month {
            months.insert(month, Default::default());
            month = month.next();
        }
        for (day, what) in days {
            let sums = months.entry(Month::of(day)).or_default();
            sums.0.0 = sums.0.0.saturating_add(what.incoming.0);
            sums.1.0 = sums.1.0.saturating_add(what.used.cost.0);
        }
        let mut balance = NanoUsd::ZERO;
        let mut all = Vec::with_capacity(months.len());
        for (month, (incoming, charges)) in months {
            let opening = balance;
            balance.0 += incoming.0 - charges.0;
            all.push(json!({
                "id": month.to_string(),
                "object": "invoice",
                "period_start": month.first().to_string(),
                "period_end": month.last().to_string(),
                "status": status(month >= this_month),
                "currency": "USD",
                "opening_balance_usd": opening.to_json_number(),
                "topups_usd": incoming.to_json_number(),
                "charges_usd": charges.to_json_number(),
                "closing_balance_usd": balance.to_json_number(),
            }));
        }
        let shown = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_later = |one: &Value| {
            let id = one["id"].as_str().and_then(|id| id.parse::<Month>().ok());
            before.zip(id).is_some_and(|(before, id)| id >= before)
        };
        let mut newest: Vec<Value> =
            all.into_iter().rev().filter(|one| !is_later(one)).take(shown + 1).collect();
        let has_more = newest.len() > shown;
        newest.truncate(shown);
        let next = newest.last().filter(|_| has_more).map(|one| one["id"].clone());
        Ok(json!({"object": "list", "data": newest, "has_more": has_more, "next_cursor": next}))
    }

    /// `GET /v1/billing/invoices/{YYYY-MM}`.
    ///
    /// # Errors
    /// 404 for a month before the account was made or after this one; 503 when the database can't be
    /// asked.
    pub async fn invoice(&self, caller: &Caller, month: &str) -> Result<Invoice, Failure> {
        let not_there = || {
            Failure::new(
                ErrorCode::NotFound,
                "There is no invoice of this month. GET /v1/billing/invoices lists them.",
            )
        };
        let month: Month = month.parse().map_err(|_| not_there())?;
        let this_month = Month::of(Day::of(clock::now()));
        if month < self.first_month(caller).await? || month > this_month {
            return Err(not_there());
        }
        let (from, to) = (month.first(), month.last());
        let books = usage::read_statement(&self.inner.db, caller.account_id, from, to).await?;
        let account = caller.account_id.to_string();
        Ok(Invoice { month, is_open: month == this_month, account, books })
    }

    async fn first_month(&self, caller: &Caller) -> Result<Month, Failure> {
        let account = accounts::find_account(&self.inner.db, caller.account_id).await?;
        let made = account.map_or_else(clock::now, |account| account.created_at);
        Ok(Month::of(Day::of(made)))
    }
}

impl Invoice {
    fn closing(&self) -> NanoUsd {
        let books = &self.books;
        NanoUsd(books.opening.0 + books.incoming_total.0 - books.charges_total.cost.0)
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let books = &self.books;
        json!({
            "id": self.month.to_string(),
            "object": "invoice",
            "account_id": self.account,
            "period_start": self.month.first().to_string(),
            "period_end": self.month.last().to_string(),
            "status": status(self.is_open),
            "currency": "USD",
            "opening_balance_usd": books.opening.to_json_number(),
            "topups_usd": books.incoming_total.to_json_number(),
            "charges_usd": books.charges_total.cost.to_json_number(),
            "closing_balance_usd": self.closing().to_json_number(),
            "topups": books.incoming.iter().map(incoming_json).collect::<Vec<_>>(),
            "charges": books.charges.iter().map(charge_json).collect::<Vec<_>>(),
            "totals": sums_json(Value::Null, Value::Null, &books.charges_total),
            "truncated": books.truncated,
        })
    }

    /// The sums of what a truncated list leaves out.
    fn unlisted(&self) -> Vec<Line> {
        const DESCRIPTION: &str = "not listed: too many lines";
        let (books, last) = (&self.books, self.month.last());
        if !books.truncated {
            return Vec::new();
        }
        let listed: i64 = books.incoming.iter().map(|incoming| incoming.amount.0).sum();
        let incoming = NanoUsd(books.incoming_total.0 - listed);
        let rest = |of: fn(&UsageSums) -> i64| {
            let listed: i64 = books.charges.iter().map(|charge| of(&charge.sums)).sum();
            of(&books.charges_total) - listed
        };
        let charged = NanoUsd(rest(|sums| -sums.cost.0));
        let charge = Line {
            requests: Some(rest(|sums| sums.requests)),
            input_tokens: Some(rest(|sums| sums.input_tokens)),
            output_tokens: Some(rest(|sums| sums.output_tokens)),
            ..Line::balance(last, "charge", charged)
        };
        let lines = [(incoming, Line::balance(last, "top_up", incoming)), (charged, charge)];
        let is_some = |(amount, _): &(NanoUsd, Line)| *amount != NanoUsd::ZERO;
        let described = |(_, line)| Line { description: DESCRIPTION.to_owned(), ..line };
        lines.into_iter().filter(is_some).map(described).collect()
    }

    /// As CSV: a line for each sum, whose amounts add up to the last one.
    ///
    /// # Errors
    /// 500 when it can't be written, which is a bug.
    pub fn to_csv(&self) -> Result<Vec<u8>, Failure> {
        let books = &self.books;
        let mut lines = vec![Line::balance(self.month.first(), "opening_balance", books.opening)];
        lines.extend(books.incoming.iter().map(Line::incoming));
        lines.extend(books.charges.iter().map(Line::charge));
        lines.extend(self.unlisted());
        lines.push(Line::balance(self.month.last(), "closing_balance", self.closing()));
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = lines.iter().try_for_each(|line| writer.serialize(line));
        let internal = || Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE);
        written.map_err(|_| internal())?;
        writer.into_inner().map_err(|_| internal())
    }
}

/// A line of the CSV.
#[derive(Debug, Serialize)]
struct Line {
    date: String,
    r#type: &'static str,
    description: String,
    requests: Option<i64>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    amount_usd: String,
}

impl Line {
    fn balance(day: Day, r#type: &'static str, amount: NanoUsd) -> Self {
        Self {
            date: day.to_string(),
            r#type,
            description: String::new(),
            requests: None,
            input_tokens: None,
            output_tokens: None,
            amount_usd: amount.to_string(),
        }
    }

    fn incoming(incoming: &Incoming) -> Self {
        let reference = incoming.external_ref.as_deref().unwrap_or_default();
        Self {
            description: inert(reference),
            ..Self::balance(Day::of(incoming.created_at), kind_of(incoming), incoming.amount)
        }
    }

    fn charge(charge: &StatementCharge) -> Self {
        let amount = NanoUsd(-charge.sums.cost.0);
        Self {
            description: inert(&charge.model),
            requests: Some(charge.sums.requests),
            input_tokens: Some(charge.sums.input_tokens),
            output_tokens: Some(charge.sums.output_tokens),
            ..Self::balance(charge.day, "charge", amount)
        }
    }
}

/// A text that no spreadsheet takes for a formula.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() }
}

fn kind_of(incoming: &Incoming) -> &'static str {
    TransferKind::from_db_code(incoming.kind).map_or("top_up", TransferKind::as_str)
}

fn incoming_json(incoming: &Incoming) -> Value {
    json!({
        "id": incoming.id,
        "type": kind_of(incoming),
        "amount_usd": incoming.amount.to_json_number(),
        "payment_ref": incoming.external_ref,
        "created": UnixMicros::seconds(incoming.created_at),
        "date": Day::of(incoming.created_at).to_string(),
    })
}

fn charge_json(charge: &StatementCharge) -> Value {
    let mut line = json!({"date": charge.day.to_string(), "llm_model": charge.model});
    if let (Value::Object(line), Value::Object(sums)) =
        (&mut line, sums_json(Value::Null, Value::Null, &charge.sums))
    {
        line.extend(sums.into_iter().filter(|(_, value)| !value.is_null()));
    }
    line
}

const fn status(is_open: bool) -> &'static str {
    if is_open { "open" } else { "closed" }
}

fn month_of(text: &str) -> Result<Month, Failure> {
    text.parse().map_err(|_| wrong("cursor", "cursor must be the next_cursor of the page before"))
}

fn wrong(name: &str, message: impl Into<String>) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_csv_add_up_although_not_all_are_shown() {
        let month: Month = "2026-11".parse().unwrap();
        let sums = |requests, cost| UsageSums {
            requests,
            input_tokens: 10 * requests,
            output_tokens: requests,
            cost: NanoUsd(cost),
            ..UsageSums::default()
        };
        let incoming = Incoming {
            id: uuid::Uuid::nil(),
            kind: TransferKind::TopUp.db_code(),
            amount: NanoUsd(40),
            external_ref: None,
            created_at: month.first().start(),
        };
        let charge = |cost| StatementCharge {
            day: month.first(),
            model: "m".to_owned(),
            sums: sums(1, cost),
        };
        let books = Statement {
            opening: NanoUsd(5),
            incoming: vec![incoming],
            incoming_total: NanoUsd(100),
            charges: vec![charge(7), charge(8)],
            charges_total: sums(6, 30),
            truncated: true,
        };
        let invoice = Invoice { month, is_open: true, account: String::new(), books };
        let text = String::from_utf8(invoice.to_csv().unwrap()).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split(',').collect()).collect();
        let amount = |line: &Vec<&str>| line[6].parse::<NanoUsd>().unwrap();
        let (closing, others) = lines.split_last().unwrap();
        assert_eq!(amount(closing), NanoUsd(75), "{text}");
        assert_eq!(others.iter().map(amount).sum::<NanoUsd>(), NanoUsd(75), "{text}");
        assert!(
            text.contains("2026-11-30,top_up,not listed: too many lines,,,,0.00000006"),
            "{text}"
        );
        assert!(
            text.contains("2026-11-30,charge,not listed: too many lines,4,40,4,-0.000000015"),
            "{text}"
        );
    }
}
