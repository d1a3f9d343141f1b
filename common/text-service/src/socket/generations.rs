//! The generations of one connection, by `request_id` and stream id. No I/O.

use videosdgx_api::Problem;

/// Maximum number of simultaneous generations of one connection.
pub(crate) const MAX_GENERATIONS: usize = 64;

/// One generation of a connection.
#[derive(Debug)]
pub(crate) struct Generation<S> {
    /// The client's id; at most one generation of a connection has none.
    pub(crate) request_id: Option<String>,
    /// The service's id of the stream.
    pub(crate) stream_id: String,
    /// None until the engine has accepted the generation.
    pub(crate) stream: Option<S>,
    /// The client cancelled it.
    pub(crate) cancelled: bool,
}

/// The generations of one connection that have not ended.
#[derive(Debug)]
pub(crate) struct Generations<S> {
    open: Vec<Generation<S>>,
}

impl<S> Default for Generations<S> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<S> Generations<S> {
    /// Adds a generation that the engine has not accepted yet.
    pub(crate) fn add(&mut self, request_id: Option<String>, stream_id: String) -> Result<(), Problem> {
        if self.open.len() >= MAX_GENERATIONS {
            let detail =
                format!("a connection may have {MAX_GENERATIONS} generations at once; wait until one ends");
            return Err(Problem::new(videosdgx_api::Code::Overloaded, detail)
                .with_limit(MAX_GENERATIONS)
                .with_retry_after(1));
        }
        if self.open.iter().any(|generation| generation.request_id == request_id) {
            let detail = match &request_id {
                Some(_) => "a generation with this request_id is running: use another id",
                None => "a generation without a request_id is running: send a request_id",
            };
            return Err(Problem::field("request_id", detail));
        }
        self.open.push(Generation { request_id, stream_id, stream: None, cancelled: false });
        Ok(())
    }

    /// Removes the generation of this stream.
    pub(crate) fn remove(&mut self, stream_id: &str) -> Option<Generation<S>> {
        let at = self.open.iter().position(|generation| generation.stream_id == stream_id)?;
        Some(self.open.remove(at))
    }

    /// The generation of this stream.
    pub(crate) fn get_mut(&mut self, stream_id: &str) -> Option<&mut Generation<S>> {
        self.open.iter_mut().find(|generation| generation.stream_id == stream_id)
    }

    /// The generations that a `cancel` selects: by `request_id`, else by `stream_id`, else all.
    pub(crate) fn matching(
        &mut self,
        request_id: Option<&str>,
        stream_id: Option<&str>,
    ) -> impl Iterator<Item = &mut Generation<S>> {
        self.open.iter_mut().filter(move |generation| match (request_id, stream_id) {
            (None, None) => true,
            (Some(name), _) => generation.request_id.as_deref() == Some(name),
            (None, Some(stream)) => generation.stream_id == stream,
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Generation<S>> {
        self.open.iter_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All generations, at the end of the connection.
    pub(crate) fn into_open(self) -> Vec<Generation<S>> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_unique_among_running_generations() {
        let mut generations = Generations::<()>::default();
        generations.add(Some("a".to_owned()), "1".to_owned()).unwrap();
        generations.add(None, "2".to_owned()).unwrap();
        for taken in [Some("a".to_owned()), None] {
            let problem = generations.add(taken, "3".to_owned()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("request_id"));
        }
        assert!(generations.remove("1").is_some());
        generations.add(Some("a".to_owned()), "4".to_owned()).unwrap();
        assert_eq!(generations.matching(Some("a"), None).count(), 1);
        assert_eq!(generations.matching(None, Some("2")).count(), 1);
        assert_eq!(generations.matching(None, None).count(), 2);
        assert_eq!(generations.matching(Some("b"), None).count(), 0);
    }

    #[test]
    fn the_number_of_generations_is_limited() {
        let mut generations = Generations::<()>::default();
        for number in 0..MAX_GENERATIONS {
            generations.add(Some(number.to_string()), number.to_string()).unwrap();
        }
        let problem = generations.add(Some("one more".to_owned()), "x".to_owned()).unwrap_err();
        assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(1)));
    }
}
