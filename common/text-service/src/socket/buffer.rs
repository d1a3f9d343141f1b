//! Events of one stream between the engine and a connection that may be slow, lost and found again. No I/O.

use std::{collections::VecDeque, time::Duration};

use videosdgx_api::{ClientProfile, ServerEvent, StreamToken};

use crate::stream::events::coalesced;

/// Events that are kept although they were handed over: a connection that breaks loses what was on its way.
const KEPT: usize = 2048;
/// Most tokens in one message.
const MOST_TOGETHER: usize = 64;

/// How long tokens may wait for others to go with, and how many go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    wait: Duration,
    tokens: usize,
}

impl Pace {
    /// For a kind of client.
    pub(crate) fn of(profile: ClientProfile) -> Self {
        match profile {
            ClientProfile::Desktop => Self { wait: Duration::ZERO, tokens: 1 },
            ClientProfile::Mobile => Self { wait: Duration::from_millis(150), tokens: 8 },
            ClientProfile::Battery => Self { wait: Duration::from_millis(750), tokens: 32 },
        }
    }
}

/// What is to be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Something.
    Now,
    /// Something at this time, unless more comes before.
    At(Duration),
    /// Nothing until something comes.
    Nothing,
}

/// The events of one stream.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Those that are kept, oldest first.
    events: VecDeque<ServerEvent>,
    /// Number of the first of them.
    first: u64,
    /// Number of the next one to hand over.
    next: u64,
    /// When the oldest one that was not handed over came.
    waiting_since: Duration,
    /// Most that wait before the stream pauses.
    capacity: usize,
    pace: Pace,
    resumable: bool,
    /// The first token is never held back.
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
            pace: Pace::of(profile),
            resumable,
            begun: false,
            ended: false,
        }
    }

    fn unread(&self) -> usize {
        usize::try_from(self.first + self.events.len() as u64 - self.next).unwrap_or(usize::MAX)
    }

    /// Whether another event can be taken; if not, the stream pauses.
    pub(crate) fn has_room(&self) -> bool {
        self.unread() < self.capacity
    }

    /// The last event came.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Everything was handed over.
    pub(crate) fn is_delivered(&self) -> bool {
        self.ended && self.unread() == 0
    }

    pub(crate) fn push(&mut self, now: Duration, event: ServerEvent) {
        if self.unread() == 0 {
            self.waiting_since = now;
        }
        self.ended |= matches!(event, ServerEvent::Complete { .. });
        self.events.push_back(event);
        self.forget();
    }

    /// What is read is kept only for who may come back, and not for ever.
    fn forget(&mut self) {
        let keep = if self.resumable { KEPT } else { 0 };
        while self.first + (keep as u64) < self.next {
            self.events.pop_front();
            self.first += 1;
        }
    }

    /// Whether something is to be handed over. `slow`: the connection is behind.
    pub(crate) fn due(&self, now: Duration) -> Due {
        let unread = self.unread();
        let urgent = !self.begun || unread >= self.pace.tokens || self.ended || self.has_urgent();
        match unread {
            0 => Due::Nothing,
            _ if urgent || now >= self.waiting_since + self.pace.wait => Due::Now,
            _ => Due::At(self.waiting_since + self.pace.wait),
        }
    }

    /// What is no token does not wait.
    fn has_urgent(&self) -> bool {
        let unread = self.unread();
        self.events.iter().rev().take(unread).any(|event| !matches!(event, ServerEvent::Token { .. }))
    }

    /// Hands over the next message: one event, or several tokens as one when the reader is `slow` or wants larger pieces.
    pub(crate) fn take(&mut self, now: Duration, slow: bool) -> Option<ServerEvent> {
        let most = if slow { MOST_TOGETHER } else { self.pace.tokens.min(MOST_TOGETHER) };
        let start = usize::try_from(self.next - self.first).ok()?;
        let mut tokens: Vec<StreamToken> = Vec::new();
        for event in self.events.range(start..).take(most) {
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
        self.forget();
        Some(event)
    }

    /// Goes back to what follows the token at `position`; false when some of it is forgotten.
    pub(crate) fn rewind(&mut self, position: Option<u64>) -> bool {
        let past = |event: &ServerEvent| match (event, position) {
            (_, None) => true,
            (ServerEvent::Token { token }, Some(seen)) => {
                token.position > seen || (token.position == seen && token.count == Some(0))
            }
            (ServerEvent::ToolCall { tool_call }, Some(seen)) => tool_call.position >= seen,
            (ServerEvent::Started { .. }, Some(_)) => false,
            (ServerEvent::Error { .. } | ServerEvent::Complete { .. }, Some(_)) => true,
        };
        let at = self.events.iter().position(past).unwrap_or(self.events.len());
        let whole = at > 0 || self.first == 0;
        if whole {
            self.next = self.first + at as u64;
        }
        whole
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
    fn a_full_log_asks_for_a_pause_and_goes_on_when_it_is_read() {
        let mut log = EventLog::new(2, ClientProfile::Desktop, true);
        log.push(NOW, token(0));
        assert!(log.has_room());
        log.push(NOW, token(1));
        assert!(!log.has_room());
        log.take(NOW, false);
        assert!(log.has_room());
    }

    #[test]
    fn a_phone_waits_for_company_but_not_for_the_first_token_nor_at_the_end() {
        let mut log = EventLog::new(100, ClientProfile::Mobile, false);
        assert_eq!(log.due(NOW), Due::Nothing);
        log.push(NOW, token(0));
        assert_eq!(log.due(NOW), Due::Now);
        log.take(NOW, false);
        log.push(NOW, token(1));
        let later = NOW + Duration::from_millis(150);
        assert_eq!(log.due(NOW), Due::At(later));
        assert_eq!(log.due(later), Due::Now);
        (2..9).for_each(|position| log.push(NOW, token(position)));
        assert_eq!(log.due(NOW), Due::Now, "eight are enough");
        assert_eq!(texts(&mut log, false), ["12345678"]);
        log.push(NOW, token(9));
        log.push(NOW, complete());
        assert_eq!(log.due(NOW), Due::Now);
    }

    #[test]
    fn who_comes_back_gets_what_follows_and_nothing_twice() {
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
    fn what_was_read_long_ago_is_forgotten_and_that_is_told() {
        let mut log = EventLog::new(10, ClientProfile::Desktop, true);
        let count = KEPT as u64 + 100;
        for position in 0..count {
            log.push(NOW, token(position));
            log.take(NOW, false);
        }
        assert!(log.events.len() <= KEPT + 1);
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
        assert_eq!(log.due(NOW), Due::Now);
    }
}
