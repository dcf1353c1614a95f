//! Every nano has one payer, and no order of events spends one twice.

use proptest::prelude::*;

use super::*;
use crate::domain::TokenPrices;

fn terms(amount: i64, price: i64) -> HoldTerms {
    HoldTerms {
        hold_id: HoldId::generate(),
        account_id: AccountId::generate(),
        amount: NanoUsd(amount),
        rate: ChargeRate {
            prices: TokenPrices { input_pico: price, output_pico: price, ..Default::default() },
            markup_bps: 0,
        },
    }
}

fn outcome(usage: Usage, payer: Payer) -> Outcome {
    Outcome { usage, basis: UsageBasis::Provider, finish: Finish::Complete, attempt: None, payer }
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

/// The books behind one lease, as simple as they can be.
#[derive(Debug, Default)]
struct Bank {
    credits: i64,
    debits: i64,
    leased: i64,
    granted: i64,
    posted: i64,
}

#[derive(Debug)]
enum Sent {
    Open { amount: i64, leg: Option<Leg> },
    End { charge: i64, give_back: i64 },
    Return { amount: i64 },
}

impl Bank {
    /// One flush: charges, returns, then opens in order. What it can't do is a broken promise.
    fn flush(&mut self, sent: &[Sent], held: &mut Vec<i64>) -> Result<DurableChange, String> {
        let mut change = DurableChange::default();
        for sent in sent {
            let (charge, give_back) = match *sent {
                Sent::End { charge, give_back } => (charge, give_back),
                Sent::Return { amount } => (0, amount),
                Sent::Open { .. } => continue,
            };
            if charge + give_back > self.granted - self.posted {
                return Err(format!("I6: {charge} and {give_back} of {self:?}"));
            }
            change.ended += u64::from(matches!(sent, Sent::End { .. }));
            change.charged.0 += charge;
            change.given_back.0 += give_back;
            self.posted += charge;
            self.granted -= give_back;
            self.debits += charge;
            self.leased -= charge + give_back;
        }
        for sent in sent {
            let Sent::Open { amount, leg } = *sent else { continue };
            let Some(leg) = leg else { continue };
            let available = self.credits - self.debits - self.leased;
            let need = amount - leg.aside.0;
            change.aside.0 += leg.aside.0;
            change.is_acquired |= leg.want.0 > 0;
            if need > available {
                change.denied += 1;
                continue;
            }
            let grant = need.max(leg.want.0.min(available));
            self.leased += grant;
            self.granted += grant;
            change.granted_amount.0 += amount;
            held.push(amount);
        }
        if self.debits + self.leased > self.credits {
            return Err(format!("I1: {self:?}"));
        }
        let account_id = AccountId(uuid::Uuid::nil());
        let (granted, posted) = (NanoUsd(self.granted), NanoUsd(self.posted));
        change.lease = Some(LeaseRow { account_id, granted, posted, folded: posted });
        change.row = Some(AccountRow {
            account_id,
            credits: NanoUsd(self.credits),
            debits: NanoUsd(self.debits),
            leased: NanoUsd(self.leased),
            unfolded: NanoUsd::ZERO,
            leases: 1,
            overdraft_limit: NanoUsd::ZERO,
            flags: 0,
            recall_seq: 0,
        });
        Ok(change)
    }
}

/// A rule that is left out, to see that the rule is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    /// Credit leaves memory only when its return was acknowledged.
    ReturnLeavesAfterAck,
    /// A hold's rest is free before what it charged was taken off.
    ChargeLeavesAfterAck,
}

#[derive(Debug, Clone)]
enum Step {
    Open(i64),
    End(usize, u8),
    Send,
    Reply,
    GiveBack,
    TopUp(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_i64..60).prop_map(Step::Open),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(which, used)| Step::End(which, used)),
        3 => Just(Step::Send),
        3 => Just(Step::Reply),
        1 => Just(Step::GiveBack),
        1 => (0_i64..40).prop_map(Step::TopUp),
    ]
}

/// An instance and its books: what was sent and not answered, what is open, what was charged.
struct World {
    core: AccountCore,
    bank: Bank,
    retains: bool,
    mutant: Mutant,
    queue: Vec<Sent>,
    reply: Option<(DurableChange, Vec<i64>)>,
    held: Vec<i64>,
    charged: i64,
}

