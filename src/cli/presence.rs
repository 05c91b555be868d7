//! `bowline presence`.

use clap::Args as ClapArgs;
use jiff::tz::TimeZone;

use super::{
    exit::{Stop, notice},
    interrupt::Interrupt,
    json,
    output::Output,
    pages::{self, Topics},
    people::{self, People},
    server::{ClientArgs, Standing},
};
use crate::{
    client::{Change, Client},
    proto::v1::{GetPresenceRequest, GetPresenceResponse, Member},
};

/// The end of `bowline presence --help`.
const EXAMPLES: &str = "\
Examples:
  bowline presence chat.lobby             who is there: client, session, since when
  bowline presence chat.lobby --follow    and who joins (+) and leaves (-)
  bowline presence chat.lobby --json

Who is there has opened a session with presence, as `bowline chat` does and
`bowline sub --presence TEXT`. A connection that is lost counts as a leave once
the server's session.key_grace (15 s) is over.

JSON:
  {\"client_id\", \"session_id\", \"since_us\", \"info\"} for each member; info that is
  no text is \"info_base64\", and empty info does not stand there. With --follow
  each line is {\"joined\": {..}} or {\"left\": {..}}; those who are there already
  join at the start.";

/// Print who is in a topic, by client and session.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic, such as chat.lobby.
    topic: String,
    /// Go on with who joins and who leaves.
    #[arg(long)]
    follow: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    if args.follow { args.follow().await } else { args.list().await }
}

impl Args {
    async fn list(&self) -> Result<(), Stop> {
        let zone = TimeZone::system();
        let ask = async |topics: &mut Topics, request| topics.get_presence(request).await;
        let show = |page: GetPresenceResponse, text: &mut Vec<u8>| {
            for member in &page.members {
                if self.json {
                    json::line(text, &json::MemberLine::new(member));
                } else {
                    text.extend_from_slice(format!("{}\n", people::row(member, &zone)).as_bytes());
                }
            }
            (!page.next_page_token.is_empty()).then(|| self.after(page.next_page_token))
        };
        pages::print(&self.client.server, self.after(String::new()), ask, show).await
    }

    fn after(&self, page_token: String) -> GetPresenceRequest {
        GetPresenceRequest { topic: self.topic.clone(), page_size: pages::SIZE, page_token }
    }

    async fn follow(&self) -> Result<(), Stop> {
        let mut interrupt = Interrupt::listen()?;
        let connecting = self.client.connect(None);
        let client = interrupt.or(connecting).await??;
        let following = self.print_changes(&client);
        let ended = interrupt.or(following).await.and_then(|ended| ended);
        interrupt.or(client.close()).await.ok();
        ended
    }

    async fn print_changes(&self, client: &Client) -> Result<(), Stop> {
        let stop = |error| self.client.server.stop(&error);
        let mut output = Output::stdout().map_err(|error| Stop::stdout(&error))?;
        let mut people = People::open(client, &self.topic).await.map_err(stop)?;
        let mut standing = Standing::new(client);
        let zone = TimeZone::system();
        loop {
            let changes = tokio::select! {
                changes = people.next() => changes.map_err(stop)?,
                sentence = standing.next() => {
                    notice(sentence);
                    continue;
                }
            };
            let Some(changes) = changes else { return Ok(()) };
            let mut lines: Vec<_> = changes.into_iter().filter_map(|change| moved(&people, change)).collect();
            lines.sort_by(|(a, _), (b, _)| (&a.client_id, &a.session_id).cmp(&(&b.client_id, &b.session_id)));
            let mut text = Vec::new();
            for (member, joined) in &lines {
                self.print(&mut text, member, *joined, &zone);
            }
            output.write(&text).map_err(|error| Stop::stdout(&error))?;
        }
    }

    fn print(&self, text: &mut Vec<u8>, member: &Member, joined: bool, zone: &TimeZone) {
        if self.json {
            let word = if joined { "joined" } else { "left" };
            json::line(text, &std::collections::BTreeMap::from([(word, json::MemberLine::new(member))]));
        } else {
            let sign = if joined { '+' } else { '-' };
            text.extend_from_slice(format!("{sign} {}\n", people::row(member, zone)).as_bytes());
        }
    }
}

/// Who moved, and whether to here.
fn moved(people: &People, change: Change) -> Option<(Member, bool)> {
    match change {
        Change::Put { key, .. } => people.get(&key).map(|member| (member, true)),
        Change::Removed { before } => Some((people::member(&before), false)),
    }
}
