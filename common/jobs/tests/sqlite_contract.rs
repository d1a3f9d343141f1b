//! The SQLite driver passes the contract.

use videosdgx_jobs::{
    QueueOptions,
    contract::Fixture,
    sqlite::{SqliteOptions, SqliteQueue},
};

fn open(options: QueueOptions) -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let queue = SqliteQueue::open(SqliteOptions::new(folder.path()), options);
    Fixture::new(queue.expect("a fresh folder opens"), folder)
}

videosdgx_jobs::contract_tests!(open);
