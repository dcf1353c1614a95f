//! Every settled usage, priced once more.

use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use super::{DIFFERENCES_MAX, Difference, PRICED_ROWS_PER_PAGE, Snapshot};
use crate::domain::{ChargeRate, TokenPrices, Usage};

const PAGE: &str = "SELECT h.id, h.cost, COALESCE(o.amount, 0), COALESCE(c.amount, 0),
        u.in_uncached, u.in_cache_read, u.in_cache_write_5m, u.in_cache_write_1h,
        u.out_text, u.out_reasoning,
        p.markup_bps, p.input_pico, p.cache_read_pico, p.cache_write_5m_pico,
        p.cache_write_1h_pico, p.output_pico
    FROM ledger_hold AS h
    JOIN ledger_usage AS u ON u.hold_id = h.id
    LEFT JOIN ledger_transfer AS o ON o.id = h.id AND o.kind = 4
    LEFT JOIN ledger_transfer AS c ON c.id = h.id AND c.kind = 5
    LEFT JOIN ledger_price AS p ON p.id = h.price_id
    WHERE h.state = 2 AND h.id > $1 ORDER BY h.id LIMIT $2";

const COST: &str = "usage × pinned price × markup as charge + overrun + provider cost";
const PRICE: &str = "the pinned price of a hold";

/// Compares what the usage of each settled hold from `cut` on costs with what its transfers say.
pub(super) async fn check(snapshot: &Snapshot, cut: Uuid) -> Result<Vec<Difference>, DbErr> {
    let mut found = Vec::new();
    let mut after = Uuid::from_u128(cut.as_u128().saturating_sub(1));
    loop {
        let limit = PRICED_ROWS_PER_PAGE.cast_signed();
        let rows = snapshot.query(PAGE, [after.into(), limit.into()]).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = last.try_get_by_index(0)?;
        for row in &rows {
            if let Some(difference) = check_row(row)? {
                found.push(difference);
            }
            if found.len() > DIFFERENCES_MAX {
                return Ok(found);
            }
        }
    }
}

fn check_row(row: &QueryResult) -> Result<Option<Difference>, DbErr> {
    let id: Uuid = row.try_get_by_index(0)?;
    let mut booked: i128 = 0;
    for column in 1..=3 {
        booked += i128::from(row.try_get_by_index::<i64>(column)?);
    }
    let difference = |what, expected| {
        Some(Difference { invariant: "I8", what, id, expected, actual: Some(booked) })
    };
    let Some(rate) = rate(row)? else { return Ok(difference(PRICE, None)) };
    let cost = rate.charge_rounding_up(&usage(row)?).map(|cost| i128::from(cost.0));
    Ok(if cost == Some(booked) { None } else { difference(COST, cost) })
}

fn usage(row: &QueryResult) -> Result<Usage, DbErr> {
    let count = |column: usize| -> Result<u64, DbErr> {
        let tokens: i64 = row.try_get_by_index(column)?;
        u64::try_from(tokens).map_err(|_| DbErr::Type("a negative number of tokens".to_owned()))
    };
    Ok(Usage {
        input_uncached: count(4)?,
        cache_read: count(5)?,
        cache_write_5m: count(6)?,
        cache_write_1h: count(7)?,
        output_text: count(8)?,
        reasoning: count(9)?,
    })
}

fn rate(row: &QueryResult) -> Result<Option<ChargeRate>, DbErr> {
    let Some(markup_bps) = row.try_get_by_index(10)? else { return Ok(None) };
    Ok(Some(ChargeRate {
        prices: TokenPrices {
            input_pico: row.try_get_by_index(11)?,
            cache_read_pico: row.try_get_by_index(12)?,
            cache_write_5m_pico: row.try_get_by_index(13)?,
            cache_write_1h_pico: row.try_get_by_index(14)?,
            output_pico: row.try_get_by_index(15)?,
        },
        markup_bps,
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_read_no_history, *};

    #[tokio::test]
    async fn pricing_does_not_read_what_is_sealed() {
        assert_read_no_history(vec![PAGE.to_owned()]).await;
    }
}
