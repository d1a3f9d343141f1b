//! How tokens are chosen and when an output ends: what requests of all protocols say alike, checked in one place.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use videosdgx_api::{
    Problem, StreamParams,
    openai::{ChatRequest, CompletionRequest, Stop},
};
use videosdgx_text::{GenerationDefaults, SamplingParams, StopConditions};

use crate::limits::{MAX_ANSWERS, MAX_BIASES, MAX_STOP_CHARACTERS, MAX_STOP_TOKENS, MAX_STOPS};

/// As they were sent.
#[derive(Debug, Default)]
pub(crate) struct Knobs<'a> {
    /// Put before the names of fields in problems: `params.`
    pub(crate) place: &'static str,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) logit_bias: Option<&'a BTreeMap<String, f64>>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<&'a Stop>,
    pub(crate) stop_token_ids: Option<&'a [u32]>,
    pub(crate) ignore_eos: Option<bool>,
    pub(crate) priority: Option<i64>,
    pub(crate) timeout: Option<f64>,
    pub(crate) n: Option<u32>,
}

/// What the checkpoint brings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoint<'a> {
    pub(crate) defaults: &'a GenerationDefaults,
    pub(crate) end_tokens: &'a [u32],
    /// Ids are below it.
    pub(crate) vocab: usize,
}

/// Checked and complete, but for the most tokens, which depend on the prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choosing {
    pub(crate) sampling: SamplingParams,
    pub(crate) stop: StopConditions,
    pub(crate) priority: u8,
    pub(crate) deadline: Option<Duration>,
    pub(crate) n: u32,
}

impl<'a> Knobs<'a> {
    pub(crate) fn of_chat(request: &'a ChatRequest) -> Self {
        Self {
            place: "",
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            min_p: request.min_p,
            repetition_penalty: request.repetition_penalty,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            logit_bias: request.logit_bias.as_ref(),
            seed: request.seed,
            stop: request.stop.as_ref(),
            stop_token_ids: request.stop_token_ids.as_deref(),
            ignore_eos: request.ignore_eos,
            priority: request.priority,
            timeout: request.timeout,
            n: request.n,
        }
    }

    pub(crate) fn of_completion(request: &'a CompletionRequest) -> Self {
        Self {
            place: "",
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            min_p: request.min_p,
            repetition_penalty: request.repetition_penalty,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            logit_bias: request.logit_bias.as_ref(),
            seed: request.seed,
            stop: request.stop.as_ref(),
            stop_token_ids: request.stop_token_ids.as_deref(),
            ignore_eos: request.ignore_eos,
            priority: request.priority,
            timeout: request.timeout,
            n: request.n,
        }
    }

    pub(crate) fn of_stream(params: &'a StreamParams) -> Self {
        Self {
            place: "params.",
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: params.top_k,
            min_p: params.min_p,
            repetition_penalty: params.repetition_penalty,
            presence_penalty: params.presence_penalty,
            frequency_penalty: params.frequency_penalty,
            logit_bias: params.logit_bias.as_ref(),
            seed: params.seed,
            stop: params.stop.as_ref(),
            stop_token_ids: params.stop_token_ids.as_deref(),
            ignore_eos: params.ignore_eos,
            priority: params.priority,
            timeout: params.timeout,
            n: None,
        }
    }

    /// Checks every limit and fills in what the checkpoint recommends.
    pub(crate) fn check(&self, checkpoint: Checkpoint<'_>) -> Result<Choosing, Problem> {
        let defaults = checkpoint.defaults;
        let plain = SamplingParams::default();
        let told = |value: Option<f64>, default: Option<f32>, fallback: f32| {
            value.map_or_else(|| default.unwrap_or(fallback), |value| value as f32)
        };
        self.within("temperature", self.temperature, 0.0..=2.0)?;
        self.above("top_p", self.top_p, 1.0)?;
        self.within("min_p", self.min_p, 0.0..=1.0)?;
        self.above("repetition_penalty", self.repetition_penalty, 10.0)?;
        self.within("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        self.within("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        self.above("timeout", self.timeout, 86_400.0)?;
        let sampling = SamplingParams {
            temperature: told(self.temperature, defaults.temperature, plain.temperature),
            top_k: self.top_k(defaults.top_k.unwrap_or(plain.top_k))?,
            top_p: told(self.top_p, defaults.top_p, plain.top_p),
            min_p: told(self.min_p, defaults.min_p, plain.min_p),
            repetition_penalty: told(
                self.repetition_penalty,
                defaults.repetition_penalty,
                plain.repetition_penalty,
            ),
            presence_penalty: told(self.presence_penalty, None, plain.presence_penalty),
            frequency_penalty: told(self.frequency_penalty, None, plain.frequency_penalty),
            logit_bias: self.logit_bias(checkpoint.vocab)?,
            seed: self.seed.map(i64::cast_unsigned),
        };
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_ANSWERS).contains(&n) {
            return Err(self.wrong("n", format!("n is 1 to {MAX_ANSWERS}")).with_limit(MAX_ANSWERS));
        }
        Ok(Choosing {
            sampling,
            stop: self.stop(checkpoint)?,
            priority: self.priority()?,
            deadline: self.timeout.map(Duration::from_secs_f64),
            n,
        })
    }

