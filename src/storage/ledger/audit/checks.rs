//! The checks that a statement can do: each lists what differs, nothing when the books add up.

use sea_orm::DbErr;
use uuid::Uuid;

use super::{DIFFERENCES_MAX, Difference, Snapshot, wide};

/// A statement that answers `(id, expected, actual)` for each difference, the numbers as text.
///
/// `$1` is the cut: only holds, transfers and usage from it on are read. `{sealed}` lets rows of the
/// seal's tables through that are sums of what is below: all of them when `$1` is the seal's cut,
/// none when it is nil, which no seal has, and everything is read.
pub(super) struct Check {
    invariant: &'static str,
    what: &'static str,
    sql: &'static str,
}

/// States of holds: 1 open, 2 settled, 3 voided, 4 recovered. Kinds of transfers: 1 charge,
/// 4 overrun, 5 provider cost. Kinds of accounts: 1 wallet, 2 a key's budget, from 100 on the
/// operator's.
pub(super) const CHECKS: &[Check] = &[
    Check {
        invariant: "I1",
        what: "an account's debits and leases within its credits",
        sql: "SELECT id, CAST(credits AS TEXT), CAST(debits + leased AS TEXT) FROM ledger_account
            WHERE kind < 100 AND credits - debits - leased < -overdraft_limit",
    },
    Check {
        invariant: "I2",
        what: "the charge of a settled hold",
        sql: "SELECT h.id, CAST(h.cost AS TEXT), CAST(t.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_transfer AS t ON t.id = h.id AND t.kind = 1
            WHERE h.id >= $1 AND (h.state = 2 OR (h.state = 4 AND h.cost > 0))
            AND (t.amount IS NULL OR t.amount <> h.cost OR t.debit_account <> h.account_id)",
    },
    Check {
        invariant: "I2",
        what: "the hold of a charge, overrun or provider cost",
        sql: "SELECT t.id, CAST(h.cost AS TEXT), CAST(t.amount AS TEXT) FROM ledger_transfer AS t
            LEFT JOIN ledger_hold AS h ON h.id = t.id
            WHERE t.id >= $1 AND t.kind IN (1, 4, 5) AND (h.id IS NULL
            OR h.state NOT IN (2, 4) OR t.hold_id IS NULL OR t.hold_id <> t.id)",
    },
    Check {
        invariant: "I2",
        what: "the cost of a voided hold",
        sql: "SELECT h.id, '0', CAST(h.cost AS TEXT) FROM ledger_hold AS h
            WHERE h.id >= $1 AND h.state = 3 AND h.cost <> 0",
    },
    Check {
        invariant: "I2",
        what: "a hold older than the seal, which must be resolved",
        // Else the planner would walk all that is sealed instead of the index of open holds.
        sql: "WITH open AS MATERIALIZED (SELECT id, amount FROM ledger_hold WHERE state = 1)
            SELECT open.id, NULL, CAST(open.amount AS TEXT) FROM open WHERE open.id < $1",
    },
    Check {
        invariant: "I2",
        what: "the costs of an instance's holds in its lease on an account",
        sql: "SELECT l.account_id, CAST(COALESCE(h.cost, 0) AS TEXT), CAST(l.posted AS TEXT)
            FROM ledger_lease AS l
            LEFT JOIN (SELECT c.instance_id, c.account_id, SUM(c.cost) AS cost
                FROM (SELECT instance_id, account_id, cost FROM ledger_hold WHERE id >= $1
                    UNION ALL SELECT instance_id, cap_account_id, cost FROM ledger_hold
                    WHERE id >= $1 AND cap_account_id IS NOT NULL
                    UNION ALL SELECT instance_id, account_id, cost FROM ledger_seal_lease
                    WHERE {sealed}) AS c
                GROUP BY c.instance_id, c.account_id) AS h
            ON h.instance_id = l.instance_id AND h.account_id = l.account_id
            WHERE l.posted <> COALESCE(h.cost, 0)",
    },
    Check {
        invariant: "I4",
        what: "a wallet's credits as the sum of what came in",
        sql: "SELECT a.id, CAST(COALESCE(sums.total, 0) AS TEXT), CAST(a.credits AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT c.account, SUM(c.amount) AS total
                FROM (SELECT credit_account AS account, amount FROM ledger_transfer WHERE id >= $1
                    UNION ALL SELECT account_id, credited FROM ledger_seal_account
                    WHERE {sealed}) AS c
                GROUP BY c.account) AS sums ON sums.account = a.id
            WHERE a.kind = 1 AND a.credits <> COALESCE(sums.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "a wallet's debits (and what its leases have not folded yet) as the sum of its charges",
        sql: "SELECT a.id, CAST(COALESCE(sums.total, 0) AS TEXT),
                CAST(a.debits + COALESCE(l.unfolded, 0) AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT c.account, SUM(c.amount) AS total
                FROM (SELECT debit_account AS account, amount FROM ledger_transfer WHERE id >= $1
                    UNION ALL SELECT account_id, debited FROM ledger_seal_account
                    WHERE {sealed}) AS c
                GROUP BY c.account) AS sums ON sums.account = a.id
            LEFT JOIN (SELECT account_id, SUM(posted - folded) AS unfolded FROM ledger_lease
                WHERE state = 1 GROUP BY account_id) AS l ON l.account_id = a.id
            WHERE a.kind = 1
            AND a.debits + COALESCE(l.unfolded, 0) <> COALESCE(sums.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "a budget's debits (and what its leases have not folded yet) as the costs of its holds",
        sql: "SELECT a.id, CAST(COALESCE(sums.total, 0) AS TEXT),
                CAST(a.debits + COALESCE(l.unfolded, 0) AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT c.account, SUM(c.cost) AS total
                FROM (SELECT cap_account_id AS account, cost FROM ledger_hold
                    WHERE id >= $1 AND cap_account_id IS NOT NULL
                    UNION ALL SELECT account_id, costs FROM ledger_seal_account
                    WHERE {sealed}) AS c
                GROUP BY c.account) AS sums ON sums.account = a.id
            LEFT JOIN (SELECT account_id, SUM(posted - folded) AS unfolded FROM ledger_lease
                WHERE state = 1 GROUP BY account_id) AS l ON l.account_id = a.id
            WHERE a.kind = 2
            AND a.debits + COALESCE(l.unfolded, 0) <> COALESCE(sums.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "the budget of a hold: of its key and its wallet",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_account AS a ON a.id = h.cap_account_id AND a.kind = 2
                AND a.parent_id = h.account_id AND a.owner_id = h.key_id
            WHERE h.id >= $1 AND h.cap_account_id IS NOT NULL AND a.id IS NULL",
    },
    Check {
        invariant: "I4",
        what: "the counters of an operator account, which must stay 0",
        sql: "SELECT id, '0', CAST(credits + debits + leased AS TEXT) FROM ledger_account
            WHERE kind >= 100 AND (credits <> 0 OR debits <> 0 OR leased <> 0)",
    },
    Check {
        invariant: "I4",
        what: "the accounts of a transfer",
        sql: "SELECT t.id, NULL, CAST(t.amount AS TEXT) FROM ledger_transfer AS t
            LEFT JOIN ledger_account AS d ON d.id = t.debit_account
            LEFT JOIN ledger_account AS c ON c.id = t.credit_account
            WHERE t.id >= $1 AND (d.id IS NULL OR c.id IS NULL OR d.id = c.id)",
    },
    Check {
        invariant: "I4",
        what: "the wallet of a hold",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_account AS a ON a.id = h.account_id AND a.kind < 100
            WHERE h.id >= $1 AND a.id IS NULL",
    },
    Check {
        invariant: "I5",
        what: "an account's leased as the sum of its open leases",
        sql: "SELECT a.id, CAST(COALESCE(l.held, 0) AS TEXT), CAST(a.leased AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT account_id, SUM(granted - folded) AS held FROM ledger_lease
                WHERE state = 1 GROUP BY account_id) AS l ON l.account_id = a.id
            WHERE a.leased <> COALESCE(l.held, 0)",
    },
    Check {
        invariant: "I6",
        what: "a lease's open holds within what was granted",
        sql: "SELECT l.account_id, CAST(l.granted AS TEXT),
                CAST(l.posted + COALESCE(h.held, 0) AS TEXT)
            FROM ledger_lease AS l
            LEFT JOIN (SELECT o.instance_id, o.account_id, SUM(o.amount) AS held
                FROM (SELECT instance_id, account_id, amount FROM ledger_hold WHERE state = 1
                    UNION ALL SELECT instance_id, cap_account_id, amount FROM ledger_hold
                    WHERE state = 1 AND cap_account_id IS NOT NULL) AS o
                GROUP BY o.instance_id, o.account_id) AS h
            ON h.instance_id = l.instance_id AND h.account_id = l.account_id
            WHERE l.posted + COALESCE(h.held, 0) > l.granted",
    },
    Check {
        invariant: "I6",
        what: "the open lease of an open hold",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_lease AS l ON l.instance_id = h.instance_id
                AND l.account_id = h.account_id AND l.state = 1
            WHERE h.state = 1 AND l.account_id IS NULL",
    },
    Check {
        invariant: "I6",
        what: "the open lease of an open hold on its key's budget",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_lease AS l ON l.instance_id = h.instance_id
                AND l.account_id = h.cap_account_id AND l.state = 1
            WHERE h.state = 1 AND h.cap_account_id IS NOT NULL AND l.account_id IS NULL",
    },
    Check {
        invariant: "I8",
        what: "a hold's cost within its amount, present exactly when it is resolved",
        sql: "SELECT h.id, CAST(h.amount AS TEXT), CAST(h.cost AS TEXT) FROM ledger_hold AS h
            WHERE h.id >= $1 AND (h.cost < 0 OR h.cost > h.amount
            OR (h.state = 1 AND h.cost IS NOT NULL) OR (h.state <> 1 AND h.cost IS NULL))",
    },
    Check {
        invariant: "I8",
        what: "the usage row of a settled hold",
        sql: "SELECT h.id, CAST(h.cost AS TEXT), NULL FROM ledger_hold AS h
            LEFT JOIN ledger_usage AS u ON u.hold_id = h.id
            WHERE h.id >= $1 AND h.state = 2 AND u.hold_id IS NULL",
    },
    Check {
        invariant: "I8",
        what: "the hold of a usage row: charged, or open when it is a checkpoint's",
        sql: "SELECT u.hold_id, NULL, NULL FROM ledger_usage AS u
            LEFT JOIN ledger_hold AS h ON h.id = u.hold_id
            WHERE u.hold_id >= $1
            AND (h.id IS NULL OR h.state = 3 OR (h.state = 1) <> (u.finish = 8))",
    },
];

/// What is sealed (expected) beside what the rows below the cut, `$1`, give: nobody may change them.
pub(super) const SEAL_CHECKS: &[Check] = &[
    Check {
        invariant: "seal",
        what: "the sealed sum of transfers to an account",
        sql: "SELECT s.account, CAST(SUM(s.sealed) AS TEXT), CAST(SUM(s.found) AS TEXT)
            FROM (SELECT account_id AS account, credited AS sealed, 0 AS found
                FROM ledger_seal_account
                UNION ALL SELECT credit_account, 0, amount FROM ledger_transfer
                WHERE id < $1) AS s
            GROUP BY s.account HAVING SUM(s.sealed) <> SUM(s.found)",
    },
    Check {
        invariant: "seal",
        what: "the sealed sum of transfers from an account",
        sql: "SELECT s.account, CAST(SUM(s.sealed) AS TEXT), CAST(SUM(s.found) AS TEXT)
            FROM (SELECT account_id AS account, debited AS sealed, 0 AS found
                FROM ledger_seal_account
                UNION ALL SELECT debit_account, 0, amount FROM ledger_transfer
                WHERE id < $1) AS s
            GROUP BY s.account HAVING SUM(s.sealed) <> SUM(s.found)",
    },
    Check {
        invariant: "seal",
        what: "the sealed sum of costs of a budget's holds",
        sql: "SELECT s.account, CAST(SUM(s.sealed) AS TEXT), CAST(SUM(s.found) AS TEXT)
            FROM (SELECT account_id AS account, costs AS sealed, 0 AS found
                FROM ledger_seal_account
                UNION ALL SELECT cap_account_id, 0, cost FROM ledger_hold
                WHERE id < $1 AND cap_account_id IS NOT NULL) AS s
            GROUP BY s.account HAVING SUM(s.sealed) <> SUM(s.found)",
    },
    Check {
        invariant: "seal",
        what: "the sealed sum of costs of an instance's holds on an account",
        sql: "SELECT s.account_id, CAST(SUM(s.sealed) AS TEXT), CAST(SUM(s.found) AS TEXT)
            FROM (SELECT instance_id, account_id, cost AS sealed, 0 AS found
                FROM ledger_seal_lease
                UNION ALL SELECT instance_id, account_id, 0, cost FROM ledger_hold WHERE id < $1
                UNION ALL SELECT instance_id, cap_account_id, 0, cost FROM ledger_hold
                WHERE id < $1 AND cap_account_id IS NOT NULL) AS s
            GROUP BY s.instance_id, s.account_id HAVING SUM(s.sealed) <> SUM(s.found)",
    },
    Check {
        invariant: "seal",
        what: "the sealed number of holds, transfers or usage rows",
        sql: "SELECT s.cut_id, CAST(s.sealed AS TEXT), CAST(s.found AS TEXT)
            FROM (SELECT cut_id, holds_settled AS sealed,
                    (SELECT COUNT(*) FROM ledger_hold WHERE state = 2 AND id < $1) AS found
                FROM ledger_seal
                UNION ALL SELECT cut_id, holds_voided,
                    (SELECT COUNT(*) FROM ledger_hold WHERE state = 3 AND id < $1) FROM ledger_seal
                UNION ALL SELECT cut_id, holds_recovered,
                    (SELECT COUNT(*) FROM ledger_hold WHERE state = 4 AND id < $1) FROM ledger_seal
                UNION ALL SELECT cut_id, transfers,
                    (SELECT COUNT(*) FROM ledger_transfer WHERE id < $1) FROM ledger_seal
                UNION ALL SELECT cut_id, usage_rows,
                    (SELECT COUNT(*) FROM ledger_usage WHERE hold_id < $1) FROM ledger_seal) AS s
            WHERE s.sealed <> s.found",
    },
];

/// Fills in `{sealed}`.
pub(super) fn with_sealed(sql: &str) -> String {
    sql.replace("{sealed}", "(SELECT cut_id FROM ledger_seal) = $1")
}

/// Runs one check from `cut` on; at most one difference more than are listed.
pub(super) async fn run(
    snapshot: &Snapshot,
    check: &Check,
    cut: Uuid,
) -> Result<Vec<Difference>, DbErr> {
    let sql = format!("{} LIMIT {}", with_sealed(check.sql), DIFFERENCES_MAX + 1);
    let rows = snapshot.query(&sql, sql.contains("$1").then(|| cut.into())).await?;
    rows.iter()
        .map(|row| {
            Ok(Difference {
                invariant: check.invariant,
                what: check.what,
                id: row.try_get_by_index(0)?,
                expected: wide(row, 1)?,
                actual: wide(row, 2)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_read_no_history, *};

    #[tokio::test]
    async fn no_check_reads_what_is_sealed() {
        let sql = CHECKS.iter().map(|check| with_sealed(check.sql));
        assert_read_no_history(sql.collect()).await;
    }
}
