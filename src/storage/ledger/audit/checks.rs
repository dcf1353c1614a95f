//! The checks that a statement can do: each lists what differs, nothing when the books add up.

use sea_orm::DbErr;

use super::{DIFFERENCES_MAX, Difference, Snapshot, wide};

/// A statement that answers `(id, expected, actual)` for each difference, the numbers as text.
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
            WHERE (h.state = 2 OR (h.state = 4 AND h.cost > 0))
            AND (t.amount IS NULL OR t.amount <> h.cost OR t.debit_account <> h.account_id)",
    },
    Check {
        invariant: "I2",
        what: "the hold of a charge, overrun or provider cost",
        sql: "SELECT t.id, CAST(h.cost AS TEXT), CAST(t.amount AS TEXT) FROM ledger_transfer AS t
            LEFT JOIN ledger_hold AS h ON h.id = t.id
            WHERE t.kind IN (1, 4, 5) AND (h.id IS NULL OR h.state NOT IN (2, 4)
            OR t.hold_id IS NULL OR t.hold_id <> t.id)",
    },
    Check {
        invariant: "I2",
        what: "the cost of a voided hold",
        sql: "SELECT id, '0', CAST(cost AS TEXT) FROM ledger_hold WHERE state = 3 AND cost <> 0",
    },
    Check {
        invariant: "I2",
        what: "the costs of an instance's holds in its lease on an account",
        sql: "SELECT l.account_id, CAST(COALESCE(h.cost, 0) AS TEXT), CAST(l.posted AS TEXT)
            FROM ledger_lease AS l
            LEFT JOIN (SELECT c.instance_id, c.account_id, SUM(c.cost) AS cost
                FROM (SELECT instance_id, account_id, cost FROM ledger_hold
                    UNION ALL SELECT instance_id, cap_account_id, cost FROM ledger_hold
                    WHERE cap_account_id IS NOT NULL) AS c
                GROUP BY c.instance_id, c.account_id) AS h
            ON h.instance_id = l.instance_id AND h.account_id = l.account_id
            WHERE l.posted <> COALESCE(h.cost, 0)",
    },
    Check {
        invariant: "I4",
        what: "a wallet's credits as the sum of what came in",
        sql: "SELECT a.id, CAST(COALESCE(t.total, 0) AS TEXT), CAST(a.credits AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT credit_account, SUM(amount) AS total FROM ledger_transfer
                GROUP BY credit_account) AS t ON t.credit_account = a.id
            WHERE a.kind = 1 AND a.credits <> COALESCE(t.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "a wallet's debits (and what its leases have not folded yet) as the sum of its charges",
        sql: "SELECT a.id, CAST(COALESCE(t.total, 0) AS TEXT),
                CAST(a.debits + COALESCE(l.unfolded, 0) AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT debit_account, SUM(amount) AS total FROM ledger_transfer
                GROUP BY debit_account) AS t ON t.debit_account = a.id
            LEFT JOIN (SELECT account_id, SUM(posted - folded) AS unfolded FROM ledger_lease
                WHERE state = 1 GROUP BY account_id) AS l ON l.account_id = a.id
            WHERE a.kind = 1
            AND a.debits + COALESCE(l.unfolded, 0) <> COALESCE(t.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "a budget's debits (and what its leases have not folded yet) as the costs of its holds",
        sql: "SELECT a.id, CAST(COALESCE(h.total, 0) AS TEXT),
                CAST(a.debits + COALESCE(l.unfolded, 0) AS TEXT)
            FROM ledger_account AS a
            LEFT JOIN (SELECT cap_account_id, SUM(cost) AS total FROM ledger_hold
                GROUP BY cap_account_id) AS h ON h.cap_account_id = a.id
            LEFT JOIN (SELECT account_id, SUM(posted - folded) AS unfolded FROM ledger_lease
                WHERE state = 1 GROUP BY account_id) AS l ON l.account_id = a.id
            WHERE a.kind = 2
            AND a.debits + COALESCE(l.unfolded, 0) <> COALESCE(h.total, 0)",
    },
    Check {
        invariant: "I4",
        what: "the budget of a hold: of its key and its wallet",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_account AS a ON a.id = h.cap_account_id AND a.kind = 2
                AND a.parent_id = h.account_id AND a.owner_id = h.key_id
            WHERE h.cap_account_id IS NOT NULL AND a.id IS NULL",
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
            WHERE d.id IS NULL OR c.id IS NULL OR d.id = c.id",
    },
    Check {
        invariant: "I4",
        what: "the wallet of a hold",
        sql: "SELECT h.id, NULL, CAST(h.amount AS TEXT) FROM ledger_hold AS h
            LEFT JOIN ledger_account AS a ON a.id = h.account_id AND a.kind < 100
            WHERE a.id IS NULL",
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
        sql: "SELECT id, CAST(amount AS TEXT), CAST(cost AS TEXT) FROM ledger_hold
            WHERE cost < 0 OR cost > amount OR (state = 1 AND cost IS NOT NULL)
            OR (state <> 1 AND cost IS NULL)",
    },
    Check {
        invariant: "I8",
        what: "the usage row of a settled hold",
        sql: "SELECT h.id, CAST(h.cost AS TEXT), NULL FROM ledger_hold AS h
            LEFT JOIN ledger_usage AS u ON u.hold_id = h.id
            WHERE h.state = 2 AND u.hold_id IS NULL",
    },
    Check {
        invariant: "I8",
        what: "the hold of a usage row: charged, or open when it is a checkpoint's",
        sql: "SELECT u.hold_id, NULL, NULL FROM ledger_usage AS u
            LEFT JOIN ledger_hold AS h ON h.id = u.hold_id
            WHERE h.id IS NULL OR h.state = 3 OR (h.state = 1) <> (u.finish = 8)",
    },
];

/// Runs one check; at most one difference more than are listed.
pub(super) async fn run(snapshot: &Snapshot, check: &Check) -> Result<Vec<Difference>, DbErr> {
    let sql = format!("{} LIMIT {}", check.sql, DIFFERENCES_MAX + 1);
    let rows = snapshot.query(&sql, []).await?;
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
