//! The reading connection, on a thread of its own.

use std::sync::mpsc::Receiver;

use futures::channel::oneshot;
use rusqlite::{Connection, OptionalExtension, params_from_iter, types::Value};
use videosdgx_api::JobId;

use super::{names, rows, schema::failure};
use crate::{Cursor, JobPage, JobRecord, ListQuery, Principal, QueueError};

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
                drop(reply.send(list(connection, &principal, &query).map_err(failure)));
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

fn list(connection: &Connection, principal: &Principal, query: &ListQuery) -> rusqlite::Result<JobPage> {
    let limit = query.limit.clamp(1, ListQuery::MAX_LIMIT);
    let before = query.cursor.map_or(i64::MAX, |cursor| i64::try_from(cursor.0).unwrap_or(i64::MAX));
    // One more than requested shows whether there is another page.
    let mut values: Vec<Value> = vec![
        Value::Text(principal.as_str().to_owned()),
        Value::Integer(before),
        Value::Integer(i64::try_from(limit + 1).unwrap_or(i64::MAX)),
    ];
    values.extend(query.statuses.iter().map(|status| Value::Text(names::status(*status).to_owned())));
    let places = vec!["?"; query.statuses.len()].join(", ");
    let filter = if places.is_empty() { String::new() } else { format!("AND status IN ({places})") };
    let sql = format!(
        "SELECT {}, {} FROM jobs WHERE principal = ?1 AND number < ?2 AND ?3 > 0 {filter} ORDER BY number DESC LIMIT ?3",
        rows::JOB,
        rows::RECORD
    );
    let mut jobs: Vec<JobRecord> = connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), rows::record)?
        .collect::<Result<_, _>>()?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| Cursor(job.number));
    Ok(JobPage { jobs, next })
}