    fn wrong(&self, field: &str, detail: impl Into<String>) -> Problem {
        Problem::field(format!("{}{field}", self.place), detail)
    }

    fn within(&self, field: &str, value: Option<f64>, range: RangeInclusive<f64>) -> Result<(), Problem> {
        match value {
            Some(value) if !range.contains(&value) => {
                let detail = format!("{field} is {} to {}", range.start(), range.end());
                Err(self.wrong(field, detail).with_limit(*range.end()))
            }
            _ => Ok(()),
        }
    }

    /// Above 0, and not more than `most`.
    fn above(&self, field: &str, value: Option<f64>, most: f64) -> Result<(), Problem> {
        match value {
            // `f32` is what the sampler computes with: what is nothing there is nothing here.
            Some(value) if !(value as f32 > 0.0 && value <= most) => {
                Err(self.wrong(field, format!("{field} is above 0, and at most {most}")).with_limit(most))
            }
            _ => Ok(()),
        }
    }

    fn top_k(&self, default: u32) -> Result<u32, Problem> {
        match self.top_k {
            None => Ok(default),
            Some(-1 | 0) => Ok(0),
            Some(k) if k < -1 => {
                Err(self.wrong("top_k", "top_k is above 0; 0 and -1 mean all tokens").with_limit(-1))
            }
            // More than there are tokens is all of them.
            Some(k) => Ok(u32::try_from(k).unwrap_or(u32::MAX)),
        }
    }

    fn priority(&self) -> Result<u8, Problem> {
        let priority = self.priority.unwrap_or(5);
        u8::try_from(priority)
            .ok()
            .filter(|priority| *priority <= 9)
            .ok_or_else(|| self.wrong("priority", "priority is 0 to 9").with_limit(9))
    }

    fn logit_bias(&self, vocab: usize) -> Result<BTreeMap<u32, f32>, Problem> {
        let Some(biases) = self.logit_bias else { return Ok(BTreeMap::new()) };
        if biases.len() > MAX_BIASES {
            let detail = format!("logit_bias has at most {MAX_BIASES} tokens");
            return Err(self.wrong("logit_bias", detail).with_limit(MAX_BIASES));
        }
        let mut read = BTreeMap::new();
        for (token, bias) in biases {
            let shown: String = token.chars().take(20).collect();
            let id = token.parse::<u32>().ok().filter(|id| (*id as usize) < vocab).ok_or_else(|| {
                let detail = format!("{shown:?} is no token id below {vocab}");
                self.wrong("logit_bias", detail).with_limit(vocab)
            })?;
            if !(-100.0..=100.0).contains(bias) {
                let detail = format!("the bias of token {shown} is -100 to 100");
                return Err(self.wrong("logit_bias", detail).with_limit(100));
            }
            read.insert(id, *bias as f32);
        }
        Ok(read)
    }

