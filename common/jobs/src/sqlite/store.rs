//! The writing connection: makes the machine's changes durable, and restores a machine.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use rusqlite::{Connection, named_params};
use videosdgx_api::{JobEvent, JobId, Stage};

use super::{names, rows, schema::failure};
use crate::{
    JobOutput, QueueConfig, QueueError, Totals,
    state::{Changes, Job, Machine, Phase},
};

/// The large parts of new jobs, by number.
pub(super) type NewRequests = HashMap<u64, (String, Option<Vec<u8>>)>;

/// A claimed job's request.
pub(super) type Request = (String, Option<Vec<u8>>);

const WRITE_JOB: &str = "
    INSERT INTO jobs (number, id, principal, priority, idempotency_key, body_hash, prompt_characters, enqueued, status,
        not_before, attempt, attempts_used, cancel_requested, stage, step, steps, sequence, failure_code, failure_message,
        created_at, started_at, finished_at)
    VALUES (:number, :id, :principal, :priority, :idempotency_key, :body_hash, :prompt_characters, :enqueued, :status,
        :not_before, :attempt, :attempts_used, :cancel_requested, :stage, :step, :steps, :sequence, :failure_code,
        :failure_message, :created_at, :started_at, :finished_at)
    ON CONFLICT (number) DO UPDATE SET status = excluded.status, not_before = excluded.not_before,
        attempt = excluded.attempt, attempts_used = excluded.attempts_used, cancel_requested = excluded.cancel_requested,
        stage = excluded.stage, step = excluded.step, steps = excluded.steps, sequence = excluded.sequence,
        failure_code = excluded.failure_code, failure_message = excluded.failure_message,
        started_at = excluded.started_at, finished_at = excluded.finished_at";

const WRITE_EVENT: &str =
    "INSERT INTO events (number, sequence, kind, status, progress, stage, step, steps, attempt, error)
    VALUES (:number, :sequence, :kind, :status, :progress, :stage, :step, :steps, :attempt, :error)";

/// Warnings kept of one job.
const MAX_WARNINGS: u64 = 64;

const WRITE_WARNING: &str = "INSERT OR IGNORE INTO warnings (number, text) SELECT :number, :text
    WHERE (SELECT count(*) FROM warnings WHERE number = :number) < :most";

const WRITE_TOTALS: &str = "INSERT INTO totals (one, totals, last_number) VALUES (1, :totals, :last_number)
    ON CONFLICT (one) DO UPDATE SET totals = excluded.totals, last_number = max(last_number, excluded.last_number)";

pub(super) struct Store {
    connection: Connection,
    max_events_per_job: u64,
}

impl Store {
    pub(super) fn new(connection: Connection, config: &QueueConfig) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, max_events_per_job: config.max_events_per_job.max(1) }
    }

    /// Everything stored, as a machine whose queue time is at least `now`.
    pub(super) fn restore(&self, config: QueueConfig, now: i64) -> Result<Machine, QueueError> {
        let read = || -> rusqlite::Result<Machine> {
            let newest: Option<i64> =
                self.connection.query_row("SELECT max(enqueued) FROM jobs", [], |row| row.get(0))?;
            let mut machine = Machine::new(config, now.max(newest.unwrap_or(now)));
            let mut jobs = self.connection.prepare_cached(&format!("SELECT {} FROM jobs", rows::JOB))?;
            for job in jobs.query_map([], rows::job)? {
                machine.restore(job?);
            }
            let mut totals = self.connection.prepare_cached("SELECT totals, last_number FROM totals")?;
            for stored in totals.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
                let (totals, last_number) = stored?;
                // Totals in an unknown format are reset, so that the jobs can still be restored.
                let totals: Totals = serde_json::from_str(&totals).unwrap_or_default();
                machine.restore_totals(totals, last_number);
            }
            Ok(machine)
        };
        read().map_err(failure)
    }

    /// Writes everything in one transaction and reads the requests of jobs just claimed. After an error nothing has changed.
    pub(super) fn write(
        &mut self,
        machine: &Machine,
        changes: &Changes,
        requests: &NewRequests,
        claimed: &[u64],
    ) -> Result<Vec<Request>, QueueError> {
        let mut write = || -> rusqlite::Result<Vec<Request>> {
            let transaction = self.connection.transaction()?;
            write_changes(&transaction, machine, changes, requests, self.max_events_per_job)?;
            let claimed =
                claimed.iter().map(|number| read_request(&transaction, *number)).collect::<Result<_, _>>()?;
            transaction.commit()?;
            Ok(claimed)
        };
        write().map_err(failure)
    }

    /// The stored events of a job after a sequence number.
    pub(super) fn events(
        &self,
        number: u64,
        id: &JobId,
        after: u64,
    ) -> Result<VecDeque<JobEvent>, QueueError> {
        let read = || -> rusqlite::Result<VecDeque<JobEvent>> {
            let mut events = self.connection.prepare_cached(&format!(
                "SELECT {} FROM events WHERE number = ?1 AND sequence > ?2 ORDER BY sequence",
                rows::EVENT
            ))?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            events.query_map((number, after), |row| rows::event(id, row))?.collect()
        };
        read().map_err(failure)
    }
}

