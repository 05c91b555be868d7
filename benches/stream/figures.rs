//! What is to be done, and what was found.

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    contenders::{Programs, Server, Who},
    idle,
    secure::Files,
    start, storm,
    talker::{Role, Shape, Talker},
    work::{Clock, Running, Sample, Work},
};

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What it is.
    pub what: &'static str,
    /// Of that.
    pub value: f64,
}

/// What one measurement found; the first is what contenders are compared by.
pub type Figures = Vec<Figure>;

/// Makes one.
pub fn figure(what: &'static str, value: f64) -> Figure {
    Figure { what, value }
}

/// Something that is measured.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// On the same connections in all rounds.
    Work(Work),
    /// The same for longer: for work that is judged by its waits, of which there have to be enough.
    Long { work: Work, length: Duration },
    /// The same on new ones in each, to the same server: whoever has stopped reading is given up in time.
    Anew { work: Work, length: Duration },
    /// On the same, to a server that allows one address as many topics as it likes.
    Many(Work),
    /// Publishes to one topic that keeps so many events, and has them.
    History(usize),
    /// CPU time of so many more connections, to those of the rounds before.
    Opening(usize),
    /// Memory of so many connections, on average of so many servers: where one with a collector of garbage is, is chance.
    Connections { count: usize, shape: Shape, servers: usize },
    /// Memory of so many more sessions on each of so many connections.
    Sessions { connections: usize, more: usize },
    /// CPU time of so many connections that do nothing.
    Quiet(usize),
    /// So many subscribers come back.
    Storm(usize),
    /// How long a start takes.
    Start,
}

impl From<Work> for Task {
    fn from(work: Work) -> Self {
        Self::Work(work)
    }
}

/// One who is measured, with its server and its connections if they live through all rounds.
pub struct Measured<'a> {
    /// Where programs are.
    pub programs: &'a Programs,
    /// Which server.
    pub who: Who,
    /// What it has to do.
    pub task: Task,
    /// Started when it is first needed.
    pub server: Option<Server>,
    /// Begun when it first has its turn. Nobody else works meanwhile.
    pub running: Option<Running>,
    /// Those of [`Task::Opening`].
    pub opened: Vec<Talker>,
}

impl Measured<'_> {
    /// One round. `topic` is one that nobody else uses.
    pub async fn round(&mut self, topic: &str, clock: Clock) -> Result<Figures> {
        match self.task {
            Task::Work(work) => {
                let sample = self.turn(work, &[], topic, clock).await?;
                Ok(of_traffic(&sample, matches!(work, Work::PingPong)))
            }
            Task::Long { work, length } => {
                Ok(of_traffic(&self.turn(work, &[], topic, Clock { length, ..clock }).await?, true))
            }
            Task::Anew { work, length } => {
                self.running = None;
                Ok(of_traffic(&self.turn(work, &[], topic, Clock { warm_up: FILLED, length }).await?, true))
            }
            Task::Many(work) => {
                let settings = [("BOWLINE__TOPICS__MAX_PER_CLIENT", "0")];
                Ok(of_traffic(&self.turn(work, &settings, topic, clock).await?, false))
            }
            Task::History(kept) => {
                self.fill_history(kept).await?;
                let work = Work::Publish { connections: 1, sessions: 1, window: WINDOW };
                Ok(of_traffic(&self.turn(work, &[], "history", clock).await?, false))
            }
            Task::Opening(count) => {
                let (figures, opened) = idle::opening(self.server(&[])?, count).await?;
                self.opened.extend(opened);
                Ok(figures)
            }
            Task::Connections { count, shape, servers } => {
                let files = shape.tls.map(|_| Files::new());
                let mut all = Vec::new();
                for _ in 0..servers {
                    let server = self.programs.start(self.who, &[], files.as_ref())?;
                    all.push(idle::connections(&server, count, shape).await?);
                }
                Ok(average(&all))
            }
            Task::Sessions { connections, more } => {
                Ok(idle::sessions(&self.new_server(&[])?, connections, more).await?)
            }
            Task::Quiet(count) => Ok(idle::quiet(&self.new_server(&[])?, count).await?),
            Task::Storm(count) => Ok(storm::measure(&self.new_server(&[])?, count).await?),
            Task::Start => start::measure(self.programs, self.who).await,
        }
    }

    fn new_server(&self, settings: &[(&str, &str)]) -> Result<Server> {
        self.programs.start(self.who, settings, None)
    }

    /// The one that lives through all rounds.
    fn server(&mut self, settings: &[(&str, &str)]) -> Result<&Server> {
        if self.server.is_none() {
            self.server = Some(self.new_server(settings)?);
        }
        self.server.as_ref().context("a server")
    }

    async fn turn(&mut self, work: Work, settings: &[(&str, &str)], topic: &str, clock: Clock) -> Result<Sample> {
        if self.running.is_none() {
            let server = self.server(settings)?;
            self.running = Some(work.begin(&server.stage, topic).await?);
        }
        let running = self.running.as_mut().context("its connections")?;
        Ok(running.turn(clock).await?)
    }

    /// Sees to a server whose topic `bench.history.0` is as full as it may be.
    async fn fill_history(&mut self, kept: usize) -> Result<()> {
        if self.server.is_none() {
            let mut file = tempfile::NamedTempFile::new()?;
            writeln!(
                file,
                "[[topics.rules]]\npattern = \"bench.>\"\nclass = \"log\"\n\
                 history = {{ max_events = {kept}, max_bytes = \"2GiB\", max_age = \"1day\" }}"
            )?;
            let path = file.path().to_str().context("a path of characters")?;
            let server = self.new_server(&[("BOWLINE_CONFIG", path)])?;
            let mut filler = Talker::open(&server.stage, Role::Publisher, "bench.history.0", Shape::ONE).await?;
            while filler.seen() < kept as u64 {
                (0..WINDOW).for_each(|_| filler.send());
                let before = filler.seen();
                while filler.seen() < before + WINDOW {
                    filler.receive().await?;
                }
            }
            self.server = Some(server);
        }
        Ok(())
    }
}

/// Of each figure.
fn average(all: &[Figures]) -> Figures {
    let mut figures = all[0].clone();
    for (n, figure) in figures.iter_mut().enumerate() {
        figure.value = all.iter().map(|figures| figures[n].value).sum::<f64>() / all.len() as f64;
    }
    figures
}

/// After this whoever does not read has all that its kernel takes for it.
const FILLED: Duration = Duration::from_secs(1);
/// Publishes in flight.
const WINDOW: u64 = 64;

/// With the longest waits only if there are so many that a hundredth of them is some.
fn of_traffic(sample: &Sample, enough: bool) -> Figures {
    let each = sample.messages as f64;
    let mut figures = vec![
        figure("CPU µs", sample.cost()),
        figure("per second", each / sample.wall.as_secs_f64()),
        figure("generator's CPU µs", sample.generator.as_secs_f64() * 1e6 / each),
        figure("memory, MiB", sample.resident_kib as f64 / 1024.0),
    ];
    if !sample.waits.is_empty() {
        figures.push(figure("wait p50, µs", sample.percentile(50.0)));
    }
    if enough {
        figures.push(figure("wait p99, µs", sample.percentile(99.0)));
    }
    figures
}
