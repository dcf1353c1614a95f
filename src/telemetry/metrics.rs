//! Numbers for a monitoring system, in the text format of OpenMetrics.
//!
//! Names begin with `faces_`; money is in nano-USD, time in seconds. Recording is an atomic
//! addition (a histogram or a label: a short lock) and never fails.

mod traffic;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

pub use self::traffic::{AttemptEnd, ProviderMetrics, Running, TrafficMetrics};
use crate::domain::{NanoUsd, UsageBasis, error_code::FundsReason};

type Labels = [(&'static str, &'static str); 1];

/// The ledger's numbers. All of them are of this process and begin at 0.
#[derive(Debug)]
pub struct LedgerMetrics {
    flush_ops: Histogram,
    flush_seconds: Histogram,
    flush_retries: Counter,
    holds_open: Gauge,
    leases: Gauge,
    lease_idle_nanousd: Gauge,
    denials: Family<Labels, Counter>,
    overruns: Counter,
    overrun_nanousd: Counter,
    recovered_instances: Counter,
    recovered_holds: Counter,
    settlements: Family<Labels, Counter>,
    stopped: Gauge,
}

impl LedgerMetrics {
    fn new() -> Self {
        Self {
            flush_ops: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            flush_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            flush_retries: Counter::default(),
            holds_open: Gauge::default(),
            leases: Gauge::default(),
            lease_idle_nanousd: Gauge::default(),
            denials: Family::default(),
            overruns: Counter::default(),
            overrun_nanousd: Counter::default(),
            recovered_instances: Counter::default(),
            recovered_holds: Counter::default(),
            settlements: Family::default(),
            stopped: Gauge::default(),
        }
    }

    /// A flush of `ops` operations became durable `elapsed` after it was last sent.
    pub fn flushed(&self, ops: u64, elapsed: Duration) {
        self.flush_ops.observe(f64::from(u32::try_from(ops).unwrap_or(u32::MAX)));
        self.flush_seconds.observe(elapsed.as_secs_f64());
    }

    /// A flush is sent again.
    pub fn flush_retried(&self) {
        self.flush_retries.inc();
    }

    /// Holds of this process became durable (`granted`) or were resolved (`ended`).
    pub fn holds_changed(&self, granted: u64, ended: u64) {
        self.holds_open.inc_by(i64::try_from(granted).unwrap_or(i64::MAX));
        self.holds_open.dec_by(i64::try_from(ended).unwrap_or(i64::MAX));
    }

    /// Leases of this process that have something were `before` and are `now`; what they have beyond
    /// holds grew by `idle_nanousd`.
    pub fn leases_changed(&self, before: usize, now: usize, idle_nanousd: i64) {
        if before != now {
            let count = |leases| i64::try_from(leases).unwrap_or(i64::MAX);
            self.leases.inc_by(count(now) - count(before));
        }
        if idle_nanousd != 0 {
            self.lease_idle_nanousd.inc_by(idle_nanousd);
        }
    }

