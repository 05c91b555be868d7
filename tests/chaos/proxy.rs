//! A way to a server that can be cut.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Listens as long as the process lives; carries bytes both ways until it is told to cut.
pub struct Proxy {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn open(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, sockets) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let carried = sockets.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Where nobody listens, the client finds that out by the end of its socket.
                let Ok(server) = TcpStream::connect(server) else { continue };
                carried.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(client, server));
                thread::spawn(move || carry(server_too, client_too));
            }
        });
        Self { address, sockets }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts whatever is there, in the middle of whatever was being said. How many sockets that were.
    pub fn cut(&self) -> usize {
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap());
        sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
        sockets.len()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    from.set_nodelay(true).ok();
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
        && to.write_all(&buffer[..read]).is_ok()
    {}
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
