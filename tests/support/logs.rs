//! What a server's logs hold when all is over, as the checker reads it.

use std::{net::SocketAddr, sync::Arc};

use bowline::{
    checker::history::Op,
    proto::v1::{ReadHistoryRequest, topic_service_client::TopicServiceClient},
    witness,
};

/// The end of each topic's log, and all that it holds.
pub async fn read(address: SocketAddr, topics: &[impl AsRef<str>]) -> Vec<Op> {
    let mut service = TopicServiceClient::connect(format!("http://{address}")).await.unwrap();
    let mut records = Vec::new();
    for topic in topics {
        let topic = topic.as_ref();
        let (mut events, mut after) = (Vec::new(), None);
        let head = loop {
            let request = ReadHistoryRequest { topic: topic.to_owned(), after, last: 0, limit: 1000 };
            let page = service.read_history(request).await.unwrap().into_inner();
            events.extend(page.events.iter().map(witness::event));
            if page.next == page.head {
                break page.head;
            }
            after = page.next;
        };
        // Nothing was ever published to it here.
        let Some(head) = head else { continue };
        let topic: Arc<str> = topic.into();
        records.push(Op::Head { topic: topic.clone(), head: (head.epoch, head.offset) });
        records.push(Op::Stored { topic, epoch: head.epoch, events });
    }
    records
}
