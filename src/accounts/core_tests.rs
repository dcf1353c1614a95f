//! No order of events spends a nano twice or loses one.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Usage, UsageBasis,
    ledger::{Finish, IdemClaim, IdemKey, LeaseRow},
};

const WALLET: AccountId = AccountId(uuid::Uuid::from_u128(1));
const CAP: AccountId = AccountId(uuid::Uuid::from_u128(2));

/// The books behind one lease, as simple as they can be.
#[derive(Debug, Default)]
struct Bank {
    credits: i64,
    debits: i64,
    leased: i64,
    granted: i64,
    posted: i64,
}

impl Bank {
    fn available(&self) -> i64 {
        self.credits - self.debits - self.leased
    }

    fn take(&mut self, charge: i64, give_back: i64) -> Result<(), String> {
        if charge + give_back > self.granted - self.posted {
            return Err(format!("I6: {charge} and {give_back} of {self:?}"));
        }
        self.posted += charge;
        self.granted -= give_back;
        self.debits += charge;
        self.leased -= charge + give_back;
        Ok(())
    }

    /// The state after a flush, absolute.
    fn state(&self, account_id: AccountId, change: &mut DurableChange) -> Result<(), String> {
        if self.debits + self.leased > self.credits {
            return Err(format!("I1: {self:?}"));
        }
        let (granted, posted) = (NanoUsd(self.granted), NanoUsd(self.posted));
        change.lease = Some(LeaseRow { account_id, granted, posted, folded: posted });
        change.row = Some(self.row(account_id));
        Ok(())
    }

    fn row(&self, account_id: AccountId) -> AccountRow {
        AccountRow {
            account_id,
            credits: NanoUsd(self.credits),
            debits: NanoUsd(self.debits),
            leased: NanoUsd(self.leased),
            unfolded: NanoUsd::ZERO,
            leases: 1,
            overdraft_limit: NanoUsd::ZERO,
            flags: 0,
            recall_seq: 0,
        }
    }
}

/// A hold that the instance believes to have.
#[derive(Debug, Clone, Copy)]
struct Held {
    id: HoldId,
    amount: i64,
    cap: Option<AccountId>,
    /// An extension of it is on its way.
    is_extending: bool,
}

#[derive(Debug)]
enum Sent {
    /// A new hold, or `more` for one.
    Ask {
        hold: Held,
        more: i64,
        is_open: bool,
        legs: Vec<Leg>,
    },
    End {
        cap: Option<AccountId>,
        charge: i64,
        give_back: i64,
    },
    Return {
        account: AccountId,
        amount: i64,
    },
}

/// A rule that is left out, to see that the rule is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    /// Credit leaves memory only when its return was acknowledged.
    ReturnLeavesAfterAck,
    /// A hold's rest is free before what it charged was taken off.
    ChargeLeavesAfterAck,
    /// A hold that grew ends with the amount that it was opened with.
    EndForgetsExtension,
}

#[derive(Debug, Clone)]
enum Step {
    Open(i64, bool),
    Extend(usize, i64),
    End(usize, u8),
    Send,
    Reply,
    Look,
    GiveBack(i64),
    TopUp(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_i64..60, any::<bool>()).prop_map(|(amount, cap)| Step::Open(amount, cap)),
        2 => (any::<usize>(), 1_i64..40).prop_map(|(which, more)| Step::Extend(which, more)),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(which, used)| Step::End(which, used)),
        3 => Just(Step::Send),
        3 => Just(Step::Reply),
        1 => Just(Step::Look),
        1 => (0_i64..30).prop_map(Step::GiveBack),
        1 => (0_i64..40).prop_map(Step::TopUp),
    ]
}

type Reply = (BTreeMap<AccountId, DurableChange>, Vec<(Held, i64, bool, bool)>);

/// An instance and its books: what was sent and not answered, what is open, what was charged.
struct World {
    core: AccountCore,
    banks: BTreeMap<AccountId, Bank>,
    policy: Policy,
    mutant: Mutant,
    queue: Vec<Sent>,
    reply: Option<Reply>,
    held: Vec<Held>,
    charged: i64,
}

