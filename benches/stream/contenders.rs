//! Who is measured, and how each is started: on the server's core, on ports of loopback that are free.

use std::{env, io, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    bowline::Bowline,
    centrifugo::{Api, Consume},
    cpu,
    grpc::Grpc,
    nats::Nats,
    plain::Plain,
    secure::Files,
    served::Served,
    stage::{Dial, Stage, any},
    talker::Role,
};

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// `bowline serve`.
    Bowline,
    /// The same of a program that is guided by a profile.
    Guided,
    /// The bare tonic service of `peer.rs`.
    Tonic,
    /// The one in Go, `benches/peers/grpc-go`.
    GrpcGo,
    /// nats-server, without JetStream.
    Nats,
    /// Centrifugo, with its engine in memory.
    Centrifugo,
    /// The plain `send` of `limit.rs`.
    Send,
}

/// Beside whom Bowline is measured, where a kind of work is one that they do.
pub const ALL: &[Who] = &[Who::Bowline, Who::Tonic, Who::GrpcGo, Who::Nats, Who::Centrifugo, Who::Send];

/// What Bowline is told: to take all that come. Everything else is as it comes.
pub const SETTINGS: &[(&str, &str)] = &[
    ("BOWLINE__TRANSPORT__MAX_TRANSPORTS", "15000"),
    ("BOWLINE__REGISTRY__MAX_CONNECTIONS", "15000"),
    ("BOWLINE__REGISTRY__MAX_OPENS_PER_SECOND", "0"),
];

/// A running server.
pub struct Server {
    /// Which.
    pub who: Who,
    /// Its process.
    pub served: Served,
    /// The same for those who have work done by it.
    pub stage: Stage,
}

impl Server {
    /// One that has been started; `publishers` come to an address of their own.
    fn new(who: Who, served: Served, publishers: Option<SocketAddr>) -> Self {
        let mut stage = Stage::alone(who.dial(), served.address, served.child.id());
        stage.publishers = publishers.unwrap_or(stage.publishers);
        Self { who, served, stage }
    }
}

/// Programs that this machine may not have.
#[derive(Debug, Default)]
pub struct Programs {
    /// A `bowline` that `.ci/guided` has built.
    pub guided: Option<String>,
    /// `peer-grpc-go`.
    pub grpc_go: Option<String>,
    /// `nats-server`.
    pub nats: Option<String>,
    /// `centrifugo`.
    pub centrifugo: Option<String>,
}

impl Who {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bowline => "Bowline",
            Self::Guided => "Bowline, guided",
            Self::Tonic => "tonic",
            Self::GrpcGo => "grpc-go",
            Self::Nats => "NATS",
            Self::Centrifugo => "Centrifugo",
            Self::Send => "send",
        }
    }

    fn dial(self) -> Dial {
        match self {
            Self::Bowline | Self::Guided => Bowline::dial,
            Self::Tonic | Self::GrpcGo => |address, role, _, shape| any(Grpc::open(address, role, shape)),
            Self::Nats => |address, role, topic, shape| any(Nats::open(address, role, topic, shape)),
            Self::Send => |address, role, _, shape| any(Plain::open(address, role, shape)),
            Self::Centrifugo => |address, role, topic, shape| match role {
                Role::Subscriber => any(Consume::open(address, topic, shape)),
                _ => any(Api::open(address, topic)),
            },
        }
    }

    /// Tells it to speak TLS, in its own words.
    fn secure(self, command: &mut Command, files: &Files) -> Result<()> {
        let (certificate, key) = (files.certificate(), files.key());
        match self {
            Self::Bowline | Self::Guided => {
                command.env("BOWLINE__TRANSPORT__TLS__ENABLED", "true");
                command.env("BOWLINE__TRANSPORT__TLS__CERT_FILE", certificate);
                command.env("BOWLINE__TRANSPORT__TLS__KEY_FILE", key);
            }
            Self::Tonic | Self::GrpcGo => drop(command.args([certificate, key])),
            Self::Nats => drop(command.args(["--config", &files.nats()])),
            Self::Centrifugo => {
                command.env("CENTRIFUGO_UNI_GRPC_TLS_ENABLED", "true");
                command.env("CENTRIFUGO_UNI_GRPC_TLS_CERT_PEM", certificate);
                command.env("CENTRIFUGO_UNI_GRPC_TLS_KEY_PEM", key);
            }
            Self::Send => bail!("a plain server speaks no TLS"),
        }
        Ok(())
    }
}

