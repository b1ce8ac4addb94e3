//! The server's end of a connection: TLS, the HTTP request, and then a [`Peer`].
//!
//! [`welcome`] answers one request on one connection. Who may have what is a [`Gate`]'s decision; the
//! answers to those who may not are the ones that the vendor's clients know. A [`Peer`] is listened
//! to whatever else is done with it: it gets its pongs and its close answered while it is written to
//! and while nothing happens. All of its futures may be dropped half-way without losing a byte.

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming as Body,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::server::TlsStream;

use super::{
    tls::Identity,
    ws::{Broken, Incoming, Socket},
};
use crate::{
    fault::{Refusal, Request as Asked},
    protocol::{Key, Protocol},
    threads::locked,
};

mod unruly;

/// How long the TLS handshake may take, and then the request with its answer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A peer that takes nothing for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// How long the last words of a connection that is over may take.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// How long a peer that has heard them is waited for: most hang up at once, but whoever keeps the
/// connection is not to delay our end.
const LINGER_LIMIT: Duration = Duration::from_millis(20);

/// Clients have nothing to say; what they say may not be larger than this.
const CLIENT_MESSAGE_LIMIT: usize = 1024 * 1024;

/// With so much waiting to be written, nothing more is read that might have to be answered.
const ANSWERS_LIMIT: usize = 1024 * 1024;

/// Where a key is validated or renewed, as in the protocol's own `renewal`.
const VALIDATE_PATH: &str = "/streaming/token/validate";

const UNAUTHORIZED: &str = "Unauthorized\n";
const UNSUBSCRIBED_TOPIC: &str = "Unsubscribed Topic\n";

/// Decides who may have what.
pub trait Gate: Send + Sync + 'static {
    /// What whoever is let in may have.
    type Pass: Send + 'static;

    /// The protocol that is served.
    fn protocol(&self) -> &'static dyn Protocol;

    /// Whether the feed takes a key.
    fn knows(&self, key: &Key) -> bool;

    /// Which key validation answers: the same one while it is valid, else the renewed one. None if it is
    /// nobody's.
    fn validated(&self, key: &Key) -> Option<Key>;

    /// What a valid key gets for a topic; None if it is not subscribed to it.
    fn admit(&self, key: &Key, topic: &str) -> Option<Self::Pass>;

    /// It is let in: what follows is the answer that says so.
    fn enter(&self, _pass: &mut Self::Pass) {}

    /// Whether a connection that was just made gets no TLS, on purpose.
    fn breaks_tls(&self) -> bool {
        false
    }

    /// What is said, on purpose, instead of the answer to a request; the topic is empty if it names none.
    fn refusal(&self, _request: Asked, _topic: &str) -> Option<Refusal> {
        None
    }
}

/// What became of a connection.
pub enum Arrival<P> {
    /// It is a client of the feed now.
    Client(Box<Peer>, P),
    /// Its request was answered with this status and it was closed.
    Answered(u16),
}

