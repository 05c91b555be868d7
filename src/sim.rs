//! The simulation: the real server and the real client library in one process, on time that a seed decides about and
//! over a network that a seed breaks. The same seed gives the same history.

mod frames;
mod history;
mod library;
mod network;
mod operator;
mod pipe;
mod replica;
mod world;

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..=std::env::var("N").map_or(3, |n| n.parse().unwrap()) {
        let began = std::time::SystemTime::now();
        let first = world::run(seed);
        eprintln!("seed {seed}: {} records, {:?}", first.len(), began.elapsed());
        if std::env::var_os("BOWLINE_PRINT").is_some() {
            for record in &first {
                eprintln!("{record:?}");
            }
        }
        let second = world::run(seed);
        let differ = first.iter().zip(&second).position(|(a, b)| format!("{a:?}") != format!("{b:?}"));
        if let Some(at) = differ {
            panic!("seed {seed} differs at {at}:\n{:#?}\n{:#?}", first[at], second[at]);
        }
        assert_eq!(history::hash(&first), history::hash(&second), "seed {seed}");
    }
}
