//! The limit of open files.

use std::io;

/// Descriptors that a process asks for.
const WANTED: u64 = 65_536;

/// Raises the soft limit of file descriptors to the hard limit, at most to 65,536: each connection uses one, more than the usual
/// soft limit of 1,024 allows under load.
///
/// # Errors
/// When the system refuses the new limit.
pub fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(WANTED)).or(Some(WANTED));
    Ok(setrlimit(Resource::Nofile, limit)?)
}
