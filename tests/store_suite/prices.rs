//! The append-only price list.

use ::faces::{
    domain::{ChargeRate, PriceId, TokenPrices},
    storage::prices::{find_price, newest_prices, sync_price},
};

use crate::{on_both_databases, store::TestStore};

fn rate(output_pico: i64) -> ChargeRate {
    ChargeRate {
        prices: TokenPrices {
            input_pico: 150_000,
            cache_read_pico: 75_000,
            cache_write_5m_pico: 1,
            cache_write_1h_pico: i64::MAX,
            output_pico,
        },
        markup_bps: 500,
    }
}

async fn an_unchanged_price_keeps_its_id_and_a_changed_one_gets_a_new_one(store: TestStore) {
    let cheap = sync_price(&store.db, "gpt-4o-mini", rate(600_000)).await.unwrap();
    assert_eq!(sync_price(&store.db, "gpt-4o-mini", rate(600_000)).await.unwrap(), cheap);
    let dear = sync_price(&store.db, "gpt-4o-mini", rate(700_000)).await.unwrap();
    assert_ne!(dear, cheap);
    let marked_up = ChargeRate { markup_bps: 0, ..rate(700_000) };
    let plain = sync_price(&store.db, "gpt-4o-mini", marked_up).await.unwrap();
    assert!(![cheap, dear].contains(&plain));

    assert_eq!(find_price(&store.db, cheap).await.unwrap(), Some(rate(600_000)));
    assert_eq!(find_price(&store.db, dear).await.unwrap(), Some(rate(700_000)));
    assert_eq!(find_price(&store.db, PriceId(i64::MAX)).await.unwrap(), None);
}

async fn a_price_that_comes_back_is_a_new_row_so_the_history_stays_true(store: TestStore) {
    let first = sync_price(&store.db, "sandbox", rate(1)).await.unwrap();
    let second = sync_price(&store.db, "sandbox", rate(2)).await.unwrap();
    let third = sync_price(&store.db, "sandbox", rate(1)).await.unwrap();
    assert!(first < second && second < third);
}

async fn models_do_not_share_prices(store: TestStore) {
    let one = sync_price(&store.db, "one", rate(1)).await.unwrap();
    let other = sync_price(&store.db, "other", rate(1)).await.unwrap();
    assert_ne!(one, other);
    assert_eq!(sync_price(&store.db, "one", rate(1)).await.unwrap(), one);
}

async fn the_newest_price_of_each_model_is_listed(store: TestStore) {
    assert_eq!(newest_prices(&store.db).await.unwrap(), []);
    let one = sync_price(&store.db, "one", rate(1)).await.unwrap();
    sync_price(&store.db, "other", rate(1)).await.unwrap();
    let other = sync_price(&store.db, "other", rate(3)).await.unwrap();
    let mut listed = newest_prices(&store.db).await.unwrap();
    listed.sort_by_key(|(_, id, _)| *id);
    let expected = [("one".to_owned(), one, rate(1)), ("other".to_owned(), other, rate(3))];
    assert_eq!(listed, expected);
}

on_both_databases! {
    an_unchanged_price_keeps_its_id_and_a_changed_one_gets_a_new_one,
    a_price_that_comes_back_is_a_new_row_so_the_history_stays_true,
    models_do_not_share_prices,
    the_newest_price_of_each_model_is_listed,
}
