//! What the tables say about a run, and a watch over them while it runs.

use std::collections::HashMap;

use sea_orm::{QueryResult, TryGetable};

use crate::{
    clients::Crowd,
    plan::MODELS,
    stage::Stage,
    support::ledger::{Ledger, SETTLED, VOIDED},
};

/// State of a hold that was resolved for a dead instance.
pub(crate) const RECOVERED: i64 = 4;

/// A hold with everything that hangs on it.
#[derive(Debug, Clone)]
pub(crate) struct HoldRow {
    pub(crate) account: String,
    pub(crate) model: String,
    pub(crate) amount: i64,
    pub(crate) state: i64,
    pub(crate) cost: Option<i64>,
    /// `None` without a usage row.
    pub(crate) usage: Option<UsageRow>,
    /// Charges that name the hold.
    pub(crate) charges: i64,
    /// Their sum, nano-USD.
    pub(crate) charged: i64,
}

impl HoldRow {
    /// Whether it was resolved, in whatever way.
    pub(crate) fn is_ended(&self) -> bool {
        [SETTLED, VOIDED, RECOVERED].contains(&self.state)
    }
}

/// What a request used, as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsageRow {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) basis: i64,
    pub(crate) finish: i64,
}

const HOLDS: &str = "SELECT CAST(hold.account_id AS TEXT) AS account, hold.model AS model, \
    hold.amount AS amount, CAST(hold.state AS BIGINT) AS state, hold.cost AS cost, \
    CAST(used.in_uncached + used.in_cache_read + used.in_cache_write_5m + used.in_cache_write_1h \
      AS BIGINT) AS input, \
    CAST(used.out_text + used.out_reasoning AS BIGINT) AS output, \
    CAST(used.usage_source AS BIGINT) AS basis, CAST(used.finish AS BIGINT) AS finish, \
    CAST(COALESCE(paid.charges, 0) AS BIGINT) AS charges, \
    CAST(COALESCE(paid.charged, 0) AS BIGINT) AS charged \
    FROM ledger_hold hold LEFT JOIN ledger_usage used ON used.hold_id = hold.id \
    LEFT JOIN (SELECT hold_id, COUNT(*) AS charges, SUM(amount) AS charged FROM ledger_transfer \
      WHERE kind = 1 GROUP BY hold_id) paid ON paid.hold_id = hold.id ORDER BY hold.id";

fn get<T: TryGetable>(row: &QueryResult, name: &str) -> T {
    row.try_get("", name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All holds, by account, model and `max_tokens`.
#[track_caller]
pub(crate) fn holds(ledger: &Ledger) -> HashMap<(String, usize, u64), Vec<HoldRow>> {
    let mut holds: HashMap<_, Vec<HoldRow>> = HashMap::new();
    for row in ledger.rows(HOLDS) {
        let tokens = |name: &str| {
            get::<Option<i64>>(&row, name).map(|count| u64::try_from(count).expect("a count"))
        };
        let usage = tokens("input").zip(tokens("output")).map(|(input, output)| UsageRow {
            input,
            output,
            basis: get(&row, "basis"),
            finish: get(&row, "finish"),
        });
        let hold = HoldRow {
            account: get(&row, "account"),
            model: get(&row, "model"),
            amount: get(&row, "amount"),
            state: get(&row, "state"),
            cost: get(&row, "cost"),
            usage,
            charges: get(&row, "charges"),
            charged: get(&row, "charged"),
        };
        let model = MODELS.iter().position(|model| *model == hold.model).expect("a known model");
        let max_tokens = crate::plan::max_tokens_of(hold.amount);
        holds.entry((hold.account.clone(), model, max_tokens)).or_default().push(hold);
    }
    holds
}

/// What the watch saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watched {
    /// Looks at all wallets in one statement each.
    pub(crate) looks: u64,
    /// Looks at which a wallet had promised more than it has.
    pub(crate) overspent: u64,
}

/// Looks at all wallets again and again until the crowd is stopped.
pub(crate) fn watch(stage: &Stage, crowd: &Crowd<'_>) -> Watched {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS overspent FROM ledger_account WHERE kind = 1 \
               AND debits + leased > credits + overdraft_limit";
    let ledger = stage.ledger();
    let mut watched = Watched::default();
    while !crowd.is_stopped() {
        // The database may be down.
        if let Ok(rows) = ledger.try_rows(sql) {
            watched.looks += 1;
            watched.overspent += u64::from(get::<i64>(&rows[0], "overspent") > 0);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    watched
}

/// State and flush number of an instance; `None` while the database is down.
pub(crate) fn instance(ledger: &Ledger, node: &str) -> Option<(i64, i64)> {
    let sql = format!(
        "SELECT CAST(state AS BIGINT) AS state, flush_seq FROM ledger_instance \
         WHERE node = '{node}' ORDER BY started_at DESC LIMIT 1"
    );
    let rows = ledger.try_rows(&sql).ok()?;
    let row = rows.first()?;
    Some((get(row, "state"), get(row, "flush_seq")))
}