fn broken(violation: Violation) -> String {
    violation.to_string()
}

fn payers(cap: Option<AccountId>) -> impl Iterator<Item = AccountId> {
    std::iter::once(WALLET).chain(cap)
}

impl World {
    fn bank(&mut self, id: AccountId) -> &mut Bank {
        self.banks.entry(id).or_default()
    }

    /// One flush: charges, returns, then questions in order. What it can't do is a broken promise.
    fn flush(&mut self) -> Result<Reply, String> {
        let mut changes: BTreeMap<AccountId, DurableChange> = BTreeMap::new();
        let mut verdicts = Vec::new();
        let sent = std::mem::take(&mut self.queue);
        for sent in &sent {
            match *sent {
                Sent::End { cap, charge, give_back } => {
                    changes.entry(WALLET).or_default().ended += 1;
                    for id in payers(cap) {
                        self.bank(id).take(charge, give_back)?;
                        let change = changes.entry(id).or_default();
                        change.charged.0 += charge;
                        change.given_back.0 += give_back;
                    }
                }
                Sent::Return { account, amount } => {
                    self.bank(account).take(0, amount)?;
                    changes.entry(account).or_default().given_back.0 += amount;
                }
                Sent::Ask { .. } => {}
            }
        }
        for sent in sent {
            let Sent::Ask { hold, more, is_open, legs } = sent else { continue };
            let need = |leg: &Leg| more - leg.aside.0;
            let is_granted =
                legs.iter().all(|leg| need(leg) <= self.bank(leg.account_id).available());
            for leg in &legs {
                let bank = self.bank(leg.account_id);
                if is_granted {
                    let grant = need(leg).max(leg.want.0.min(bank.available()));
                    bank.leased += grant;
                    bank.granted += grant;
                }
                let change = changes.entry(leg.account_id).or_default();
                change.answered += 1;
                change.is_acquired |= leg.want.0 > 0;
                change.aside.0 += leg.aside.0;
                change.granted.0 += if is_granted { more } else { 0 };
            }
            if !legs.is_empty() {
                let denied = u64::from(is_open && !is_granted);
                changes.entry(WALLET).or_default().denied += denied;
                verdicts.push((hold, more, is_open, is_granted));
            }
        }
        for (id, change) in &mut changes {
            self.banks.entry(*id).or_default().state(*id, change)?;
        }
        Ok((changes, verdicts))
    }

    fn open(&mut self, amount: i64, with_cap: bool) -> Result<(), String> {
        let cap = with_cap.then_some(CAP);
        let open = hold_of(amount, cap);
        let hold = Held { id: open.hold_id, amount, cap, is_extending: false };
        let (more, is_open) = (amount, true);
        match self.core.reserve(&open, &self.policy).map_err(broken)? {
            Reserved::Here { .. } => {
                self.queue.push(Sent::Ask { hold, more, is_open, legs: Vec::new() });
                self.held.push(hold);
            }
            Reserved::Ask { legs } => self.queue.push(Sent::Ask { hold, more, is_open, legs }),
            Reserved::Later => {}
        }
        Ok(())
    }

    fn extend(&mut self, which: usize, more: i64) -> Result<(), String> {
        let count = self.held.len();
        let Some(held) = self.held.get_mut(which % count.max(1)).filter(|held| !held.is_extending)
        else {
            return Ok(());
        };
        let extend = HoldExtend {
            hold_id: held.id,
            account_id: WALLET,
            cap_id: held.cap,
            from: NanoUsd(held.amount),
            to: NanoUsd(held.amount + more),
            legs: Vec::new(),
        };
        match self.core.extend(&extend, &self.policy).map_err(broken)? {
            Extended::Here => held.amount += more,
            Extended::Ask { legs } => {
                held.is_extending = true;
                self.queue.push(Sent::Ask { hold: *held, more, is_open: false, legs });
            }
            Extended::Later => {}
        }
        Ok(())
    }

