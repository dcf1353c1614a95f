//! `faces audit`: a full one reads the database itself, beside a running server too; an incremental
//! one writes the seal, so the server that owns an SQLite file runs it.

use std::{io, process::ExitCode};

use serde_json::{Value, json};

use super::{
    StartError,
    commands::{FAILED, administer, complain, human, print_json, print_text},
    server,
};
use crate::{
    config::{AuditArgs, DatabaseUrl, Settings},
    flows::admin::AdminRequest,
    storage::{DbRole, ledger},
    telemetry,
};

/// Exit code when it could not run.
const COULD_NOT_RUN: u8 = 2;

pub(super) async fn run(settings: &Settings, arguments: AuditArgs) -> ExitCode {
    let audited =
        if arguments.incremental { incremental(settings).await } else { full(settings).await };
    let report = match audited {
        Ok(report) => report,
        Err(why) => {
            complain(&format!("the audit could not run: {why}"));
            return ExitCode::from(COULD_NOT_RUN);
        }
    };
    if arguments.json {
        print_json(&report)
    } else {
        print_text(&human(&report))
    }
    if report["clean"] == true { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

async fn full(settings: &Settings) -> Result<Value, String> {
    let audited = async {
        let db = server::open(settings, DbRole::ReadOnly).await?;
        Ok::<_, StartError>(ledger::audit(&db).await?)
    };
    match audited.await {
        Ok(report) => Ok(json!(report)),
        Err(error) => Err(telemetry::chain(&error).to_string()),
    }
}

async fn incremental(settings: &Settings) -> Result<Value, String> {
    if let DatabaseUrl::Sqlite(path) = settings.database()
        && !path.exists()
    {
        // An administrator's command would make it, and empty books are clean.
        let missing = io::Error::from(io::ErrorKind::NotFound);
        return Err(format!("{}: {missing}", path.display()));
    }
    let done = administer(settings, AdminRequest::AuditIncremental).await;
    done.map_err(|refusal| refusal.message)
}
