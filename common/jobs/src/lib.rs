//! VideosDGX: jobs.
