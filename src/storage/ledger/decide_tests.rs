//! Any series of flushes of two instances keeps the books.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    HoldId, PriceId, Usage, UsageBasis,
    ledger::{FLAG_FROZEN, Finish, HoldResolve, LeaseOp},
};

fn open(account_id: AccountId, funds_min: i64, amount: i64, legs: Vec<Leg>) -> HoldOpen {
    HoldOpen {
        hold_id: HoldId::generate(),
        account_id,
        cap_id: None,
        key_id: None,
        face_id: None,
        amount: NanoUsd(amount),
        funds_min: NanoUsd(funds_min),
        price_id: PriceId(1),
        model: String::new(),
        legs,
        idem: None,
    }
}

fn resolve(account_id: AccountId, amount: i64, charge: i64) -> HoldResolve {
    HoldResolve {
        hold_id: HoldId::generate(),
        account_id,
        cap_id: None,
        amount: NanoUsd(amount),
        charge: NanoUsd(charge),
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: Usage::default(),
        basis: UsageBasis::Counted,
        finish: Finish::Complete,
        attempts: Vec::new(),
        idem: None,
    }
}

fn leg(account_id: AccountId, want: i64, is_shared: bool) -> Leg {
    let none = NanoUsd::ZERO;
    Leg { account_id, aside: none, spare: none, want: NanoUsd(want), is_shared }
}

fn row(account_id: AccountId, credits: i64, flags: i32) -> AccountRow {
    AccountRow {
        account_id,
        credits: NanoUsd(credits),
        debits: NanoUsd::ZERO,
        leased: NanoUsd::ZERO,
        unfolded: NanoUsd::ZERO,
        leases: 0,
        overdraft_limit: NanoUsd::ZERO,
        flags,
        recall_seq: 0,
    }
}

/// One instance as the books see it: its leases and the holds in them.
#[derive(Default)]
struct Side {
    leases: BTreeMap<AccountId, LeaseRow>,
    held: Vec<(AccountId, i64)>,
}

impl Side {
    fn held(&self, id: AccountId) -> i64 {
        self.held.iter().filter(|(held, _)| *held == id).map(|(_, amount)| amount).sum()
    }

    fn slack(&self, id: AccountId) -> i64 {
        let lease = self.leases.get(&id);
        lease.map_or(0, |lease| lease.granted.0 - lease.posted.0) - self.held(id)
    }
}

/// Which instance, which account, `funds_min`, more, what the lease wants, how much of an older
/// hold was used, and whether its lease gives back and folds.
type Step = (bool, usize, i64, i64, i64, u8, bool);

fn drive(credits: &[(i64, bool)], flushes: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let ids: Vec<AccountId> = credits.iter().map(|_| AccountId::generate()).collect();
    let frozen = |frozen| if frozen { FLAG_FROZEN } else { 0 };
    let row_of = |(id, (credit, is_frozen)): (&AccountId, &(i64, bool))| {
        (*id, row(*id, *credit, frozen(*is_frozen)))
    };
    let mut rows: BTreeMap<AccountId, AccountRow> = ids.iter().zip(credits).map(row_of).collect();
    let mut sides = [Side::default(), Side::default()];
    for flush in flushes {
        let side = usize::from(flush.first().is_some_and(|step| step.0));
        let mut batch = FlushBatch::default();
        for &(_, account, min, more, want, used, returns) in flush {
            let id = ids[account % ids.len()];
            batch.opens.push(open(id, min, min + more, vec![leg(id, want, true)]));
            if let Some((id, amount)) = sides[side].held.pop() {
                let charge = i64::try_from(i128::from(amount) * i128::from(used) / 255).unwrap();
                batch.resolves.push(resolve(id, amount, charge));
            }
            if returns && batch.leases.iter().all(|lease| lease.account_id != id) {
                let ends = batch.resolves.iter().filter(|end| end.account_id == id);
                let charged: i64 = ends.map(|end| end.charge.0).sum();
                let give_back = NanoUsd(sides[side].slack(id) - charged);
                batch.leases.push(LeaseOp { account_id: id, give_back, fold: true });
            }
        }
        let leases = sides[side].leases.clone();
        let decision =
            decide(Books { rows: rows.clone(), leases, ..Books::default() }, &batch).unwrap();
        for (open, verdict) in batch.opens.iter().zip(&decision.opens) {
            let id = open.account_id;
            match *verdict {
                OpenVerdict::Granted { amount, affordable } => {
                    prop_assert!(open.funds_min <= affordable && amount <= affordable);
                    prop_assert!(open.funds_min.min(open.amount) <= amount);
                    prop_assert!(amount <= open.amount && !rows[&id].is_blocked());
                    sides[side].held.push((id, amount.0));
                }
                OpenVerdict::Denied { row, .. } => prop_assert!(row.available() < open.funds_min),
                OpenVerdict::Blocked(row) => prop_assert!(row.is_blocked()),
                OpenVerdict::NoAccount => prop_assert!(false, "every account exists"),
                OpenVerdict::Claimed => prop_assert!(false, "nobody has a key"),
            }
        }
        sides[side].leases = decision.books.leases;
        rows = decision.books.rows;
        check_books(&rows, &sides)?;
    }
    Ok(())
}

