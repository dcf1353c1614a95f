//! Fields of a JSON body, with the names of both generations of the API.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use super::Failure;
use crate::domain::{ErrorCode, NanoUsd};

/// Most bytes of one field: 1,000 names of 256 characters. Checked before it becomes a tree.
const FIELD_BYTES_MAX: usize = 1_048_576;

/// A JSON object whose fields are still texts. `null` counts as left out. Unknown fields are
/// ignored, as the public API does.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Reads the top level.
    ///
    /// # Errors
    /// 422 when it is not a JSON object.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Failure> {
        let in_body = |code, validation, message: String| Failure {
            loc: vec!["body".to_owned()],
            validation,
            ..Failure::new(code, message)
        };
        serde_json::from_slice(body).map(|fields| Self { fields }).map_err(|error| {
            if error.is_data() {
                return in_body(
                    ErrorCode::InvalidRequest,
                    "type_error",
                    "the body must be a JSON object".to_owned(),
                );
            }
            in_body(ErrorCode::InvalidJson, "json_invalid", format!("not valid JSON: {error}"))
        })
    }

    /// The first of these names that is there, with its value.
    fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a RawValue)> {
        names.iter().find_map(|name| {
            let raw = *self.fields.get(*name)?;
            (raw.get() != "null").then_some((*name, raw))
        })
    }

    /// Whether one of these names is there with a value.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.find(names).is_some()
    }

    fn tree(&self, names: &[&'static str]) -> Result<Option<(&'static str, Value)>, Failure> {
        let Some((name, raw)) = self.find(names) else { return Ok(None) };
        if raw.get().len() > FIELD_BYTES_MAX {
            return Err(Failure::invalid(name, format!("{name} is over {FIELD_BYTES_MAX} bytes")));
        }
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Some((name, value))),
            Err(error) => Err(Failure::invalid(name, format!("{name}: {error}"))),
        }
    }

    /// A text on one line, not empty, without control characters; spaces around it are dropped.
    ///
    /// # Errors
    /// 422.
    pub(super) fn line(
        &self,
        names: &[&'static str],
        chars_max: usize,
    ) -> Result<Option<String>, Failure> {
        match self.tree(names)? {
            None => Ok(None),
            Some((name, value)) => line_of(&[name], &value, chars_max).map(Some),
        }
    }

    /// A text as it is, which must be there.
    ///
    /// # Errors
    /// 422.
    pub(super) fn required_text(
        &self,
        name: &'static str,
        chars_max: usize,
    ) -> Result<String, Failure> {
        match self.tree(&[name])? {
            None => Err(Failure {
                validation: "missing",
                ..Failure::invalid(name, format!("{name} is required"))
            }),
            Some((_, Value::String(text))) if text.chars().count() <= chars_max => Ok(text),
            Some((_, Value::String(_))) => {
                Err(Failure::invalid(name, format!("{name} is over {chars_max} characters")))
            }
            Some(_) => Err(wrong_type(&[name], "a string")),
        }
    }

    /// A list of texts, each on one line and not empty.
    ///
    /// # Errors
    /// 422.
    pub(super) fn lines(
        &self,
        names: &[&'static str],
        items_max: usize,
        chars_max: usize,
    ) -> Result<Option<Vec<String>>, Failure> {
        let Some((name, value)) = self.tree(names)? else { return Ok(None) };
        let Value::Array(items) = value else {
            return Err(wrong_type(&[name], "an array of strings"));
        };
        if items.len() > items_max {
            return Err(Failure::invalid(
                name,
                format!("{name} has {} elements; at most {items_max} are allowed", items.len()),
            ));
        }
        let lines = items.iter().enumerate();
        lines
            .map(|(index, item)| line_of(&[name, &index.to_string()], item, chars_max))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// 422.
    pub(super) fn flag(&self, names: &[&'static str]) -> Result<Option<bool>, Failure> {
        match self.tree(names)? {
            None => Ok(None),
            Some((_, Value::Bool(flag))) => Ok(Some(flag)),
            Some((name, _)) => Err(wrong_type(&[name], "true or false")),
        }
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// 422.
    pub(super) fn whole(
        &self,
        names: &[&'static str],
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, Failure> {
        let Some((name, value)) = self.tree(names)? else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Failure::invalid(
                name,
                format!("{name} must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// An amount of USD, not below 0, read digit by digit.
    ///
    /// # Errors
    /// 422, also for one that can't be kept exactly.
    pub(super) fn usd(&self, names: &[&'static str]) -> Result<Option<NanoUsd>, Failure> {
        let Some((name, raw)) = self.find(names) else { return Ok(None) };
        if !raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(wrong_type(&[name], "a number"));
        }
        let amount = NanoUsd::from_json_number(raw.get())
            .map_err(|error| Failure::invalid(name, format!("{name}: {error}")))?;
        if amount.is_negative() {
            return Err(Failure::invalid(name, format!("{name} must not be below 0")));
        }
        Ok(Some(amount))
    }
}

fn line_of(path: &[&str], value: &Value, chars_max: usize) -> Result<String, Failure> {
    let Value::String(text) = value else { return Err(wrong_type(path, "a string")) };
    let text = text.trim();
    let count = text.chars().count();
    let problem = if count == 0 {
        "must not be empty".to_owned()
    } else if count > chars_max {
        format!("is {count} characters long; at most {chars_max} are allowed")
    } else if text.contains(char::is_control) {
        "must not contain control characters".to_owned()
    } else {
        return Ok(text.to_owned());
    };
    Err(at(path, &problem))
}

fn wrong_type(path: &[&str], expected: &str) -> Failure {
    Failure { validation: "type_error", ..at(path, &format!("must be {expected}")) }
}

fn at(path: &[&str], problem: &str) -> Failure {
    let mut failure =
        Failure::new(ErrorCode::InvalidRequest, format!("{} {problem}", path.join("[")));
    if path.len() > 1 {
        failure.message = format!("{}[{}] {problem}", path[0], path[1]);
    }
    failure.loc = ["body"].iter().chain(path).map(|part| (*part).to_owned()).collect();
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loc(failure: &Failure) -> Vec<&str> {
        failure.loc.iter().map(String::as_str).collect()
    }

    #[test]
    fn either_name_is_read_and_null_is_left_out() {
        let fields = Fields::parse(br#"{"budget": 2.50, "budget_usd": null, "more": {}}"#).unwrap();
        let names = ["budget_usd", "budget"];
        assert_eq!(fields.usd(&names).unwrap(), Some(NanoUsd(2_500_000_000)));
        assert!(fields.has(&names) && !fields.has(&["budget_usd"]) && !fields.has(&["name"]));
        assert_eq!(fields.line(&["name"], 9).unwrap(), None);
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for body in ["[]", "1", "\"a\"", "null"] {
            let failure = Fields::parse(body.as_bytes()).unwrap_err();
            assert_eq!((failure.code, loc(&failure)), (ErrorCode::InvalidRequest, vec!["body"]));
        }
        for body in ["", "{", "{\"a\": }", "x"] {
            let failure = Fields::parse(body.as_bytes()).unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidJson, "{body}");
        }
    }

    #[test]
    fn a_wrong_field_is_named_by_the_name_that_was_sent() {
        let body = br#"{"a": [" x ", 7], "b": -1, "c": 1e30, "d": "1", "e": 1.5, "f": "q\u0000", "g": ""}"#;
        let fields = Fields::parse(body).unwrap();
        let failure = fields.lines(&["z", "a"], 9, 9).unwrap_err();
        assert_eq!((loc(&failure), failure.validation), (vec!["body", "a", "1"], "type_error"));
        assert_eq!(failure.message, "a[1] must be a string");
        assert_eq!(loc(&fields.lines(&["a"], 1, 9).unwrap_err()), ["body", "a"]);
        for name in ["b", "c", "d"] {
            assert_eq!(loc(&fields.usd(&[name]).unwrap_err()), ["body", name]);
        }
        for name in ["b", "c", "d", "e"] {
            assert_eq!(loc(&fields.whole(&[name], 1..=9).unwrap_err()), ["body", name]);
        }
        for name in ["a", "b", "f", "g"] {
            assert!(fields.line(&[name], 9).is_err(), "{name}");
        }
        assert!(fields.flag(&["d"]).is_err());
        assert_eq!(fields.required_text("nothing", 9).unwrap_err().validation, "missing");
        assert!(fields.required_text("f", 1).is_err(), "two characters");
    }
}
