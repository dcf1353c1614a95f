//! The running server: built in order, stopped in order.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use actix_web::dev::ServerHandle;
use secrecy::SecretString;
use tokio::task::JoinHandle;

use super::{
    StartError,
    admin_socket::AdminSocket,
    first_start,
    run_file::{RunFile, RunningServer},
};
use crate::{
    accounts::Accounts,
    config::{Plans, SettingError, Settings, providers as defaults},
    domain::clock,
    flows::{Compiler, FlowOptions, Flows, IdentityOptions, Platform, demo::Demo},
    http::{self, EdgeState, HttpState},
    providers::{Catalog, CatalogOptions, Providers, key_variables},
    storage::{Db, DbOptions, DbRole},
};

/// How long cut streams may take to send their error event and settle.
const CUT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server looks whether its ledger still runs.
const LEDGER_WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of the log line that says what a stop waits for.
const STOP_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A server that listens.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    url: String,
    edge: Arc<EdgeState>,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    admin: Option<JoinHandle<()>>,
    background: [JoinHandle<()>; 4],
    compiler: Compiler,
    compiling: JoinHandle<()>,
    flows: Flows,
    providers: Providers,
    accounts: Accounts,
    db: Db,
    _run_file: RunFile,
}

impl App {
    /// Builds every room and listens. On a fresh machine it also makes the demo and prints how to
    /// use it.
    ///
    /// # Errors
    /// [`StartError`] names the setting or file that is wrong and the fix; nothing listens then.
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        let (app, demo) = Self::start(settings).await?;
        first_start::announce(&app.url, &app.settings, demo.as_ref());
        Ok(app)
    }

    /// As [`App::build`], and prints nothing.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_quietly(settings: Settings) -> Result<Self, StartError> {
        Ok(Self::start(settings).await?.0)
    }

    async fn start(mut settings: Settings) -> Result<(Self, Option<Demo>), StartError> {
        crate::telemetry::metrics::mark_start();
        make_data_dir(&settings.data_dir)?;
        let listener = TcpListener::bind(settings.listen)
            .map_err(|source| StartError::Listen { listen: settings.listen, source })?;
        if let Ok(address) = listener.local_addr() {
            settings.listen = address;
        }
        // Wrong settings end the start before the database is made or migrated.
        let catalog = Arc::new(catalog(&settings)?);
        let plans = Plans::load(settings.plans_file.as_deref())?;
        check_compile_model(&settings, &catalog)?;
        let providers = Providers::start(
            Arc::clone(&catalog),
            &settings.limits,
            settings.providers.ca_file.as_deref(),
        )?;
        let db = open(&settings, DbRole::Server).await?;
        let accounts =
            Accounts::start(db.clone(), &settings.limits, settings.ledger_policy).await?;
        let platform = platform(&db, catalog, plans, &settings);
        let options = flow_options(&settings);
        let flows = Flows::start(platform, accounts.clone(), providers.clone(), options).await?;
        flows.platform().prepare_tokens().await?;
        let demo = if settings.makes_demo() { flows.platform().make_demo().await? } else { None };
        let edge = Arc::new(EdgeState::new(settings.limits.inflight_requests_max));
        let state = http_state(&settings, &flows);
        let data_dir_error =
            |source| StartError::DataDir { path: settings.data_dir.clone(), source };
        let server = http::serve(
            listener,
            settings.worker_count(),
            &settings.limits,
            state,
            Arc::clone(&edge),
        )
        .map_err(|source| StartError::Listen { listen: settings.listen, source })?;
        let handle = server.handle();
        let server = actix_web::rt::spawn(server);
        let compiler = Compiler::new(flows.clone());
        let compiling = actix_web::rt::spawn(compiler.run());
        let admin = if db.is_sqlite() { Some(serve_admin(&settings, &flows)?) } else { None };
        let background = background(&flows);
        let url = settings.local_url();
        let running = running_server(&url);
        let run_file = RunFile::write(&settings.data_dir, &running).map_err(data_dir_error)?;
        log::info!(target: "faces::app", "listening on {url}");
        let app = Self {
            settings,
            url,
            edge,
            server,
            handle,
            admin,
            background,
            compiler,
            compiling,
            flows,
            providers,
            accounts,
            db,
            _run_file: run_file,
        };
        Ok((app, demo))
    }

    /// The base URL as this machine reaches it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The use cases.
    #[must_use]
    pub const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Serves until `stop` resolves, then stops in order. `true`: everything in flight has ended
    /// properly and every hold is settled.
    ///
    /// # Cancel safety
    /// Dropped, the server stops at once: streams are cut and their holds are recovered by the
    /// next start.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = stop => {}
            ended = &mut self.server => {
                log::error!(target: "faces::app", "the HTTP server ended by itself: {ended:?}");
            }
            reason = ledger_stopped(&self.accounts) => {
                log::error!(target: "faces::app", "the ledger has stopped: {reason}; restart the server, the start recovers its holds");
            }
        }
        self.stop().await
    }

    /// Not ready → no longer accepting → streams may finish → the rest is cut with an error event
    /// → ledger drained → database closed.
    async fn stop(mut self) -> bool {
        log::info!(target: "faces::app", "stopping: no longer ready");
        self.edge.stop_being_ready();
        tokio::time::sleep(Duration::from_millis(self.settings.limits.shutdown_ready_delay_ms))
            .await;
        self.handle.pause().await;
        self.edge.drain();
        self.compiler.stop();
        let grace = Duration::from_millis(self.settings.limits.shutdown_grace_ms);
        let mut is_clean = self.wait_idle(grace).await;
        if !is_clean {
            log::warn!(target: "faces::app", "cutting {} requests and what is compiled, still in flight", self.edge.inflight());
            self.providers.cut();
            is_clean = self.wait_idle(CUT_TIMEOUT).await;
        }
        self.compiling.abort();
        self.handle.stop(true).await;
        if let Some(admin) = &self.admin {
            admin.abort();
        }
        self.background.iter().for_each(JoinHandle::abort);
        self.flows.platform().write_key_uses().await;
        is_clean &= self.providers.drain(Duration::ZERO).await == 0;
        match self.accounts.drain().await {
            Ok(report) => is_clean &= report.holds_recovered == 0,
            Err(error) => {
                log::error!(target: "faces::app", "the ledger was not drained: {}", crate::telemetry::chain(&error));
                is_clean = false;
            }
        }
        if let Err(error) = self.db.close().await {
            log::error!(target: "faces::app", "the database was not closed: {}", crate::telemetry::chain(&error));
            is_clean = false;
        }
        log::info!(target: "faces::app", "stopped, {}", if is_clean { "everything settled" } else { "not clean" });
        is_clean
    }

    /// Waits until no request is in flight and nothing is compiled.
    async fn wait_idle(&mut self, most: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + most;
        loop {
            let until = deadline.min(tokio::time::Instant::now() + STOP_REPORT_INTERVAL);
            let idle = async {
                self.edge.idle().await;
                // A task that has ended must not be asked again.
                if !self.compiling.is_finished() {
                    drop((&mut self.compiling).await);
                }
            };
            if tokio::time::timeout_at(until, idle).await.is_ok() {
                return true;
            }
            if until >= deadline {
                return false;
            }
            log::info!(target: "faces::app", "waiting for {} requests in flight", self.edge.inflight());
        }
    }
}

