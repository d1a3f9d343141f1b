//! Sampling parameters and stop conditions: the fields that requests of all protocols share, checked in one place.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use videosdgx_api::{
    Problem, StreamParams,
    openai::{ChatRequest, CompletionRequest, Stop},
};
use videosdgx_text::{GenerationDefaults, SamplingParams, StopConditions};

use crate::limits::{MAX_ANSWERS, MAX_STOP_CHARACTERS, MAX_STOP_TOKENS, MAX_STOPS};

/// The fields as they were sent, not yet checked.
#[derive(Debug, Default)]
pub(crate) struct RawSamplingParams<'a> {
    /// Prepended to field names in problems: empty, or `params.`.
    field_prefix: &'static str,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    logit_bias: Option<&'a BTreeMap<String, f64>>,
    seed: Option<i64>,
    stop: Option<&'a Stop>,
    stop_token_ids: Option<&'a [u32]>,
    ignore_eos: Option<bool>,
    priority: Option<i64>,
    timeout: Option<f64>,
    n: Option<u32>,
}

/// What the checkpoint contributes to sampling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckpointSampling<'a> {
    pub(crate) defaults: &'a GenerationDefaults,
    pub(crate) end_tokens: &'a [u32],
    /// Token ids are below this.
    pub(crate) vocab: usize,
}

/// Checked parameters with defaults filled in. `stop.max_tokens` is 0 until the prompt's length is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResolvedSampling {
    pub(crate) params: SamplingParams,
    pub(crate) stop: StopConditions,
    /// 0 to 9.
    pub(crate) priority: u8,
    pub(crate) deadline: Option<Duration>,
    /// Answers to the prompt.
    pub(crate) n: u32,
}

/// Collects the fields of a request. The requests are separate structs, because `serde(flatten)` would lose the names of
/// fields in errors.
macro_rules! raw_sampling_params {
    ($request:expr, field_prefix: $field_prefix:expr, n: $n:expr) => {
        RawSamplingParams {
            field_prefix: $field_prefix,
            temperature: $request.temperature,
            top_p: $request.top_p,
            top_k: $request.top_k,
            min_p: $request.min_p,
            repetition_penalty: $request.repetition_penalty,
            presence_penalty: $request.presence_penalty,
            frequency_penalty: $request.frequency_penalty,
            logit_bias: $request.logit_bias.as_ref(),
            seed: $request.seed,
            stop: $request.stop.as_ref(),
            stop_token_ids: $request.stop_token_ids.as_deref(),
            ignore_eos: $request.ignore_eos,
            priority: $request.priority,
            timeout: $request.timeout,
            n: $n,
        }
    };
}

impl<'a> From<&'a ChatRequest> for RawSamplingParams<'a> {
    fn from(request: &'a ChatRequest) -> Self {
        raw_sampling_params!(request, field_prefix: "", n: request.n)
    }
}

impl<'a> From<&'a CompletionRequest> for RawSamplingParams<'a> {
    fn from(request: &'a CompletionRequest) -> Self {
        raw_sampling_params!(request, field_prefix: "", n: request.n)
    }
}

impl<'a> From<&'a StreamParams> for RawSamplingParams<'a> {
    fn from(params: &'a StreamParams) -> Self {
        raw_sampling_params!(params, field_prefix: "params.", n: None)
    }
}

