//! A moment of fuzzing in every build: each target of `fuzz/targets.rs` over its seeds and what chance makes of them. `make
//! fuzz` goes on for as long as wanted, and sees which branches are taken.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; what must not fail fails the test")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{fs, panic, path::Path};

/// Inputs made of a target's seeds. Reading a configuration is a hundred times as much work as anything else here.
fn inputs(target: &str) -> usize {
    if target == "config" { 200 } else { 20_000 }
}

/// One input made of others: bytes changed, left out, doubled, or the end of another in place of its own.
fn mutated(seeds: &[Vec<u8>], dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seeds[dice.usize(..seeds.len())].clone();
    for _ in 0..dice.usize(1..8) {
        let at = dice.usize(..=bytes.len());
        let to = dice.usize(at..=bytes.len());
        match dice.u8(..6) {
            0 if at < bytes.len() => bytes[at] = dice.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.u8(..8),
            2 => drop(bytes.drain(at..to)),
            3 => bytes.extend_from_within(at..to),
            4 => bytes.insert(at, *dice.choice(b"\0\n.>*:=\"[]0a\x7f\x80\xff").unwrap()),
            _ => {
                let other = &seeds[dice.usize(..seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.usize(..=other.len())..]);
            }
        }
    }
    bytes
}

#[test]
fn no_target_finds_anything_in_a_moment() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets::ALL {
        let files = fs::read_dir(folder.join(name)).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has seeds");
        let mut dice = fastrand::Rng::with_seed(1);
        let made = (0..inputs(name)).map(|_| mutated(&seeds, &mut dice));
        for input in seeds.clone().into_iter().chain(made) {
            let run = panic::catch_unwind(|| target(&input));
            assert!(run.is_ok(), "{name}: {}", input.escape_ascii());
        }
    }
}
