//! Strict query parameters: unknown and repeated ones are refused by name.

use std::{collections::BTreeMap, ops::RangeInclusive};

use actix_web::{HttpRequest, web};
use videosdgx_api::Problem;

use crate::{Failure, HandlerResult};

/// The parameters of one request.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses the query of `request`, which may have the parameters `known`.
    ///
    /// # Errors
    /// 400 `invalid_field`, for an unknown or repeated one.
    pub fn of(request: &HttpRequest, known: &[&str]) -> HandlerResult<Self> {
        let pairs =
            web::Query::<Vec<(String, String)>>::from_query(request.query_string()).map_err(|_| {
                Failure::new(videosdgx_api::Code::InvalidField, "the query string cannot be read")
            })?;
        let mut values = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            let shown: String = name.chars().take(60).collect();
            if !known.contains(&name.as_str()) {
                let detail = format!("unknown parameter; this path takes {}", known.join(", "));
                return Err(Failure(Problem::field(shown, detail)));
            }
            if values.insert(name, value).is_some() {
                return Err(Failure(Problem::field(shown, "the parameter is sent twice")));
            }
        }
        Ok(Self(values))
    }

    /// A parameter's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that is a whole number.
    ///
    /// # Errors
    /// 400 `invalid_field`.
    pub fn integer(&self, name: &str, range: RangeInclusive<u64>) -> HandlerResult<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse().ok().filter(|value| digits && range.contains(value)) {
            Some(value) => Ok(Some(value)),
            None => {
                let detail = format!("{name} is {} to {}", range.start(), range.end());
                Err(Failure(Problem::field(name, detail).with_limit(*range.end())))
            }
        }
    }

    /// A parameter that is `true` or `false`; default: `false`.
    ///
    /// # Errors
    /// 400 `invalid_field`.
    pub fn flag(&self, name: &str) -> HandlerResult<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Failure(Problem::field(name, format!("{name} is true or false")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn query(text: &str) -> HandlerResult<Query> {
        Query::of(&TestRequest::with_uri(&format!("/jobs?{text}")).to_http_request(), &["limit", "wait"])
    }

    #[test]
    fn parameters_are_read_and_bad_ones_named() {
        let good = query("limit=5&wait=true").unwrap();
        assert_eq!(good.integer("limit", 1..=9).unwrap(), Some(5));
        assert!(good.flag("wait").unwrap());
        assert!(!query("").unwrap().flag("wait").unwrap());
        for (text, field) in [("limits=1", "limits"), ("limit=1&limit=2", "limit")] {
            assert_eq!(query(text).unwrap_err().0.field.as_deref(), Some(field));
        }
        for text in [
            "limit=",
            "limit=0",
            "limit=10",
            "limit=%2B5",
            "limit=-1",
            "limit=x",
            "limit=99999999999999999999",
        ] {
            let failure = query(text).unwrap().integer("limit", 1..=9).unwrap_err();
            assert_eq!(failure.0.field.as_deref(), Some("limit"), "{text}");
        }
        assert!(query("wait=1").unwrap().flag("wait").is_err());
    }
}