impl World {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let broken = |violation: Violation| violation.to_string();
        match *step {
            Step::Open(amount) => {
                let open = hold_of(amount);
                match self.core.reserve(&open, self.retains, true).map_err(broken)? {
                    Reserved::Here => {
                        self.queue.push(Sent::Open { amount, leg: None });
                        self.held.push(amount);
                    }
                    Reserved::Ask { leg } => {
                        self.queue.push(Sent::Open { amount, leg: Some(leg) });
                    }
                    Reserved::Later => {}
                }
            }
            Step::End(which, used) if !self.held.is_empty() => {
                let amount = self.held.swap_remove(which % self.held.len());
                let charge = amount * i64::from(used) / 255;
                let end = HoldResolve { charge: NanoUsd(charge), ..void(&terms(amount, 0), None) };
                let give_back = self.core.end(&end, self.retains).map_err(broken)?.0;
                if self.mutant == Mutant::ChargeLeavesAfterAck {
                    self.core.charging -= charge;
                }
                self.charged += charge;
                self.queue.push(Sent::End { charge, give_back });
            }
            Step::Send if self.reply.is_none() => {
                let mut granted = Vec::new();
                let mut change = self.bank.flush(&self.queue, &mut granted)?;
                self.queue.clear();
                match self.mutant {
                    Mutant::None => {}
                    Mutant::ReturnLeavesAfterAck => change.given_back = NanoUsd::ZERO,
                    Mutant::ChargeLeavesAfterAck => change.charged = NanoUsd::ZERO,
                }
                self.reply = Some((change, granted));
            }
            Step::Reply => {
                if let Some((change, granted)) = self.reply.take() {
                    let nil = AccountId(uuid::Uuid::nil());
                    self.core.durable(nil, &change).map_err(broken)?;
                    self.held.extend(granted);
                }
            }
            Step::GiveBack => {
                if let Some(amount) = self.core.give_back_all() {
                    if self.mutant == Mutant::ReturnLeavesAfterAck {
                        self.core.returning -= amount.0;
                    }
                    self.queue.push(Sent::Return { amount: amount.0 });
                }
            }
            Step::TopUp(amount) => self.bank.credits += amount,
            Step::End(..) | Step::Send => {}
        }
        // What may be shown and charged is within what the customer paid.
        let open: i64 = self.held.iter().sum();
        if self.charged + open > self.bank.credits {
            return Err(format!("{} charged and {open} held of {:?}", self.charged, self.bank));
        }
        Ok(())
    }

    /// Ends everything: the books have every charge once, and nothing is left behind.
    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            while !self.held.is_empty() {
                self.step(&Step::End(0, 255))?;
            }
            for step in [Step::Reply, Step::Send, Step::Reply, Step::GiveBack] {
                self.step(&step)?;
            }
        }
        for step in [Step::Send, Step::Reply] {
            self.step(&step)?;
        }
        if !self.core.is_empty() || self.bank.leased != 0 || self.bank.debits != self.charged {
            return Err(format!("{} charged: {:?}, {:?}", self.charged, self.bank, self.core));
        }
        Ok(())
    }
}

fn hold_of(amount: i64) -> HoldOpen {
    HoldOpen {
        hold_id: HoldId::generate(),
        account_id: AccountId(uuid::Uuid::nil()),
        cap_id: None,
        key_id: None,
        face_id: None,
        amount: NanoUsd(amount),
        funds_min: NanoUsd(amount),
        price_id: crate::domain::PriceId(1),
        model: String::new(),
        legs: Vec::new(),
    }
}

fn live(mutant: Mutant, retains: bool, credits: i64, steps: &[Step]) -> Result<(), String> {
    let mut world = World {
        core: AccountCore::default(),
        bank: Bank { credits, ..Bank::default() },
        retains,
        mutant,
        queue: Vec::new(),
        reply: None,
        held: Vec::new(),
        charged: 0,
    };
    steps.iter().try_for_each(|step| world.step(step))?;
    world.finish()
}

proptest! {
    #[test]
    fn no_order_of_events_overspends_or_loses_a_nano(
        retains: bool, credits in 0_i64..200, steps in proptest::collection::vec(step(), 0..80),
    ) {
        prop_assert_eq!(live(Mutant::None, retains, credits, &steps), Ok(()));
    }
}

/// The rule is needed: without it some order of events breaks a promise.
fn assert_a_run_fails(mutant: Mutant) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::with_cases(4_000)
    });
    let runs = (0_i64..200, proptest::collection::vec(step(), 0..80));
    let found = runner.run(&runs, |(credits, steps)| {
        live(mutant, true, credits, &steps).map_err(TestCaseError::fail)
    });
    assert!(found.is_err(), "{mutant:?} was not noticed");
}

#[test]
fn credit_must_leave_memory_before_its_return_is_sent() {
    assert_a_run_fails(Mutant::ReturnLeavesAfterAck);
}

#[test]
fn a_charge_must_leave_memory_before_it_is_sent() {
    assert_a_run_fails(Mutant::ChargeLeavesAfterAck);
}
