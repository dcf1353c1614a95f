//! What operators and tests read of the room.

use serde::Serialize;

use crate::domain::InstanceId;

/// A snapshot of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// This incarnation.
    pub instance: InstanceId,
    /// Whether holds are granted.
    pub ready: bool,
    /// Whether a drain has begun.
    pub draining: bool,
    /// Why the ledger stopped, when it did.
    pub stopped: Option<String>,
    /// Holds that wait for their verdict.
    pub holds_waiting: u64,
    /// The writer.
    pub writer: WriterObservation,
    /// The registry.
    pub registry: RegistryObservation,
}

/// A snapshot of the `LedgerWriter`. All but the first two grow from the start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WriterObservation {
    /// Operations that wait for the flush in flight.
    pub queued: u64,
    /// Operations in the flush in flight.
    pub in_flight: u64,
    /// Number of the last durable flush.
    pub flush_seq: i64,
    /// Flushes that became durable and were not empty.
    pub flushes: u64,
    /// Operations that became durable.
    pub ops: u64,
    /// Most operations in one flush.
    pub ops_in_flush_max: u64,
    /// Flushes that were sent again.
    pub retries: u64,
    /// Holds granted.
    pub granted: u64,
    /// Holds refused by the account row.
    pub denied: u64,
    /// Holds settled or voided.
    pub ended: u64,
    /// Duration of the last flush, microseconds.
    pub last_flush_micros: u64,
}

/// A snapshot of the `AccountRegistry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RegistryObservation {
    /// Live account actors.
    pub live: u64,
    /// Actors started.
    pub started: u64,
    /// Actors that left memory because they were idle.
    pub passivated: u64,
    /// Actors that panicked.
    pub panicked: u64,
}
