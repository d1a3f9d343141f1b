use serde_json::Value;

/// One server-sent event of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// `id:`.
    pub id: Option<u64>,
    /// `event:`.
    pub name: String,
    /// `data:` as JSON.
    pub data: Value,
}

/// The events in the text of a stream; comments are left out.
///
/// # Panics
/// If a line is not a field of an event, or has an invalid value.
#[must_use]
pub fn parse_events(text: &str) -> Vec<Event> {
    text.split("\n\n")
        .filter(|block| block.contains("data:"))
        .map(|block| {
            let mut event = Event::default();
            for line in block.lines() {
                match line.split_once(": ").expect("a field and its value") {
                    ("id", id) => event.id = Some(id.parse().expect("a number")),
                    ("event", name) => event.name = name.to_owned(),
                    ("data", data) => event.data = serde_json::from_str(data).expect("JSON"),
                    (field, _) => assert_eq!(field, "retry"),
                }
            }
            event
        })
        .collect()
}
