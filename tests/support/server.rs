//! The real server as a child process, with a data directory, a catalog and a log of its own.
//!
//! Ending a test (dropping the server) stops it and asserts what must hold after any test: exit
//! code 0, `faces audit` clean, and a log without a canary, a provider's key or an API key.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Mutex,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    BOUND, CANARIES, PERSONA_CANARY, env_var,
    ledger::Ledger,
    lock,
    models::{self, KEY_VARIABLES, OPENAI_MODEL},
    upstream::Upstream,
    wait_for,
};

const BINARY: &str = env!("CARGO_BIN_EXE_faces");
/// Credit of a test's account unless it says otherwise.
const CREDIT_USD: &str = "10";

/// What a server is started with.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    env: Vec<(String, String)>,
    models: Option<String>,
    database_url: Option<String>,
}

impl Builder {
    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Turns all providers to a scripted upstream and adds the scripted models.
    pub(crate) fn with_upstream(mut self, upstream: &Upstream) -> Self {
        self.models = Some(models::models_toml(&upstream.url()));
        self
    }

    /// Appends to the models file: further models and providers, in its own form.
    pub(crate) fn models(mut self, toml: &str) -> Self {
        self.models.get_or_insert_default().push_str(toml);
        self
    }

    /// Lets all providers bill a cancelled call to its end. After [`Builder::with_upstream`].
    #[track_caller]
    pub(crate) fn billed_to_the_end(mut self) -> Self {
        let models = self.models.take().expect("the providers come first");
        let (stops, goes_on) = ("cancel_stops_billing = true", "cancel_stops_billing = false");
        self.models = Some(models.replace(stops, goes_on));
        self
    }

