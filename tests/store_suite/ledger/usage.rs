//! Usage by day: sums and tail together are the books, whatever was rolled up so far.

use faces::{
    domain::{AccountId, Day, FaceId, InstanceId, KeyId, NanoUsd, Usage, clock, ledger::HoldOpen},
    storage::{
        Db,
        ledger::{
            self,
            usage::{
                GroupKey, Rolled, UsageFilter, UsageGroup, UsagePage, UsageSums, read_days,
                read_statement, read_usage, roll,
            },
        },
        prices::sync_price,
    },
};
use futures_util::future::{join, join_all};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    Books, checkpoint, opens, rate, resolves, sealing::opened_before, settle, spoil, void, wallet,
};
use crate::{on_both_databases, store::TestStore};

const GROUPS: [UsageGroup; 4] =
    [UsageGroup::Key, UsageGroup::Face, UsageGroup::Model, UsageGroup::Day];

async fn usage(db: &Db, account: AccountId, group: UsageGroup) -> UsagePage {
    read_usage(db, UsageFilter::all(account), group, None, 1_000).await.unwrap()
}

fn add(sums: UsageSums, more: &UsageSums) -> UsageSums {
    UsageSums {
        requests: sums.requests + more.requests,
        input_tokens: sums.input_tokens + more.input_tokens,
        cached_tokens: sums.cached_tokens + more.cached_tokens,
        output_tokens: sums.output_tokens + more.output_tokens,
        provider_cost: NanoUsd(sums.provider_cost.0 + more.provider_cost.0),
        cost: NanoUsd(sums.cost.0 + more.cost.0),
    }
}

/// What the transfers of the books charged an account, and how many there are.
async fn charged(store: &TestStore, account: AccountId) -> (i64, i64) {
    let raw = store.raw().await;
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM ledger_transfer
        WHERE kind = 1 AND debit_account = $1";
    let backend = raw.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [account.0.into()]);
    let row = raw.query_one_raw(statement).await.unwrap().unwrap();
    (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())
}

/// Every way to group adds up to the charges of the books.
pub(super) async fn assert_usage_is_the_books(store: &TestStore, account: AccountId) -> UsageSums {
    let (requests, cost) = charged(store, account).await;
    let mut told = UsageSums::default();
    for group in GROUPS {
        let page = usage(&store.db, account, group).await;
        told = page.totals;
        assert_eq!((told.requests, told.cost), (requests, NanoUsd(cost)), "{group:?}");
        let summed = page.rows.iter().fold(UsageSums::default(), |sum, row| add(sum, &row.sums));
        assert_eq!(summed, told, "{group:?}");
    }
    told
}

pub(super) async fn roll_all(db: &Db, rows_max: u32) {
    while roll(db, rows_max).await.unwrap() != Rolled::Done {}
}

/// Rows in `usage_daily`, and how many requests they count.
async fn rolled(store: &TestStore) -> (i64, i64) {
    let raw = store.raw().await;
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(requests), 0) AS BIGINT) FROM usage_daily";
    let statement = Statement::from_string(raw.get_database_backend(), sql);
    let row = raw.query_one_raw(statement).await.unwrap().unwrap();
    (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())
}

/// A hold from `minutes` ago, by one of three keys (or none), faces (or none) and models.
pub(super) fn varied(
    books: &Books,
    number: usize,
    ids: &[(KeyId, FaceId)],
    minutes: u64,
) -> HoldOpen {
    let pick = |divisor: usize| ids.get(number / divisor % (ids.len() + 1));
    HoldOpen {
        key_id: pick(1).map(|(key, _)| *key),
        face_id: pick(2).map(|(_, face)| *face),
        model: format!("model-{}", number % 3),
        ..opened_before(books.open(100), minutes)
    }
}

pub(super) fn ids() -> Vec<(KeyId, FaceId)> {
    (0..3).map(|_| (KeyId::generate(), FaceId::generate())).collect()
}

