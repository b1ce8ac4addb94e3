//! The feed of the soak: a server that keeps its rate whatever happens, cuts connections and makes keys
//! die, and knows of each connection what it has sent. `run` says how it is used.
//!
//! Its first line on stdout says where it listens. It begins when all subscriptions are connected, writes
//! `over` after the time it was given, and, when the last client has gone, a line for each connection.
//!
//! Frames are made-up ones of monitoring, and each has a field more at its end: the numbers of its
//! connection and of itself. Each tenth is followed by a ping, whose pong says what is kept.
#![allow(clippy::unwrap_used, reason = "a soak that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "it is what the server says")]

use std::{
    env, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use centralcap::synth::{self, Synth};
use futures_util::{SinkExt, StreamExt};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

/// How often frames are dealt out.
const TICK: Duration = Duration::from_millis(10);

/// A cut takes one connection of so many.
const GROUPS: usize = 5;

/// How often a connection is asked what is kept, in frames.
const PING_EVERY: u64 = 10;

/// The field behind the frame's own ones, and its length: protobuf, field 15, 16 bytes.
const NUMBERS: [u8; 2] = [15 << 3 | 2, 16];

/// How a connection ends from this side.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Without a word, behind all that was sent.
    End,
    /// With a reset: what is under way is lost.
    Reset,
}

#[derive(Debug)]
enum Order {
    Frame,
    Cut(Cut),
}

/// What became of a connection.
struct Story {
    connection: u64,
    subscription: usize,
    sent: u64,
    /// So many are kept for sure: the client has said so.
    kept: u64,
    end: &'static str,
}

struct Soak {
    frames: Vec<Bytes>,
    /// Of each subscription: which of its keys is good, and who is connected.
    seats: Mutex<Vec<Seat>>,
    connections: AtomicU64,
    stories: Mutex<Vec<Story>>,
}

#[derive(Default)]
struct Seat {
    key: u64,
    connected: Option<(u64, mpsc::UnboundedSender<Order>)>,
}

fn key(subscription: usize, number: u64) -> String {
    format!("synthetic-key-{subscription}-{number}")
}

/// The subscription of a key, be it good or not.
fn subscription_of(key: &str) -> Option<usize> {
    key.strip_prefix("synthetic-key-")?.split('-').next()?.parse().ok()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [ca, numbers @ ..] = &*arguments else { return };
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let [subscriptions, rate, seconds, cut_every, keys_every] = *numbers else { return };

    let options = synth::Options {
        topics: vec!["monitoring".to_owned()],
        messages: 5_000,
        devices: 200,
        ..synth::Options::default()
    };
    let frames = Synth::new(&options).unwrap();
    let frames = frames.filter_map(|entry| Some(Bytes::copy_from_slice(&entry.frame()?.data)));
    let soak = Arc::new(Soak {
        frames: frames.collect(),
        seats: Mutex::new((0..subscriptions).map(|_| Seat::default()).collect()),
        connections: AtomicU64::new(0),
        stories: Mutex::default(),
    });

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = identity(ca);
    println!("{}", json!({ "hostname": address.to_string() }));
    let accepting = tokio::spawn({
        let soak = Arc::clone(&soak);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (soak, acceptor) = (Arc::clone(&soak), acceptor.clone());
                tokio::spawn(async move { soak.welcome(acceptor, stream).await });
            }
        }
    });

    while soak.connected() < subscriptions {
        sleep(TICK).await;
    }
    println!("{}", json!({ "event": "begun" }));
    let every = (Duration::from_secs(cut_every), Duration::from_secs(keys_every));
    let dealt = soak.deal(rate, Duration::from_secs(seconds), every).await;
    println!("{}", json!({ "event": "over", "frames": dealt }));
    while soak.connected() > 0 {
        sleep(TICK).await;
    }
    accepting.abort();
    for story in soak.stories.lock().unwrap().iter() {
        let Story { connection, subscription, sent, kept, end } = story;
        let subscription = format!("c{subscription:04}");
        let story = json!({ "connection": connection, "subscription": subscription, "sent": sent,
            "kept": kept, "end": end });
        println!("{story}");
    }
}

