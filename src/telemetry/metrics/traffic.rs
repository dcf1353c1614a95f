//! Numbers of what passes through: clients' requests and calls of providers.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::telemetry::AccessLine;

/// A label whose values are words of the code.
type Word = (&'static str, &'static str);
/// A label whose values come from the table of routes or from the catalog.
type Name = (&'static str, String);

/// 1 ms to 9 min, each bucket twice the one before.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

/// The numbers of requests and calls. All of them are of this process and begin at 0.
#[derive(Debug)]
pub struct TrafficMetrics {
    requests: Family<([Name; 1], [Word; 2]), Counter>,
    errors: Family<[Word; 1], Counter>,
    replays: Counter,
    request_seconds: Family<[Name; 1], Histogram>,
    head_seconds: Family<[Name; 1], Histogram>,
    requests_in_flight: Gauge,
    streams_running: Gauge,
    drains_running: Gauge,
    drains_refused: Counter,
    attempts: Family<([Name; 1], [Word; 1]), Counter>,
    first_byte_seconds: Family<[Name; 1], Histogram>,
}

impl TrafficMetrics {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            errors: Family::default(),
            replays: Counter::default(),
            request_seconds: Family::new_with_constructor(seconds),
            head_seconds: Family::new_with_constructor(seconds),
            requests_in_flight: Gauge::default(),
            streams_running: Gauge::default(),
            drains_running: Gauge::default(),
            drains_refused: Counter::default(),
            attempts: Family::default(),
            first_byte_seconds: Family::new_with_constructor(seconds),
        }
    }

    /// A request has ended.
    pub fn request(&self, line: AccessLine) {
        let AccessLine { route, method, status, error, first_byte, duration, .. } = line;
        let labels = [("route", route)];
        self.request_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
        if let Some(first_byte) = first_byte {
            self.head_seconds.get_or_create(&labels).observe(first_byte.as_secs_f64());
        }
        let words = [("method", method_word(&method)), ("status", status_class(status))];
        self.requests.get_or_create(&(labels, words)).inc();
        if let Some(code) = error {
            self.errors.get_or_create(&[("code", code.as_str())]).inc();
        }
    }

    /// A request got the answer that was kept for its idempotency key.
    pub fn replayed(&self) {
        self.replays.inc();
    }

    /// A request is in flight until the value is dropped.
    pub fn request_in_flight(&self) -> Running {
        Running::new(&self.requests_in_flight)
    }

    /// A stream is on its way to its client until the value is dropped.
    pub fn stream(&self) -> Running {
        Running::new(&self.streams_running)
    }

    /// A call goes on without its client until the value is dropped.
    pub fn drain(&self) -> Running {
        Running::new(&self.drains_running)
    }

    /// A call had to be cancelled because no place to go on without its client was left.
    pub fn drain_refused(&self) {
        self.drains_refused.inc();
    }

    /// Where the calls of a provider of the catalog are recorded.
    #[must_use]
    pub fn provider(&self, name: &str) -> ProviderMetrics {
        let provider = || [("provider", name.to_owned())];
        let counter = |end: AttemptEnd| {
            (end, self.attempts.get_or_create_owned(&(provider(), [("end", end.as_str())])))
        };
        ProviderMetrics {
            ends: AttemptEnd::ALL.map(counter),
            first_byte: self.first_byte_seconds.get_or_create_owned(&provider()),
        }
    }

    pub(super) fn register(&self, all: &mut Registry) {
        let drains = all.sub_registry_with_prefix("drains");
        drains.register(
            "running",
            "Calls that go on without their client",
            self.drains_running.clone(),
        );
        drains.register(
            "refused",
            "Calls cancelled when their client left because FACES_DRAINS_MAX went on already",
            self.drains_refused.clone(),
        );
        self.register_http(all.sub_registry_with_prefix("http"));
        let upstream = all.sub_registry_with_prefix("upstream");
        upstream.register(
            "attempts",
            "Tries at a provider that ended, by how",
            self.attempts.clone(),
        );
        upstream.register_with_unit(
            "first_byte",
            "Time from a call's dispatch to the head of its answer",
            Unit::Seconds,
            self.first_byte_seconds.clone(),
        );
    }

    fn register_http(&self, http: &mut Registry) {
        http.register(
            "requests",
            "Requests that ended, by route, method and class of status",
            self.requests.clone(),
        );
        http.register(
            "errors",
            "Errors that clients got, also in the middle of a stream, by code",
            self.errors.clone(),
        );
        http.register(
            "replays",
            "Requests answered with what was kept for their idempotency key",
            self.replays.clone(),
        );
        http.register_with_unit(
            "request",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        http.register_with_unit(
            "head",
            "Time from a request's head to the head of its answer",
            Unit::Seconds,
            self.head_seconds.clone(),
        );
        http.register(
            "requests_in_flight",
            "Requests that have not ended",
            self.requests_in_flight.clone(),
        );
        http.register(
            "streams_running",
            "Streams on their way to a client",
            self.streams_running.clone(),
        );
    }
}

