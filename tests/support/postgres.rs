//! A throw-away PostgreSQL for tests: one cluster per test process, one database per test.
//!
//! `cluster()` answers, in this order:
//!
//! 1. the server of `TEST_DATABASE_URL` (a user that may create databases), when that is set;
//! 2. a cluster of its own, when `initdb` and `postgres` are found on `PATH`, beside `pg_config`
//!    or in `/usr/lib/postgresql/*/bin`;
//! 3. why there is none. [`skipped`] turns that into a failure when `CI=true` and into a printed
//!    line otherwise.
//!
//! The cluster's own server is a child of a small shell that reads orders until the end of its
//! standard input. The pipe's other end is in this process, so the server is stopped and its data removed
//! when this process ends, whatever ends it: a return, a panic or a kill. `fsync` stays on.

use std::{
    fs,
    io::Write,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

/// Names the databases of this process.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server on which tests make databases.
pub(crate) struct Cluster {
    /// URL of a database, with `{}` in place of its name.
    url: String,
    /// Where `CREATE DATABASE` is sent.
    admin_database: String,
    /// Databases of a foreign server are dropped after each test.
    foreign: bool,
    server: Option<Server>,
}

/// A server of our own.
struct Server {
    directory: PathBuf,
    /// The shell around it: takes orders, and ends with this pipe.
    orders: Mutex<ChildStdin>,
    _shell: Child,
}

/// A database of one test.
pub(crate) struct TestDatabase {
    /// How to connect to it.
    pub(crate) url: String,
    name: String,
    cluster: &'static Cluster,
}

impl TestDatabase {
    /// Its URL through a relay to our own server's socket.
    pub(crate) fn url_through(&self, relay: std::net::SocketAddr) -> String {
        format!("postgres://faces@{relay}/{}?sslmode=disable", self.name)
    }
}

/// The cluster of this process, or why there is none.
pub(crate) fn cluster() -> Result<&'static Cluster, &'static str> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| match environment("TEST_DATABASE_URL") {
            Some(url) => Cluster::foreign(&url),
            None => Cluster::start(&["--no-sync"]),
        })
        .as_ref()
        .map_err(String::as_str)
}

/// A further cluster of our own, which can be crashed, or why there is none.
pub(crate) fn own_cluster() -> Result<&'static Cluster, String> {
    // Its server lives as long as this process, as that of `cluster` does.
    // What is on the disk already does not make the start after a crash wait for it.
    Ok(Box::leak(Box::new(Cluster::start(&[])?)))
}

/// Says once that tests on PostgreSQL are skipped, past the capture of the test harness.
///
/// # Panics
/// When `CI=true`: there it must be present.
pub(crate) fn skipped(why: &str) {
    static SAID: OnceLock<()> = OnceLock::new();
    assert!(environment("CI").as_deref() != Some("true"), "no PostgreSQL for the tests: {why}");
    SAID.get_or_init(|| {
        writeln!(std::io::stderr(), "skipped all tests on PostgreSQL: {why}").unwrap();
    });
}

impl Cluster {
    /// Makes an empty database.
    pub(crate) async fn create_database(&'static self) -> TestDatabase {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("faces_test_{}_{number}", std::process::id());
        let admin = self.connect_as_admin().await.unwrap();
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        admin.close().await.unwrap();
        TestDatabase { url: self.url.replace("{}", &name), name, cluster: self }
    }

    /// As [`Cluster::create_database`], for a thread without a runtime.
    pub(crate) fn database(&'static self) -> TestDatabase {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(self.create_database())
    }

    /// The socket of our own server.
    pub(crate) fn socket(&self) -> PathBuf {
        self.server.as_ref().unwrap().directory.join(SOCKET)
    }