async fn usage_is_the_books_after_every_step_in_any_order(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let ids = ids();
    let mut open: Vec<HoldOpen> =
        (0..40).map(|number| varied(&books, number, &ids, 60 - number as u64)).collect();
    books.flush(1, opens(open.clone())).await.unwrap();
    // Far from the order of their ids; some are voided, some cost more than they hold.
    let mut seq = 1;
    let mut next: usize = 7;
    while !open.is_empty() {
        next = (next * 31 + 17) % 1_009;
        let one = open.swap_remove(next % open.len());
        seq += 1;
        let end =
            if next.is_multiple_of(5) { void(&one) } else { settle(&one, 60 + next as i64 % 80) };
        books.flush(seq, resolves(vec![end])).await.unwrap();
        if next.is_multiple_of(3) {
            roll(&books.db, 4).await.unwrap();
            assert_usage_is_the_books(&store, books.account).await;
        }
    }
    let before = assert_usage_is_the_books(&store, books.account).await;
    roll_all(&books.db, 4).await;
    assert_eq!(assert_usage_is_the_books(&store, books.account).await, before);
    assert!(rolled(&store).await.1 > 20, "most are in the sums");
    assert_eq!(roll(&books.db, 4).await.unwrap(), Rolled::Done, "again does nothing");
    assert_eq!(assert_usage_is_the_books(&store, books.account).await, before);
    books.assert_audit_is_clean().await;
}

async fn an_open_hold_keeps_the_mark_back_and_is_counted_once_when_it_ends(store: TestStore) {
    let books = Books::new(&store, 10_000).await;
    let late = opened_before(books.open(100), 50);
    let (early, after) = (opened_before(books.open(100), 55), opened_before(books.open(100), 40));
    books.flush(1, opens(vec![early.clone(), late.clone(), after.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&early, 10), settle(&after, 20)])).await.unwrap();
    roll_all(&books.db, 100).await;
    assert_eq!(rolled(&store).await.1, 1, "only what is below the open hold");
    let told = assert_usage_is_the_books(&store, books.account).await;
    assert_eq!((told.requests, told.cost), (2, NanoUsd(30)), "the tail has the other one");
    books.flush(3, resolves(vec![settle(&late, 5)])).await.unwrap();
    roll_all(&books.db, 100).await;
    assert_eq!(rolled(&store).await.1, 3);
    let told = assert_usage_is_the_books(&store, books.account).await;
    assert_eq!((told.requests, told.cost), (3, NanoUsd(35)));
}

async fn what_is_young_stays_in_the_tail(store: TestStore) {
    let books = Books::new(&store, 10_000).await;
    let young = opened_before(books.open(100), 13);
    books.flush(1, opens(vec![young.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&young, 9)])).await.unwrap();
    roll_all(&books.db, 100).await;
    assert_eq!(rolled(&store).await, (0, 0));
    assert_eq!(assert_usage_is_the_books(&store, books.account).await.cost, NanoUsd(9));
}

async fn several_instances_that_roll_at_once_count_once(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let ids = ids();
    let open: Vec<HoldOpen> = (0..60).map(|number| varied(&books, number, &ids, 50)).collect();
    books.flush(1, opens(open.clone())).await.unwrap();
    books.flush(2, resolves(open.iter().map(|one| settle(one, 10)).collect())).await.unwrap();
    let rollers = (0..6).map(|_| roll_all(&books.db, 7));
    join_all(rollers).await;
    assert_eq!(rolled(&store).await.1, 60);
    assert_eq!(assert_usage_is_the_books(&store, books.account).await.cost, NanoUsd(600));
}

async fn usage_is_exact_under_concurrent_traffic(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let ids = ids();
    let held: Vec<HoldOpen> =
        (0..90).map(|number| varied(&books, number, &ids, 60 - number as u64 % 44)).collect();
    books.flush(1, opens(held.clone())).await.unwrap();
    let traffic = async {
        let mut seq = 1;
        for (round, old) in held.chunks(3).rev().enumerate() {
            let young = varied(&books, round, &ids, 0);
            books.flush(seq + 1, opens(vec![young.clone()])).await.unwrap();
            let ends = old.iter().chain([&young]).map(|one| settle(one, 1 + round as i64));
            books.flush(seq + 2, resolves(ends.collect())).await.unwrap();
            seq += 2;
        }
    };
    let watching = async {
        let mut least = NanoUsd::ZERO;
        for round in 0..30 {
            roll(&books.db, 5).await.unwrap();
            let before = charged(&store, books.account).await.1;
            let told = usage(&books.db, books.account, GROUPS[round % 4]).await.totals;
            let after = charged(&store, books.account).await.1;
            assert!((before..=after).contains(&told.cost.0), "{before} {told:?} {after}");
            assert!(told.cost >= least);
            least = told.cost;
        }
    };
    join(traffic, join(watching, roll_all(&books.db, 3))).await;
    roll_all(&books.db, 3).await;
    let told = assert_usage_is_the_books(&store, books.account).await;
    assert_eq!(told.requests, 120);
    assert_eq!(rolled(&store).await.1, 90, "the young ones are in the tail");
    books.assert_audit_is_clean().await;
}