    fn end(&mut self, which: usize, used: u8) -> Result<(), String> {
        let free: Vec<usize> =
            (0..self.held.len()).filter(|at| !self.held[*at].is_extending).collect();
        let Some(at) = free.get(which % free.len().max(1)) else { return Ok(()) };
        let hold = self.held.swap_remove(*at);
        let charge = hold.amount * i64::from(used) / 255;
        let mut end = end_of(&hold, charge);
        if self.mutant == Mutant::EndForgetsExtension {
            end.amount = NanoUsd(charge);
        } else {
            self.core.adjust(&mut end);
        }
        let give_back = self.core.end(&end, self.policy.retains).map_err(broken)?.0;
        if self.mutant == Mutant::ChargeLeavesAfterAck {
            self.core.wallet.owe(-charge);
        }
        self.charged += charge;
        self.queue.push(Sent::End { cap: hold.cap, charge, give_back });
        Ok(())
    }

    fn reply(&mut self) -> Result<(), String> {
        let Some((changes, verdicts)) = self.reply.take() else { return Ok(()) };
        for (id, change) in changes {
            self.core.durable(id, &change, 0).map_err(broken)?;
        }
        for (hold, more, is_open, is_granted) in verdicts {
            if is_open {
                self.held.extend(is_granted.then_some(hold));
                continue;
            }
            let Some(held) = self.held.iter_mut().find(|held| held.id == hold.id) else {
                return Err("an extension's hold has ended".to_owned());
            };
            held.is_extending = false;
            if is_granted {
                held.amount += more;
                self.core.extended(held.id, NanoUsd(held.amount));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Open(amount, cap) => self.open(amount, cap)?,
            Step::Extend(which, more) => self.extend(which, more)?,
            Step::End(which, used) => self.end(which, used)?,
            Step::Send if self.reply.is_none() => {
                let mut reply = self.flush()?;
                for change in reply.0.values_mut() {
                    match self.mutant {
                        Mutant::ReturnLeavesAfterAck => change.given_back = NanoUsd::ZERO,
                        Mutant::ChargeLeavesAfterAck => change.charged = NanoUsd::ZERO,
                        Mutant::None | Mutant::EndForgetsExtension => {}
                    }
                }
                self.reply = Some(reply);
            }
            Step::Send => {}
            Step::Reply => self.reply()?,
            Step::Look => {
                let row = self.bank(WALLET).row(WALLET);
                self.core.see(row, 0).map_err(broken)?;
            }
            Step::GiveBack(keep) => {
                for (account, NanoUsd(amount)) in self.core.give_back(keep) {
                    if self.mutant == Mutant::ReturnLeavesAfterAck {
                        self.core.lease_mut(account).unreturn(amount);
                    }
                    self.queue.push(Sent::Return { account, amount });
                }
            }
            Step::TopUp(amount) => self.bank(WALLET).credits += amount,
        }
        // What may be shown and charged is within what the customer paid.
        let open: i64 = self.held.iter().map(|held| held.amount).sum();
        let credits = self.bank(WALLET).credits;
        if self.charged + open > credits {
            return Err(format!("{} charged and {open} held of {credits}", self.charged));
        }
        Ok(())
    }

    /// Ends everything: the books have every charge once, and nothing is left behind.
    fn finish(&mut self) -> Result<(), String> {
        let calm = [Step::Reply, Step::Send, Step::Reply, Step::GiveBack(0)];
        for _ in 0..4 {
            while self.held.iter().any(|held| !held.is_extending) {
                self.step(&Step::End(0, 255))?;
            }
            calm.iter().try_for_each(|step| self.step(step))?;
        }
        calm.iter().try_for_each(|step| self.step(step))?;
        let leased: i64 = self.banks.values().map(|bank| bank.leased).sum();
        if !self.core.is_empty() || leased != 0 || self.bank(WALLET).debits != self.charged {
            return Err(format!("{} charged: {:?}, {:?}", self.charged, self.banks, self.core));
        }
        Ok(())
    }
}

fn hold_of(amount: i64, cap_id: Option<AccountId>) -> HoldOpen {
    HoldOpen {
        hold_id: HoldId::generate(),
        account_id: WALLET,
        cap_id,
        key_id: None,
        face_id: None,
        amount: NanoUsd(amount),
        funds_min: NanoUsd(amount),
        price_id: crate::domain::PriceId(1),
        model: String::new(),
        legs: Vec::new(),
        idem: None,
    }
}

fn end_of(hold: &Held, charge: i64) -> HoldResolve {
    HoldResolve {
        hold_id: hold.id,
        account_id: WALLET,
        cap_id: hold.cap,
        amount: NanoUsd(hold.amount),
        charge: NanoUsd(charge),
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: Usage::default(),
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: Vec::new(),
        idem: None,
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        any::<bool>().prop_map(|is_shared| Policy::exact(is_shared, 0)),
        Just(Policy::sole(0)),
        (0_i64..80).prop_map(|want| Policy {
            retains: true,
            want,
            is_shared: true,
            believed_from_ms: 0
        }),
    ]
}

fn live(mutant: Mutant, policy: Policy, credits: i64, steps: &[Step]) -> Result<(), String> {
    let bank = |credits| Bank { credits, ..Bank::default() };
    let mut world = World {
        core: AccountCore::new(WALLET),
        banks: BTreeMap::from([(WALLET, bank(credits)), (CAP, bank(90))]),
        policy,
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
        policy in policies(), credits in 0_i64..200,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        prop_assert_eq!(live(Mutant::None, policy, credits, &steps), Ok(()));
    }
}

/// The rule is needed: without it some order of events breaks a promise.
fn assert_a_run_fails(mutant: Mutant, policy: Policy) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::with_cases(4_000)
    });
    let runs = (0_i64..200, proptest::collection::vec(step(), 0..80));
    let found = runner.run(&runs, |(credits, steps)| {
        live(mutant, policy, credits, &steps).map_err(TestCaseError::fail)
    });
    assert!(found.is_err(), "{mutant:?} was not noticed");
}