    /// Keeps the books in PostgreSQL.
    pub(crate) fn with_postgres(mut self, url: &str) -> Self {
        self.database_url = Some(url.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestServer {
        let data_dir = TempDir::with_prefix("faces-test-").expect("a temporary directory");
        let mut env = self.base_env(data_dir.path());
        if let Some(models) = &self.models {
            let path = data_dir.path().join("models.toml");
            fs::write(&path, models).expect("the models file is written");
            env.push(("FACES_MODELS_FILE".to_owned(), path.display().to_string()));
            for variable in KEY_VARIABLES {
                env.push((variable.to_owned(), models::provider_key(variable)));
            }
        }
        env.extend(self.env);
        let log_path = log_path();
        let log = File::create(&log_path).expect("the log file");
        let child = serve(&env, data_dir.path(), log);
        let mut server = TestServer {
            child: Some(child),
            data_dir,
            env,
            log_path,
            database_url: self.database_url,
            secrets: Mutex::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            exit_is_checked: true,
        };
        server.wait_ready();
        server
    }

    fn base_env(&self, data_dir: &Path) -> Vec<(String, String)> {
        let mut env = vec![
            ("FACES_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("FACES_DATA_DIR".to_owned(), data_dir.join("data").display().to_string()),
            ("FACES_DEMO".to_owned(), "off".to_owned()),
            ("FACES_WORKERS".to_owned(), "2".to_owned()),
            // Tests log in often, and are no protection of anybody's password.
            ("FACES_PASSWORD_MEMORY_KIB".to_owned(), "64".to_owned()),
            ("FACES_PASSWORD_PASSES".to_owned(), "1".to_owned()),
            ("FACES_LOGINS_PER_ADDRESS_MAX".to_owned(), "1000000".to_owned()),
            ("FACES_REGISTRATIONS_PER_ADDRESS_MAX".to_owned(), "1000000".to_owned()),
            // What debug logging would leak is found too.
            ("RUST_LOG".to_owned(), "debug".to_owned()),
        ];
        env.extend(env_var("PATH").map(|path| ("PATH".to_owned(), path)));
        env.extend(env_var("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE".to_owned(), file)));
        env.extend(self.database_url.iter().map(|url| ("DATABASE_URL".to_owned(), url.clone())));
        env
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct TestServer {
    child: Option<Child>,
    data_dir: TempDir,
    env: Vec<(String, String)>,
    log_path: PathBuf,
    database_url: Option<String>,
    /// API keys made during the test.
    secrets: Mutex<Vec<String>>,
    address: SocketAddr,
    exit_is_checked: bool,
}

/// An account with a key, made for a test.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// Its id.
    pub(crate) id: String,
    /// An API key.
    pub(crate) key: String,
}

impl TestServer {
    /// What to start with.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// A server whose providers are `upstream`.
    #[track_caller]
    pub(crate) fn with_upstream(upstream: &Upstream) -> Self {
        Self::builder().with_upstream(upstream).start()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory with the database, the lock and the run file.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.path().join("data")
    }

    /// A command of the same program, environment and directory, to be run in the test's own way.
    pub(crate) fn program(&self) -> Command {
        command(&self.env, self.data_dir.path())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let path = self.data_dir.path().join("data").join("server.json");
        let url = wait_for("server.json", BOUND, || {
            if let Some(status) = self.exited() {
                panic!("the server ended at its start with {status}: {}", self.log());
            }
            let text = fs::read_to_string(&path).ok()?;
            let value: Value = serde_json::from_str(&text).ok()?;
            Some(value["url"].as_str()?.to_owned())
        });
        let authority = url.strip_prefix("http://").expect("an http URL").trim_end_matches('/');
        self.address = authority.parse().expect("address and port");
        wait_for("/readyz", BOUND, || {
            let answer = ureq::get(format!("{url}/readyz")).call().ok()?;
            (answer.status() == 200).then_some(())
        });
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("the child can be asked")
    }

    /// Runs `faces` with these arguments against the same data directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        command(&self.env, self.data_dir.path()).args(arguments).output().expect("faces runs")
    }

    /// Runs `faces admin … --json` and reads its answer.
    #[track_caller]
    pub(crate) fn admin(&self, arguments: &[&str]) -> Value {
        let arguments = [&["admin"], arguments, &["--json"]].concat();
        let output = self.command(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?} ({error}): {}", shown(&output)))
    }

    /// An account with 10 USD and a key.
    #[track_caller]
    pub(crate) fn account(&self) -> Account {
        self.account_with_usd(CREDIT_USD)
    }

    /// An account with this credit and a key.
    #[track_caller]
    pub(crate) fn account_with_usd(&self, usd: &str) -> Account {
        let made = self.admin(&["account", "create", "--name", "test", "--credit-usd", usd]);
        let id = made["id"].as_str().expect("the account's id").to_owned();
        let key = self.key(&id, &[]);
        Account { id, key }
    }

    /// A further key of an account; `options` are flags of `faces admin key create`.
    #[track_caller]
    pub(crate) fn key(&self, account_id: &str, options: &[&str]) -> String {
        let arguments = [&["key", "create", "--account", account_id], options].concat();
        let key = self.admin(&arguments)["key"].as_str().expect("the key").to_owned();
        lock(&self.secrets).push(key.clone());
        key
    }

    /// Imports a face.
    #[track_caller]
    pub(crate) fn face(&self, account: &Account, face: &Value) {
        let path = self.data_dir.path().join("face.json");
        fs::write(&path, face.to_string()).expect("the face's file is written");
        let path = path.display().to_string();
        self.admin(&["face", "import", "--account", &account.id, &path]);
    }

    /// Imports the usual face `alice`, whose default model is the OpenAI-format scripted one.
    #[track_caller]
    pub(crate) fn alice(&self, account: &Account) {
        self.face(account, &alice(Some(OPENAI_MODEL)));
    }

    /// The books, read from the database itself.
    #[track_caller]
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger_in_mode("ro")
    }

    /// As [`TestServer::ledger`], with a connection that may write to an SQLite database.
    #[track_caller]
    pub(crate) fn writable_ledger(&self) -> Ledger {
        self.ledger_in_mode("rw")
    }

    #[track_caller]
    fn ledger_in_mode(&self, mode: &str) -> Ledger {
        let sqlite = self.data_dir.path().join("data").join("faces.db");
        let url = self
            .database_url
            .clone()
            .unwrap_or_else(|| format!("sqlite://{}?mode={mode}", sqlite.display()));
        Ledger::open(&url)
    }

    /// Everything that the server logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log_path).unwrap_or_default()).into_owned()
    }

