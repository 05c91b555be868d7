//! What the server gives a page at a time, printed to its end.

use tonic::{Request, Response, Status, transport::Channel};

use super::{exit::Stop, interrupt::Interrupt, output::Output, server::ServerArgs};
use crate::proto::v1::topic_service_client::TopicServiceClient;

/// Entries asked for at a time: the most a server returns.
pub(super) const SIZE: u32 = 1000;

/// Who answers.
pub(super) type Topics = TopicServiceClient<Channel>;

/// Asks with `first`, prints what `show` makes of the answer, and asks again with what it returns, until it returns
/// nothing.
pub(super) async fn print<Q, P>(
    server: &ServerArgs,
    first: Q,
    mut ask: impl AsyncFnMut(&mut Topics, Request<Q>) -> Result<Response<P>, Status>,
    mut show: impl FnMut(P, &mut Vec<u8>) -> Option<Q>,
) -> Result<(), Stop> {
    let mut interrupt = Interrupt::listen()?;
    let printing = async {
        let mut output = Output::stdout().map_err(|error| Stop::stdout(&error))?;
        let mut topics = Topics::new(server.channel().await?);
        let mut next = Some(first);
        while let Some(request) = next {
            let answer = ask(&mut topics, server.request(request)?).await;
            let page = answer.map_err(|status| server.rpc_stop(&status))?.into_inner();
            let mut text = Vec::new();
            next = show(page, &mut text);
            output.write(&text).map_err(|error| Stop::stdout(&error))?;
        }
        Ok(())
    };
    interrupt.or(printing).await?
}