    fn stop(&self, checkpoint: Checkpoint<'_>) -> Result<StopConditions, Problem> {
        let strings = self.stop.map(Stop::strings).unwrap_or_default();
        if strings.len() > MAX_STOPS {
            let detail = format!("stop has at most {MAX_STOPS} strings");
            return Err(self.wrong("stop", detail).with_limit(MAX_STOPS));
        }
        for (number, text) in strings.iter().enumerate() {
            let field = match self.stop {
                Some(Stop::Many(_)) => format!("stop[{number}]"),
                _ => "stop".to_owned(),
            };
            if text.is_empty() {
                return Err(self.wrong(&field, "a stop string has one character at least"));
            }
            if text.chars().count() > MAX_STOP_CHARACTERS {
                let detail = format!("a stop string has at most {MAX_STOP_CHARACTERS} characters");
                return Err(self.wrong(&field, detail).with_limit(MAX_STOP_CHARACTERS));
            }
        }
        let told = self.stop_token_ids.unwrap_or_default();
        if told.len() > MAX_STOP_TOKENS {
            let detail = format!("stop_token_ids has at most {MAX_STOP_TOKENS} tokens");
            return Err(self.wrong("stop_token_ids", detail).with_limit(MAX_STOP_TOKENS));
        }
        if let Some(number) = told.iter().position(|id| *id as usize >= checkpoint.vocab) {
            let detail = format!("token ids are below {}", checkpoint.vocab);
            return Err(self
                .wrong(&format!("stop_token_ids[{number}]"), detail)
                .with_limit(checkpoint.vocab));
        }
        Ok(StopConditions {
            max_tokens: 0,
            token_ids: checkpoint.end_tokens.iter().chain(told).copied().collect(),
            strings: strings.to_vec(),
            ignore_end: self.ignore_eos.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: GenerationDefaults = GenerationDefaults {
        temperature: Some(0.6),
        top_p: Some(0.95),
        top_k: Some(20),
        min_p: None,
        repetition_penalty: None,
    };

    fn check(body: &str) -> Result<Choosing, Problem> {
        let request: ChatRequest = serde_json::from_str(body).unwrap();
        let checkpoint = Checkpoint { defaults: &DEFAULTS, end_tokens: &[2], vocab: 100 };
        Knobs::of_chat(&request).check(checkpoint)
    }

    fn with(field: &str, value: &str) -> Result<Choosing, Problem> {
        check(&format!(r#"{{"messages": [], "{field}": {value}}}"#))
    }

    #[test]
    fn what_is_not_told_is_the_checkpoints_or_openais() {
        let choosing = check(r#"{"messages": []}"#).unwrap();
        let expected =
            SamplingParams { temperature: 0.6, top_p: 0.95, top_k: 20, ..SamplingParams::default() };
        assert_eq!(choosing.sampling, expected);
        assert_eq!((choosing.priority, choosing.n, choosing.deadline), (5, 1, None));
        assert_eq!(choosing.stop.token_ids, [2]);
        assert_eq!(with("top_k", "-1").unwrap().sampling.top_k, 0);
        assert_eq!(with("seed", "-1").unwrap().sampling.seed, Some(u64::MAX));
        assert_eq!(with("stop", r#""a""#).unwrap().stop.strings, ["a"]);
        let biased = with("logit_bias", r#"{"99": -100}"#).unwrap().sampling.logit_bias;
        assert_eq!(biased.get(&99), Some(&-100.0));
    }

    #[test]
    fn each_limit_is_told_with_its_field() {
        for (field, value, at, limit) in [
            ("temperature", "2.1", "temperature", "2.0"),
            ("temperature", "-0.1", "temperature", "2.0"),
            ("top_p", "0", "top_p", "1.0"),
            ("top_p", "1e-60", "top_p", "1.0"),
            ("top_p", "1.01", "top_p", "1.0"),
            ("top_k", "-2", "top_k", "-1"),
            ("min_p", "-1", "min_p", "1.0"),
            ("repetition_penalty", "0", "repetition_penalty", "10.0"),
            ("presence_penalty", "3", "presence_penalty", "2.0"),
            ("frequency_penalty", "-3", "frequency_penalty", "2.0"),
            ("n", "0", "n", "16"),
            ("n", "17", "n", "16"),
            ("priority", "10", "priority", "9"),
            ("priority", "-1", "priority", "9"),
            ("timeout", "0", "timeout", "86400.0"),
            ("stop", r#"["a","b","c","d","e"]"#, "stop", "4"),
            ("stop_token_ids", "[1, 100]", "stop_token_ids[1]", "100"),
            ("logit_bias", r#"{"100": 1}"#, "logit_bias", "100"),
            ("logit_bias", r#"{"a": 1}"#, "logit_bias", "100"),
            ("logit_bias", r#"{"1": 101}"#, "logit_bias", "100"),
        ] {
            let problem = with(field, value).unwrap_err();
            assert_eq!(problem.status, 400, "{field} {value}");
            assert_eq!(problem.field.as_deref(), Some(at), "{field} {value}");
            assert_eq!(problem.limit.unwrap().to_string(), limit, "{field} {value}");
        }
        let long = format!(r#"["a", "{}"]"#, "x".repeat(257));
        assert_eq!(with("stop", &long).unwrap_err().field.as_deref(), Some("stop[1]"));
        assert_eq!(with("stop", r#""""#).unwrap_err().field.as_deref(), Some("stop"));
    }
}