    /// Adds a text that must never stand in the log.
    pub(crate) fn plant_secret(&self, secret: &str) {
        lock(&self.secrets).push(secret.to_owned());
    }

    /// Sends a signal (`TERM`, `INT`, `KILL`, …).
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Waits for the server's own end.
    ///
    /// # Panics
    /// When it does not end within `bound`.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        let status = wait_for("the server's end", bound, || self.exited());
        self.child = None;
        self.exit_is_checked = false;
        status
    }

    /// Whether the server has ended by itself; its end is the caller's to judge then.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.exited().is_some();
        if ended {
            self.child = None;
            self.exit_is_checked = false;
        }
        ended
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(BOUND)
    }

    /// SIGKILL: a crash.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child ends");
        }
        self.exit_is_checked = false;
    }

    /// Starts it again after its end, with the same data, settings and log.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        // One that was killed has left its run file.
        let _ = fs::remove_file(self.data_dir().join("server.json"));
        let log = File::options().append(true).open(&self.log_path).expect("the log file");
        self.child = Some(serve(&self.env, self.data_dir.path(), log));
        self.exit_is_checked = true;
        self.wait_ready();
    }

    /// Sets a variable for [`TestServer::start_again`] and for commands.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Asserts that `faces audit` is clean; the answer.
    #[track_caller]
    pub(crate) fn audit(&self) -> Value {
        let output = self.command(&["audit", "--json"]);
        assert!(output.status.success(), "the audit is not clean: {}", shown(&output));
        serde_json::from_slice(&output.stdout).expect("the audit answers in JSON")
    }

    #[track_caller]
    fn assert_log_is_clean(&self) {
        let log = self.log();
        let secrets = lock(&self.secrets).clone();
        let planted = CANARIES.iter().map(|canary| (*canary).to_owned()).chain(secrets);
        for secret in planted {
            if let Some(line) = log.lines().find(|line| line.contains(&secret)) {
                let path = self.log_path.display();
                // The line is shown: these secrets are worth nothing outside the test.
                panic!("{secret:?} stands in the log {path}: {line}");
            }
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            return;
        }
        if self.child.is_some() {
            let checked = self.exit_is_checked;
            let status = self.terminate();
            assert!(!checked || status.success(), "the server's exit: {status}: {}", self.log());
        }
        self.audit();
        self.assert_log_is_clean();
    }
}

fn command(env: &[(String, String)], directory: &Path) -> Command {
    let mut command = Command::new(BINARY);
    // Nothing of this machine: no real provider key, no `.env` above the directory.
    command.env_clear().current_dir(directory);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command
}

#[track_caller]
fn serve(env: &[(String, String)], directory: &Path, log: File) -> Child {
    command(env, directory)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log's handle"))
        .stderr(log)
        .spawn()
        .expect("the server starts")
}

fn shown(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    format!("{}: {out} {err}", output.status)
}

/// `target/test-logs/<test>.log`, or with a number when a test starts several servers.
fn log_path() -> PathBuf {
    static TAKEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let directory = target.join("test-logs");
    fs::create_dir_all(&directory).expect("the log directory");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", "-");
    let binary = std::env::current_exe().expect("the test's own path");
    let binary = binary.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    // Cargo appends a hash to the binary's name.
    let binary = binary.unwrap_or_default();
    let binary = binary.split('-').next().unwrap_or_default().to_owned();
    let mut taken = lock(&TAKEN);
    let count = taken.iter().filter(|name| **name == test).count();
    taken.push(test.clone());
    let number = if count == 0 { String::new() } else { format!("-{}", count + 1) };
    directory.join(format!("{binary}-{test}{number}.log"))
}

/// A face for tests: a fact, a primitive, and the canary in both.
pub(crate) fn alice(default_model: Option<&str>) -> Value {
    json!({
        "username": "alice",
        "name": "Alice Example",
        "basic_facts": {"occupation": format!("lighthouse keeper {PERSONA_CANARY}")},
        "default_model": default_model,
        "primitives": [
            {"component": "alpha", "text": format!("Alice counts ships {PERSONA_CANARY}."), "weight": 2.0},
            {"component": "beta", "text": "Alice speaks in short sentences.", "weight": 1.0}
        ]
    })
}

/// Writes a line into a test's own output, where libtest shows it.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}
