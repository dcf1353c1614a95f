//! Why a start was not completed.

use std::{io, path::PathBuf};

use crate::{
    accounts::AccountsError, flows::Failure, providers::SetupError, storage::StorageError,
};

/// Each message names what is wrong and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("can't listen on {listen}; choose another address with FACES_LISTEN or --listen")]
    Listen {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The data directory can't be used.
    #[error("can't use {}; check FACES_DATA_DIR and the permissions of that directory", path.display())]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database can't be opened or migrated.
    #[error("the database can't be used; check DATABASE_URL and FACES_DATA_DIR")]
    Storage(#[from] StorageError),
    /// The catalog of models or the TLS roots can't be used.
    #[error("the model catalog can't be used")]
    Catalog(#[from] SetupError),
    /// The plans can't be used.
    #[error("a setting can't be used")]
    Setting(#[from] crate::config::SettingError),
    /// The ledger can't be started.
    #[error("the ledger can't be started")]
    Accounts(#[from] AccountsError),
    /// The demo account can't be made.
    #[error("the demo account can't be made: {0}")]
    Demo(String),
    /// The log filter is wrong.
    #[error("RUST_LOG is no log filter")]
    Log(#[from] crate::telemetry::LogFilterError),
}

impl StartError {
    /// Exit code of the program: 2 where a setting is wrong, as for a wrong command line.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Catalog(_) | Self::Log(_) | Self::Setting(_) => 2,
            Self::Listen { .. }
            | Self::DataDir { .. }
            | Self::Storage(_)
            | Self::Accounts(_)
            | Self::Demo(_) => 1,
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Demo(failure.message)
    }
}
