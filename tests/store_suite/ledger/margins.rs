//! Usage by one thing at a time: the margins are what the sums by day add up to, with a server of
//! before them still there, too.

use faces::domain::{AccountId, ledger::HoldOpen};
use futures_util::future::{Either, select};
use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, TransactionTrait,
};
use uuid::Uuid;

use super::{
    Books, opens, resolves, settle, spoil,
    usage::{assert_usage_is_the_books, ids, roll_all, varied},
};
use crate::{on_both_databases, store::TestStore};

/// Rows of `usage_margin`, and what they should be by `usage_daily`.
async fn margins(store: &TestStore) -> (Vec<String>, Vec<String>) {
    let raw = store.raw().await;
    let backend = raw.get_database_backend();
    let nil = match backend {
        DbBackend::Sqlite => "zeroblob(16)",
        _ => "'00000000-0000-0000-0000-000000000000'::uuid",
    };
    let by = [(1, "key_id", nil, "''"), (2, nil, "face_id", "''"), (3, nil, nil, "model")];
    let parts = by.map(|(kind, key, face, model)| {
        format!(
            "SELECT account_id, {kind} AS kind, day, {key} AS key_id, {face} AS face_id,
                {model} AS model, requests, input_tokens, cached_tokens, output_tokens,
                provider_cost, cost FROM usage_daily"
        )
    });
    let expected = parts.join(" UNION ALL ");
    let read = async |from: &str| {
        let sql = format!(
            "SELECT account_id, CAST(kind AS BIGINT), CAST(day AS BIGINT), key_id, face_id, model,
                CAST(SUM(requests) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT),
                CAST(SUM(cached_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT),
                CAST(SUM(provider_cost) AS BIGINT), CAST(SUM(cost) AS BIGINT)
            FROM {from} GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"
        );
        let rows = raw.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
        let id = |row: &QueryResult, at| row.try_get_by_index::<Uuid>(at).unwrap();
        let text = |row: &QueryResult| {
            let of = [1, 2, 6, 7, 8, 9, 10, 11].map(|at| row.try_get_by_index::<i64>(at).unwrap());
            let model: String = row.try_get_by_index(5).unwrap();
            format!("{} {} {} {model} {of:?}", id(row, 0), id(row, 3), id(row, 4))
        };
        rows.iter().map(text).collect::<Vec<_>>()
    };
    (read("usage_margin").await, read(&format!("({expected}) AS expected")).await)
}

/// Books with 40 settled holds that are old enough for the sums.
async fn books_of_40(store: &TestStore) -> Books {
    let books = Books::new(store, 1_000_000).await;
    let ids = ids();
    let open: Vec<HoldOpen> =
        (0..40).map(|number| varied(&books, number, &ids, 60 - number as u64)).collect();
    books.flush(1, opens(open.clone())).await.unwrap();
    let ends = open.iter().zip(60..).map(|(one, cost)| settle(one, cost)).collect();
    books.flush(2, resolves(ends)).await.unwrap();
    books
}

/// Undoes a migration and those after it.
async fn undo(raw: &DatabaseConnection, migration: &str) {
    let all = Migrator::migrations();
    let later = all.iter().rev().position(|one| one.name().ends_with(migration));
    let steps = u32::try_from(later.unwrap() + 1).unwrap();
    Migrator::down(raw, Some(steps)).await.unwrap();
}

/// How a server of before the margins moves the mark: past everything.
async fn move_as_before(raw: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let sql = "UPDATE usage_mark SET cut_id = $1, rolled_at = 1 WHERE id = 1";
    let backend = raw.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [Uuid::max().into()]);
    Ok(raw.execute_raw(statement).await?.rows_affected())
}

async fn margins_are_what_all_sums_add_up_to_and_the_migration_makes_them(store: TestStore) {
    let books = books_of_40(&store).await;
    roll_all(&books.db, 7).await;
    let (kept, expected) = margins(&store).await;
    assert_eq!(kept, expected);
    assert!(kept.len() > 8, "{kept:?}");
    let raw = store.raw().await;
    undo(&raw, "create_usage_margin").await;
    Migrator::up(&raw, None).await.unwrap();
    assert_eq!(margins(&store).await.0, kept);
    assert_usage_is_the_books(&store, books.account).await;
}

async fn margins_that_an_older_server_left_short_are_made_anew(store: TestStore) {
    let books = books_of_40(&store).await;
    roll_all(&books.db, 7).await;
    let (_, expected) = margins(&store).await;
    let raw = store.raw().await;
    undo(&raw, "bind_usage_margin").await;
    spoil(&raw, "DELETE FROM usage_margin WHERE kind = $1", vec![2.into()]).await;
    Migrator::up(&raw, None).await.unwrap();
    assert_eq!(margins(&store).await.0, expected);
}

async fn a_server_of_before_the_margins_cannot_move_the_mark(store: TestStore) {
    let books = books_of_40(&store).await;
    let raw = store.raw().await;
    for rows_max in [9, 100] {
        move_as_before(&raw).await.expect_err("the mark would be past what is in the margins");
        assert_usage_is_the_books(&store, books.account).await;
        roll_all(&books.db, rows_max).await;
        let (kept, expected) = margins(&store).await;
        assert_eq!(kept, expected);
        assert!(kept.len() > 8, "{kept:?}");
    }
}

/// What an older server adds while the migration begins is waited for.
#[test]
fn what_is_added_while_the_margins_are_made_is_in_them() {
    crate::store::run_on_postgres(|store| async move {
        let account = books_of_40(&store).await.account;
        let raw = store.raw().await;
        undo(&raw, "create_usage_margin").await;
        let older = store.raw().await;
        let adding = older.begin().await.unwrap();
        assert_eq!(move_as_before(&adding).await.unwrap(), 1);
        add_as_before(&adding, account).await;
        let migrating = Box::pin(Migrator::up(&raw, None));
        let rest = match select(migrating, Box::pin(until_one_waits(&store))).await {
            Either::Left((done, _)) => Either::Left(done),
            Either::Right(((), rest)) => Either::Right(rest),
        };
        adding.commit().await.unwrap();
        match rest {
            Either::Left(done) => done.unwrap(),
            Either::Right(rest) => rest.await.unwrap(),
        }
        let (kept, expected) = margins(&store).await;
        assert_eq!(kept.len(), 3);
        assert_eq!(kept, expected);
    });
}

async fn add_as_before(raw: &impl ConnectionTrait, account: AccountId) {
    let sql = "INSERT INTO usage_daily VALUES ($1, 20000, $1, $1, 'model', 1, 2, 3, 4, 5, 6)";
    let backend = raw.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [account.0.into()]);
    raw.execute_raw(statement).await.unwrap();
}

async fn until_one_waits(store: &TestStore) {
    let raw = store.raw().await;
    let sql = "SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let statement = Statement::from_string(raw.get_database_backend(), sql);
    while raw.query_one_raw(statement.clone()).await.unwrap().is_none() {}
}

on_both_databases! {
    margins_are_what_all_sums_add_up_to_and_the_migration_makes_them,
    margins_that_an_older_server_left_short_are_made_anew,
    a_server_of_before_the_margins_cannot_move_the_mark,
}
