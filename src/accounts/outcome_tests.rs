//! Every nano of a cost has one payer.

use proptest::prelude::*;

use super::*;
use crate::domain::TokenPrices;

fn terms(amount: i64, price: i64) -> HoldTerms {
    HoldTerms {
        hold_id: HoldId::generate(),
        account_id: AccountId::generate(),
        cap_id: None,
        amount: NanoUsd(amount),
        rate: ChargeRate {
            prices: TokenPrices { input_pico: price, output_pico: price, ..Default::default() },
            markup_bps: 0,
        },
    }
}

fn outcome(usage: Usage, payer: Payer) -> Outcome {
    Outcome {
        usage,
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: Vec::new(),
        payer,
    }
}

proptest! {
    #[test]
    fn every_nano_of_cost_has_exactly_one_payer(
        amount in 0_i64..10_000_000, price in 0_i64..1_000_000_000,
        input in 0_u64..100_000, output in 0_u64..100_000, operator: bool,
    ) {
        let terms = terms(amount, price);
        let usage = Usage { input_uncached: input, output_text: output, ..Usage::default() };
        let payer = if operator { Payer::Operator } else { Payer::Customer };
        let cost = terms.rate.charge_rounding_up(&usage).unwrap();
        let resolve = resolve(&terms, outcome(usage, payer));
        prop_assert_eq!(
            resolve.charge.0 + resolve.overrun.0 + resolve.provider_cost.0, cost.0
        );
        prop_assert!(resolve.charge <= terms.amount);
        prop_assert!(resolve.overrun == NanoUsd::ZERO || resolve.charge == terms.amount);
        prop_assert!(!operator || resolve.charge == NanoUsd::ZERO);
    }
}

#[test]
fn usage_that_no_money_can_express_is_not_billed() {
    let usage = Usage { input_uncached: u64::MAX, ..Usage::default() };
    let resolve = resolve(&terms(100, i64::MAX), outcome(usage, Payer::Customer));
    assert_eq!((resolve.charge, resolve.overrun), (NanoUsd::ZERO, NanoUsd::ZERO));
    assert_eq!((resolve.usage, resolve.basis), (Usage::default(), UsageBasis::Counted));
}

#[test]
fn a_frozen_account_is_named_before_its_balance() {
    let row = AccountRow {
        account_id: AccountId::generate(),
        credits: NanoUsd(1),
        debits: NanoUsd::ZERO,
        leased: NanoUsd::ZERO,
        unfolded: NanoUsd::ZERO,
        leases: 0,
        recall_seq: 0,
        overdraft_limit: NanoUsd::ZERO,
        flags: crate::domain::ledger::FLAG_FROZEN,
    };
    assert_eq!(denial_reason(&row, NanoUsd(5)), FundsReason::AccountFrozen);
}

#[test]
fn an_extension_pays_what_was_overrun_before_it() {
    let usage = Usage { input_uncached: 150, ..Usage::default() };
    let mut end = resolve(&terms(100, 1_000), outcome(usage, Payer::Customer));
    assert_eq!((end.charge, end.overrun), (NanoUsd(100), NanoUsd(50)));
    resize(&mut end, NanoUsd(130));
    assert_eq!((end.amount, end.charge, end.overrun), (NanoUsd(130), NanoUsd(130), NanoUsd(20)));
    resize(&mut end, NanoUsd(400));
    assert_eq!((end.amount, end.charge, end.overrun), (NanoUsd(400), NanoUsd(150), NanoUsd::ZERO));
}