async fn recovery_is_counted_at_the_checkpoint(store: TestStore) {
    let books = Books::new(&store, 10_000).await;
    let (seen, silent) = (opened_before(books.open(100), 30), opened_before(books.open(100), 29));
    books.flush(1, opens(vec![seen.clone(), silent.clone()])).await.unwrap();
    let mut batch = faces::domain::ledger::FlushBatch::default();
    batch.checkpoints.push(checkpoint(&seen, 12));
    books.flush(2, batch).await.unwrap();
    let other = InstanceId::generate();
    let scope = ledger::RecoveryScope::AllOthers;
    ledger::recover(&books.db, other, scope).await.unwrap();
    for _ in 0..2 {
        let told = assert_usage_is_the_books(&store, books.account).await;
        assert_eq!((told.requests, told.output_tokens, told.cost), (1, 12, NanoUsd(12)));
        roll_all(&books.db, 10).await;
    }
    assert_eq!(rolled(&store).await, (1, 1));
}

async fn the_providers_part_and_the_markup_add_up_to_the_charge(store: TestStore) {
    let books = Books::new(&store, 10_000_000).await;
    let marked_up = faces::domain::ChargeRate { markup_bps: 1_000, ..rate() };
    let price = sync_price(&books.db, "marked up", marked_up).await.unwrap();
    let priced =
        |minutes| HoldOpen { price_id: price, ..opened_before(books.open(1_000), minutes) };
    let (whole, clipped, gift) = (priced(40), priced(39), priced(38));
    books.flush(1, opens(vec![whole.clone(), clipped.clone(), gift.clone()])).await.unwrap();
    let used = |tokens| Usage {
        input_uncached: 3,
        cache_read: 2,
        output_text: tokens,
        ..Usage::default()
    };
    let mut ends = [settle(&whole, 116), settle(&clipped, 1_000), settle(&gift, 0)];
    // 3 + 100 tokens at one nano-USD, and 10 % more, rounded up; cached tokens cost nothing here.
    ends[0].usage = used(100);
    ends[0].charge = NanoUsd(114);
    // The operator paid what the hold did not cover, or all.
    ends[1].usage = used(5_000);
    ends[2].usage = used(50);
    ends[2].provider_cost = NanoUsd(59);
    books.flush(2, resolves(ends.to_vec())).await.unwrap();
    for _ in 0..2 {
        let told = assert_usage_is_the_books(&store, books.account).await;
        assert_eq!((told.cost, told.provider_cost), (NanoUsd(1_114), NanoUsd(1_103)));
        assert_eq!(told.markup(), NanoUsd(11));
        assert_eq!((told.input_tokens, told.cached_tokens), (15, 6));
        assert_eq!(told.output_tokens, 5_150);
        roll_all(&books.db, 10).await;
    }
    assert_eq!(rolled(&store).await.1, 3);
}

