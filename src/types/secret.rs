//! Values that must not be seen.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroize as _;

/// What is shown in place of a secret.
const REDACTED: &str = "<redacted>";

/// A secret. It prints and serialises as `<redacted>`, or as nothing where there is none, so it cannot end up in a log,
/// an error or a printed configuration by accident. Its memory is cleared when it is dropped.
///
/// Equality takes the time it takes to find the first difference: do not compare what a stranger sent with it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value. Every call is a place to look at twice.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { REDACTED }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// Takes numbers and truth values for the text they were written as, and never repeats a value in an error.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(i64),
            Large(u64),
            Truth(bool),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Text(text)) => Ok(Self(text)),
            Ok(Written::Whole(number)) => Ok(Self(number.to_string())),
            Ok(Written::Large(number)) => Ok(Self(number.to_string())),
            Ok(Written::Truth(truth)) => Ok(Self(truth.to_string())),
            Err(_) => Err(de::Error::custom("must be a text in quotes (the value is not shown: it is a secret)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), REDACTED);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<redacted>\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_of_the_wrong_kind_is_not_repeated_in_the_error() {
        let error = serde_json::from_str::<Secret>("[\"hunter2\"]").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(serde_json::from_str::<Secret>("12345").unwrap().expose(), "12345");
    }
}