/// Serves one connection up to the end of its request. Takes a limited time. None if the other side
/// never came up with a request.
pub async fn welcome<G: Gate>(
    stream: TcpStream,
    identity: Option<&Identity>,
    gate: Arc<G>,
) -> Option<Arrival<G::Pass>> {
    // A frame is to leave when it is due, not when there are more of them.
    let _ = stream.set_nodelay(true);
    if gate.breaks_tls() {
        let _ = timeout(HANDSHAKE_LIMIT, unruly::answer_with_noise(stream)).await;
        return None;
    }
    let stream: Box<dyn Stream> = match identity {
        Some(identity) => {
            let handshake = identity.acceptor().accept(stream);
            Box::new(timeout(HANDSHAKE_LIMIT, handshake).await.ok()?.ok()?)
        }
        None => Box::new(stream),
    };
    let answered = Arc::new(Mutex::new(None));
    let note = Arc::clone(&answered);
    let service = service_fn(move |request| {
        let (response, answer) = answer(&*gate, &request);
        let is_raw = matches!(answer, Answer::Raw(_));
        *locked(&note) = Some(answer);
        // After an error hyper says nothing.
        std::future::ready(if is_raw { Err(io::Error::other("not HTTP")) } else { Ok(response) })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Ours to end: after a refused upgrade hyper would drop it without TLS's goodbye.
    let served = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
    let served = timeout(HANDSHAKE_LIMIT, served).await.ok()?;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let answer = locked(&answered).take()?;
    Some(match answer {
        Answer::Raw(bytes) => {
            let _ = timeout(LAST_WORDS_LIMIT, stream.write_all(&bytes)).await;
            shut_down(&mut stream).await;
            return None;
        }
        _ if served.is_err() => return None,
        Answer::Upgrade(pass) => {
            Arrival::Client(Box::new(Peer::new(stream, &parts.read_buf)), pass)
        }
        Answer::Status(status) => {
            shut_down(&mut stream).await;
            Arrival::Answered(status.as_u16())
        }
    })
}

enum Answer<P> {
    Status(StatusCode),
    Upgrade(P),
    /// No HTTP at all.
    Raw(Bytes),
}

type Reply<P> = (Response<Full<Bytes>>, Answer<P>);

fn answer<G: Gate>(gate: &G, request: &Request<Body>) -> Reply<G::Pass> {
    let path = request.uri().path();
    let feed = path == gate.protocol().feed_path();
    if !feed && path != VALIDATE_PATH {
        return refuse(StatusCode::NOT_FOUND, "Not Found\n");
    }
    if request.method() != Method::GET {
        let reply = refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        return with(reply, header::ALLOW, "GET");
    }
    let topic = if feed { said(request, "topic") } else { None };
    let asked = if feed { Asked::Feed } else { Asked::Validate };
    if let Some(refusal) = gate.refusal(asked, topic.as_deref().unwrap_or_default()) {
        return unruly::refuse(refusal);
    }
    let key = said(request, "authorization").and_then(|key| Key::new(&key));
    if !feed {
        let Some(key) = key.and_then(|key| gate.validated(&key)) else {
            return refuse(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
        };
        let token = serde_json::json!({ "token": key.expose() }).to_string();
        let reply = status(StatusCode::OK, token);
        return with(reply, header::CONTENT_TYPE, "application/json");
    }
    let Some(key) = key.filter(|key| gate.knows(key)) else {
        return refuse(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
    };
    let Some(mut pass) = topic.and_then(|topic| gate.admit(&key, &topic)) else {
        return refuse(StatusCode::BAD_REQUEST, UNSUBSCRIBED_TOPIC);
    };
    match accept_key(request) {
        Ok(accept_key) => {
            gate.enter(&mut pass);
            let (mut response, _) = status::<()>(StatusCode::SWITCHING_PROTOCOLS, String::new());
            let headers = response.headers_mut();
            // This and no more: tungstenite's clients take no list of several.
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
            (response, Answer::Upgrade(pass))
        }
        Err((code, why)) => {
            let reply = with(refuse(code, why), header::SEC_WEBSOCKET_VERSION, "13");
            with(reply, header::UPGRADE, "websocket")
        }
    }
}

/// A header, or what stands for it in the query: a script in a browser cannot set headers.
fn said<'r>(request: &'r Request<Body>, name: &str) -> Option<Cow<'r, str>> {
    if let Some(value) = request.headers().get(name) {
        return value.to_str().ok().map(Cow::Borrowed);
    }
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

fn status<P>(code: StatusCode, body: String) -> Reply<P> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    // One connection, one request: whoever is connected and not a client is on its way out.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    (response, Answer::Status(code))
}

fn refuse<P>(code: StatusCode, body: &str) -> Reply<P> {
    with(status(code, body.to_owned()), header::CONTENT_TYPE, "text/plain; charset=utf-8")
}

fn with<P>((mut response, answer): Reply<P>, name: HeaderName, value: &'static str) -> Reply<P> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    (response, answer)
}

/// Checks an upgrade as RFC 6455, section 4.2.1, wants it, and answers its key.
fn accept_key(request: &Request<Body>) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11
        || !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        return Err((StatusCode::UPGRADE_REQUIRED, "expected an upgrade to websocket\n"));
    }
    // RFC 9112, section 3.2, wants no more than one, either.
    if headers.get_all(header::HOST).iter().count() != 1 {
        return Err((StatusCode::BAD_REQUEST, "expected one header Host\n"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "expected Sec-WebSocket-Version 13\n"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    key.filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .and_then(|key| HeaderValue::from_str(&tungstenite::handshake::derive_accept_key(key)).ok())
        .ok_or((StatusCode::BAD_REQUEST, "expected 16 bytes in base64 as Sec-WebSocket-Key\n"))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

/// TCP with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What is below TLS.
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

/// Shuts TLS and TCP down and gives the peer a moment to do the same: closing a socket with unread
/// bytes resets the connection, and what the peer has not read yet would be gone.
async fn shut_down(stream: &mut Box<dyn Stream>) {
    if let Ok(Ok(())) = timeout(LAST_WORDS_LIMIT, stream.shutdown()).await {
        let mut ignored = [0; 256];
        let end = async { while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {} };
        let _ = timeout(LINGER_LIMIT, end).await;
    }
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it properly.
    Closed {
        /// The peer's code, if it sent one.
        code: Option<u16>,
    },
    /// The peer was gone without a word.
    Gone,
    /// Reading or writing failed.
    Lost(String),
    /// The peer took nothing for too long.
    Stalled,
    /// The peer broke the protocol.
    Broken {
        /// What it was told, RFC 6455, section 7.4.1.
        code: u16,
        /// How.
        reason: String,
    },
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A TLS peer that leaves without the notification that RFC 8446 asks for.
            io::ErrorKind::UnexpectedEof => Self::Gone,
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// A client of the feed.
pub struct Peer {
    stream: Box<dyn Stream>,
    socket: Socket,
    inbox: Box<[u8]>,
    /// Something was written and may still be in the TLS session.
    unflushed: bool,
    /// No more than so many bytes of what is queued are written.
    allowance: usize,
}

impl Peer {
    /// `read_ahead` came behind the upgrade.
    fn new(stream: Box<dyn Stream>, read_ahead: &[u8]) -> Self {
        let socket = Socket::server(read_ahead, CLIENT_MESSAGE_LIMIT);
        let inbox = vec![0; 4096].into_boxed_slice();
        Self { stream, socket, inbox, unflushed: false, allowance: usize::MAX }
    }

    /// Queues a message. It leaves with the next [`flush`](Self::flush).
    pub fn queue(&mut self, message: Bytes) {
        self.socket.send_binary(message);
    }

    /// How many bytes are queued.
    pub fn queued(&self) -> usize {
        self.socket.output().len()
    }

    /// Writes all that is queued. Waits for a slow peer, but not for one that takes nothing at all.
    pub async fn flush(&mut self) -> Result<(), Ended> {
        while self.has_output() {
            let moved = std::future::poll_fn(|context| {
                // Listen first: a peer that takes everything would otherwise never be heard.
                if let Poll::Ready(ended) = self.poll_listen(context) {
                    return Poll::Ready(Err(ended));
                }
                self.poll_speak(context).map_err(Ended::from)
            });
            timeout(STALL_LIMIT, moved).await.map_err(|_| Ended::Stalled)??;
        }
        Ok(())
    }

    /// Does nothing but listen and answer, until the connection is over. Who asks and takes no answer stalls it
    /// as one that takes no frames does.
    pub async fn idle(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.flush().await {
                return ended;
            }
            let heard = std::future::poll_fn(|context| match self.poll_listen(context) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if self.has_output() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            if let Some(ended) = heard.await {
                return ended;
            }
        }
    }

    /// Waits for something else while the peer is listened to.
    pub async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            biased;
            done = other => Ok(done),
            ended = self.idle() => Err(ended),
        }
    }

    /// Says goodbye and waits for the answer, which proves that all before it has arrived. Takes no
    /// longer than `patience` and a moment. A peer that hangs up instead of an answer has understood, too.
    pub async fn close(
        mut self,
        code: impl Into<Option<u16>>,
        reason: &str,
        patience: Duration,
    ) -> Result<(), Ended> {
        let deadline = Instant::now() + patience;
        self.allowance = usize::MAX;
        match code.into() {
            Some(code) => self.socket.send_close(code, reason),
            None => self.socket.send_bare_close(),
        }
        let answer = timeout_at(deadline, async {
            match self.flush().await {
                Ok(()) => self.idle().await,
                Err(ended) => ended,
            }
        });
        let answer = answer.await.unwrap_or(Ended::Stalled);
        self.hang_up().await;
        match answer {
            Ended::Closed { .. } | Ended::Gone => Ok(()),
            ended => Err(ended),
        }
    }

    /// Ends a connection that is over, as properly as it still can be. Says whether all that was queued has
    /// been written.
    pub async fn leave(mut self, ended: &Ended) -> bool {
        match ended {
            Ended::Closed { .. } => self.hang_up().await,
            Ended::Broken { .. } => {
                self.socket.send_broken();
                self.hang_up().await
            }
            Ended::Gone | Ended::Lost(_) | Ended::Stalled => false,
        }
    }

    /// Writes what is left, and shuts down. Says whether all was written.
    async fn hang_up(&mut self) -> bool {
        self.allowance = usize::MAX;
        let last_words = async {
            while self.has_output() {
                std::future::poll_fn(|context| self.poll_speak(context)).await?;
            }
            io::Result::Ok(())
        };
        let is_written = matches!(timeout(LAST_WORDS_LIMIT, last_words).await, Ok(Ok(())));
        if is_written {
            shut_down(&mut self.stream).await;
        }
        is_written
    }

    fn has_output(&self) -> bool {
        self.unflushed || (!self.socket.output().is_empty() && self.allowance > 0)
    }

    /// Reads what there is; answers go to the output. Ready when the connection is over.
    fn poll_listen(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        // What came behind the upgrade is in the socket already.
        if let Some(ended) = self.hear() {
            return Poll::Ready(ended);
        }
        while self.socket.output().len() < ANSWERS_LIMIT {
            let mut read = ReadBuf::new(&mut self.inbox);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)) {
                return Poll::Ready(error.into());
            }
            if read.filled().is_empty() {
                return Poll::Ready(Ended::Gone);
            }
            self.socket.received(read.filled());
            if let Some(ended) = self.hear() {
                return Poll::Ready(ended);
            }
        }
        // Whoever has so much to write is woken when it can be written.
        Poll::Pending
    }

    /// Messages of clients mean nothing; only a close does.
    fn hear(&mut self) -> Option<Ended> {
        loop {
            match self.socket.next() {
                Ok(Some(Incoming::Binary(_) | Incoming::Text(_))) => {}
                Ok(Some(Incoming::Close { code, .. })) => return Some(Ended::Closed { code }),
                Ok(None) => return None,
                Err(broken) => {
                    let (code, _) = broken.close();
                    let reason = match broken {
                        Broken::NotUtf8(reason) | Broken::Protocol(reason) => reason,
                        Broken::TooLarge { size, limit } => {
                            format!("a message of {size} bytes, over the limit of {limit}")
                        }
                    };
                    return Some(Ended::Broken { code, reason });
                }
            }
        }
    }

    /// Moves some of the output on. Ready when that was possible, or nothing was there to move.
    fn poll_speak(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        let output = self.socket.output();
        let allowed = output.len().min(self.allowance);
        if allowed == 0 {
            ready!(stream.as_mut().poll_flush(context))?;
            self.unflushed = false;
            return Poll::Ready(Ok(()));
        }
        let count = ready!(stream.as_mut().poll_write(context, &output[..allowed]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if self.allowance != usize::MAX {
            self.allowance -= count;
        }
        self.socket.sent(count);
        self.unflushed = true;
        // At once: whoever has the last of it may be gone when we listen again, and has had it all the same.
        if count == allowed && stream.poll_flush(context)?.is_ready() {
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::protocol::classic::Classic;

    /// In memory, as a paused clock does not wait for a network.
    impl Stream for DuplexStream {
        fn tcp(&mut self) -> &mut TcpStream {
            unreachable!("nobody resets it")
        }
    }

    /// Somebody who goes as soon as something has come.
    struct Hasty {
        served: bool,
    }

    impl Stream for Hasty {
        fn tcp(&mut self) -> &mut TcpStream {
            unreachable!("nobody resets it")
        }
    }

    impl AsyncRead for Hasty {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.served { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
    }

    impl AsyncWrite for Hasty {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.served = true;
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_goes_as_soon_as_all_has_come_has_had_all() {
        let mut peer = Peer::new(Box::new(Hasty { served: false }), &[]);
        peer.queue(Bytes::from_static(b"the last frame"));
        assert_eq!(peer.flush().await, Ok(()));
        assert_eq!(peer.idle().await, Ended::Gone);
    }

    #[test]
    fn keys_are_validated_where_the_protocol_renews_them() {
        let key = Key::new("synthetic-key").unwrap();
        assert_eq!(Classic.renewal(&key).0, VALIDATE_PATH);
    }

    #[tokio::test(start_paused = true)]
    async fn who_pings_and_takes_no_answer_is_stalled() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut asking = Socket::client(&[], CLIENT_MESSAGE_LIMIT);
        asking.send_ping(Bytes::from_static(&[b'p'; 125]));
        let pings = asking.output().repeat(1000);
        let asking = tokio::spawn(async move { while client.write_all(&pings).await.is_ok() {} });
        let mut peer = Peer::new(Box::new(server), &[]);
        let ended = timeout(2 * STALL_LIMIT, peer.idle()).await;
        assert_eq!(ended, Ok(Ended::Stalled));
        assert!(peer.queued() < 2 * ANSWERS_LIMIT, "{}", peer.queued());
        asking.abort();
    }

    #[test]
    fn a_token_is_found_in_any_list_and_case() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.append(header::CONNECTION, HeaderValue::from_static("te"));
        assert!(has_token(&headers, &header::CONNECTION, "upgrade"));
        assert!(!has_token(&headers, &header::CONNECTION, "up"));
        assert!(!has_token(&headers, &header::UPGRADE, "websocket"));
    }
}