impl Programs {
    /// The file of a server's program, if it is here.
    pub fn file(&self, who: Who) -> Result<Option<String>> {
        Ok(match who {
            Who::Bowline => Some(env!("CARGO_BIN_EXE_bowline").to_owned()),
            Who::Guided => self.guided.clone(),
            Who::Tonic | Who::Send => Some(env::current_exe()?.to_string_lossy().into_owned()),
            Who::GrpcGo => self.grpc_go.clone(),
            Who::Nats => self.nats.clone(),
            Who::Centrifugo => self.centrifugo.clone(),
        })
    }

    /// Starts a server, which speaks TLS if it is given what it needs for that. `settings` are Bowline's, beside those it
    /// is always told.
    pub fn start(&self, who: Who, settings: &[(&str, &str)], tls: Option<&Files>) -> Result<Server> {
        let program = self.file(who)?.with_context(|| format!("{} is not here", who.name()))?;
        let mut command = cpu::on_server_core(&program);
        // A program in Go has one core; more threads would only get into each other's way.
        command.env("GOMAXPROCS", "1");
        if matches!(who, Who::Tonic | Who::Send) {
            command.arg(if who == Who::Tonic { "--serve-peer" } else { "--serve-limit" });
        }
        if let Some(files) = tls {
            who.secure(&mut command, files)?;
        }
        let served = match who {
            Who::Bowline | Who::Guided => Served::bowline(command, &[SETTINGS, settings].concat()),
            Who::Tonic | Who::Send | Who::GrpcGo => Served::spawn(command),
            Who::Nats => {
                command.args(["--addr", "127.0.0.1", "--port", "-1"]);
                Served::spawn(command)
            }
            Who::Centrifugo => return centrifugo(command),
        };
        Ok(Server::new(who, served, None))
    }
}

/// What Centrifugo is told: whoever comes may do everything, it measures itself as Bowline does, and it asks nobody
/// whether there is a newer one.
const CENTRIFUGO: [(&str, &str); 9] = [
    ("CENTRIFUGO_CLIENT_INSECURE", "true"),
    ("CENTRIFUGO_HTTP_API_INSECURE", "true"),
    ("CENTRIFUGO_HTTP_SERVER_ADDRESS", "127.0.0.1"),
    ("CENTRIFUGO_UNI_GRPC_ENABLED", "true"),
    ("CENTRIFUGO_UNI_GRPC_ADDRESS", "127.0.0.1"),
    ("CENTRIFUGO_PROMETHEUS_ENABLED", "true"),
    ("CENTRIFUGO_HEALTH_ENABLED", "true"),
    ("CENTRIFUGO_USAGE_STATS_DISABLED", "true"),
    ("CENTRIFUGO_LOG_LEVEL", "info"),
];

/// It has to be given its ports; the one for publishers opens a moment after that of clients.
fn centrifugo(mut command: Command) -> Result<Server> {
    let (clients, api) = (free_port()?, free_port()?);
    command.envs(CENTRIFUGO);
    command.env("CENTRIFUGO_UNI_GRPC_PORT", clients.to_string()).env("CENTRIFUGO_HTTP_SERVER_PORT", api.to_string());
    let served = Served::spawn_saying(command, "serving unidirectional GRPC on");
    let api = ([127, 0, 0, 1], api).into();
    for _ in 0..PATIENCE {
        if std::net::TcpStream::connect(api).is_ok() {
            return Ok(Server::new(Who::Centrifugo, served, Some(api)));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    bail!("Centrifugo does not take publishers")
}

/// How often its second port is tried.
const PATIENCE: usize = 250;

/// One below those that the system gives to clients, so that none of ours has taken it meanwhile.
fn free_port() -> io::Result<u16> {
    loop {
        let port = fastrand::u16(10_000..30_000);
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
