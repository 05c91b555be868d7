//! `grpc.health.v1`: what load balancers and clients may know of [`Health`].

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::{
    error::{Failure, Reason},
    health::{Health, Watch},
    proto::health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
        health_server::{Health as Rpc, HealthServer},
    },
};

/// The service, ready to be mounted.
pub fn service(health: Health) -> HealthServer<impl Rpc> {
    HealthServer::new(HealthService { health })
}

#[derive(Debug)]
struct HealthService {
    health: Health,
}

#[tonic::async_trait]
impl Rpc for HealthService {
    /// NOT_FOUND for a service that is not known.
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.health.service(&request.get_ref().service) {
            Some(serving) => Ok(Response::new(response(status(Some(serving))))),
            None => Err(Failure::new(Reason::NotFound, "no such service").into()),
        }
    }

    /// Every service, and the process as a whole under the empty name.
    async fn list(&self, _request: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let services = self.health.services().into_iter();
        let statuses = services.map(|(name, serving)| (name.to_owned(), response(status(Some(serving)))));
        Ok(Response::new(HealthListResponse { statuses: statuses.collect() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The status now and each one that differs from the last sent; SERVICE_UNKNOWN while the service is not known.
    /// Ends when the drain begins, so that it does not hold up the shutdown.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching { service: request.into_inner().service, watch: self.health.watch(), last: None };
        let statuses = stream::unfold(watching, |mut watching| async {
            let status = watching.next().await?;
            Some((Ok(response(status)), watching))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

/// One `Watch` call.
struct Watching {
    service: String,
    watch: Watch,
    last: Option<ServingStatus>,
}

impl Watching {
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            // Before the status is read: whatever changes in between is then reported in the next round.
            let draining = self.watch.draining();
            let status = status(self.watch.service(&self.service));
            if self.last.replace(status) != Some(status) {
                return Some(status);
            }
            if draining {
                return None;
            }
            self.watch.changed().await;
        }
    }
}

fn status(serving: Option<bool>) -> ServingStatus {
    match serving {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::lifecycle::{Lifecycle, Phase};

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn check_follows_the_phase_and_does_not_know_strangers() {
        let lifecycle = Lifecycle::default();
        let service = HealthService { health: Health::new(&lifecycle) };
        let check = async || service.check(request("")).await.unwrap().into_inner().status();
        assert_eq!(check().await, ServingStatus::NotServing);
        lifecycle.advance(Phase::Serving);
        assert_eq!(check().await, ServingStatus::Serving);
        lifecycle.advance(Phase::LameDuck);
        assert_eq!(check().await, ServingStatus::NotServing);
        assert_eq!(service.check(request("no.Such")).await.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn list_names_the_process_and_each_service_with_its_status() {
        let lifecycle = Lifecycle::default();
        let service = HealthService { health: Health::new(&lifecycle) };
        let listed = async || {
            let statuses = service.list(Request::new(HealthListRequest {})).await.unwrap().into_inner().statuses;
            let mut listed: Vec<_> = statuses.into_iter().map(|(name, answer)| (name, answer.status())).collect();
            listed.sort();
            listed
        };
        let named = |name: &str, status| (name.to_owned(), status);
        service.health.set_service("a.A", true);
        service.health.set_service("b.B", false);
        let none = ["", "a.A", "b.B"].map(|name| named(name, ServingStatus::NotServing));
        assert_eq!(listed().await, none);
        lifecycle.advance(Phase::Serving);
        let (on, off) = (ServingStatus::Serving, ServingStatus::NotServing);
        assert_eq!(listed().await, [named("", on), named("a.A", on), named("b.B", off)]);
        lifecycle.advance(Phase::LameDuck);
        assert_eq!(listed().await, none);
    }

    #[tokio::test]
    async fn watch_sends_each_change_once_and_ends_with_the_drain() {
        let lifecycle = Lifecycle::default();
        let service = HealthService { health: Health::new(&lifecycle) };
        let mut statuses = service.watch(request("")).await.unwrap().into_inner();
        let mut next = async || statuses.next().await.map(|status| status.unwrap().status());
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        lifecycle.advance(Phase::Serving);
        assert_eq!(next().await, Some(ServingStatus::Serving));
        service.health.set_service("some.Other", true);
        assert_eq!(next().now_or_never(), None, "an unchanged status is not sent again");
        lifecycle.advance(Phase::Draining);
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn watch_of_an_unknown_service_waits_until_it_is_known() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Serving);
        let service = HealthService { health: Health::new(&lifecycle) };
        let mut statuses = service.watch(request("late.Service")).await.unwrap().into_inner();
        let mut next = async || statuses.next().await.map(|status| status.unwrap().status());
        assert_eq!(next().await, Some(ServingStatus::ServiceUnknown));
        service.health.set_service("late.Service", true);
        assert_eq!(next().await, Some(ServingStatus::Serving));
    }
}
