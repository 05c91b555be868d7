//! The algorithms a token may be signed with, and the keys that check it.
//!
//! A key belongs to one algorithm from the moment it is read, so a token cannot have a public key taken for a shared
//! secret (RFC 8725, section 2.1). `none` is no member of the set: there is nothing to refuse.

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
        RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
    },
};
use serde::{Deserialize, Serialize};

/// Fewest bytes of a shared secret: as many as the shortest digest has (RFC 7518, section 3.2).
pub(super) const MIN_SECRET: usize = 32;

macro_rules! algorithms {
    ($($name:ident = $word:literal, $family:ident;)*) => {
        /// How a token is signed; the word is that of its header (RFC 7518, RFC 8037).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Algorithm { $(#[doc = $word] #[serde(rename = $word)] $name,)* }

        impl Algorithm {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub(super) fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }

            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            pub(super) fn family(self) -> Family {
                match self { $(Self::$name => Family::$family),* }
            }
        }
    };
}

algorithms! {
    Hs256 = "HS256", Secret;
    Hs384 = "HS384", Secret;
    Hs512 = "HS512", Secret;
    Rs256 = "RS256", Rsa;
    Rs384 = "RS384", Rsa;
    Rs512 = "RS512", Rsa;
    Ps256 = "PS256", Rsa;
    Ps384 = "PS384", Rsa;
    Ps512 = "PS512", Rsa;
    Es256 = "ES256", P256;
    Es384 = "ES384", P384;
    EdDsa = "EdDSA", Ed25519;
}

/// What kind of key an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    /// Of an algorithm with public keys.
    fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => return None,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::EdDsa => &ED25519,
        })
    }

    fn digest(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}

/// A key, for one algorithm.
pub(super) struct Key {
    /// What tokens call it; a key from a file of its own has no name and is tried for all.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    check: Check,
}

enum Check {
    Secret(Box<hmac::Key>),
    Public(Box<ParsedPublicKey>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// A shared secret; none if the algorithm takes no such key.
    pub(super) fn secret(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let check = Check::Secret(Box::new(hmac::Key::new(algorithm.digest()?, secret)));
        Some(Self { id: None, algorithm, check })
    }

    /// A public key, as a SubjectPublicKeyInfo or as a point or string of its algorithm's; none if it is no such key.
    pub(super) fn public(id: Option<String>, algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let parsed = ParsedPublicKey::new(algorithm.verification()?, bytes).ok()?;
        Some(Self { id, algorithm, check: Check::Public(Box::new(parsed)) })
    }

    /// True if `signature` is this key's, of `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.check {
            // In a time that does not tell how much of it is right.
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}
