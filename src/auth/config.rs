//! `[auth]`: who may call, and what each may do.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{algorithm::Algorithm, rights::Rule};

/// `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How callers are told apart.
    pub mode: Mode,
    /// Whom tokens are accepted from.
    pub issuers: Vec<Issuer>,
    /// Who may do what.
    pub rules: Vec<Rule>,
    /// A file with the rules, in place of `rules`; read again when it changes.
    pub policy_file: PathBuf,
    /// A file of tokens and subjects that are no longer believed; read again when it changes.
    pub revoked_file: PathBuf,
    /// A file of hashed keys for the unary services; read again when it changes.
    pub api_key_file: PathBuf,
    /// How wrong clocks may be when a token comes.
    #[serde(with = "humantime_serde")]
    pub clock_skew: Duration,
    /// How long a connection outlives its token.
    #[serde(with = "humantime_serde")]
    pub expiry_grace: Duration,
    /// Whether callers that only name themselves are operators, on whatever address.
    pub insecure_operators: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            issuers: Vec::new(),
            rules: Vec::new(),
            policy_file: PathBuf::new(),
            revoked_file: PathBuf::new(),
            api_key_file: PathBuf::new(),
            clock_skew: Duration::from_secs(60),
            expiry_grace: Duration::from_secs(25),
            insecure_operators: false,
        }
    }
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Clients name themselves, and the server starts only if every listener is on loopback.
    #[default]
    Loopback,
    /// Clients name themselves, on whatever address.
    Anonymous,
    /// By a token that an issuer has signed.
    Jwt,
    /// By a certificate that an authority of `transport.tls.client_ca_file` has signed.
    Mtls,
    /// By a token, if one is shown, and otherwise by a certificate.
    JwtOrMtls,
    /// By a token, over a transport with a certificate.
    JwtAndMtls,
}

impl Mode {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Anonymous => "anonymous",
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
            Self::JwtOrMtls => "jwt_or_mtls",
            Self::JwtAndMtls => "jwt_and_mtls",
        }
    }

    /// Whether clients name themselves: nobody has to be believed then, and nobody can be.
    pub fn names_itself(self) -> bool {
        matches!(self, Self::Loopback | Self::Anonymous)
    }

    /// Whether tokens are asked for.
    pub(super) fn takes_tokens(self) -> bool {
        matches!(self, Self::Jwt | Self::JwtOrMtls | Self::JwtAndMtls)
    }

    /// Whether certificates of clients are asked for.
    pub fn takes_certificates(self) -> bool {
        matches!(self, Self::Mtls | Self::JwtOrMtls | Self::JwtAndMtls)
    }
}

/// Whom tokens are accepted from, and how they are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// `iss` of its tokens, to the letter.
    pub issuer: String,
    /// Whom its tokens are for: one of these has to be in `aud`.
    pub audiences: Vec<String>,
    /// How they may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Files with a shared secret each: the present one, and while it is being changed the other.
    #[serde(default)]
    pub secret_files: Vec<PathBuf>,
    /// PEM files with a public key each.
    #[serde(default)]
    pub public_key_files: Vec<PathBuf>,
    /// A file with a JSON key set.
    #[serde(default)]
    pub jwks_file: PathBuf,
    /// Where its key set is fetched from.
    #[serde(default)]
    pub jwks_url: String,
    /// PEM file of the authorities to trust for that, instead of the public ones.
    #[serde(default)]
    pub jwks_ca_file: PathBuf,
    /// The claim that names the client.
    #[serde(default = "default_client_claim")]
    pub client_claim: String,
    /// What stands before that name, so that clients of two issuers cannot be taken for each other.
    #[serde(default)]
    pub client_prefix: String,
    /// The claim that brings rights of the token's own; empty: none does.
    #[serde(default)]
    pub rights_claim: String,
}

fn default_client_claim() -> String {
    "sub".to_owned()
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &str, sentence: &str| {
            if wrong {
                problems.push((key.to_owned(), sentence.to_owned()));
            }
        };
        let has_policy = !self.policy_file.as_os_str().is_empty();
        let sentence = "and auth.rules are both set; set one of them";
        check(has_policy && !self.rules.is_empty(), "policy_file", sentence);
        let sentence = "must list whom tokens are accepted from, or nobody can call";
        check(self.mode.takes_tokens() && self.issuers.is_empty(), "issuers", sentence);
        let sentence = "are given, but auth.mode asks for no token";
        check(!self.mode.takes_tokens() && !self.issuers.is_empty(), "issuers", sentence);
        let names_itself = self.mode.names_itself();
        let sentence = "and auth.policy_file are both empty: whoever calls could do nothing";
        check(!names_itself && !has_policy && self.rules.is_empty() && !self.grants(), "rules", sentence);
        let sentence = "is for callers that are told apart; in this mode they only name themselves";
        let set = |path: &PathBuf| !path.as_os_str().is_empty();
        check(names_itself && set(&self.api_key_file), "api_key_file", sentence);
        check(names_itself && set(&self.revoked_file), "revoked_file", sentence);
        let sentence = "is for modes in which callers only name themselves";
        check(!names_itself && self.insecure_operators, "insecure_operators", sentence);
        for (index, rule) in self.rules.iter().enumerate() {
            let named = |(key, sentence): (String, String)| (format!("rules[{index}].{key}"), sentence);
            problems.extend(rule.problems(names_itself).into_iter().map(named));
        }
        for (index, issuer) in self.issuers.iter().enumerate() {
            let named = |(key, sentence): (&str, String)| (format!("issuers[{index}].{key}"), sentence);
            problems.extend(issuer.problems(&self.issuers[..index]).into_iter().map(named));
            if self.mode == Mode::JwtOrMtls && issuer.client_prefix.is_empty() {
                let sentence =
                    "must not be empty in this mode: clients with tokens could be taken for some with certificates";
                problems.push((format!("issuers[{index}].client_prefix"), sentence.to_owned()));
            }
        }
        problems
    }

    /// True if an issuer's tokens bring rights.
    fn grants(&self) -> bool {
        self.issuers.iter().any(|issuer| !issuer.rights_claim.is_empty())
    }

    /// What of it is spelt `insecure_` and set.
    pub fn insecure(&self) -> Vec<&'static str> {
        if self.insecure_operators { vec!["auth.insecure_operators"] } else { Vec::new() }
    }
}

