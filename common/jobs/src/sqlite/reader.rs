//! The reading connection, on a thread of its own.

use std::sync::mpsc::Receiver;

use futures::channel::oneshot;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter, types::Value};
use videosdgx_api::JobId;

use super::{names, rows, schema::failure};
use crate::{Cursor, JobPage, JobRecord, ListOrder, ListQuery, Principal, QueueError};

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// A read.
pub(super) enum Question {
    Find(JobId, Reply<Option<JobRecord>>),
    List(Principal, ListQuery, Reply<JobPage>),
    Shutdown,
}

/// Answers questions until every sender has been dropped.
pub(super) fn run(connection: &Connection, questions: &Receiver<Question>) {
    // A caller that dropped its answer does not need it.
    for question in questions {
        match question {
            Question::Find(id, reply) => drop(reply.send(find(connection, &id).map_err(failure))),
            Question::List(principal, query, reply) => {
                drop(reply.send(list(connection, &principal, &query)));
            }
            Question::Shutdown => return,
        }
    }
}

fn find(connection: &Connection, id: &JobId) -> rusqlite::Result<Option<JobRecord>> {
    connection
        .prepare_cached(&format!("SELECT {}, {} FROM jobs WHERE id = ?1", rows::JOB, rows::RECORD))?
        .query_row([id.as_str()], rows::record)
        .optional()
}

/// The numbers of a listing's jobs: above the first, below the second.
fn bounds(
    connection: &Connection,
    principal: &Principal,
    query: &ListQuery,
) -> Result<(i64, i64), QueueError> {
    let number_of = |sql: &str, value: &dyn ToSql| -> Result<Option<i64>, QueueError> {
        let mut statement = connection.prepare_cached(sql).map_err(failure)?;
        let number = statement.query_row(params![principal.as_str(), value], |row| row.get(0));
        number.optional().map_err(failure)
    };
    let (mut above, mut below) = (-1, i64::MAX);
    let mut after = query.cursor.map(|cursor| i64::try_from(cursor.0).unwrap_or(i64::MAX));
    if let Some(job) = &query.after {
        let number = number_of("SELECT number FROM jobs WHERE principal = ?1 AND id = ?2", &job.as_str())?;
        let number = number.ok_or(QueueError::NotFound)?;
        after = Some(match query.order {
            ListOrder::NewestFirst => after.map_or(number, |cursor| cursor.min(number)),
            ListOrder::OldestFirst => after.map_or(number, |cursor| cursor.max(number)),
        });
    }
    match query.order {
        ListOrder::NewestFirst => below = after.unwrap_or(below),
        ListOrder::OldestFirst => above = after.unwrap_or(above),
    }
    if let Some(time) = query.created_before {
        let newest = "SELECT number FROM jobs WHERE principal = ?1 AND created_at < ?2
            ORDER BY created_at DESC, number DESC LIMIT 1";
        let newest = number_of(newest, &ceiling(time))?.unwrap_or(-1);
        below = below.min(newest.saturating_add(1));
    }
    if let Some(time) = query.created_after {
        let oldest = "SELECT number FROM jobs WHERE principal = ?1 AND created_at > ?2
            ORDER BY created_at, number LIMIT 1";
        let oldest = number_of(oldest, &time.as_millisecond())?.unwrap_or(i64::MAX);
        above = above.max(oldest.saturating_sub(1));
    }
    Ok((above, below))
}

/// The first millisecond that is not before `time`: times are stored in milliseconds.
fn ceiling(time: Timestamp) -> i64 {
    let millisecond = time.as_millisecond();
    let is_exact = Timestamp::from_millisecond(millisecond).is_ok_and(|exact| exact >= time);
    if is_exact { millisecond } else { millisecond.saturating_add(1) }
}

fn list(connection: &Connection, principal: &Principal, query: &ListQuery) -> Result<JobPage, QueueError> {
    let limit = query.limit.clamp(1, ListQuery::MAX_LIMIT);
    let (above, below) = bounds(connection, principal, query)?;
    // One more than requested shows whether there is another page.
    let mut values: Vec<Value> = vec![
        Value::Text(principal.as_str().to_owned()),
        Value::Integer(above),
        Value::Integer(below),
        Value::Integer(i64::try_from(limit + 1).unwrap_or(i64::MAX)),
    ];
    values.extend(query.statuses.iter().map(|status| Value::Text(names::status(*status).to_owned())));
    let places = vec!["?"; query.statuses.len()].join(", ");
    let filter = if places.is_empty() { String::new() } else { format!("AND status IN ({places})") };
    let direction = match query.order {
        ListOrder::NewestFirst => "DESC",
        ListOrder::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT {}, {} FROM jobs WHERE principal = ?1 AND number > ?2 AND number < ?3 AND ?4 > 0 {filter}
            ORDER BY number {direction} LIMIT ?4",
        rows::JOB,
        rows::RECORD
    );
    let read = || -> rusqlite::Result<Vec<JobRecord>> {
        connection.prepare_cached(&sql)?.query_map(params_from_iter(values), rows::record)?.collect()
    };
    let mut jobs = read().map_err(failure)?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| Cursor(job.number));
    Ok(JobPage { jobs, next })
}