/// Counts as running until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it does not count any more"]
pub struct Running(Gauge);

impl Running {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How a try at a provider ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// A success, and its body was read to its end.
    Success,
    /// A redirect, which is not followed.
    Redirect,
    /// A refusal: a status of 400 to 499.
    Refused,
    /// A failure of the provider's: a status from 500 on.
    Failed,
    /// Too slow: its head, a part of its body, or all of it.
    Timeout,
    /// No connection, or no trusted TLS. Nothing was sent.
    ConnectError,
    /// The connection broke.
    Cut,
    /// A pooled connection was closed before anything was answered; the next try follows.
    Stale,
    /// The answer can't be read, or a mistake of ours.
    Unusable,
    /// Whoever asked has left.
    Cancelled,
    /// Refused by ourselves: `upstream_inflight_max` calls were running. Nothing was sent.
    Full,
    /// The server's stop cut it.
    Shutdown,
}

impl AttemptEnd {
    const ALL: [Self; 12] = [
        Self::Success,
        Self::Redirect,
        Self::Refused,
        Self::Failed,
        Self::Timeout,
        Self::ConnectError,
        Self::Cut,
        Self::Stale,
        Self::Unusable,
        Self::Cancelled,
        Self::Full,
        Self::Shutdown,
    ];

    /// The end of an answer that came whole.
    #[must_use]
    pub const fn answered(status: u16) -> Self {
        match status {
            ..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::Refused,
            500.. => Self::Failed,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Refused => "4xx",
            Self::Failed => "5xx",
            Self::Timeout => "timeout",
            Self::ConnectError => "connect_error",
            Self::Cut => "cut",
            Self::Stale => "stale",
            Self::Unusable => "unusable",
            Self::Cancelled => "cancelled",
            Self::Full => "full",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The numbers of one provider's calls, looked up once: recording takes no lock but a histogram's.
#[derive(Debug)]
pub struct ProviderMetrics {
    ends: [(AttemptEnd, Counter); AttemptEnd::ALL.len()],
    first_byte: Histogram,
}

impl ProviderMetrics {
    /// A try ended.
    pub fn ended(&self, end: AttemptEnd) {
        if let Some((_, counter)) = self.ends.iter().find(|(one, _)| *one == end) {
            counter.inc();
        }
    }

    /// The head of an answer came `elapsed` after its dispatch.
    pub fn first_byte(&self, elapsed: Duration) {
        self.first_byte.observe(elapsed.as_secs_f64());
    }
}

/// A client may send any word; the label has only these.
fn method_word(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    METHODS.into_iter().find(|word| *word == method).unwrap_or("other")
}

const fn status_class(status: u16) -> &'static str {
    match status {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        // The client left before there was one.
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn told(metrics: &TrafficMetrics) -> String {
        let (mut all, mut text) = (Registry::with_prefix("faces"), String::new());
        metrics.register(&mut all);
        encode(&mut text, &all).unwrap();
        text
    }

    #[test]
    fn labels_are_bounded_whatever_clients_send() {
        let metrics = TrafficMetrics::new();
        for number in 0..50 {
            metrics.request(AccessLine {
                method: format!("M{number}"),
                route: "unmatched".to_owned(),
                status: 404,
                ..AccessLine::default()
            });
        }
        let text = told(&metrics);
        let line =
            "faces_http_requests_total{route=\"unmatched\",method=\"other\",status=\"4xx\"} 50";
        assert!(text.lines().any(|told| told == line), "{text}");
        assert!(!text.contains("M4") && !text.contains("faces_http_head_seconds_count{"), "{text}");
    }

    #[test]
    fn what_runs_counts_until_it_is_dropped_and_every_end_has_its_counter() {
        let metrics = TrafficMetrics::new();
        let provider = metrics.provider("acme");
        for end in AttemptEnd::ALL {
            provider.ended(end);
        }
        provider.ended(AttemptEnd::answered(200));
        provider.ended(AttemptEnd::answered(529));
        provider.first_byte(Duration::from_millis(30));
        let (drain, streams) = (metrics.drain(), [metrics.stream(), metrics.stream()]);
        let text = told(&metrics);
        let attempts: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("faces_upstream_attempts_total{"))
            .collect();
        assert_eq!(attempts.len(), AttemptEnd::ALL.len(), "{text}");
        for line in [
            "faces_drains_running 1",
            "faces_http_streams_running 2",
            "faces_upstream_attempts_total{provider=\"acme\",end=\"2xx\"} 2",
            "faces_upstream_attempts_total{provider=\"acme\",end=\"5xx\"} 2",
            "faces_upstream_attempts_total{provider=\"acme\",end=\"stale\"} 1",
            "faces_upstream_first_byte_seconds_count{provider=\"acme\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
        drop((drain, streams));
        let text = told(&metrics);
        assert!(text.contains("faces_drains_running 0\n"), "{text}");
        assert!(text.contains("faces_http_streams_running 0\n"), "{text}");
    }
}
