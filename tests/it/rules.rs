//! The rules of the protocol, one by one, each under its number and its name. What a rule needs beyond its statement is
//! tested where its subject is.

mod errors;
mod flow;
mod keyed;
mod order;
mod policy;
mod presence;
mod resume;
mod scope;

use bowline::proto::v1::OpenSession;

use crate::support::open;

fn named(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), ..open(session, topic) }
}
