//! Output events as events of the streaming protocol.

use std::time::Duration;

use videosdgx_api::{ServerEvent, StreamToken, StreamToolCall, Summary};
use videosdgx_text::{OutputDelta, StreamSummary};

use crate::{
    errors,
    output::{OutputEnd, OutputEvent},
};

/// Encodes the events of one output.
#[derive(Debug, Default)]
pub(crate) struct EventEncoder {
    /// Id and position of the last token.
    last: Option<(u32, u64)>,
}

impl EventEncoder {
    /// The protocol's events of one output event.
    pub(crate) fn encode(&mut self, event: OutputEvent) -> Vec<ServerEvent> {
        match event {
            OutputEvent::Token(token) => {
                let position = token.position as u64;
                self.last = Some((token.id, position));
                let mut delta = token.delta;
                let mut events = vec![ServerEvent::Token {
                    token: StreamToken {
                        id: token.id,
                        text: std::mem::take(&mut delta.content),
                        position,
                        latency_ms: milliseconds(token.latency),
                        count: None,
                        reasoning: not_empty(std::mem::take(&mut delta.reasoning)),
                    },
                }];
                events.extend(tool_calls(delta, position));
                events
            }
            OutputEvent::Error(error) => vec![ServerEvent::Error { error: errors::stream_problem(&error) }],
            OutputEvent::End(end) => self.end(*end),
        }
    }

    fn end(&mut self, mut end: OutputEnd) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        let (id, position) = self.last.unwrap_or_default();
        let mut delta = std::mem::take(&mut end.delta);
        if !(delta.content.is_empty() && delta.reasoning.is_empty()) {
            // Text that was held back; its tokens were sent before.
            events.push(ServerEvent::Token {
                token: StreamToken {
                    id,
                    text: std::mem::take(&mut delta.content),
                    position,
                    latency_ms: 0.0,
                    count: Some(0),
                    reasoning: not_empty(std::mem::take(&mut delta.reasoning)),
                },
            });
        }
        events.extend(tool_calls(delta, position));
        events.push(ServerEvent::Complete {
            finish_reason: end.finish_reason(),
            cancelled: end.completed.reason == videosdgx_text::FinishReason::Cancelled,
            prompt_tokens: end.completed.usage.prompt_tokens as u64,
            cached_tokens: end.completed.usage.cached_tokens as u64,
            summary: summary(&end.completed.summary),
        });
        events
    }
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn tool_calls(delta: OutputDelta, position: u64) -> impl Iterator<Item = ServerEvent> {
    delta.tool_calls.into_iter().map(move |call| ServerEvent::ToolCall {
        tool_call: StreamToolCall {
            index: call.index as u64,
            id: call.id,
            name: call.name,
            arguments: call.arguments_delta,
            position,
        },
    })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "bytes shown as megabytes")]
fn summary(summary: &StreamSummary) -> Summary {
    Summary {
        total_tokens: summary.total_tokens as u64,
        session_duration_sec: summary.session_duration.as_secs_f64(),
        time_to_first_token_ms: summary.time_to_first_token.map(milliseconds),
        average_token_latency_ms: milliseconds(summary.average_token_latency),
        p95_token_latency_ms: milliseconds(summary.p95_token_latency),
        average_throughput: summary.average_throughput,
        end_to_end_throughput: summary.end_to_end_throughput,
        max_memory_usage_mb: summary.max_memory_bytes as f64 / 1e6,
        error_count: summary.error_count as u64,
        error_rate: summary.error_rate,
        most_common_batch_size: summary.most_common_batch_size as u64,
    }
}

/// Merges consecutive tokens of one output into one message, for slow readers and for clients that prefer larger messages.
pub(crate) fn coalesced(tokens: Vec<StreamToken>) -> Option<StreamToken> {
    let many = tokens.len() > 1;
    let mut tokens = tokens.into_iter();
    let mut merged = tokens.next()?;
    let mut count = merged.count.unwrap_or(1);
    let mut time = merged.latency_ms * count.max(1) as f64;
    for token in tokens {
        let more = token.count.unwrap_or(1);
        count += more;
        time += token.latency_ms * more as f64;
        merged.text.push_str(&token.text);
        if let Some(thoughts) = token.reasoning {
            merged.reasoning.get_or_insert_default().push_str(&thoughts);
        }
        (merged.id, merged.position) = (token.id, token.position);
    }
    if many {
        merged.latency_ms = (time / count.max(1) as f64 * 1e3).round() / 1e3;
        merged.count = Some(count);
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(position: u64, text: &str, latency_ms: f64) -> StreamToken {
        StreamToken {
            id: u32::try_from(position).unwrap(),
            text: text.to_owned(),
            position,
            latency_ms,
            ..StreamToken::default()
        }
    }

    #[test]
    fn merged_tokens_have_the_last_position_and_the_mean_latency() {
        let one = coalesced(vec![token(3, "a", 2.0)]).unwrap();
        assert_eq!((one.count, one.position), (None, 3));
        let three = coalesced(vec![token(3, "a", 2.0), token(4, "b", 4.0), token(5, "", 6.0)]).unwrap();
        assert_eq!((three.text.as_str(), three.id, three.position, three.count), ("ab", 5, 5, Some(3)));
        assert!((three.latency_ms - 4.0).abs() < 1e-9);
        let more = coalesced(vec![three, token(6, "c", 8.0)]).unwrap();
        assert_eq!((more.count, more.text.as_str()), (Some(4), "abc"));
        assert!((more.latency_ms - 5.0).abs() < 1e-9);
        assert_eq!(coalesced(Vec::new()), None);
    }
}