/// A certificate for this run, which is its own authority.
fn identity(ca: &str) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(ca, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

impl Soak {
    fn connected(&self) -> u64 {
        let seats = self.seats.lock().unwrap();
        seats.iter().filter(|seat| seat.connected.is_some()).count() as u64
    }

    /// Deals out frames to whoever is connected, in turn, so that the rate is the same also while some
    /// are not; and cuts. Returns how many it were.
    async fn deal(&self, rate: u64, time: Duration, every: (Duration, Duration)) -> u64 {
        let begun = Instant::now();
        let (cut_every, keys_every) = every;
        let (mut dealt, mut turn, mut cuts, mut renewals) = (0, 0, 0, 0);
        while begun.elapsed() < time {
            sleep_until(Instant::now() + TICK).await;
            let elapsed = begun.elapsed().min(time);
            let due = elapsed.as_millis() as u64 * rate / 1000;
            let mut seats = self.seats.lock().unwrap();
            while dealt < due {
                turn = (turn + 1) % seats.len();
                if let Some((_, orders)) = &seats[turn].connected {
                    dealt += u64::from(orders.send(Order::Frame).is_ok());
                }
            }
            // None so late that those who are cut could not be back.
            let is_time = |every: Duration, done: u32| elapsed >= every * (done + 1);
            if elapsed + cut_every / 2 < time && is_time(cut_every, cuts) {
                let how = if cuts % 2 == 0 { Cut::End } else { Cut::Reset };
                let renews = is_time(keys_every, renewals);
                renewals += u32::from(renews);
                let group = cuts as usize % GROUPS;
                for seat in seats.iter_mut().skip(group).step_by(GROUPS) {
                    seat.key += u64::from(renews);
                    if let Some((_, orders)) = &seat.connected {
                        let _ = orders.send(Order::Cut(how));
                    }
                }
                cuts += 1;
            }
        }
        dealt
    }

    /// One connection: a client of the feed, or somebody who asks for a key.
    async fn welcome(&self, acceptor: TlsAcceptor, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut stream = acceptor.accept(stream).await.ok()?;
        let head = head(&mut stream).await?;
        let value = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.trim())
        };
        let asked = value("authorization")?;
        let subscription = subscription_of(asked)?;
        let good = key(subscription, self.seats.lock().unwrap()[subscription].key);
        if head.starts_with("GET /streaming/token/validate ") {
            let body = json!({ "token": good }).to_string();
            return answer(stream, "200 OK", &body).await;
        }
        if asked != good {
            return answer(stream, "401 Unauthorized", "Unauthorized\n").await;
        }
        let accept = derive_accept_key(value("sec-websocket-key")?.as_bytes());
        let upgrade = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;

        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (orders, ordered) = mpsc::unbounded_channel();
        self.seats.lock().unwrap()[subscription].connected = Some((connection, orders));
        let story = Story { connection, subscription, sent: 0, kept: 0, end: "" };
        let story = self.serve(socket, ordered, story).await;
        let seat = &mut self.seats.lock().unwrap()[subscription];
        if seat.connected.as_ref().is_some_and(|(connected, _)| *connected == connection) {
            seat.connected = None;
        }
        self.stories.lock().unwrap().push(story);
        Some(())
    }

    /// Sends what was ordered until the connection ends, and all that was before it says goodbye.
    async fn serve(
        &self,
        mut socket: WebSocketStream<TlsStream<TcpStream>>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut story: Story,
    ) -> Story {
        let mut together = Vec::new();
        loop {
            together.clear();
            tokio::select! {
                biased;
                message = socket.next() => match message {
                    Some(Ok(Message::Pong(number))) => {
                        story.kept = str::from_utf8(&number).unwrap().parse().unwrap();
                    }
                    Some(Ok(Message::Close(_))) => {
                        // The answer, and then the end of the stream.
                        let _ = timeout(Duration::from_secs(5), async {
                            while let Some(Ok(_)) = socket.next().await {}
                        })
                        .await;
                        return Story { end: "goodbye", ..story };
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Story { end: "lost", ..story },
                },
                _ = orders.recv_many(&mut together, 64) => {
                    for order in together.drain(..) {
                        let Order::Cut(cut) = order else {
                            story.sent += 1;
                            let frame = self.numbered(story.connection, story.sent);
                            let mut sent = socket.feed(Message::Binary(frame)).await;
                            if sent.is_ok() && story.sent.is_multiple_of(PING_EVERY) {
                                let number = Bytes::from(story.sent.to_string());
                                sent = socket.feed(Message::Ping(number)).await;
                            }
                            if sent.is_err() {
                                return Story { end: "lost", ..story };
                            }
                            continue;
                        };
                        if socket.flush().await.is_err() {
                            return Story { end: "lost", ..story };
                        }
                        return cut.make(socket, story).await;
                    }
                    if socket.flush().await.is_err() {
                        return Story { end: "lost", ..story };
                    }
                }
            }
        }
    }

    fn numbered(&self, connection: u64, number: u64) -> Bytes {
        let which = (connection * 37 + number) as usize % self.frames.len();
        let mut frame = BytesMut::from(&*self.frames[which]);
        frame.extend_from_slice(&NUMBERS);
        frame.put_u64(connection);
        frame.put_u64(number);
        frame.freeze()
    }
}

impl Cut {
    async fn make(self, mut socket: WebSocketStream<TlsStream<TcpStream>>, story: Story) -> Story {
        let stream = socket.get_mut().get_mut().0;
        match self {
            Self::End => {
                let _ = stream.shutdown().await;
                // Closing with something unread would be a reset.
                let mut rest = [0; 4096];
                let _ = timeout(Duration::from_secs(20), async {
                    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                })
                .await;
                Story { end: "end", ..story }
            }
            Self::Reset => {
                stream.set_zero_linger().unwrap();
                Story { end: "reset", ..story }
            }
        }
    }
}

async fn head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

async fn answer(mut stream: TlsStream<TcpStream>, status: &str, body: &str) -> Option<()> {
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}