fn write_changes(
    connection: &Connection,
    machine: &Machine,
    changes: &Changes,
    requests: &NewRequests,
    max_events: u64,
) -> rusqlite::Result<()> {
    // First, so that ids and keys are free for jobs of the same batch.
    for (number, _) in &changes.forgotten {
        connection.prepare_cached("DELETE FROM jobs WHERE number = ?1")?.execute([number])?;
    }
    for number in &changes.touched {
        if let Some(job) = machine.job(*number) {
            write_job(connection, job)?;
        }
    }
    // A job that was made and forgotten in one batch has no row.
    for (number, (body, attachment)) in requests.iter().filter(|(number, _)| machine.job(**number).is_some())
    {
        connection
            .prepare_cached("INSERT INTO requests (number, body, attachment) VALUES (?1, ?2, ?3)")?
            .execute((number, body, attachment))?;
    }
    for (number, output) in &changes.outputs {
        write_output(connection, *number, output)?;
    }
    for (number, event) in changes.events.iter().filter(|(number, _)| machine.job(*number).is_some()) {
        write_event(connection, *number, event, max_events)?;
    }
    for (number, text) in changes.warnings.iter().filter(|(number, _)| machine.job(*number).is_some()) {
        connection
            .prepare_cached(WRITE_WARNING)?
            .execute(named_params! {":number": number, ":text": text, ":most": MAX_WARNINGS})?;
    }
    if changes.totals {
        let totals = serde_json::to_string(machine.totals())
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        connection
            .prepare_cached(WRITE_TOTALS)?
            .execute(named_params! {":totals": totals, ":last_number": machine.last_number()})?;
    }
    Ok(())
}

fn write_job(connection: &Connection, job: &Job) -> rusqlite::Result<()> {
    // One column for the queue time that belongs to the place: not before, or started.
    let not_before = match job.phase {
        Phase::Queued { not_before } => not_before,
        Phase::Running { started, .. } => started,
        Phase::Ended(_) => 0,
    };
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    connection.prepare_cached(WRITE_JOB)?.execute(named_params! {
        ":number": job.number,
        ":id": job.id.as_str(),
        ":principal": job.principal.as_str(),
        ":priority": job.priority.get(),
        ":idempotency_key": job.idempotency.as_ref().map(|known| known.key.as_str()),
        ":body_hash": job.idempotency.as_ref().map(|known| known.body_hash),
        ":prompt_characters": job.prompt_characters,
        ":enqueued": job.enqueued,
        ":status": names::status(job.status()),
        ":not_before": not_before,
        ":attempt": job.attempt,
        ":attempts_used": job.attempts_used,
        ":cancel_requested": job.cancel_requested,
        ":stage": job.progress.map(|progress| progress.stage.as_str()),
        ":step": job.progress.map(|progress| progress.step),
        ":steps": job.progress.map(|progress| progress.steps),
        ":sequence": job.sequence,
        ":failure_code": job.failure.as_ref().map(|failure| failure.code.as_str()),
        ":failure_message": job.failure.as_ref().map(|failure| failure.message.as_str()),
        ":created_at": job.created_at.as_millisecond(),
        ":started_at": millis(job.started_at),
        ":finished_at": millis(job.finished_at),
    })?;
    Ok(())
}

fn write_output(connection: &Connection, number: u64, output: &JobOutput) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE jobs SET output_path = ?2, output_bytes = ?3, output_used = ?4 WHERE number = ?1",
        )?
        .execute((number, &output.path, output.bytes, &output.used))?;
    Ok(())
}

fn write_event(
    connection: &Connection,
    number: u64,
    event: &JobEvent,
    max_events: u64,
) -> rusqlite::Result<()> {
    connection.prepare_cached(WRITE_EVENT)?.execute(named_params! {
        ":number": number,
        ":sequence": event.sequence,
        ":kind": event.kind.as_str(),
        ":status": names::status(event.status),
        ":progress": event.progress,
        ":stage": event.stage.map(Stage::as_str),
        ":step": event.step,
        ":steps": event.stage_steps,
        ":attempt": event.attempt,
        ":error": event.error,
    })?;
    if let Some(oldest) = event.sequence.checked_sub(max_events).filter(|oldest| *oldest > 0) {
        connection
            .prepare_cached("DELETE FROM events WHERE number = ?1 AND sequence <= ?2")?
            .execute((number, oldest))?;
    }
    Ok(())
}

fn read_request(connection: &Connection, number: u64) -> rusqlite::Result<Request> {
    connection
        .prepare_cached("SELECT body, attachment FROM requests WHERE number = ?1")?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
}
