//! `bowline chat`: people in a room, a line a message.
//!
//! The terminal stays in its normal mode, so that typing works everywhere and nothing is left broken behind. A message
//! that arrives while somebody types replaces what stands on the line; the terminal still has it (Ctrl-R shows it
//! again) and Enter sends all of it.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    io::IsTerminal as _,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use clap::Args as ClapArgs;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    io::BufReader,
    time::{Instant, sleep_until},
};

use super::{
    exit::{Exit, Stop},
    interrupt::Interrupt,
    line::Lines,
    output::Output,
    people::{self, People, harmless},
    server::{Patience, ServerArgs, Standing},
    subscribe,
};
use crate::{
    client::{Client, Error, Event, Item, NewEvent, Open, Published, Session, Start},
    types::ClientId,
};

/// Longest message, bytes: more is no chat, and every server takes it.
const MAX_MESSAGE: usize = 16 * 1024;
/// How long to wait, once the input has ended, for the room to show what was said.
const FAREWELL: Duration = Duration::from_secs(5);
/// Header of a message that names the running program it came from, so that it knows its own.
const VOICE: &str = "chat-voice";

/// The end of `bowline chat --help`.
const EXAMPLES: &str = "\
Examples:
  bowline chat chat.lobby --as alice
  bowline chat chat.lobby --as bob --last 50
  echo 'build 142 is green' | bowline chat chat.builds --as ci --last 0

Type a line and press Enter to send it; Ctrl-D leaves. Where standard input is
not a terminal, the command leaves once everything was sent, and shows its own
messages like all others.

Lines that begin with * are about the room: who is there, who joins and who
leaves. `bowline presence chat.lobby` tells the same to scripts.";

/// Chat in a topic: shows who is there and what others say, and sends what you type.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic, which is the room.
    topic: String,
    /// Your name: 1 to 128 visible ASCII characters.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// Show so many of the newest messages first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    patience: Patience,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    ClientId::parse(&args.name).map_err(|invalid| {
        Stop::usage(format!("the name {:?} {}; choose another with --as", args.name, invalid.problem))
    })?;
    let mut interrupt = Interrupt::listen()?;
    let connecting = args.patience.connect(&args.server, &args.name, None);
    let client = interrupt.or(connecting).await??;
    let ended = talk(&args, &client, &mut interrupt).await;
    interrupt.or(client.close()).await.ok();
    ended
}

async fn talk(args: &Args, client: &Client, interrupt: &mut Interrupt) -> Result<(), Stop> {
    let start = if args.last == 0 { Start::Live } else { Start::Last(args.last) };
    let entering = async {
        let people = People::open(client, &args.topic).await?;
        // There once all is ready, so that nobody is greeted by a room that does not hear yet.
        let session = client.open(Open::topic(&args.topic).start(start).presence("")).await?;
        Ok((people, session))
    };
    let entered = interrupt.or(entering).await?;
    let (people, session) = entered.map_err(|error: Error| args.server.stop(&error))?;
    let output = Output::stdout().map_err(|error| Stop::stdout(&error))?;
    let room = Room {
        args,
        session,
        people,
        names: None,
        output,
        zone: TimeZone::system(),
        voice: format!("{:016x}", fastrand::u64(..)),
        typed: std::io::stdin().is_terminal(),
        terminal: std::io::stdout().is_terminal(),
        answers: FuturesOrdered::new(),
        unseen: 0,
        until: None,
        entered: false,
        head: None,
    };
    room.run(Standing::new(client), interrupt).await
}

type Answer = Pin<Box<dyn Future<Output = Result<Published, Error>> + Send>>;

/// What happens next in a room.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Step {
    Line(Option<Bytes>),
    Item(Option<Item>),
    Moved,
    Answer(Result<Published, Error>),
    News(String),
}

struct Room<'a> {
    args: &'a Args,
    session: Session,
    people: People,
    /// Those who are there, as far as was told.
    names: Option<BTreeSet<String>>,
    output: Output,
    zone: TimeZone,
    /// Value of our messages' `VOICE`.
    voice: String,
    /// Somebody types, and so sees what we send.
    typed: bool,
    terminal: bool,
    answers: FuturesOrdered<Answer>,
    /// Messages of ours that have not come back from the room.
    unseen: u64,
    /// Set once the input has ended: when to leave at the latest.
    until: Option<Instant>,
    /// The first item has come. It says what was said before; only then is it known when everything was shown.
    entered: bool,
    /// The newest offset when the room was entered; `None` once everything before was shown.
    head: Option<u64>,
}

