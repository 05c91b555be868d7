//! What replicas tell each other.

use bowline::proto::v1::{DisconnectRequest, DisconnectResponse, disconnect_request::Target};
use tonic::{Code, Status};

use super::{connect, replica, replica_with};
use crate::{
    nats::NatsServer,
    support::{TestServer, assert_status, get},
};

async fn disconnect(server: &TestServer, target: Target) -> Result<DisconnectResponse, Status> {
    let answer = server.operator().await.disconnect(DisconnectRequest { target: Some(target) }).await?;
    Ok(answer.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_disconnects_a_client_wherever_it_is() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two, three) = (replica(&nats).await, replica(&nats).await, replica(&nats).await);
    let (mut here, mut there) = (connect(&one, "alice").await, connect(&two, "alice").await);
    let (mut again, bystander) = (connect(&two, "alice").await, connect(&two, "bob").await);
    let told = disconnect(&one, Target::ClientId("alice".to_owned())).await.unwrap();
    assert_eq!((told.disconnected_count, told.replica_count, told.silent_count), (3, 3, 0));
    for client in [&mut here, &mut there, &mut again] {
        client.ended_with(Code::Unavailable, "DISCONNECTED").await;
    }
    assert_eq!(two.connections(), 1, "others are left alone");
    let rows = get(two.admin, "/connections", "").await.json();
    let id = rows["connections"][0]["connection_id"].as_str().unwrap().to_owned();
    let told = disconnect(&three, Target::ConnectionId(id.clone())).await.unwrap();
    assert_eq!((told.disconnected_count, told.replica_count, told.silent_count), (1, 3, 0));
    let mut bystander = bystander;
    bystander.ended_with(Code::Unavailable, "DISCONNECTED").await;
    two.emptied().await;
    let none = disconnect(&three, Target::ConnectionId(id)).await.unwrap_err();
    assert_status(&none, Code::NotFound, "NOT_FOUND");
    for server in [one, two, three] {
        server.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_disconnects_is_told_who_did_not_answer() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let (one, two) = (replica_with(&nats, &[("broker.nats.replica_timeout", "60s")]).await, replica(&nats).await);
    let (mut here, _there) = (connect(&one, "alice").await, connect(&two, "alice").await);
    assert_eq!(disconnect(&one, Target::ClientId("bob".to_owned())).await.unwrap().replica_count, 2);
    nats.kill();
    let told = disconnect(&one, Target::ClientId("alice".to_owned())).await.unwrap();
    assert_eq!((told.disconnected_count, told.replica_count, told.silent_count), (1, 1, 1));
    here.ended_with(Code::Unavailable, "DISCONNECTED").await;
    assert_eq!(two.connections(), 1);
    one.leave().await;
    two.leave().await;
}
