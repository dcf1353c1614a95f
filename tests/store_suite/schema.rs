//! Migrations: up, down, up again, and the schema that comes out.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};

use crate::{on_both_databases, store::TestStore};

/// Every table, column, constraint and index, as text that changes only when they do.
async fn dump(raw: &DatabaseConnection) -> String {
    let backend = raw.get_database_backend();
    let sql = match backend {
        DbBackend::Sqlite => {
            "SELECT type || ' ' || name || ': ' || sql AS line FROM sqlite_schema
             WHERE tbl_name NOT LIKE 'seaql%' AND name NOT LIKE 'sqlite%'
             ORDER BY tbl_name, type DESC, name"
        }
        _ => {
            "SELECT line FROM (
                 SELECT table_name || ' 1 ' || lpad(ordinal_position::text, 2, '0') || ' ' || column_name
                        || ' ' || data_type || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
                        || coalesce(' default ' || column_default, '') AS line, table_name
                 FROM information_schema.columns WHERE table_schema = 'public'
                 UNION ALL
                 SELECT conrelid::regclass || ' 2 ' || conname || ' ' || pg_get_constraintdef(oid),
                        conrelid::regclass::text
                 FROM pg_constraint WHERE connamespace = 'public'::regnamespace
                 UNION ALL
                 SELECT tablename || ' 3 ' || indexdef, tablename
                 FROM pg_indexes WHERE schemaname = 'public'
             ) AS lines WHERE table_name NOT LIKE 'seaql%' ORDER BY line COLLATE \"C\""
        }
    };
    let rows = raw.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
    let line = |row: &QueryResult| row.try_get::<String>("", "line").unwrap();
    let lines: Vec<String> = rows.iter().map(line).collect();
    lines.iter().flat_map(|line| line.lines()).map(str::trim).collect::<Vec<_>>().join("\n")
}

async fn the_schema_is_the_one_that_was_reviewed(store: TestStore) {
    let raw = store.raw().await;
    let name = match raw.get_database_backend() {
        DbBackend::Sqlite => "schema_sqlite",
        _ => "schema_postgres",
    };
    insta::assert_snapshot!(name, dump(&raw).await);
}

async fn each_migration_goes_down_and_up_again_to_the_same_schema(store: TestStore) {
    let raw = store.raw().await;
    let whole = dump(&raw).await;
    let count = Migrator::migrations().len();
    let mut steps = vec![whole.clone()];
    for _ in 0..count {
        Migrator::down(&raw, Some(1)).await.unwrap();
        steps.push(dump(&raw).await);
    }
    assert_eq!(steps.pop().as_deref(), Some(""), "nothing is left behind");
    while let Some(expected) = steps.pop() {
        Migrator::up(&raw, Some(1)).await.unwrap();
        assert_eq!(dump(&raw).await, expected);
    }
}

on_both_databases! {
    the_schema_is_the_one_that_was_reviewed,
    each_migration_goes_down_and_up_again_to_the_same_schema,
}