impl Room<'_> {
    async fn run(mut self, mut standing: Standing, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut lines = Lines::new(BufReader::new(tokio::io::stdin()), MAX_MESSAGE);
        while self.until.is_none() || !self.is_quiet() {
            let (reading, until) = (self.until.is_none(), self.until.unwrap_or_else(Instant::now));
            let step = tokio::select! {
                biased;
                stop = interrupt.next() => return Err(stop),
                news = standing.next() => Step::News(news),
                item = self.session.next() => Step::Item(item),
                moved = self.people.next() => match moved {
                    Ok(Some(_)) => Step::Moved,
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(self.args.server.stop(&error)),
                },
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => Step::Answer(answer),
                () = sleep_until(until), if !reading => {
                    return Err(Stop::failure("the server has not confirmed everything that was said"));
                }
                line = lines.next(), if reading => {
                    Step::Line(line.map_err(|error| Stop::failure(error.to_string()))?)
                }
            };
            match step {
                Step::News(sentence) => self.show(&format!("* {sentence}"))?,
                Step::Item(None) => return Ok(()),
                Step::Item(Some(item)) => self.hear(item)?,
                Step::Moved => self.tell()?,
                Step::Answer(Ok(_)) => {}
                Step::Answer(Err(error)) => self.regret(&error)?,
                Step::Line(None) => self.until = Some(Instant::now() + FAREWELL),
                Step::Line(Some(line)) => interrupt.or(self.say(line)).await??,
            }
        }
        Ok(())
    }

    /// True once everything was shown: what was said before, our own messages, who is there.
    fn is_quiet(&self) -> bool {
        let shown = self.entered && self.head.is_none() && self.names.is_some();
        shown && self.unseen == 0 && self.answers.is_empty()
    }

    fn regret(&mut self, error: &Error) -> Result<(), Stop> {
        self.unseen = self.unseen.saturating_sub(1);
        self.show(&format!("* not sent: {error}"))?;
        if self.typed { Ok(()) } else { Err(Stop::new(Exit::Refused, format!("a message was not sent: {error}"))) }
    }

    /// Shows who came and who went.
    fn tell(&mut self) -> Result<(), Stop> {
        let now = self.people.names();
        let before = self.names.replace(now.clone());
        let news = people::sentences(before.as_ref(), &now, &self.args.name);
        news.iter().try_for_each(|sentence| self.show(&format!("* {sentence}")))
    }

    async fn say(&mut self, line: Bytes) -> Result<(), Stop> {
        let text = line.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        let headers = HashMap::from([(VOICE.to_owned(), self.voice.clone())]);
        let event = NewEvent { payload: line.slice_ref(text), headers, ..NewEvent::default() };
        let receipt = self.session.publish(event).await.map_err(|error| self.args.server.stop(&error))?;
        self.answers.push_back(Box::pin(receipt));
        self.unseen += 1;
        Ok(())
    }

    fn hear(&mut self, item: Item) -> Result<(), Stop> {
        self.entered = true;
        match item {
            Item::Event(received) => {
                if self.head.is_some_and(|head| head <= received.cursor.offset) {
                    self.head = None;
                }
                let own = received.event.headers.get(VOICE) == Some(&self.voice);
                if own {
                    self.unseen = self.unseen.saturating_sub(1);
                }
                if own && self.typed { Ok(()) } else { self.show(&message(&received.event, &self.zone)) }
            }
            Item::Opened(opened) => {
                self.head = (opened.start.offset < opened.head.offset).then_some(opened.head.offset);
                Ok(())
            }
            Item::Gap(gap) => {
                self.head = None;
                self.show(&format!("* {}", subscribe::describe(&gap)))
            }
            Item::Closed(Some(error)) => Err(self.args.server.stop(&error)),
            _ => Ok(()),
        }
    }

    /// Writes a line; on a terminal over what is being typed.
    fn show(&mut self, text: &str) -> Result<(), Stop> {
        let clear = if self.typed && self.terminal { "\r\x1b[K" } else { "" };
        self.output.write(format!("{clear}{text}\n").as_bytes()).map_err(|error| Stop::stdout(&error))
    }
}

/// `[12:34] name: text`, or with the day if it is not today.
fn message(event: &Event, zone: &TimeZone) -> String {
    let (time, now) = (people::local(event.time_us, zone), Timestamp::now().to_zoned(zone.clone()));
    let format = if time.date() == now.date() { "%H:%M" } else { "%d %b %H:%M" };
    let name = if event.publisher.is_empty() { "(a service)" } else { &event.publisher };
    let text = String::from_utf8_lossy(&event.payload);
    format!("[{}] {name}: {}", time.strftime(format), harmless(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_time_its_author_and_no_control_characters() {
        let event = Event {
            time_us: 1_700_000_000_000_000,
            publisher: "bob".into(),
            payload: "hi\x1b[2J\tthere".into(),
            ..Event::default()
        };
        assert_eq!(message(&event, &TimeZone::UTC), "[14 Nov 22:13] bob: hi\u{fffd}[2J\tthere");
        let now = Event { time_us: crate::types::Timestamp::now().0, ..event };
        assert_eq!(message(&now, &TimeZone::UTC).find("] bob: "), Some("[12:34".len()));
    }
}
