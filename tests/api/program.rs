//! The program `faces` run by hand: with an environment of the test's own, waited for with a bound.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{BOUND, env_var, server::TestServer, wait_for};

/// Changes the SQLite file of a server behind its back, as an intruder or a bug would.
#[track_caller]
pub(crate) fn edit_database(server: &TestServer, sql: &str) {
    let file = server.data_dir().join("faces.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sea_orm::{ConnectionTrait, Database};
        let url = format!("sqlite://{}?mode=rw", file.display());
        let connection = Database::connect(url).await.expect("the database opens");
        connection.execute_unprepared(sql).await.expect("the edit is done");
        connection.close().await.expect("the database closes");
    });
}

/// A directory in which the program is run, with nothing of this machine in its environment.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    database_url: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = TempDir::with_prefix("faces-cli-").expect("a temporary directory");
        Self { directory, database_url: None }
    }

    /// With the books in PostgreSQL.
    pub(crate) fn on_postgres(url: &str) -> Self {
        Self { database_url: Some(url.to_owned()), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `faces` with these arguments, on a free port, data in `./data`.
    pub(crate) fn faces(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faces"));
        command.env_clear().current_dir(self.path()).args(arguments);
        command.env("FACES_LISTEN", "127.0.0.1:0").env("FACES_WORKERS", "1");
        command.envs(env_var("PATH").map(|path| ("PATH", path)));
        command.envs(self.database_url.iter().map(|url| ("DATABASE_URL", url)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.faces(arguments).output().expect("faces runs")
    }

    /// Starts a server with what it prints kept in a file, and waits until it listens.
    #[track_caller]
    pub(crate) fn serve(&self, env: &[(&str, &str)]) -> Serving<'_> {
        let out = self.path().join("out.txt");
        let file = File::create(&out).expect("a file for the output");
        let log = File::create(self.path().join("log.txt")).expect("a file for the log");
        let mut command = self.faces(&[]);
        command.envs(env.iter().copied()).stdout(file).stderr(log);
        let mut child = command.spawn().expect("the server starts");
        let run_file = self.path().join("data/server.json");
        let url = wait_for("the server's run file", BOUND, || {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                let log = std::fs::read_to_string(self.path().join("log.txt"));
                panic!("the server ended with {status}: {log:?}");
            }
            let running: Value = serde_json::from_slice(&std::fs::read(&run_file).ok()?).ok()?;
            (running["pid"] == child.id()).then(|| running["url"].as_str().map(str::to_owned))?
        });
        let printed = wait_for("the announcement", BOUND, || {
            let text = std::fs::read_to_string(&out).ok()?;
            text.contains("faces chat").then_some(text)
        });
        Serving { child: Some(child), place: self, url, printed }
    }
}

/// A server that was started by hand.
#[derive(Debug)]
pub(crate) struct Serving<'a> {
    child: Option<Child>,
    place: &'a Place,
    pub(crate) url: String,
    pub(crate) printed: String,
}

impl Serving<'_> {
    #[track_caller]
    pub(crate) fn stop(mut self) -> ExitStatus {
        let child = self.child.take().expect("it runs");
        signal(child.id(), "TERM");
        wait_exit(child, BOUND)
    }

    /// A crash.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// What was logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log.txt")).unwrap_or_default()
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that the test started.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "SIG{name}");
}

/// Waits for the end of a process.
#[track_caller]
pub(crate) fn wait_exit(mut child: Child, bound: Duration) -> ExitStatus {
    wait_for("the end of the process", bound, || child.try_wait().expect("it can be asked"))
}

/// Reads what is left in a pipe.
pub(crate) fn rest(mut pipe: impl Read) -> String {
    let mut text = Vec::new();
    let _ = pipe.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Standard output as text.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as JSON, of a command that succeeded.
#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}: {} {}", output.status, out(output), err(output));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", out(output), err(output)))
}
