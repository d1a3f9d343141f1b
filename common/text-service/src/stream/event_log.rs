//! Buffers the events of one stream between the engine and a connection that may be slow, or be lost and resumed. No I/O.

use std::{collections::VecDeque, time::Duration};

use videosdgx_api::{ClientProfile, ServerEvent, StreamToken};

use super::events::coalesced;

/// Delivered events that a resumable stream keeps, because a connection that breaks loses the messages in transit.
const REPLAY_EVENTS: usize = 2048;
/// Maximum number of tokens in one message.
const MAX_COALESCED_TOKENS: usize = 64;

/// How many tokens share a message, and how long they wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryPace {
    max_wait: Duration,
    tokens: usize,
}

impl DeliveryPace {
    /// The pace for a kind of client.
    pub(crate) fn of(profile: ClientProfile) -> Self {
        match profile {
            ClientProfile::Desktop => Self { max_wait: Duration::ZERO, tokens: 1 },
            ClientProfile::Mobile => Self { max_wait: Duration::from_millis(150), tokens: 8 },
            ClientProfile::Battery => Self { max_wait: Duration::from_millis(750), tokens: 32 },
        }
    }
}

/// When the next message is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextDelivery {
    /// Immediately.
    Now,
    /// At this time, or earlier if more events arrive.
    At(Duration),
    /// No event is waiting.
    None,
}

/// The events of one stream. Times are measured from any fixed moment.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Kept events, oldest first.
    events: VecDeque<ServerEvent>,
    /// Number of the first kept event, counted from the beginning of the stream.
    first: u64,
    /// Number of the next event to deliver.
    next: u64,
    /// When the oldest undelivered event arrived.
    waiting_since: Duration,
    /// Maximum number of undelivered events; then the stream pauses.
    capacity: usize,
    pace: DeliveryPace,
    resumable: bool,
    /// An event was delivered: the first one never waits.
    begun: bool,
    ended: bool,
}

impl EventLog {
    pub(crate) fn new(capacity: usize, profile: ClientProfile, resumable: bool) -> Self {
        Self {
            events: VecDeque::new(),
            first: 0,
            next: 0,
            waiting_since: Duration::ZERO,
            capacity: capacity.max(1),
            pace: DeliveryPace::of(profile),
            resumable,
            begun: false,
            ended: false,
        }
    }

    fn undelivered(&self) -> usize {
        usize::try_from(self.first + self.events.len() as u64 - self.next).unwrap_or(usize::MAX)
    }

    /// Whether another event may be added; if not, the stream pauses.
    pub(crate) fn has_capacity(&self) -> bool {
        self.undelivered() < self.capacity
    }

    /// Whether the last event was added.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether every event was delivered.
    pub(crate) fn is_delivered(&self) -> bool {
        self.ended && self.undelivered() == 0
    }

    pub(crate) fn push(&mut self, now: Duration, event: ServerEvent) {
        if self.undelivered() == 0 {
            self.waiting_since = now;
        }
        self.ended |= matches!(event, ServerEvent::Complete { .. });
        self.events.push_back(event);
        self.drop_delivered();
    }

    /// Drops delivered events; a resumable stream keeps the last ones.
    fn drop_delivered(&mut self) {
        let keep = if self.resumable { REPLAY_EVENTS } else { 0 };
        while self.first + (keep as u64) < self.next {
            self.events.pop_front();
            self.first += 1;
        }
    }

    /// When the next message is to be delivered.
    pub(crate) fn next_delivery(&self, now: Duration) -> NextDelivery {
        let undelivered = self.undelivered();
        let urgent = !self.begun || undelivered >= self.pace.tokens || self.ended || self.has_urgent();
        match undelivered {
            0 => NextDelivery::None,
            _ if urgent || now >= self.waiting_since + self.pace.max_wait => NextDelivery::Now,
            _ => NextDelivery::At(self.waiting_since + self.pace.max_wait),
        }
    }

    /// Whether an undelivered event is not a token: such events do not wait.
    fn has_urgent(&self) -> bool {
        let undelivered = self.undelivered();
        self.events.iter().rev().take(undelivered).any(|event| !matches!(event, ServerEvent::Token { .. }))
    }

    /// The next message: one event, or several tokens merged if the reader is `slow` or its pace says so.
    pub(crate) fn take(&mut self, now: Duration, slow: bool) -> Option<ServerEvent> {
        let max_tokens = if slow { MAX_COALESCED_TOKENS } else { self.pace.tokens.min(MAX_COALESCED_TOKENS) };
        let start = usize::try_from(self.next - self.first).ok()?;
        let mut tokens: Vec<StreamToken> = Vec::new();
        for event in self.events.range(start..).take(max_tokens) {
            match event {
                ServerEvent::Token { token } => tokens.push(token.clone()),
                _ => break,
            }
        }
        let taken = tokens.len().max(1);
        let event = match coalesced(tokens) {
            Some(token) => ServerEvent::Token { token },
            None => self.events.get(start)?.clone(),
        };
        self.next += taken as u64;
        self.begun = true;
        self.waiting_since = now;
        self.drop_delivered();
        Some(event)
    }