async fn groups_are_filtered_paged_and_another_accounts_are_never_seen(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let other = Books { account: wallet(&books.db, 1_000).await, ..Books::new(&store, 1).await };
    let ids = ids();
    let open: Vec<HoldOpen> = (0..48).map(|number| varied(&books, number, &ids, 40)).collect();
    let foreign = HoldOpen {
        account_id: other.account,
        legs: vec![super::leg(other.account)],
        key_id: Some(ids[0].0),
        ..opened_before(other.open(100), 40)
    };
    books.flush(1, opens(open.iter().cloned().chain([foreign.clone()]).collect())).await.unwrap();
    let ends = open.iter().map(|one| settle(one, 10)).chain([settle(&foreign, 77)]);
    books.flush(2, resolves(ends.collect())).await.unwrap();
    // Half of it on another day.
    let today = Day::of(clock::now());
    let raw = store.raw().await;
    for one in open.iter().take(24) {
        let sql = "UPDATE ledger_hold SET resolved_at = $1 WHERE id = $2";
        let yesterday = Day(today.0 - 1).start().0 + 5;
        spoil(&raw, sql, vec![yesterday.into(), one.hold_id.0.into()]).await;
    }
    for _ in 0..2 {
        let days = usage(&books.db, books.account, UsageGroup::Day).await;
        let days: Vec<_> = days.rows.iter().map(|row| (row.key.clone(), row.sums.cost.0)).collect();
        let day = |back| GroupKey::Day(Day(today.0 - back));
        assert_eq!(days, [(day(1), 240), (day(0), 240)]);
        for (from, to, requests) in [(1, 1, 24), (0, 0, 24), (1, 0, 48), (3, 2, 0)] {
            let filter = UsageFilter {
                from: Some(Day(today.0 - from)),
                to: Some(Day(today.0 - to)),
                ..UsageFilter::all(books.account)
            };
            let page = read_usage(&books.db, filter, UsageGroup::Model, None, 10).await.unwrap();
            assert_eq!(page.totals.requests, requests, "{from} {to}");
        }
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let all = UsageFilter::all(books.account);
            let page = read_usage(&books.db, all, UsageGroup::Key, after, 3).await.unwrap();
            assert_eq!(page.totals.requests, 48, "totals are of all pages");
            seen.extend(page.rows.iter().map(|row| row.key.clone()));
            after = seen.last().cloned();
            if !page.has_more {
                break;
            }
        }
        let none = std::iter::once(GroupKey::Key(None));
        let all = none.chain(ids.iter().map(|(key, _)| GroupKey::Key(Some(*key))));
        assert_eq!(seen, all.collect::<Vec<_>>());
        let (key, face) = ids[1];
        let narrow = UsageFilter {
            key_id: Some(key),
            face_id: Some(face),
            model: Some("model-2".to_owned()),
            ..UsageFilter::all(books.account)
        };
        let page = read_usage(&books.db, narrow, UsageGroup::Face, None, 10).await.unwrap();
        let expected = open.iter().filter(|one| {
            (one.key_id, one.face_id, one.model.as_str()) == (Some(key), Some(face), "model-2")
        });
        assert_eq!(page.totals.requests, expected.count() as i64);
        assert_eq!(usage(&books.db, other.account, UsageGroup::Key).await.totals.cost, NanoUsd(77));
        roll_all(&books.db, 10).await;
    }
    assert_eq!(rolled(&store).await.1, 49);
}

async fn a_statement_adds_up_to_the_balance(store: TestStore) {
    let books = Books::new(&store, 5_000).await;
    let open: Vec<HoldOpen> = (0..6).map(|_| opened_before(books.open(100), 30)).collect();
    books.flush(1, opens(open.clone())).await.unwrap();
    books.flush(2, resolves(open.iter().map(|one| settle(one, 30)).collect())).await.unwrap();
    let today = Day::of(clock::now());
    let raw = store.raw().await;
    for one in &open[..2] {
        let sql = "UPDATE ledger_hold SET resolved_at = $1 WHERE id = $2";
        spoil(&raw, sql, vec![Day(today.0 - 40).start().0.into(), one.hold_id.0.into()]).await;
    }
    let sql = "UPDATE ledger_transfer SET created_at = $1 WHERE kind = 2";
    spoil(&raw, sql, vec![Day(today.0 - 41).start().0.into()]).await;
    faces::storage::accounts::top_up(&books.db, books.account, NanoUsd(700), "r-1").await.unwrap();
    for _ in 0..2 {
        let month =
            read_statement(&books.db, books.account, Day(today.0 - 30), today).await.unwrap();
        assert_eq!(month.opening, NanoUsd(5_000 - 60));
        assert_eq!((month.incoming_total, month.charges_total.cost), (NanoUsd(700), NanoUsd(120)));
        assert_eq!(month.incoming.len(), 1);
        assert_eq!(month.incoming[0].external_ref.as_deref(), Some("r-1"));
        assert_eq!(month.charges.len(), 1);
        let closing = month.opening.0 + month.incoming_total.0 - month.charges_total.cost.0;
        assert_eq!(NanoUsd(closing), books.row().await.balance());
        let days = read_days(&books.db, books.account).await.unwrap();
        let days: Vec<_> = days
            .iter()
            .map(|(day, what)| (today.0 - day.0, what.incoming.0, what.used.cost.0))
            .collect();
        assert_eq!(days, [(41, 5_000, 0), (40, 0, 60), (0, 700, 120)]);
        roll_all(&books.db, 10).await;
    }
}

on_both_databases! {
    usage_is_the_books_after_every_step_in_any_order,
    an_open_hold_keeps_the_mark_back_and_is_counted_once_when_it_ends,
    what_is_young_stays_in_the_tail,
    several_instances_that_roll_at_once_count_once,
    usage_is_exact_under_concurrent_traffic,
    recovery_is_counted_at_the_checkpoint,
    the_providers_part_and_the_markup_add_up_to_the_charge,
    groups_are_filtered_paged_and_another_accounts_are_never_seen,
    a_statement_adds_up_to_the_balance,
}
