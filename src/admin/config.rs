//! `[admin]`: the port for operators.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::types::Secret;

/// `[admin]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is an admin port.
    pub enabled: bool,
    /// Where it listens. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What a request that changes something shows as `Authorization: Bearer`; from this machine it needs none.
    pub token: Secret,
    /// A file with the token, in place of `token`.
    pub token_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: (Ipv4Addr::LOCALHOST, 9090).into(),
            token: Secret::default(),
            token_file: PathBuf::new(),
        }
    }
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if !self.token.is_empty() {
            let problem = Self::token_problem(self.token.expose());
            problems.extend(problem.map(|problem| ("token".to_owned(), problem.to_owned())));
            if !self.token_file.as_os_str().is_empty() {
                problems.push(("token_file".to_owned(), "and admin.token are both set; set one of them".to_owned()));
            }
        }
        problems
    }

    /// What is wrong with a token.
    pub(super) fn token_problem(token: &str) -> Option<&'static str> {
        let fits = token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic());
        (!fits).then_some("must be at least 16 visible ASCII characters, without spaces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_given_once_and_not_repeated_in_what_is_wrong_with_it() {
        let config = |token: &str, file: &str| Config {
            token: token.to_owned().into(),
            token_file: file.into(),
            ..Config::default()
        };
        let keys = |config: Config| config.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert!(keys(config("", "")).is_empty() && keys(config("", "/run/token")).is_empty());
        assert!(keys(config("0123456789abcdef", "")).is_empty());
        assert_eq!(keys(config("0123456789abcde", "")), ["token"]);
        assert_eq!(keys(config("0123456789 abcdef", "")), ["token"]);
        assert_eq!(keys(config("0123456789abcdef", "/run/token")), ["token_file"]);
        assert!(!format!("{:?}", config("hunter2", "").problems()).contains("hunter2"));
    }
}
