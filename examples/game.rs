//! A game's world: every player publishes its position 20 times a second, everybody sees everybody, and a player who
//! leaves, or whose connection is lost for good, is taken off the board by the server.
//!
//! Beside a running server: `cargo run --example game -- NAME` in several terminals; Ctrl-C leaves. `BOWLINE_SERVER`
//! says where the server is, if not at http://127.0.0.1:50051.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use std::{pin::pin, time::Duration};

use bowline::client::{Change, Client, DeliveryPolicy, Item, Mirror, NewEvent, Open, Start};
use futures_util::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval};

const WIDTH: i32 = 40;
const HEIGHT: i32 = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("BOWLINE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let name = std::env::args().nth(1).unwrap_or_else(|| format!("player-{}", fastrand::u16(..)));
    let client = Client::builder(url).client_id(&name).connect().await?;
    // One session for both ways. However many players move, it is served at most 20 times a second.
    let open = Open::topic("state.game").start(Start::Snapshot);
    let mut session = client.open(open.delivery_policy(DeliveryPolicy::Conflate).max_rate_hz(20)).await?;

    let mut world = Mirror::new();
    let mut at = (fastrand::i32(..WIDTH), fastrand::i32(..HEIGHT));
    let mut moves = interval(Duration::from_millis(50));
    // After a pause of the whole program, go on from now.
    moves.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut drawing = interval(Duration::from_secs(1));
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            stopped = &mut stop => break stopped?,
            _ = moves.tick() => {
                at.0 = (at.0 + fastrand::i32(-1..=1)).clamp(0, WIDTH - 1);
                at.1 = (at.1 + fastrand::i32(-1..=1)).clamp(0, HEIGHT - 1);
                let event = NewEvent {
                    key: name.clone().into(),
                    payload: format!("{} {}", at.0, at.1).into(),
                    // The key goes with the session: nobody else has to notice that we are gone.
                    session_scoped: true,
                    ..NewEvent::default()
                };
                // Nobody waits for the answer: the next position is more interesting than this one.
                drop(session.publish(event).await?);
            }
            _ = drawing.tick() => println!("{}", board(&world)),
            Some(item) = session.next() => {
                if let Item::Closed(Some(error)) = item {
                    return Err(error.into());
                }
                for change in world.take(&item) {
                    match change {
                        Change::Put { key, before: None } => println!("+ {}", String::from_utf8_lossy(&key)),
                        Change::Put { .. } => {}
                        Change::Removed { before } => println!("- {}", String::from_utf8_lossy(&before.key)),
                    }
                }
            }
        }
    }
    // Says goodbye: without it the server would wait for us to come back, for `session.key_grace`.
    client.close().await;
    Ok(())
}

/// Every player by its first letter.
fn board(world: &Mirror) -> String {
    let mut rows = vec![vec!['.'; WIDTH as usize]; HEIGHT as usize];
    for (name, event) in world {
        let text = String::from_utf8_lossy(&event.payload);
        let place = text.split_once(' ').and_then(|(x, y)| Some((x.parse::<usize>().ok()?, y.parse::<usize>().ok()?)));
        let cell = place.and_then(|(x, y)| rows.get_mut(y)?.get_mut(x));
        if let (Some(cell), Some(letter)) = (cell, name.first()) {
            *cell = char::from(*letter);
        }
    }
    rows.into_iter().map(|row| row.into_iter().chain(['\n']).collect::<String>()).collect()
}
