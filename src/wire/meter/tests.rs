//! Normalisation, plausibility and counting.

use super::*;

fn reading(openai_usage: &str, context_tokens_max: u64) -> (Usage, UsageBasis, bool) {
    let mut meter = Meter::new(context_tokens_max);
    meter.note_text(9);
    let raw = RawValue::from_string(openai_usage.to_owned()).unwrap();
    meter.note_openai_usage(&raw, true);
    let (usage, basis) = meter.usage_reading(50);
    (usage, basis, meter.implausible())
}

#[test]
fn openai_figures_become_disjoint_buckets() {
    let (usage, basis, implausible) = reading(
        r#"{"prompt_tokens":100,"completion_tokens":40,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":20},"completion_tokens_details":{"reasoning_tokens":15}}"#,
        1_000,
    );
    let expected = Usage {
        input_uncached: 50,
        cache_read: 30,
        cache_write_5m: 20,
        cache_write_1h: 0,
        output_text: 25,
        reasoning: 15,
    };
    assert_eq!((usage, basis, implausible), (expected, UsageBasis::Provider, false));
}

#[test]
fn figures_that_can_not_be_true_count_as_absent_and_are_flagged() {
    for usage in [
        r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
        r#"{"prompt_tokens":"9","completion_tokens":1}"#,
        r#"{"prompt_tokens":99999999999999999999999,"completion_tokens":1}"#,
        r#"{"prompt_tokens":10}"#,
        r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":11}}"#,
        r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":6,"cache_write_tokens":5}}"#,
        r#"{"prompt_tokens":10,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
        r#"{"prompt_tokens":900,"completion_tokens":101}"#,
    ] {
        let (got, basis, implausible) = reading(usage, 1_000);
        assert_eq!((basis, implausible), (UsageBasis::Counted, true), "{usage}");
        // 9 bytes in one delta: a quarter, rounded up.
        assert_eq!((got.input_uncached, got.output_text), (50, 3), "{usage}");
    }
    assert!(!reading(r#"{"prompt_tokens":900,"completion_tokens":100}"#, 1_000).2, "at the limit");
    assert!(!reading(r#"{"prompt_tokens":900,"completion_tokens":101}"#, 0).2, "context unknown");
}

#[test]
fn an_implausible_end_leaves_what_was_known_before() {
    let mut meter = Meter::new(1_000);
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    meter.note_anthropic_usage(&raw(r#"{"input_tokens":10,"output_tokens":1}"#), false);
    meter.note_text(40);
    meter.note_anthropic_usage(&raw(r#"{"output_tokens":-5}"#), true);
    let (usage, basis) = meter.usage_reading(0);
    assert_eq!((usage.input_uncached, usage.output_text), (10, 10));
    assert_eq!((basis, meter.implausible()), (UsageBasis::Partial, true));
}

#[test]
fn anthropics_later_figures_replace_the_earlier_ones() {
    let mut meter = Meter::new(0);
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    meter.note_anthropic_usage(
        &raw(r#"{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}"#),
        false,
    );
    meter.note_anthropic_usage(
        &raw(r#"{"input_tokens":12,"cache_read_input_tokens":null,"output_tokens":7}"#),
        true,
    );
    let (usage, basis) = meter.usage_reading(0);
    assert_eq!((usage.input_uncached, usage.cache_read, usage.output_text), (12, 5, 7));
    assert_eq!(basis, UsageBasis::Provider);
}

#[test]
fn nothing_seen_counts_no_output() {
    let meter = Meter::new(0);
    let (usage, basis) = meter.usage_reading(8);
    assert_eq!((usage.input_uncached, usage.output_total()), (8, 0));
    assert_eq!((basis, meter.output_seen()), (UsageBasis::Counted, false));
}

#[test]
fn a_usage_without_input_tokens_is_counted_instead_of_giving_the_input_away() {
    let mut meter = Meter::new(0);
    let raw = RawValue::from_string(r#"{"output_tokens":7}"#.to_owned()).unwrap();
    meter.note_text(8);
    meter.note_anthropic_usage(&raw, true);
    let (usage, basis) = meter.usage_reading(50);
    assert_eq!((usage.input_uncached, usage.output_text, basis), (50, 2, UsageBasis::Counted));
    assert!(!meter.implausible());
}

proptest::proptest! {
    /// The bound is what keeps a running stream within its hold, so it may never be below the bill.
    #[test]
    fn the_bound_is_never_below_the_reading(
        deltas in proptest::collection::vec((0_u64..40, proptest::bool::ANY), 0..20),
        told in proptest::option::of((0_u64..500, 0_u64..500, proptest::bool::ANY)),
    ) {
        let mut meter = Meter::new(0);
        for (bytes, is_text) in deltas {
            if is_text { meter.note_text(bytes) } else { meter.note_reasoning(bytes) }
        }
        if let Some((prompt, completion, is_final)) = told {
            let text = format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion}}}"#);
            meter.note_openai_usage(&RawValue::from_string(text).unwrap(), is_final);
        }
        let (usage, _) = meter.usage_reading(50);
        let bound = meter.usage_bound(&Usage { input_uncached: 200, ..Usage::default() });
        proptest::prop_assert!(usage.output_total() <= bound.output_total(), "{usage:?} {bound:?}");
        proptest::prop_assert!(usage.input_total() <= bound.input_total(), "{usage:?} {bound:?}");
    }
}

#[test]
fn the_bound_is_half_of_the_bytes_or_the_deltas_until_the_provider_tells_the_end() {
    let input_max = Usage { cache_write_1h: 200, ..Usage::default() };
    let mut meter = Meter::new(0);
    meter.note_text(9);
    let bound = meter.usage_bound(&input_max);
    assert_eq!((bound.cache_write_1h, bound.output_total()), (200, 5));
    (0..6).for_each(|_| meter.note_text(1));
    assert_eq!(meter.usage_bound(&input_max).output_total(), 8, "7 deltas, 15 bytes");
    let usage = r#"{"prompt_tokens":100,"completion_tokens":3}"#;
    let usage = RawValue::from_string(usage.to_owned()).unwrap();
    meter.note_openai_usage(&usage, false);
    let bound = meter.usage_bound(&input_max);
    assert_eq!((bound.input_uncached, bound.cache_write_1h, bound.output_total()), (100, 0, 8));
    meter.note_openai_usage(&usage, true);
    assert_eq!(meter.usage_bound(&input_max), meter.usage_reading(0).0, "the provider's own");
}