    /// Kills our own server as a crash does: without a checkpoint, whatever its clients do.
    pub(crate) fn crash(&self) {
        self.order("crash");
        let deadline = Instant::now() + READY_WITHIN;
        while UnixStream::connect(self.socket()).is_ok() {
            assert!(Instant::now() < deadline, "postgres did not die within {READY_WITHIN:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Starts our own server again after [`Cluster::crash`], and waits until it has recovered.
    pub(crate) fn start_again(&self) {
        self.order("start");
        let directory = &self.server.as_ref().unwrap().directory;
        self.wait_until_ready(directory).unwrap();
    }

    fn order(&self, order: &str) {
        let server = self.server.as_ref().unwrap();
        let mut orders = server.orders.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(orders, "{order}").unwrap();
    }

    async fn connect_as_admin(&self) -> Result<DatabaseConnection, sea_orm::DbErr> {
        Database::connect(self.url.replace("{}", &self.admin_database)).await
    }

    fn foreign(url: &str) -> Result<Self, String> {
        let (base, options) = url.split_once('?').unwrap_or((url, ""));
        let (server, database) = base
            .rsplit_once('/')
            .filter(|(server, database)| server.contains("://") && !database.is_empty())
            .ok_or("TEST_DATABASE_URL is not postgres://USER:PASSWORD@HOST/DATABASE")?;
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        Ok(Self {
            url: format!("{server}/{{}}{options}"),
            admin_database: database.to_owned(),
            foreign: true,
            server: None,
        })
    }

    /// `options` are further ones of `initdb`.
    fn start(options: &[&str]) -> Result<Self, String> {
        let binaries = find_binaries().ok_or("`initdb` and `postgres` were not found")?;
        let directory = tempfile::Builder::new()
            .prefix("faces-pg-")
            .tempdir()
            .map_err(|error| format!("no temporary directory: {error}"))?;
        let user = unprivileged_user(directory.path())?;
        let mut initdb = user.command(&binaries.join("initdb"));
        initdb
            .args(["--username=faces", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(options)
            .args(["--no-instructions", "--pgdata"])
            .arg(directory.path().join("data"));
        let made = initdb.output().map_err(|error| format!("initdb did not start: {error}"))?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let directory = directory.keep();
        let mut server = user
            .command(Path::new("/bin/sh"))
            .args(["-c", SERVE_UNTIL_END_OF_INPUT, "faces-test-postgres"])
            .args([binaries.join("postgres"), directory.clone()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("postgres did not start: {error}"))?;
        let orders = Mutex::new(server.stdin.take().ok_or("no pipe to postgres")?);
        let cluster = Self {
            url: format!("postgres://faces@localhost/{{}}?host={}", directory.display()),
            admin_database: "postgres".to_owned(),
            foreign: false,
            server: Some(Server { directory: directory.clone(), orders, _shell: server }),
        };
        cluster.wait_until_ready(&directory)?;
        Ok(cluster)
    }

    fn wait_until_ready(&self, directory: &Path) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while Instant::now() < deadline {
            if UnixStream::connect(directory.join(SOCKET)).is_ok()
                && runtime.block_on(self.connect_as_admin()).is_ok()
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        Err(format!("postgres was not ready within {READY_WITHIN:?}: {log}"))
    }
}

/// Name of the server's socket in its directory.
const SOCKET: &str = ".s.PGSQL.5432";
/// Longest start or end of a server.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `$1` the server's program, `$2` the directory. Reads orders from its standard input, and ends
/// with it.
const SERVE_UNTIL_END_OF_INPUT: &str = r#"
serve() {
    "$1" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=300 -c shared_buffers=32MB \
        < /dev/null >> "$2/log" 2>&1 &
    server=$!
}
serve "$@"
while read -r order; do
    case "$order" in
    crash)
        kill -QUIT "$server"
        wait "$server"
        ;;
    start) serve "$@" ;;
    esac
done
kill -QUIT "$server"
wait "$server"
rm -rf "$2/data" "$2/log" "$2"/.s.PGSQL.*
rmdir "$2"
"#;

impl Drop for TestDatabase {
    /// On a foreign server the database goes with its test; on our own the server goes.
    fn drop(&mut self) {
        if !self.cluster.foreign {
            return;
        }
        let (cluster, sql) = (self.cluster, format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A thread of its own: a runtime can't be driven inside another one.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let admin = cluster.connect_as_admin().await.map_err(std::io::Error::other)?;
                admin.execute_unprepared(&sql).await.map_err(std::io::Error::other)
            })
        });
        if !matches!(dropped.join(), Ok(Ok(_))) && !std::thread::panicking() {
            panic!("the test database {} could not be dropped", self.name);
        }
    }
}

/// PostgreSQL refuses to run as root, so root runs it as somebody else.
enum User {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl User {
    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Ourselves => Command::new(program),
            Self::Other { uid, gid } => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={uid}"), format!("--regid={gid}")])
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
        }
    }
}

/// Chooses who runs the server and gives them `directory`.
fn unprivileged_user(directory: &Path) -> Result<User, String> {
    let owner = fs::metadata(directory).map_err(|error| error.to_string())?.uid();
    if owner != 0 {
        return Ok(User::Ourselves);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
            let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
            (fields[0] == name).then_some((uid, gid))
        })
    };
    let (uid, gid) = find("postgres")
        .or_else(|| find("nobody"))
        .ok_or("root can't run PostgreSQL, and there is neither `postgres` nor `nobody`")?;
    std::os::unix::fs::chown(directory, Some(uid), Some(gid))
        .map_err(|error| format!("chown {}: {error}", directory.display()))?;
    Ok(User::Other { uid, gid })
}

/// The directory of `initdb` and `postgres`.
fn find_binaries() -> Option<PathBuf> {
    let on_path = environment("PATH").unwrap_or_default();
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.and_then(|output| String::from_utf8(output.stdout).ok());
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<_> = packaged.map(|version| version.path().join("bin")).collect();
    packaged.sort();
    std::env::split_paths(&on_path)
        .chain(configured.map(|text| PathBuf::from(text.trim())))
        .chain(packaged.into_iter().rev())
        .find(|directory| {
            ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
        })
}

#[expect(clippy::disallowed_methods, reason = "tests have no `config` to ask")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