impl RawSamplingParams<'_> {
    /// Checks every limit and fills in the checkpoint's recommended values.
    pub(crate) fn resolve(&self, checkpoint: CheckpointSampling<'_>) -> Result<ResolvedSampling, Problem> {
        let defaults = checkpoint.defaults;
        let fallback = SamplingParams::default();
        let or_default = |value: Option<f64>, recommended: Option<f32>, fallback: f32| {
            value.map_or_else(|| recommended.unwrap_or(fallback), |value| value as f32)
        };
        self.check_range("temperature", self.temperature, 0.0..=2.0)?;
        self.check_positive("top_p", self.top_p, 1.0)?;
        self.check_range("min_p", self.min_p, 0.0..=1.0)?;
        self.check_positive("repetition_penalty", self.repetition_penalty, 10.0)?;
        self.check_range("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        self.check_range("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        self.check_positive("timeout", self.timeout, 86_400.0)?;
        let params = SamplingParams {
            temperature: or_default(self.temperature, defaults.temperature, fallback.temperature),
            top_k: self.top_k(defaults.top_k.unwrap_or(fallback.top_k))?,
            top_p: or_default(self.top_p, defaults.top_p, fallback.top_p),
            min_p: or_default(self.min_p, defaults.min_p, fallback.min_p),
            repetition_penalty: or_default(
                self.repetition_penalty,
                defaults.repetition_penalty,
                fallback.repetition_penalty,
            ),
            presence_penalty: or_default(self.presence_penalty, None, fallback.presence_penalty),
            frequency_penalty: or_default(self.frequency_penalty, None, fallback.frequency_penalty),
            logit_bias: self.logit_bias(checkpoint.vocab)?,
            seed: self.seed.map(i64::cast_unsigned),
        };
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_ANSWERS).contains(&n) {
            let detail = format!("n must be 1 to {MAX_ANSWERS}");
            return Err(self.problem("n", detail).with_limit(MAX_ANSWERS));
        }
        Ok(ResolvedSampling {
            params,
            stop: self.stop(checkpoint)?,
            priority: self.priority()?,
            deadline: self.timeout.map(Duration::from_secs_f64),
            n,
        })
    }

    fn problem(&self, field: &str, detail: impl Into<String>) -> Problem {
        Problem::field(format!("{}{field}", self.field_prefix), detail)
    }

    fn check_range(
        &self,
        field: &str,
        value: Option<f64>,
        range: RangeInclusive<f64>,
    ) -> Result<(), Problem> {
        match value {
            Some(value) if !range.contains(&value) => {
                let detail = format!("{field} must be {} to {}", range.start(), range.end());
                Err(self.problem(field, detail).with_limit(*range.end()))
            }
            _ => Ok(()),
        }
    }

    /// Above 0 and at most `max`.
    fn check_positive(&self, field: &str, value: Option<f64>, max: f64) -> Result<(), Problem> {
        match value {
            // The sampler computes in `f32`, so a value that is 0 as `f32` is refused too.
            Some(value) if !(value as f32 > 0.0 && value <= max) => {
                let detail = format!("{field} must be above 0 and at most {max}");
                Err(self.problem(field, detail).with_limit(max))
            }
            _ => Ok(()),
        }
    }

    fn top_k(&self, default: u32) -> Result<u32, Problem> {
        match self.top_k {
            None => Ok(default),
            Some(-1 | 0) => Ok(0),
            Some(k) if k < -1 => {
                Err(self.problem("top_k", "top_k must be above 0; 0 and -1 mean all tokens").with_limit(-1))
            }
            // A value above the size of the vocabulary means all tokens.
            Some(k) => Ok(u32::try_from(k).unwrap_or(u32::MAX)),
        }
    }

    fn priority(&self) -> Result<u8, Problem> {
        let priority = self.priority.unwrap_or(5);
        u8::try_from(priority)
            .ok()
            .filter(|priority| *priority <= 9)
            .ok_or_else(|| self.problem("priority", "priority must be 0 to 9").with_limit(9))
    }

    fn logit_bias(&self, vocab: usize) -> Result<BTreeMap<u32, f32>, Problem> {
        let Some(biases) = self.logit_bias else { return Ok(BTreeMap::new()) };
        let mut checked = BTreeMap::new();
        for (token, bias) in biases {
            let shown: String = token.chars().take(20).collect();
            let id = token.parse::<u32>().ok().filter(|id| (*id as usize) < vocab).ok_or_else(|| {
                let detail = format!("{shown:?} is not a token id below {vocab}");
                self.problem("logit_bias", detail).with_limit(vocab)
            })?;
            if !(-100.0..=100.0).contains(bias) {
                let detail = format!("the bias of token {shown} must be -100 to 100");
                return Err(self.problem("logit_bias", detail).with_limit(100));
            }
            checked.insert(id, *bias as f32);
        }
        Ok(checked)
    }

    fn stop(&self, checkpoint: CheckpointSampling<'_>) -> Result<StopConditions, Problem> {
        let strings = self.stop.map(Stop::strings).unwrap_or_default();
        if strings.len() > MAX_STOPS {
            let detail = format!("stop has at most {MAX_STOPS} strings");
            return Err(self.problem("stop", detail).with_limit(MAX_STOPS));
        }
        for (number, text) in strings.iter().enumerate() {
            let field = match self.stop {
                Some(Stop::Many(_)) => format!("stop[{number}]"),
                _ => "stop".to_owned(),
            };
            if text.is_empty() {
                return Err(self.problem(&field, "a stop string has at least one character"));
            }
            if text.chars().count() > MAX_STOP_CHARACTERS {
                let detail = format!("a stop string has at most {MAX_STOP_CHARACTERS} characters");
                return Err(self.problem(&field, detail).with_limit(MAX_STOP_CHARACTERS));
            }
        }
        let stop_tokens = self.stop_token_ids.unwrap_or_default();
        if stop_tokens.len() > MAX_STOP_TOKENS {
            let detail = format!("stop_token_ids has at most {MAX_STOP_TOKENS} tokens");
            return Err(self.problem("stop_token_ids", detail).with_limit(MAX_STOP_TOKENS));
        }
        if let Some(number) = stop_tokens.iter().position(|id| *id as usize >= checkpoint.vocab) {
            let detail = format!("token ids must be below {}", checkpoint.vocab);
            return Err(self
                .problem(&format!("stop_token_ids[{number}]"), detail)
                .with_limit(checkpoint.vocab));
        }
        Ok(StopConditions {
            max_tokens: 0,
            token_ids: checkpoint.end_tokens.iter().chain(stop_tokens).copied().collect(),
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

    fn check(body: &str) -> Result<ResolvedSampling, Problem> {
        let request: ChatRequest = serde_json::from_str(body).unwrap();
        let checkpoint = CheckpointSampling { defaults: &DEFAULTS, end_tokens: &[2], vocab: 100 };
        RawSamplingParams::from(&request).resolve(checkpoint)
    }

    fn with(field: &str, value: &str) -> Result<ResolvedSampling, Problem> {
        check(&format!(r#"{{"messages": [], "{field}": {value}}}"#))
    }

    #[test]
    fn missing_fields_get_the_checkpoints_or_openais_defaults() {
        let resolved = check(r#"{"messages": []}"#).unwrap();
        let expected =
            SamplingParams { temperature: 0.6, top_p: 0.95, top_k: 20, ..SamplingParams::default() };
        assert_eq!(resolved.params, expected);
        assert_eq!((resolved.priority, resolved.n, resolved.deadline), (5, 1, None));
        assert_eq!(resolved.stop.token_ids, [2]);
        assert_eq!(with("top_k", "-1").unwrap().params.top_k, 0);
        assert_eq!(with("seed", "-1").unwrap().params.seed, Some(u64::MAX));
        assert_eq!(with("stop", r#""a""#).unwrap().stop.strings, ["a"]);
        let biased = with("logit_bias", r#"{"99": -100}"#).unwrap().params.logit_bias;
        assert_eq!(biased.get(&99), Some(&-100.0));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_field_and_limit() {
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
