//! A feed that follows a script: one reply for each connection, in order, over plain TCP. When the
//! script is over, connections are refused.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Barrier, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use centralcap::net::ws::{Incoming, MESSAGE_LIMIT, Socket};

/// What happens on one connection.
pub enum Reply {
    /// The upgrade is accepted, and this is said.
    Feed(Vec<Say>),
    /// An HTTP answer: status line without the version, and body.
    Answer(&'static str, String),
    /// Bytes that are no HTTP.
    Garbage(&'static [u8]),
    /// The connection is closed without a word.
    HangUp,
}

/// What a feed says.
pub enum Say {
    Binary(Bytes),
    Text(&'static str),
    /// Waits until the client has answered a ping, so everything before it is settled; then meets the
    /// test at the barrier twice: to say so, and to go on.
    Settle(Arc<Barrier>),
    /// Reads on until the client says goodbye, and answers.
    Stay,
    /// Closes properly.
    Close(u16, &'static str),
    /// Closes the connection without a close frame.
    Drop,
}

/// The running feed.
pub struct Feed {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _thread: JoinHandle<()>,
}

impl Feed {
    pub fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let thread = std::thread::spawn(move || {
            for reply in script {
                let Ok((stream, _)) = listener.accept() else { return };
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                serve(stream, reply, &seen);
            }
        });
        Self { address, heads, _thread: thread }
    }

    /// What `--hostname` takes.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, reply: Reply, heads: &Mutex<Vec<String>>) {
    if matches!(reply, Reply::HangUp) {
        return;
    }
    let Some(head) = read_head(&mut stream) else { return };
    heads.lock().unwrap().push(head.clone());
    // Whoever has seen enough may hang up on us at any time.
    let _ = match reply {
        Reply::Feed(said) => feed(stream, &head, said),
        Reply::Answer(status, body) => {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes())
        }
        Reply::Garbage(bytes) => stream.write_all(bytes),
        Reply::HangUp => Ok(()),
    };
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn feed(mut stream: TcpStream, head: &str, said: Vec<Say>) -> std::io::Result<()> {
    let key = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        })
        .unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    let mut socket = Socket::server(&[], MESSAGE_LIMIT);
    for say in said {
        match say {
            Say::Binary(data) => socket.send_binary(data),
            Say::Text(text) => socket.send_text(text),
            Say::Settle(barrier) => {
                socket.send_ping(Bytes::from_static(b"settled?"));
                flush(&mut stream, &mut socket)?;
                // Nothing else comes from a client that has nothing to say.
                let mut buffer = [0; 64];
                let count = stream.read(&mut buffer)?;
                socket.received(&buffer[..count]);
                barrier.wait();
                barrier.wait();
            }
            Say::Stay => {
                flush(&mut stream, &mut socket)?;
                return until_goodbye(&mut stream, &mut socket);
            }
            Say::Close(code, reason) => {
                socket.send_close(code, reason);
                flush(&mut stream, &mut socket)?;
                return until_goodbye(&mut stream, &mut socket);
            }
            Say::Drop => {
                flush(&mut stream, &mut socket)?;
                return stream.shutdown(Shutdown::Both);
            }
        }
    }
    flush(&mut stream, &mut socket)
}

fn flush(stream: &mut TcpStream, socket: &mut Socket) -> std::io::Result<()> {
    let output = socket.output().to_vec();
    stream.write_all(&output)?;
    socket.sent(output.len());
    Ok(())
}

fn until_goodbye(stream: &mut TcpStream, socket: &mut Socket) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        socket.received(&buffer[..count]);
        while let Ok(Some(message)) = socket.next() {
            if matches!(message, Incoming::Close { .. }) {
                return flush(stream, socket);
            }
        }
        flush(stream, socket)?;
    }
}