#[test]
fn credit_must_leave_memory_before_its_return_is_sent() {
    assert_a_run_fails(Mutant::ReturnLeavesAfterAck, Policy::sole(0));
}

#[test]
fn a_charge_must_leave_memory_before_it_is_sent() {
    assert_a_run_fails(Mutant::ChargeLeavesAfterAck, Policy::sole(0));
}

#[test]
fn an_end_must_know_what_its_hold_became() {
    assert_a_run_fails(Mutant::EndForgetsExtension, Policy::exact(false, 0));
}

#[test]
fn a_hold_with_an_idempotency_key_is_not_granted_in_memory_and_takes_nothing_more() {
    let mut core = AccountCore::new(WALLET);
    let none = NanoUsd::ZERO;
    let lease = LeaseRow { account_id: WALLET, granted: NanoUsd(100), posted: none, folded: none };
    let row = Bank { credits: 500, leased: 100, ..Bank::default() }.row(WALLET);
    let change = DurableChange { lease: Some(lease), row: Some(row), ..Default::default() };
    core.wallet.durable(WALLET, &change, 0).unwrap();
    let key = IdemKey::parse(b"k").unwrap();
    let claim = IdemClaim { key, fingerprint: [0; 32], ttl_ms: 1 };
    let open = HoldOpen { idem: Some(Box::new(claim)), ..hold_of(40, None) };
    // The second does not wait for the first one's verdict.
    for spare in [60, 20] {
        let (aside, spare) = (NanoUsd(40), NanoUsd(spare));
        let leg = Leg { account_id: WALLET, aside, spare, want: none, is_shared: false };
        let reserved = core.reserve(&open, &Policy::sole(0)).unwrap();
        assert_eq!(reserved, Reserved::Ask { legs: vec![leg] });
    }
    let reserved = core.reserve(&hold_of(20, None), &Policy::sole(0)).unwrap();
    assert!(matches!(reserved, Reserved::Here { .. }), "{reserved:?}");
}
