//! What stands in the place of NATS in a build without it: nothing of it can be made, so nothing of it can be asked.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;

use super::{
    Listener, Publishing, config,
    finding::{Finding, Needs},
    fleet::{Claimed, Handler, Holder, Legacy, Lost, Matter, Previous, Taking, Told},
    memory::Memory,
};
use crate::{
    error::Failure,
    lifecycle::Tasks,
    log::{Limits, Log, Total},
    telemetry::metrics::{Metrics, words::BridgeIn},
    types::{Claim, Cursor, Durability, NewEvent, Producer, Topic},
};

/// Why there is none.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("broker.kind is \"nats\", and this program was built without it: `make release` and the image have it")]
pub struct Unusable;

/// See the module.
#[derive(Debug)]
pub enum Nats {}

/// See the module.
#[derive(Debug)]
pub enum Entry {}

/// See the module.
#[derive(Debug)]
pub enum Fleet {}

/// What the engine would be to hold to.
#[derive(Debug)]
pub struct Bounds {
    /// For how long repeats would be recognised.
    pub dedupe_window: Duration,
    /// Whether topics would be asked for whose events are on disk before they are confirmed.
    pub synced: bool,
    /// Most topics open here.
    pub max_topics: usize,
    /// Where what they hold would be counted.
    pub total: Total,
    /// Where everything else would be.
    pub metrics: Arc<Metrics>,
}

/// Says that there is none.
#[allow(clippy::unused_async, reason = "as it is where there is one")]
pub async fn examine(_: &config::Nats, _: Needs) -> Vec<Finding> {
    vec![Finding::problem("build", Unusable.to_string(), "use the image, or a program that `make release` has built")]
}

/// See the module.
#[derive(Debug)]
pub enum Inlet {}

/// See the module.
#[derive(Debug)]
pub enum Hearing {}

#[allow(clippy::unused_async, reason = "as it is where there is one")]
impl Inlet {
    /// There is none.
    pub fn subject(&self) -> &str {
        match *self {}
    }

    /// There is none.
    pub async fn hear(self) -> Result<Hearing, Unusable> {
        match self {}
    }
}

#[allow(clippy::unused_async, reason = "as it is where there is one")]
impl Hearing {
    /// There is none.
    pub async fn next(&mut self) -> Option<Result<(Topic, NewEvent), BridgeIn>> {
        match *self {}
    }

    /// There is none.
    pub fn heard(&self) -> u64 {
        match *self {}
    }

    /// There is none.
    pub async fn stop_after(&mut self, _: u64) {
        match *self {}
    }

    /// There is none.
    pub async fn stop(&mut self) {
        match *self {}
    }
}

#[allow(clippy::unused_async, reason = "as it is where there is one")]
impl Nats {
    /// Says that there is none.
    pub async fn start(_: config::Nats, _: Bounds, _: &str, _: &Tasks) -> Result<Self, Unusable> {
        Err(Unusable)
    }

    pub(super) fn open(&self, _: &Topic, _: Limits, _: Durability) -> Result<Arc<Entry>, Failure> {
        match *self {}
    }

    pub(super) fn find(&self, _: &Topic) -> Option<Arc<Entry>> {
        match *self {}
    }

    pub(super) fn inlets(&self) -> Vec<Inlet> {
        match *self {}
    }

    pub(super) fn private(&self) -> &Memory {
        match *self {}
    }

    pub(super) fn fleet(&self) -> Arc<Fleet> {
        match *self {}
    }

    pub(super) fn canary(&self) -> Arc<Entry> {
        match *self {}
    }

    pub(super) fn make_room(&self) -> u64 {
        match *self {}
    }

    pub(super) fn list(&self, _: &str, _: &str, _: usize) -> Vec<(Topic, Arc<Entry>)> {
        match *self {}
    }

    pub(super) fn sweep(&self) -> Vec<Topic> {
        match *self {}
    }

    pub(super) fn topic_count(&self) -> usize {
        match *self {}
    }
}

#[allow(clippy::unused_async, reason = "as it is where there is one")]
impl Fleet {
    pub(super) fn serve(&self, _: Matter, _: Handler) {
        match *self {}
    }

    pub(super) async fn tell(&self, _: Matter, _: Bytes) -> Told {
        match *self {}
    }

    pub(super) async fn claim(&self, _: &Taking) -> Result<Claimed, Failure> {
        match *self {}
    }

    pub(super) fn hold(&self, _: Weak<dyn Holder>) {
        match *self {}
    }

    pub(super) async fn lost(&self, _: Duration) -> Lost {
        match *self {}
    }

    pub(super) async fn buried(&self, _: Lost) {
        match *self {}
    }

    pub(super) fn abandon(&self, _: Producer, _: Vec<Previous>, _: Claim) {
        match *self {}
    }

    pub(super) fn bequeath(&self, _: Vec<Legacy>) {
        match *self {}
    }

    pub(super) async fn stands(&self, _: Claim) -> Result<bool, Failure> {
        match *self {}
    }

    pub(super) fn give_back(&self, _: Vec<Claim>) {
        match *self {}
    }
}

impl Entry {
    pub(super) fn publish(&self, _: NewEvent) -> Publishing {
        match *self {}
    }

    pub(super) fn ready(&self) -> Option<BoxFuture<'static, Result<(), Failure>>> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "as it is where there is one")]
    pub(super) async fn reaches(&self, _: Cursor) -> Result<(), Failure> {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "as it is where there is one")]
    pub(super) async fn current(&self) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn owned(&self, _: &Producer) -> Vec<(Bytes, u64)> {
        match *self {}
    }

    pub(super) fn remove(&self, _: &Producer, _: Vec<(Bytes, u64)>, _: Option<Claim>) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "as it is where there is one")]
    pub(super) async fn fence(&self, _: &Producer, _: Claim) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn log(&self) -> &RwLock<Log> {
        match *self {}
    }

    pub(super) fn listen(&self, _: Weak<dyn Listener>) {
        match *self {}
    }
}
