//! The command line of the books: `faces topup`, `faces ledger …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::cli::{reference, usd_above_zero};
use crate::domain::{AccountId, NanoUsd, clock::UnixMicros};

const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_MICRO: i64 = 1_000;

/// Arguments of `faces topup`.
#[derive(Debug, Clone, Args)]
pub struct TopUpArgs {
    /// Account to credit
    #[arg(value_name = "ACCOUNT")]
    pub account: AccountId,
    /// Amount, USD, above 0, at most 9 decimal places; kept exactly
    #[arg(long, value_name = "USD", value_parser = usd_above_zero, allow_negative_numbers = true)]
    pub amount_usd: NanoUsd,
    /// Your reference (an invoice or payment); repeating it with the same amount changes nothing
    #[arg(long = "ref", value_name = "REF", value_parser = reference)]
    pub reference: String,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Commands of `faces ledger`. They only read, beside a running server too.
#[derive(Debug, Clone, Subcommand)]
pub enum LedgerCommand {
    /// Show an account (balance, leases, open holds, newest transfers) or a hold (usage, attempts, charge)
    #[command(
        after_help = "Examples:\n  faces ledger show 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3\n  faces ledger show 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --json"
    )]
    Show {
        /// Account or hold
        #[arg(value_name = "ACCOUNT|HOLD")]
        id: Uuid,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Write every transfer of a time, ordered by time; amounts as exact decimals and as integers
    #[command(
        after_help = "Examples:\n  faces ledger export --format csv --from 2026-11-01 --to 2026-12-01 --output november.csv\n  faces ledger export --format jsonl --from 2026-11-25T12:00:00Z"
    )]
    Export(ExportArgs),
}

/// Arguments of `faces ledger export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// How to write them
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
    pub format: ExportFormat,
    /// First moment: a day (its beginning, UTC) or a time such as 2026-11-25T12:00:00Z; unset: the beginning of the books
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<UnixMicros>,
    /// First moment that is left out; unset: now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<UnixMicros>,
    /// File to write, only when the export is complete; unset: standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// RFC 4180 with a line of names
    Csv,
    /// One JSON object per line
    Jsonl,
}

fn moment(text: &str) -> Result<UnixMicros, &'static str> {
    let problem = "it must be a day such as 2026-11-25 or a time such as 2026-11-25T12:00:00Z";
    let is_day = !text.contains(['T', 't', ' ']);
    let midnight = is_day.then(|| format!("{text}T00:00:00Z"));
    let parsed = OffsetDateTime::parse(midnight.as_deref().unwrap_or(text), &Rfc3339);
    let parsed = parsed.map_err(|_| problem)?;
    let seconds = parsed.unix_timestamp().checked_mul(MICROS_PER_SECOND).ok_or(problem)?;
    let micros = i64::from(parsed.nanosecond()) / NANOS_PER_MICRO;
    Ok(UnixMicros(seconds.saturating_add(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_or_a_time_in_any_zone() {
        let day = 1_764_028_800_000_000;
        assert_eq!(moment("2025-11-25"), Ok(UnixMicros(day)));
        assert_eq!(moment("2025-11-25T00:00:00Z"), Ok(UnixMicros(day)));
        assert_eq!(moment("2025-11-25T01:00:00.000001+01:00"), Ok(UnixMicros(day + 1)));
        for wrong in ["", "2025-11", "25.11.2025", "2025-02-30", "2025-11-25T00:00:00", "now"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