/// Waits until the ledger has stopped for good; then nothing can be sold any more.
async fn ledger_stopped(accounts: &Accounts) -> String {
    loop {
        if let Some(reason) = accounts.stopped() {
            return reason;
        }
        tokio::time::sleep(LEDGER_WATCH_INTERVAL).await;
    }
}

/// Opens the configured database.
pub(super) async fn open(settings: &Settings, role: DbRole) -> Result<Db, StartError> {
    let url = match settings.database() {
        crate::config::DatabaseUrl::Sqlite(path) => crate::storage::DatabaseUrl::Sqlite(path),
        crate::config::DatabaseUrl::Postgres(url) => crate::storage::DatabaseUrl::Postgres(url),
    };
    let options = DbOptions {
        url,
        connections_max: settings.limits.db_connections_max,
        acquire_timeout_ms: settings.limits.db_acquire_timeout_ms,
        read_timeout_ms: settings.limits.db_read_timeout_ms,
        migrate: settings.migrate,
        role,
    };
    Ok(Db::open(options).await?)
}

/// Loads the catalog with the environment's keys and addresses.
pub(super) fn catalog(settings: &Settings) -> Result<Catalog, StartError> {
    let providers = &settings.providers;
    let mut keys: HashMap<String, SecretString> = HashMap::new();
    for variable in key_variables(settings.models_file.as_deref())? {
        if let Some(key) = providers.key(&variable) {
            keys.insert(variable, key);
        }
    }
    let addresses = [
        ("openai", &providers.openai_base_url, defaults::OPENAI_BASE_URL_DEFAULT),
        ("anthropic", &providers.anthropic_base_url, defaults::ANTHROPIC_BASE_URL_DEFAULT),
        ("fireworks", &providers.fireworks_base_url, defaults::FIREWORKS_BASE_URL_DEFAULT),
    ];
    let base_urls = addresses
        .into_iter()
        .filter(|(_, url, default)| url.as_str() != *default)
        .map(|(name, url, _)| (name.to_owned(), url.clone()))
        .collect();
    Ok(Catalog::load(CatalogOptions {
        models_file: settings.models_file.clone(),
        default_model: settings.default_model.clone(),
        embedding_model: settings.embedding_model.clone(),
        keys,
        base_urls,
    })?)
}

