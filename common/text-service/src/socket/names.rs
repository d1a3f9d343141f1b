//! The generations of one connection by the names that the client gave them. No I/O.

use videosdgx_api::Problem;

/// Generations of one connection at once.
pub(crate) const MAX_GENERATIONS: usize = 64;

/// One generation of a connection.
#[derive(Debug)]
pub(crate) struct Named<S> {
    /// As the client named it.
    pub(crate) request_id: Option<String>,
    /// Names the stream.
    pub(crate) stream_id: String,
    /// None while it is being prepared.
    pub(crate) stream: Option<S>,
    /// The client has cancelled it.
    pub(crate) cancelled: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Names<S> {
    open: Vec<Named<S>>,
}

impl<S> Default for Names<S> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<S> Names<S> {
    /// Adds one that is being prepared.
    pub(crate) fn add(&mut self, request_id: Option<String>, stream_id: String) -> Result<(), Problem> {
        if self.open.len() >= MAX_GENERATIONS {
            let detail = format!(
                "a connection has at most {MAX_GENERATIONS} generations at once; wait for one to end"
            );
            return Err(Problem::new(videosdgx_api::Code::Overloaded, detail)
                .with_limit(MAX_GENERATIONS)
                .with_retry_after(1));
        }
        if self.open.iter().any(|named| named.request_id == request_id) {
            let detail = match &request_id {
                Some(_) => "a generation of this request_id is under way: choose another",
                None => "a generation without a request_id is under way: name this one",
            };
            return Err(Problem::field("request_id", detail));
        }
        self.open.push(Named { request_id, stream_id, stream: None, cancelled: false });
        Ok(())
    }

    /// Removes the one of this stream.
    pub(crate) fn remove(&mut self, stream_id: &str) -> Option<Named<S>> {
        let at = self.open.iter().position(|named| named.stream_id == stream_id)?;
        Some(self.open.remove(at))
    }

    /// The one of this stream.
    pub(crate) fn get_mut(&mut self, stream_id: &str) -> Option<&mut Named<S>> {
        self.open.iter_mut().find(|named| named.stream_id == stream_id)
    }

    /// Those that a `cancel` means: the named one, or all.
    pub(crate) fn matching(
        &mut self,
        request_id: Option<&str>,
        stream_id: Option<&str>,
    ) -> impl Iterator<Item = &mut Named<S>> {
        self.open.iter_mut().filter(move |named| match (request_id, stream_id) {
            (None, None) => true,
            (Some(name), _) => named.request_id.as_deref() == Some(name),
            (None, Some(stream)) => named.stream_id == stream,
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Named<S>> {
        self.open.iter_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All of them, for the end of the connection.
    pub(crate) fn into_open(self) -> Vec<Named<S>> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_while_they_live() {
        let mut names = Names::<()>::default();
        names.add(Some("a".to_owned()), "1".to_owned()).unwrap();
        names.add(None, "2".to_owned()).unwrap();
        for taken in [Some("a".to_owned()), None] {
            let problem = names.add(taken, "3".to_owned()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("request_id"));
        }
        assert!(names.remove("1").is_some());
        names.add(Some("a".to_owned()), "4".to_owned()).unwrap();
        assert_eq!(names.matching(Some("a"), None).count(), 1);
        assert_eq!(names.matching(None, Some("2")).count(), 1);
        assert_eq!(names.matching(None, None).count(), 2);
        assert_eq!(names.matching(Some("b"), None).count(), 0);
    }

    #[test]
    fn a_connection_has_so_many_at_once() {
        let mut names = Names::<()>::default();
        for number in 0..MAX_GENERATIONS {
            names.add(Some(number.to_string()), number.to_string()).unwrap();
        }
        let problem = names.add(Some("one more".to_owned()), "x".to_owned()).unwrap_err();
        assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(1)));
    }
}
