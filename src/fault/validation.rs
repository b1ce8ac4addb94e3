//! Validation that fails, said in a word instead of a file.

use std::str::FromStr;

use toml_writer::ToTomlValue;

use crate::error::{Error, Result};

/// What every key is answered that is to be validated, instead of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationFails {
    status: u16,
    body: String,
}

impl ValidationFails {
    /// As a rule of a file.
    pub fn rule(&self) -> String {
        let Self { status, body } = self;
        let body = body.to_toml_value();
        format!(
            "[[rule]]\nwhen = {{ request = \"validate\" }}\n\
             do = {{ refuse = {{ status = {status}, body = {body} }} }}\n"
        )
    }
}

/// `503`, or `503:maintenance`.
impl FromStr for ValidationFails {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (status, body) = text.split_once(':').unwrap_or((text, ""));
        let parsed = status.parse().ok().filter(|status| (200..600).contains(status));
        parsed.map(|status| Self { status, body: body.to_owned() }).ok_or_else(|| {
            let hint = "500:maintenance answers the status 500 with the body \"maintenance\"";
            let expected = "an HTTP status from 200 to 599, and maybe :BODY";
            Error::usage(expected, format!("{text:?}"), hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Door, Faults, Refusal, Request};

    #[test]
    fn every_validation_is_answered_so_and_no_other_request_is() {
        for (text, status, body) in [
            ("503", 503, ""),
            ("401:", 401, ""),
            ("200:<html>", 200, "<html>"),
            (
                "500:a \"b\": c\\d\n'''\"\"\"\u{7f}\u{1}\u{e9}",
                500,
                "a \"b\": c\\d\n'''\"\"\"\u{7f}\u{1}\u{e9}",
            ),
        ] {
            let fails: ValidationFails = text.parse().unwrap();
            let mut door = Door::new(Faults::parse(&fails.rule(), "test", None).unwrap());
            let expected = Refusal::Answer { status, body: body.to_owned(), headers: Vec::new() };
            for _ in 0..3 {
                assert_eq!(door.asked(Request::Feed, "audit"), None);
                let (refusal, _) = door.asked(Request::Validate, "").unwrap();
                assert_eq!(refusal, expected, "{text}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "busy", "199", "600", ":body", "-1", " 503"] {
            let error = text.parse::<ValidationFails>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }
}
