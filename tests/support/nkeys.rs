//! Keys of NATS and what is signed with them, made when a test runs, as `nk` and `nsc` make them.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// What stands before the seed of every key.
const SEED: u8 = 18 << 3;
/// The letters of base32 (RFC 4648).
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Whose a key is: what stands before its public half.
#[derive(Clone, Copy)]
pub enum Whose {
    Operator = 14 << 3,
    Account = 0,
    User = 20 << 3,
}

/// A key.
pub struct Nkey {
    whose: u8,
    secret: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Nkey {
    pub fn new(whose: Whose) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).unwrap();
        Self { whose: whose as u8, secret, pair }
    }

    /// The public half, by which everybody knows it.
    pub fn public(&self) -> String {
        let key = self.pair.public_key();
        encode([&[self.whose], key.as_ref()].concat())
    }

    /// The secret half.
    pub fn seed(&self) -> String {
        let before = [SEED | (self.whose >> 5), (self.whose & 31) << 3];
        encode([&before[..], &self.secret].concat())
    }

    /// What it says of `subject`, signed.
    pub fn claims(&self, subject: &Self, name: &str, nats: &Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
        let body = json!({ "jti": name, "iat": 1_700_000_000, "iss": self.public(), "name": name, "sub": subject.public(), "nats": nats });
        let text = format!("{header}.{}", part(body));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    /// The `.creds` file of a user of this account.
    pub fn credentials(&self, user: &Self) -> String {
        let nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
        let jwt = self.claims(user, "user", &nats);
        let seed = user.seed();
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// Settings of a server that believes an operator with two accounts: one for whoever administers, and this one.
pub fn operated(account: &Nkey) -> String {
    let (operator, system) = (Nkey::new(Whose::Operator), Nkey::new(Whose::Account));
    let limits = |keeps: i64| {
        json!({
            "type": "account", "version": 2,
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "mem_storage": keeps, "disk_storage": keeps, "streams": keeps, "consumer": keeps,
            },
        })
    };
    let itself = operator.claims(&operator, "operator", &json!({ "type": "operator", "version": 2 }));
    let (system_says, account_says) =
        (operator.claims(&system, "SYS", &limits(0)), operator.claims(account, "APP", &limits(-1)));
    format!(
        "operator: {itself}\nsystem_account: {system_key}\nresolver: MEMORY\nresolver_preload: {{\n  {system_key}: {system_says}\n  \
         {account_key}: {account_says}\n}}\n",
        system_key = system.public(),
        account_key = account.public(),
    )
}

/// With a checksum (CRC-16/XMODEM), in base32 without padding.
fn encode(mut bytes: Vec<u8>) -> String {
    let sum = bytes.iter().fold(0u16, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 })
    });
    bytes.extend(sum.to_le_bytes());
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.chunks(5)
        .map(|chunk| {
            let value = chunk.iter().fold(0, |value, bit| value << 1 | bit) << (5 - chunk.len());
            char::from(LETTERS[usize::from(value)])
        })
        .collect()
}
