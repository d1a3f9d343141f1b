//! The SQLite driver passes the contract.

use videosdgx_jobs::{
    QueueConfig,
    contract::Fixture,
    sqlite::{SqliteOptions, SqliteQueue},
};

fn open(config: QueueConfig) -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()).with_config(config));
    Fixture::new(queue.expect("a fresh folder opens"), folder)
}

videosdgx_jobs::contract_tests!(open);
