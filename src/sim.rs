//! The simulation: the real server and the real client library in one process, on time that a seed decides about and
//! over a network that a seed breaks. The same seed gives the same history.

mod network;
mod pipe;
mod replica;

use std::time::Duration;

use crate::{
    client::{Client, NewEvent, Open, Start},
    types::Timestamp,
};
use futures_util::StreamExt as _;

#[test]
fn hello() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let t0 = std::time::SystemTime::now();
    rt.block_on(async {
        fastrand::seed(1);
        let _clock = crate::types::simulated_clock(Timestamp(1_000_000_000_000_000));
        let network = network::Network::new(7);
        let replica = replica::Replica::start(&network);
        let net = network.clone();
        let client = Client::builder("http://sim")
            .client_id("alice")
            .network(move || net.dial("alice"))
            .connect()
            .await
            .unwrap();
        let mut session = client.open(Open::topic("a.b").session_id("s").start(Start::Earliest)).await.unwrap();
        for n in 0..500 {
            let r = session.publish(NewEvent { payload: format!("{n}").into(), ..NewEvent::default() }).await.unwrap();
            drop(r);
        }
        for _ in 0..500 {
            session.next().await.unwrap();
        }
        println!("{:?} {:?}", Timestamp::now(), t0.elapsed());
        session.close().await.unwrap();
        client.close().await;
        replica.leave().await;
        println!("{:?} {:?}", Timestamp::now(), t0.elapsed());
        tokio::time::sleep(Duration::from_secs(600)).await;
        println!("{:?} {:?}", Timestamp::now(), t0.elapsed());
    });
}