fn running_server(url: &str) -> RunningServer {
    let started = clock::now().seconds();
    RunningServer { url: url.to_owned(), pid: std::process::id(), started }
}

/// Refuses a model for compiling that is not usable.
fn check_compile_model(settings: &Settings, catalog: &Catalog) -> Result<(), StartError> {
    let Some(name) = &settings.compile_model else { return Ok(()) };
    if catalog.find(name).is_some() {
        return Ok(());
    }
    Err(StartError::Setting(SettingError {
        setting: "FACES_COMPILE_MODEL".to_owned(),
        problem: format!("names {name:?}, which is not a usable model"),
        fix: "name a model of the catalog whose provider has its key, or unset it".to_owned(),
    }))
}

fn flow_options(settings: &Settings) -> FlowOptions {
    FlowOptions {
        markup_bps: i64::from(settings.markup_bps),
        charge_partial_on_upstream_error: settings.charge_partial_on_upstream_error,
        hold_slice_tokens: settings.limits.hold_slice_tokens,
        upstream_body_bytes_max: settings.limits.upstream_body_bytes_max,
        sse_record_bytes_max: usize::try_from(settings.limits.sse_record_bytes_max)
            .unwrap_or(usize::MAX),
        drains_max: settings.limits.drains_max,
        drain_timeout: Duration::from_millis(settings.limits.drain_timeout_ms),
        idempotency_ttl_ms: settings.limits.idempotency_ttl_ms,
        idempotency_body_bytes_max: settings.limits.idempotency_body_bytes_max,
        topup: settings.topup,
        webhook_secrets: settings.webhook_secrets.clone(),
        compile_model: settings.compile_model.clone(),
    }
}

/// What handlers share.
fn http_state(settings: &Settings, flows: &Flows) -> HttpState {
    HttpState {
        flows: flows.clone(),
        body_bytes_max: settings.limits.body_bytes_max,
        upload_bytes_max: settings.limits.upload_bytes_max,
        login_body_bytes_max: settings.limits.login_body_bytes_max,
        trusted_proxies: settings.trusted_proxies.clone(),
        heartbeat: Duration::from_millis(settings.limits.sse_heartbeat_ms),
        admin_key: settings.admin_key.clone(),
    }
}

/// The use cases that need no running ledger.
pub(super) fn platform(
    db: &Db,
    catalog: Arc<Catalog>,
    plans: Plans,
    settings: &Settings,
) -> Platform {
    let identity = IdentityOptions {
        takes_registrations: settings.takes_registrations(),
        admin_email: settings.admin_email.clone(),
        welcome_credit: settings.welcome_credit_usd,
        jwt_secrets: settings.jwt_secrets.clone(),
    };
    Platform::new(db.clone(), catalog, settings.limits.clone(), plans, identity)
}

fn serve_admin(settings: &Settings, flows: &Flows) -> Result<JoinHandle<()>, StartError> {
    let socket = AdminSocket::bind(&settings.data_dir)
        .map_err(|source| StartError::DataDir { path: settings.data_dir.clone(), source })?;
    let platform = flows.platform().clone();
    Ok(actix_web::rt::spawn(async move { socket.serve(&platform).await }))
}

/// What goes on beside the requests until the stop: usage by day, changed rates and prices, last
/// uses of keys.
fn background(flows: &Flows) -> [JoinHandle<()>; 4] {
    let prices = flows.clone();
    let [usage, rates, keys] =
        [flows.platform(), flows.platform(), flows.platform()].map(Clone::clone);
    [
        actix_web::rt::spawn(async move { keys.keep_key_uses().await }),
        actix_web::rt::spawn(async move { usage.roll_usage().await }),
        actix_web::rt::spawn(async move { rates.follow_rates().await }),
        actix_web::rt::spawn(async move { prices.follow_prices().await }),
    ]
}

/// Makes the data directory, for this user only when it is new.
pub(super) fn make_data_dir(path: &Path) -> Result<(), StartError> {
    let error = |source| StartError::DataDir { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
    let permissions = fs::metadata(path).map_err(error)?.permissions();
    if permissions.mode() & 0o007 != 0 {
        log::debug!(target: "faces::app", "{} can be read by other users of this machine", path.display());
    }
    Ok(())
}
