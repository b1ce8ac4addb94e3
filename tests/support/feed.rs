//! A feed over plain TCP that follows a script, one reply for each connection, in order, and refuses
//! connections when it is over; or one that looks at each request and serves many at once.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Barrier, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
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
    /// Meets others at the barrier, once.
    Meet(Arc<Barrier>),
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
    requests: Arc<Mutex<Vec<Request>>>,
    _thread: JoinHandle<()>,
}

/// What somebody asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// When the connection was accepted.
    pub at: Instant,
    pub head: String,
}

impl Request {
    pub fn is_renewal(&self) -> bool {
        self.head.starts_with("GET /streaming/token/validate ")
    }

    /// The key.
    pub fn key(&self) -> &str {
        header(&self.head, "authorization")
    }

    pub fn topic(&self) -> &str {
        header(&self.head, "topic")
    }
}

fn header<'h>(head: &'h str, wanted: &str) -> &'h str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map_or("", |(_, value)| value)
}

impl Feed {
    pub fn start(script: Vec<Reply>) -> Self {
        Self::listen(|listener, requests| {
            for reply in script {
                let Ok((stream, _)) = listener.accept() else { return };
                serve(stream, &requests, |_| reply);
            }
        })
    }

    /// Answers whatever is asked for, for ever.
    pub fn answering(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let reply = Arc::new(reply);
        Self::listen(move |listener, requests| {
            while let Ok((stream, _)) = listener.accept() {
                let (reply, requests) = (Arc::clone(&reply), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &requests, |request| reply(request)));
            }
        })
    }

    fn listen(
        serve_all: impl FnOnce(TcpListener, Arc<Mutex<Vec<Request>>>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let thread = std::thread::spawn(move || serve_all(listener, seen));
        Self { address, requests, _thread: thread }
    }

    /// What `--hostname` takes.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.head).collect()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    choose: impl FnOnce(&Request) -> Reply,
) {
    let at = Instant::now();
    // Much longer than a client without anything to say waits before it pings.
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let Some(head) = read_head(&mut stream) else { return };
    let request = Request { at, head: head.clone() };
    requests.lock().unwrap().push(request.clone());
    let reply = choose(&request);
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
        if read(stream, &mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// With a time limit on the socket, a read is also interrupted where the whole process is stopped for a
/// moment (signal(7)).
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn feed(mut stream: TcpStream, head: &str, said: Vec<Say>) -> std::io::Result<()> {
    let key = header(head, "sec-websocket-key");
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
                let count = read(&mut stream, &mut buffer)?;
                socket.received(&buffer[..count]);
                barrier.wait();
                barrier.wait();
            }
            Say::Meet(barrier) => {
                flush(&mut stream, &mut socket)?;
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
        let count = read(stream, &mut buffer)?;
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
