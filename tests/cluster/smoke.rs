//! `deploy/cluster --smoke`: three instances behind nginx, with the configuration that is shipped.

use std::{path::Path, process::Command};

use crate::{
    postgres,
    support::{env_var, in_ci, server::say},
};

/// Exit code of the script when a program that it needs is not installed.
const MISSING: i32 = 77;

#[test]
fn three_instances_behind_nginx_serve_stop_and_balance() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cluster");
    let mut command = Command::new("python3");
    command.arg(script).args(["--smoke", "--faces", env!("CARGO_BIN_EXE_faces")]);
    // The script has a server of its own; where tests are given one, it takes that.
    let given = env_var("TEST_DATABASE_URL").and_then(|_| postgres::cluster().ok());
    let database = given.map(postgres::Cluster::database);
    if let Some(database) = &database {
        command.args(["--database-url", &database.url]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return skip(&format!("python3 does not start: {error}")),
    };
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        return skip(err.trim());
    }
    assert!(output.status.success(), "{}:\n{out}\n{err}", output.status);
    for seen in ["JSON: ", "SSE: ", "stop: exit code 0", "audit: clean"] {
        assert!(out.lines().any(|line| line.starts_with(seen)), "no `{seen}` in\n{out}");
    }
}

fn skip(why: &str) {
    assert!(!in_ci(), "CI needs the cluster: {why}");
    say(&format!("SKIPPED the smoke test of the cluster: {why}"));
}