    /// Continues delivery after the token at `position` (None: from the beginning). False: some of those events were dropped.
    pub(crate) fn rewind(&mut self, position: Option<u64>) -> bool {
        let follows = |event: &ServerEvent| match (event, position) {
            (_, None) => true,
            (ServerEvent::Token { token }, Some(last)) => {
                token.position > last || (token.position == last && token.count == Some(0))
            }
            (ServerEvent::ToolCall { tool_call }, Some(last)) => tool_call.position >= last,
            (ServerEvent::Started { .. }, Some(_)) => false,
            (ServerEvent::Error { .. } | ServerEvent::Complete { .. }, Some(_)) => true,
        };
        let at = self.events.iter().position(follows).unwrap_or(self.events.len());
        let complete = at > 0 || self.first == 0;
        if complete {
            self.next = self.first + at as u64;
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use videosdgx_api::{StreamProblem, Summary};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn token(position: u64) -> ServerEvent {
        ServerEvent::Token {
            token: StreamToken {
                position,
                text: position.to_string(),
                latency_ms: 1.0,
                ..StreamToken::default()
            },
        }
    }

    fn complete() -> ServerEvent {
        ServerEvent::Complete {
            summary: Summary::default(),
            finish_reason: None,
            cancelled: false,
            prompt_tokens: 1,
            cached_tokens: 0,
        }
    }

    fn texts(log: &mut EventLog, slow: bool) -> Vec<String> {
        std::iter::from_fn(|| log.take(NOW, slow))
            .map(|event| match event {
                ServerEvent::Token { token } => token.text,
                ServerEvent::Complete { .. } => "end".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_token_is_a_message_unless_the_reader_is_slow() {
        for (slow, expected) in [(false, vec!["0", "1", "2", "end"]), (true, vec!["012", "end"])] {
            let mut log = EventLog::new(100, ClientProfile::Desktop, false);
            (0..3).for_each(|position| log.push(NOW, token(position)));
            log.push(NOW, complete());
            assert_eq!(texts(&mut log, slow), expected);
            assert!(log.is_delivered());
        }
    }

    #[test]
    fn a_full_log_has_no_capacity_until_it_is_read() {
        let mut log = EventLog::new(2, ClientProfile::Desktop, true);
        log.push(NOW, token(0));
        assert!(log.has_capacity());
        log.push(NOW, token(1));
        assert!(!log.has_capacity());
        log.take(NOW, false);
        assert!(log.has_capacity());
    }

    #[test]
    fn mobile_clients_get_several_tokens_at_once_except_first_and_last() {
        let mut log = EventLog::new(100, ClientProfile::Mobile, false);
        assert_eq!(log.next_delivery(NOW), NextDelivery::None);
        log.push(NOW, token(0));
        assert_eq!(log.next_delivery(NOW), NextDelivery::Now);
        log.take(NOW, false);
        log.push(NOW, token(1));
        let later = NOW + Duration::from_millis(150);
        assert_eq!(log.next_delivery(NOW), NextDelivery::At(later));
        assert_eq!(log.next_delivery(later), NextDelivery::Now);
        (2..9).for_each(|position| log.push(NOW, token(position)));
        assert_eq!(log.next_delivery(NOW), NextDelivery::Now, "eight are enough");
        assert_eq!(texts(&mut log, false), ["12345678"]);
        log.push(NOW, token(9));
        log.push(NOW, complete());
        assert_eq!(log.next_delivery(NOW), NextDelivery::Now);
    }

    #[test]
    fn a_resumed_stream_continues_after_the_given_position() {
        let mut log = EventLog::new(100, ClientProfile::Desktop, true);
        (0..5).for_each(|position| log.push(NOW, token(position)));
        texts(&mut log, false);
        log.push(NOW, token(5));
        for (position, expected) in
            [(Some(2), vec!["3", "4", "5"]), (Some(5), vec![]), (None, vec!["0", "1", "2", "3", "4", "5"])]
        {
            assert!(log.rewind(position));
            assert_eq!(texts(&mut log, false), expected, "{position:?}");
        }
        log.push(NOW, complete());
        texts(&mut log, false);
        assert!(log.rewind(Some(5)));
        assert_eq!(texts(&mut log, false), ["end"]);
    }

    #[test]
    fn events_delivered_long_ago_are_dropped_and_cannot_be_resumed() {
        let mut log = EventLog::new(10, ClientProfile::Desktop, true);
        let count = REPLAY_EVENTS as u64 + 100;
        for position in 0..count {
            log.push(NOW, token(position));
            log.take(NOW, false);
        }
        assert!(log.events.len() <= REPLAY_EVENTS + 1);
        assert!(!log.rewind(Some(10)));
        assert!(!log.rewind(None));
        assert!(log.rewind(Some(count - 3)));
        assert_eq!(texts(&mut log, false).len(), 2);
        let mut log = EventLog::new(10, ClientProfile::Desktop, false);
        log.push(NOW, token(0));
        log.take(NOW, false);
        assert_eq!(log.events.len(), 0);
        let error = StreamProblem {
            code: "x".to_owned(),
            message: String::new(),
            recoverable: true,
            field: None,
            line: None,
            retry_after_seconds: None,
        };
        log.push(NOW, ServerEvent::Error { error });
        assert_eq!(log.next_delivery(NOW), NextDelivery::Now);
    }
}
