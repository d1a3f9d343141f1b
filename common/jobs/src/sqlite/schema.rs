//! The database file: settings and versions.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use crate::{QueueError, StorageError};

/// One script per version; `user_version` counts the scripts that ran.
const MIGRATIONS: &[&str] = &[include_str!("migrations/1.sql"), include_str!("migrations/2.sql")];

/// Opens the database for writing, creates or upgrades it.
pub(super) fn open_writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection, QueueError> {
    let mut connection = Connection::open(path).map_err(failure)?;
    settings(&connection, 2_000).map_err(failure)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216;",
        )
        .map_err(failure)?;
    migrate(&mut connection)?;
    if let Some(max_bytes) = max_bytes {
        let page_size: u64 =
            connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failure)?;
        let pages = (max_bytes / page_size.max(1)).max(1);
        // A query, because the pragma returns the new limit; it is never below the present size of the file.
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            .map_err(failure)?;
    }
    Ok(connection)
}

/// Opens the database for reading, in addition to the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, QueueError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failure)?;
    settings(&connection, 1_000).map_err(failure)?;
    Ok(connection)
}

fn settings(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // A small cache: services should need little memory before the first load.
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn migrate(connection: &mut Connection) -> Result<(), QueueError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failure)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)) else {
        return Err(QueueError::TooNew { found, known });
    };
    for (version, script) in (found + 1..).zip(missing) {
        let transaction = connection.transaction().map_err(failure)?;
        transaction.execute_batch(script).map_err(failure)?;
        transaction.pragma_update(None, "user_version", version).map_err(failure)?;
        transaction.commit().map_err(failure)?;
    }
    Ok(())
}

/// Maps a failure of SQLite to the queue's errors.
pub(super) fn failure(error: rusqlite::Error) -> QueueError {
    if let rusqlite::Error::SqliteFailure(code, _) = &error
        && (code.code == rusqlite::ErrorCode::DiskFull
            || code.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
    {
        return QueueError::StorageFull;
    }
    QueueError::Storage(StorageError::new(error))
}