impl Issuer {
    fn problems(&self, before: &[Self]) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &'static str, sentence: &str| {
            if wrong {
                problems.push((key, sentence.to_owned()));
            }
        };
        check(self.issuer.is_empty(), "issuer", "must not be empty");
        check(before.iter().any(|other| other.issuer == self.issuer), "issuer", "is listed twice");
        let sentence = "is that of another issuer: its clients could be taken for theirs; set one for each";
        check(before.iter().any(|other| other.client_prefix == self.client_prefix), "client_prefix", sentence);
        let sentence = "must name who this server is to the issuer, or tokens for others were accepted";
        check(self.audiences.iter().all(String::is_empty), "audiences", sentence);
        check(self.algorithms.is_empty(), "algorithms", "must list how tokens may be signed, such as [\"RS256\"]");
        check(self.client_claim.is_empty(), "client_claim", "must name a claim, such as \"sub\"");
        let secrets = self.algorithms.iter().any(|algorithm| algorithm.as_str().starts_with("HS"));
        let publics = self.algorithms.iter().any(|algorithm| !algorithm.as_str().starts_with("HS"));
        let sentence = "are given, but no HS algorithm is among auth.issuers.algorithms";
        check(!secrets && !self.secret_files.is_empty(), "secret_files", sentence);
        let sentence = "must have a file, or no token of the HS algorithms can be checked";
        check(secrets && self.secret_files.is_empty(), "secret_files", sentence);
        check(self.secret_files.len() > 2, "secret_files", "has more than two: the present one and the next");
        let (file, url) = (!self.jwks_file.as_os_str().is_empty(), !self.jwks_url.is_empty());
        let sentence = "or public_key_files or jwks_file must say where the keys of the issuer come from";
        check(publics && !file && !url && self.public_key_files.is_empty(), "jwks_url", sentence);
        check(file && url, "jwks_file", "and jwks_url are both set; set one of them");
        let sentence = "must begin with https:// and name a host: keys that come in the clear are anybody's";
        check(url && super::jwks::Address::parse(&self.jwks_url).is_none(), "jwks_url", sentence);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(toml: &str) -> Vec<String> {
        let config: Config = toml::from_str(toml).unwrap();
        config.problems().into_iter().map(|(key, _)| key).collect()
    }

    const RULE: &str = "rules = [{ topics = [\">\"], allow = [\"read\"] }]";

    fn with(issuer: &str) -> Vec<String> {
        keys(&format!("mode = \"jwt\"\n{RULE}\nissuers = [{{ {issuer} }}]"))
    }

    #[test]
    fn an_issuer_says_whom_it_is_for_how_it_signs_and_where_its_keys_are() {
        let rest = "audiences = [\"b\"], algorithms = [\"RS256\"]";
        assert!(with(&format!("issuer = \"i\", {rest}, jwks_url = \"https://id.example/keys\"")).is_empty());
        assert_eq!(with(&format!("issuer = \"i\", {rest}")), ["issuers[0].jwks_url"]);
        for url in ["http://id.example/keys", "https://", "keys", "https://user@id.example/keys"] {
            assert_eq!(with(&format!("issuer = \"i\", {rest}, jwks_url = {url:?}")), ["issuers[0].jwks_url"], "{url}");
        }
        let hs = "issuer = \"i\", audiences = [\"b\"], algorithms = [\"HS256\"]";
        assert_eq!(with(hs), ["issuers[0].secret_files"]);
        assert_eq!(with(&format!("{hs}, secret_files = [\"a\", \"b\", \"c\"]")), ["issuers[0].secret_files"]);
        let nobody = "issuer = \"i\", audiences = [], algorithms = [], jwks_file = \"x\"";
        assert_eq!(with(nobody), ["issuers[0].audiences", "issuers[0].algorithms"]);
    }

    #[test]
    fn clients_of_two_issuers_are_told_apart() {
        let issuer = |name: &str, prefix: &str| {
            format!(
                "{{ issuer = {name:?}, audiences = [\"b\"], algorithms = [\"ES256\"], jwks_file = \"x\", \
                 client_prefix = {prefix:?} }}"
            )
        };
        let two = |second: String| keys(&format!("mode = \"jwt\"\n{RULE}\nissuers = [{}, {second}]", issuer("a", "")));
        assert!(two(issuer("b", "b:")).is_empty());
        assert_eq!(two(issuer("b", "")), ["issuers[1].client_prefix"]);
        assert_eq!(two(issuer("a", "b:")), ["issuers[1].issuer"]);
    }

    #[test]
    fn a_mode_has_what_it_needs_and_nothing_that_it_ignores() {
        assert_eq!(keys("mode = \"jwt\""), ["issuers", "rules"]);
        assert_eq!(keys("api_key_file = \"x\"\nrevoked_file = \"y\""), ["api_key_file", "revoked_file"]);
        assert_eq!(keys(&format!("policy_file = \"x\"\n{RULE}")), ["policy_file"]);
        assert!(keys("mode = \"anonymous\"\ninsecure_operators = true").is_empty());
        assert!(toml::from_str::<Config>("mode = \"none\"").is_err());
    }
}
