//! Checks that one field can't make alone: pairs of limits, files that must exist.

use std::{fs::File, path::Path};

use super::{DemoMode, SettingError, Settings};

/// `(smaller, its value, larger, its value, why)`.
type Order = (&'static str, u64, &'static str, u64, &'static str);

impl Settings {
    /// Checks what no single field can. Parsing calls it; tests that change fields may too.
    ///
    /// # Errors
    /// [`SettingError`] names the variables and the fix.
    pub fn check(&self) -> Result<(), SettingError> {
        self.check_orders()?;
        if self.demo == DemoMode::On && !self.listen.ip().is_loopback() {
            return Err(SettingError {
                setting: "FACES_DEMO".to_owned(),
                problem: format!(
                    "can't be `on` while FACES_LISTEN is {}: the demo key would be open to the network",
                    self.listen
                ),
                fix:
                    "set FACES_LISTEN=127.0.0.1:8080, or FACES_DEMO=off and create an account with \
                      `faces admin account create`"
                        .to_owned(),
            });
        }
        if self.data_dir.exists() && !self.data_dir.is_dir() {
            return Err(SettingError {
                setting: "FACES_DATA_DIR".to_owned(),
                problem: format!("names {}, which is not a directory", self.data_dir.display()),
                fix: "name a directory, or one that does not exist yet".to_owned(),
            });
        }
        check_file("FACES_MODELS_FILE", self.models_file.as_deref())?;
        check_file("FACES_PLANS_FILE", self.plans_file.as_deref())?;
        check_file("FACES_PROVIDER_CA_FILE", self.providers.ca_file.as_deref())
    }

    fn check_orders(&self) -> Result<(), SettingError> {
        let limits = &self.limits;
        let total = ("FACES_UPSTREAM_TOTAL_TIMEOUT_MS", limits.upstream_total_timeout_ms);
        let orders: [Order; 6] = [
            (
                "FACES_UPSTREAM_CONNECT_TIMEOUT_MS",
                limits.upstream_connect_timeout_ms,
                "FACES_UPSTREAM_FIRST_BYTE_TIMEOUT_MS",
                limits.upstream_first_byte_timeout_ms,
                "connecting is a part of waiting for the first byte",
            ),
            (
                "FACES_UPSTREAM_FIRST_BYTE_TIMEOUT_MS",
                limits.upstream_first_byte_timeout_ms,
                total.0,
                total.1,
                "the call would end before its first byte may come",
            ),
            (
                "FACES_UPSTREAM_IDLE_TIMEOUT_MS",
                limits.upstream_idle_timeout_ms,
                total.0,
                total.1,
                "the idle timeout could never be reached",
            ),
            (
                "FACES_FLUSH_OPS_MAX",
                u64::from(limits.flush_ops_max),
                "FACES_LEDGER_QUEUE_OPS_MAX",
                u64::from(limits.ledger_queue_ops_max),
                "a full batch could never be queued",
            ),
            (
                "FACES_DB_ACQUIRE_TIMEOUT_MS",
                limits.db_acquire_timeout_ms,
                "FACES_LEDGER_WAIT_MS",
                limits.ledger_wait_ms,
                "a request would give up before the database does, and its outcome would be unknown",
            ),
            (
                "FACES_PRIMITIVE_CHARS_MAX",
                u64::from(limits.primitive_chars_max),
                "FACES_BODY_BYTES_MAX",
                limits.body_bytes_max,
                "such a primitive could never be sent",
            ),
        ];
        for (smaller, low, larger, high, why) in orders {
            if low > high {
                return Err(SettingError {
                    setting: smaller.to_owned(),
                    problem: format!("({low}) is above {larger} ({high}): {why}"),
                    fix: format!(
                        "lower {smaller} to at most {high}, or raise {larger} to at least {low}"
                    ),
                });
            }
        }
        Ok(())
    }
}

fn check_file(variable: &str, path: Option<&Path>) -> Result<(), SettingError> {
    let Some(path) = path else { return Ok(()) };
    let problem = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => "is a directory".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => format!("can't be read: {error}"),
    };
    Err(SettingError {
        setting: variable.to_owned(),
        problem: format!("names {}, which {problem}", path.display()),
        fix: format!("name a readable file in {variable}, or unset it"),
    })
}
