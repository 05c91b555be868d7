//! Pausing under a flood, again and again.

use bowline::proto::v1::{
    Flow, NewEvent, OpenSession, stream_data_request::Frame as Sent, stream_data_response::Frame,
};

use crate::{
    serve,
    talker::{BackEnd, Talker},
};

const PAUSES: u32 = 10_000;

fn paused(paused: bool) -> Sent {
    Sent::Flow(Flow { session: 1, paused: Some(paused), ..Flow::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_ten_thousand_pauses_under_flood_nothing_is_delivered_after_the_reply() {
    let server = serve(&[]);
    let mut client = Talker::connect(&server, "alice").await;
    client.open(OpenSession { session: 1, topic: "flood".to_owned(), ..OpenSession::default() }).await;
    let mut back_end = BackEnd::connect(&server).await;
    let flood = tokio::spawn(async move {
        loop {
            let events = vec![NewEvent { payload: vec![7; 100].into(), ..NewEvent::default() }; 50];
            back_end.publish("flood", events).await;
        }
    });

    let (mut deliveries, mut between) = (0_u64, 0_u64);
    for _ in 0..PAUSES {
        let until = fastrand::u64(0..4);
        let mut seen = 0;
        while seen < until {
            seen += u64::from(matches!(client.frame().await, Frame::Delivery(_)));
        }
        deliveries += seen;
        let reply = client.ask(paused(true)).await;
        // What was on its way may still come; the Reply draws the line.
        loop {
            match client.frame().await {
                Frame::Delivery(_) => between += 1,
                Frame::Reply(answer) if answer.request_id == reply => break,
                _ => {}
            }
        }
        // A second request comes back before anything else if nothing follows the first.
        let again = client.ask(paused(true)).await;
        match client.frame().await {
            Frame::Reply(answer) => assert_eq!(answer.request_id, again),
            other => panic!("after the reply to a pause came {other:?}"),
        }
        client.ask(paused(false)).await;
    }
    assert!(deliveries > 0 && between > 0, "there was no flood: {deliveries} deliveries, {between} before a reply");
    println!("{PAUSES} pauses: {deliveries} deliveries waited for, {between} more before a reply, none after one");
    flood.abort();
}
