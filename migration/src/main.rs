//! Schema migrations by hand: `cargo run -p migration -- up|down|status|fresh`.
//!
//! The server applies pending migrations by itself when it starts; this is for looking, for going
//! back and for starting over.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use migration::{
    Migrator, MigratorTrait,
    sqlite_file::{self, SqliteLock, SqliteLockError},
};
use sea_orm_migration::{
    MigrationStatus,
    sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr},
};

/// Changes the schema of a Faces database
#[derive(Parser)]
#[command(name = "migration", version)]
struct Arguments {
    /// `postgres://user:password@host/name` or `sqlite:path` [default: faces.db in the data directory]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    /// The server's data directory
    #[arg(long, env = "FACES_DATA_DIR", default_value = "./data", global = true)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Apply pending migrations (makes an SQLite file that does not exist)
    Up {
        /// Apply only so many
        #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..))]
        count: Option<u32>,
    },
    /// Take back the newest migrations, with the data of their tables
    Down {
        /// Take back so many
        #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// List the migrations and whether each is applied; changes nothing
    Status,
    /// Delete every table with all accounts, credits and faces, and apply all migrations
    Fresh {
        /// Really delete everything
        #[arg(long)]
        yes: bool,
    },
}

/// How long an unreachable server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

enum Target {
    Sqlite(PathBuf),
    Postgres(String),
}

#[derive(Debug)]
enum Failure {
    Url,
    NotConfirmed,
    NoFile(PathBuf),
    Locked(PathBuf, Option<u32>),
    File(PathBuf, std::io::Error),
    Database(DbErr),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // A missing `.env` is the normal case; a broken one must not be ignored silently.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let target = match arguments.database_url.as_deref() {
        Some(url) if !url.is_empty() => Target::parse(url).ok_or(Failure::Url)?,
        _ => Target::Sqlite(arguments.data_dir.join("faces.db")),
    };
    match arguments.command {
        Command::Up { count } => {
            let (_lock, connection) = target.own(Missing::Create).await?;
            change(
                &connection,
                "applied",
                MigrationStatus::Pending,
                Migrator::up(&connection, count),
            )
            .await
        }
        Command::Down { count } => {
            let (_lock, connection) = target.own(Missing::Refuse).await?;
            let down = Migrator::down(&connection, Some(count));
            change(&connection, "took back", MigrationStatus::Applied, down).await
        }
        Command::Status => show_status(&target).await,
        Command::Fresh { yes: false } => Err(Failure::NotConfirmed),
        Command::Fresh { yes: true } => {
            let (_lock, connection) = target.own(Missing::Create).await?;
            Migrator::fresh(&connection).await?;
            say("deleted every table and applied all migrations");
            Ok(())
        }
    }
}

/// Awaits `work` and tells which migrations are no longer in the status `before`.
async fn change(
    connection: &DatabaseConnection,
    verb: &str,
    before: MigrationStatus,
    work: impl Future<Output = Result<(), DbErr>>,
) -> Result<(), Failure> {
    let eligible = names(connection, before).await?;
    work.await?;
    let left = names(connection, before).await?;
    let changed: Vec<_> = eligible.into_iter().filter(|name| !left.contains(name)).collect();
    for name in &changed {
        say(&format!("{verb} {name}"));
    }
    if changed.is_empty() {
        say("nothing to do");
    }
    Ok(())
}

async fn names(
    connection: &DatabaseConnection,
    status: MigrationStatus,
) -> Result<Vec<String>, Failure> {
    let all = Migrator::get_migration_with_status_read_only(connection).await?;
    let wanted = all.iter().filter(|migration| migration.status() == status);
    Ok(wanted.map(|migration| migration.name().to_owned()).collect())
}

async fn show_status(target: &Target) -> Result<(), Failure> {
    let connection = target.connect(Access::Read).await?;
    for migration in Migrator::get_migration_with_status_read_only(&connection).await? {
        let status = match migration.status() {
            MigrationStatus::Applied => "applied",
            MigrationStatus::Pending => "pending",
        };
        say(&format!("{status}  {}", migration.name()));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Refuse,
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Some(Self::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
        let usable = !path.is_empty() && !path.contains([':', '?']);
        usable.then(|| Self::Sqlite(PathBuf::from(path)))
    }

    /// Takes the database for this process alone (on SQLite) and connects.
    async fn own(
        &self,
        missing: Missing,
    ) -> Result<(Option<SqliteLock>, DatabaseConnection), Failure> {
        let Self::Sqlite(path) = self else {
            return Ok((None, self.connect(Access::Write).await?));
        };
        if missing == Missing::Create {
            sqlite_file::create(path).map_err(|error| Failure::File(path.clone(), error))?;
        } else if !path.exists() {
            return Err(Failure::NoFile(path.clone()));
        }
        let lock = SqliteLock::take(path).map_err(|error| match error {
            SqliteLockError::Held { pid } => Failure::Locked(path.clone(), pid),
            SqliteLockError::Io(error) => Failure::File(sqlite_file::lock_path(path), error),
        })?;
        Ok((Some(lock), self.connect(Access::Write).await?))
    }

    async fn connect(&self, access: Access) -> Result<DatabaseConnection, Failure> {
        let options = match self {
            Self::Postgres(url) => {
                let mut options = ConnectOptions::new(url);
                options.max_connections(1).acquire_timeout(CONNECT_TIMEOUT).sqlx_logging(false);
                options
            }
            Self::Sqlite(path) => sqlite_options(path, access)?,
        };
        Ok(Database::connect(options).await?)
    }
}

fn sqlite_options(path: &Path, access: Access) -> Result<ConnectOptions, Failure> {
    if !path.exists() {
        return Err(Failure::NoFile(path.to_owned()));
    }
    // The path is set below: in a URL, some of its characters would have a meaning.
    let mut options = ConnectOptions::new("sqlite://faces.db");
    options.max_connections(1).acquire_timeout(CONNECT_TIMEOUT).sqlx_logging(false);
    let path = path.to_owned();
    options.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite.filename(&path).create_if_missing(false);
        match access {
            Access::Read => sqlite.read_only(true),
            Access::Write => sqlite.foreign_keys(true),
        }
    });
    Ok(options)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "the database URL must be `postgres://user:password@host/name` or `sqlite:path`",
            ),
            Self::NotConfirmed => f.write_str(
                "`fresh` deletes every account, credit and face: add `--yes` if you mean it",
            ),
            Self::NoFile(path) => {
                write!(f, "there is no database {}: `up` makes it", path.display())
            }
            Self::Locked(path, pid) => {
                let owner = pid
                    .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                write!(f, "{owner} uses {} (a running server?): stop it first", path.display())
            }
            Self::File(path, _) => write!(f, "{} can't be used", path.display()),
            Self::Database(_) => f.write_str("the database refused"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File(_, error) => Some(error),
            Self::Database(error) => Some(error),
            Self::Url | Self::NotConfirmed | Self::NoFile(_) | Self::Locked(..) => None,
        }
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

#[expect(clippy::print_stdout, reason = "a program that talks to a person")]
fn say(line: &str) {
    println!("{line}");
}

/// Prints an error and what led to it.
#[expect(clippy::print_stderr, reason = "a program that talks to a person")]
fn complain(error: &dyn Error) {
    let mut line = format!("error: {error}");
    // A driver's error repeats its source in its own text, so one step is enough.
    if let Some(source) = error.source() {
        line.push_str(&format!(": {source}"));
    }
    eprintln!("{line}");
}
