-- A listing begins at a time without reading the jobs before it.
CREATE INDEX jobs_by_time ON jobs (principal, created_at);
