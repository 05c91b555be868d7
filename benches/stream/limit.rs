//! What no server can be faster than, here: threads that receive bytes and `send` them on, without framing, runtime,
//! queue or anything to be understood. A burst that is read at once goes to each socket in one `send`.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

/// The first byte of a connection whose bytes are sent back.
pub const ECHO: u8 = b'E';
/// The first byte of one whose bytes are sent to all subscribers, then back: that is the acknowledgement.
pub const PUBLISHER: u8 = b'P';
/// The first byte of one that receives what publishers send.
pub const SUBSCRIBER: u8 = b'S';

/// Read at once, bytes.
const BUFFER: usize = 64 * 1024;

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// Serves until killed; says where it listens on stderr.
pub fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening {}", listener.local_addr()?);
    let subscribers = Subscribers::default();
    loop {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut role = [0];
        socket.read_exact(&mut role)?;
        socket.write_all(&role)?;
        let to = Arc::clone(&subscribers);
        match role[0] {
            SUBSCRIBER => {
                socket.set_nonblocking(true)?;
                subscribers.lock().push(socket);
            }
            // Its thread ends with it, as `read` does.
            PUBLISHER => drop(thread::spawn(move || pass_on(&mut socket, |bytes| send_all(&to, bytes)))),
            _ => drop(thread::spawn(move || pass_on(&mut socket, |_| ()))),
        }
    }
}

/// Hands on what comes, and sends it back, until the peer has gone.
fn pass_on(socket: &mut TcpStream, each: impl Fn(&[u8])) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length) = socket.read(&mut buffer) {
        if length == 0 {
            return;
        }
        each(&buffer[..length]);
        if socket.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// To everybody who is still there. One that takes less is cut off, which the generator would notice.
fn send_all(subscribers: &Subscribers, bytes: &[u8]) {
    subscribers.lock().retain_mut(|subscriber| subscriber.write(bytes).is_ok_and(|sent| sent == bytes.len()));
}