    /// A hold was refused.
    pub fn denied(&self, reason: FundsReason) {
        self.denials.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// A hold was settled on usage learned in this way.
    pub fn settled(&self, basis: UsageBasis) {
        let word = match basis {
            UsageBasis::Provider => "provider",
            UsageBasis::Partial => "partial",
            UsageBasis::Counted => "counted",
        };
        self.settlements.get_or_create(&[("basis", word)]).inc();
    }

    /// A request cost `amount` more than its hold; nothing is counted when it is 0 or less.
    pub fn overrun(&self, amount: NanoUsd) {
        if let Ok(nano @ 1..) = u64::try_from(amount.0) {
            self.overruns.inc();
            self.overrun_nanousd.inc_by(nano);
        }
    }

    /// Dead instances were fenced and their holds settled or voided.
    pub fn recovered(&self, instances: u64, holds: u64) {
        self.recovered_instances.inc_by(instances);
        self.recovered_holds.inc_by(holds);
    }

    /// The ledger writes nothing any more, for good.
    pub fn stopped(&self) {
        self.stopped.set(1);
    }

    fn register(&self, all: &mut Registry) {
        let reg = all.sub_registry_with_prefix("ledger");
        reg.register("flush_ops", "Operations in a durable flush", self.flush_ops.clone());
        reg.register_with_unit(
            "flush",
            "Time from sending a flush to its commit",
            Unit::Seconds,
            self.flush_seconds.clone(),
        );
        reg.register("flush_retries", "Flushes sent again", self.flush_retries.clone());
        reg.register("holds_open", "Holds of this process that are open", self.holds_open.clone());
        reg.register("leases", "Accounts that this process has credit of", self.leases.clone());
        reg.register(
            "lease_idle_nanousd",
            "Credit that leases keep beyond open holds, nano-USD",
            self.lease_idle_nanousd.clone(),
        );
        reg.register("denials", "Holds refused, by reason", self.denials.clone());
        reg.register("overruns", "Requests that cost more than their hold", self.overruns.clone());
        reg.register(
            "overrun_nanousd",
            "What requests cost beyond their holds, nano-USD",
            self.overrun_nanousd.clone(),
        );
        reg.register(
            "recovered_instances",
            "Dead instances recovered",
            self.recovered_instances.clone(),
        );
        reg.register(
            "recovered_holds",
            "Holds of dead instances recovered",
            self.recovered_holds.clone(),
        );
        reg.register(
            "settlements",
            "Holds settled, by how usage was learned",
            self.settlements.clone(),
        );
        reg.register(
            "stopped",
            "1 once this process can't write to the ledger any more",
            self.stopped.clone(),
        );
    }
}

static LEDGER: LazyLock<LedgerMetrics> = LazyLock::new(LedgerMetrics::new);
static TRAFFIC: LazyLock<TrafficMetrics> = LazyLock::new(TrafficMetrics::new);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the ledger records.
#[must_use]
pub fn ledger() -> &'static LedgerMetrics {
    &LEDGER
}

/// Where requests and calls of providers are recorded.
#[must_use]
pub fn traffic() -> &'static TrafficMetrics {
    &TRAFFIC
}

/// Content type of [`exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that was recorded, as OpenMetrics text. Uptime counts from the first call of this
/// or [`mark_start`].
///
/// # Errors
/// Never in practice: a formatter of text can't fail.
pub fn exposition() -> Result<String, std::fmt::Error> {
    let mut all = Registry::with_prefix("faces");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    all.register("build", "Version of the server", build);
    let uptime = ConstGauge::new(STARTED.elapsed().as_secs_f64());
    all.register_with_unit("uptime", "Time since the start", Unit::Seconds, uptime);
    LEDGER.register(&mut all);
    TRAFFIC.register(&mut all);
    let mut text = String::new();
    encode(&mut text, &all)?;
    Ok(text)
}

/// The process starts now, for the uptime.
pub fn mark_start() {
    LazyLock::force(&STARTED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_told() {
        let metrics = LedgerMetrics::new();
        metrics.flushed(3, Duration::from_millis(2));
        metrics.holds_changed(3, 1);
        metrics.leases_changed(0, 2, 900);
        metrics.leases_changed(2, 1, -400);
        metrics.denied(FundsReason::CreditReserved);
        metrics.overrun(NanoUsd(7));
        metrics.overrun(NanoUsd::ZERO);
        metrics.recovered(1, 4);
        metrics.settled(UsageBasis::Partial);
        let mut all = Registry::with_prefix("faces");
        metrics.register(&mut all);
        let mut text = String::new();
        encode(&mut text, &all).unwrap();
        for line in [
            "faces_ledger_flush_ops_sum 3.0",
            "faces_ledger_flush_seconds_count 1",
            "faces_ledger_holds_open 2",
            "faces_ledger_leases 1",
            "faces_ledger_lease_idle_nanousd 500",
            "faces_ledger_denials_total{reason=\"credit_reserved\"} 1",
            "faces_ledger_overruns_total 1",
            "faces_ledger_overrun_nanousd_total 7",
            "faces_ledger_recovered_holds_total 4",
            "faces_ledger_settlements_total{basis=\"partial\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
    }
}