fn check_books(
    rows: &BTreeMap<AccountId, AccountRow>,
    sides: &[Side],
) -> Result<(), TestCaseError> {
    for (id, row) in rows {
        prop_assert!(row.debits.0 + row.leased.0 <= row.credits.0, "I1");
        let leases = || sides.iter().filter_map(|side| side.leases.get(id));
        let leased: i64 = leases().map(|lease| lease.granted.0 - lease.folded.0).sum();
        prop_assert_eq!(row.leased.0, leased, "I5");
        let unfolded: i64 = leases().map(|lease| lease.posted.0 - lease.folded.0).sum();
        prop_assert_eq!(row.unfolded.0, unfolded);
        let folded: i64 = leases().map(|lease| lease.folded.0).sum();
        prop_assert_eq!(row.debits.0, folded);
        for side in sides {
            prop_assert!(side.slack(*id) >= 0, "I6");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_series_of_flushes_overspends_or_loses_a_nano(
        credits in proptest::collection::vec((0_i64..2_000, proptest::bool::weighted(0.1)), 1..4),
        flushes in proptest::collection::vec(
            proptest::collection::vec(
                (any::<bool>(), 0_usize..4, 0_i64..600, 0_i64..600, 0_i64..2_000, any::<u8>(),
                    any::<bool>()),
                0..12,
            ),
            1..16,
        ),
    ) {
        drive(&credits, &flushes)?;
    }
}

#[test]
fn a_hold_needs_all_its_legs() {
    let (wallet, cap) = (AccountId::generate(), AccountId::generate());
    let rows = |cap_credit| {
        BTreeMap::from([(wallet, row(wallet, 100, 0)), (cap, row(cap, cap_credit, 0))])
    };
    let both = || vec![leg(wallet, 0, true), leg(cap, 0, true)];
    let decided = |cap_credit| {
        let batch = FlushBatch { opens: vec![open(wallet, 60, 60, both())], ..Default::default() };
        let books = Books { rows: rows(cap_credit), ..Books::default() };
        decide(books, &batch).unwrap()
    };
    let denied = decided(59);
    assert!(matches!(denied.opens[0], OpenVerdict::Denied { row, .. } if row.account_id == cap));
    assert!(denied.changes.values().all(|change| !change.touches_row()), "{denied:?}");
    let granted = decided(60);
    assert_eq!(granted.books.rows[&wallet].leased, NanoUsd(60));
    assert_eq!(granted.books.rows[&cap].leased, NanoUsd(60));
}

#[test]
fn what_a_lease_has_aside_and_to_spare_counts_as_affordable() {
    let id = AccountId::generate();
    let ask = |funds_min| {
        let set = Leg { aside: NanoUsd(50), spare: NanoUsd(20), ..leg(id, 0, true) };
        let batch =
            FlushBatch { opens: vec![open(id, funds_min, 50, vec![set])], ..Default::default() };
        let books = Books { rows: BTreeMap::from([(id, row(id, 30, 0))]), ..Books::default() };
        decide(books, &batch).unwrap().opens[0]
    };
    assert_eq!(ask(100), OpenVerdict::Granted { amount: NanoUsd(50), affordable: NanoUsd(100) });
    assert!(matches!(ask(101), OpenVerdict::Denied { .. }));
}

#[test]
fn an_extension_within_its_lease_takes_no_slice_from_a_frozen_account() {
    let id = AccountId::generate();
    let mine = LeaseRow {
        account_id: id,
        granted: NanoUsd(50),
        posted: NanoUsd::ZERO,
        folded: NanoUsd::ZERO,
    };
    let frozen = AccountRow { leased: NanoUsd(50), leases: 1, ..row(id, 1_000, FLAG_FROZEN) };
    let (rows, leases) = (BTreeMap::from([(id, frozen)]), BTreeMap::from([(id, mine)]));
    let books = Books { rows, leases, ..Books::default() };
    let extend = HoldExtend {
        hold_id: HoldId::generate(),
        account_id: id,
        cap_id: None,
        from: NanoUsd(10),
        to: NanoUsd(30),
        legs: vec![Leg { aside: NanoUsd(20), ..leg(id, 100, true) }],
    };
    let batch = FlushBatch { extends: vec![extend], ..FlushBatch::default() };
    let decision = decide(books, &batch).unwrap();
    assert_eq!(decision.extends, [ExtendVerdict::Granted { amount: NanoUsd(30) }]);
    // The statement that writes the rows refuses a grant from a frozen one, and with it the flush.
    assert!(decision.changes.values().all(|change| change.grant == 0), "{decision:?}");
}

#[test]
fn a_batch_that_contradicts_the_books_is_refused_whole() {
    let id = AccountId::generate();
    let books = || Books { rows: BTreeMap::from([(id, row(id, 10, 0))]), ..Books::default() };
    let ends = |end| FlushBatch { resolves: vec![end], ..FlushBatch::default() };
    let opens = |open| FlushBatch { opens: vec![open], ..FlushBatch::default() };
    let gives = |give_back| {
        let give_back = NanoUsd(give_back);
        let leases = vec![LeaseOp { account_id: id, give_back, fold: false }];
        FlushBatch { leases, ..FlushBatch::default() }
    };
    let lease = Err(Contradiction::Lease(id));
    assert_eq!(decide(books(), &ends(resolve(id, 1, 1))), lease);
    assert_eq!(decide(books(), &gives(1)), lease);
    assert_eq!(decide(books(), &gives(-1)), lease);
    assert_eq!(decide(Books::default(), &gives(0)), Err(Contradiction::NoAccount(id)));
    let amount = Err(Contradiction::Amount(id));
    assert_eq!(decide(books(), &ends(resolve(id, 1, 2))), amount);
    assert_eq!(decide(books(), &ends(resolve(id, 1, -1))), amount);
    assert_eq!(decide(books(), &opens(open(id, -1, 1, vec![]))), amount);
    assert_eq!(decide(books(), &opens(open(id, 1, -1, vec![]))), amount);
}
