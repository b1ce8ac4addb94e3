//! The client's end: one connection to a feed, and asking for another key.
//!
//! Every attempt has one deadline round name resolution, TCP, TLS and upgrade. Addresses are resolved anew
//! each time and all are tried, beginning behind one that used up the whole time before. What comes back is a
//! [`Connection`], a refusal with its status, or a failure in words; never a key.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming as Body, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{gulp::Gulps, ws::Socket};
use crate::{
    error::{self, Error, Result},
    protocol::{Ask, Key, Protocol},
    session::{BODY_KEPT, Failure, NotConnected, Refused},
    threads::locked,
};

/// An attempt has to be through by then.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The body of a refusal has to be there by then. What matters is its status.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// The largest body of an answer that is looked at.
const BODY_LIMIT: usize = 64 * 1024;

/// Where a feed is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS, as always but in tests on one machine.
    pub secure: bool,
    /// The host's name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The feed's path, if it is not the protocol's own.
    pub path: Option<String>,
}

impl Endpoint {
    /// Reads `HOST`, `HOST:PORT`, or a whole `wss://` or `ws://` URL.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(
                "a host",
                format!("{text:?}"),
                "HOST, HOST:PORT, or a URL like wss://HOST/streaming/api",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let secure = match scheme.as_deref() {
            None | Some("wss" | "https") => true,
            Some("ws" | "http") => false,
            Some(_) => return Err(wrong()),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash..])),
            None => (rest, None),
        };
        let authority: hyper::http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| wrong())?,
            // Something is behind the host, and it is no port.
            None if authority.as_str() != authority.host() => return Err(wrong()),
            None if secure => 443,
            None => 80,
        };
        let path = path.filter(|path| *path != "/").map(str::to_owned);
        if path
            .as_deref()
            .is_some_and(|path| path.parse::<hyper::http::uri::PathAndQuery>().is_err())
        {
            return Err(wrong());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self { secure, host, port, path })
    }

    /// `host` or `host:port`, as a `Host` header has it.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Only this machine can be meant.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Opens connections to one endpoint.
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    protocol: &'static dyn Protocol,
    tls: Arc<rustls::ClientConfig>,
    limit: usize,
    /// Where somebody let us in and said nothing more until the time was over.
    silent: Arc<Mutex<Option<SocketAddr>>>,
}

/// What an accepted upgrade gives.
pub struct Accepted {
    /// The connection.
    pub connection: Connection,
    /// From the first packet to the answer.
    pub round_trip: Duration,
    /// Whom we are talking to.
    pub peer: SocketAddr,
}

/// TCP, or TLS on it.
trait Stream: AsyncBufRead + AsyncRead + AsyncWrite + Send + Unpin {
    /// What is below.
    fn gulps(&mut self) -> &mut Gulps;
}

impl Stream for Gulps {
    fn gulps(&mut self) -> &mut Gulps {
        self
    }
}

impl Stream for TlsStream<Gulps> {
    fn gulps(&mut self) -> &mut Gulps {
        self.get_mut().0
    }
}

type BoxedStream = Box<dyn Stream>;

impl Connector {
    /// `limit` is the size of the largest message, in bytes.
    pub fn new(
        endpoint: Endpoint,
        protocol: &'static dyn Protocol,
        tls: Arc<rustls::ClientConfig>,
        limit: usize,
    ) -> Self {
        Self { endpoint, protocol, tls, limit, silent: Arc::default() }
    }

    /// Opens a connection and asks for a feed. Dropping the future loses nothing but the attempt.
    pub async fn connect(&self, ask: &Ask<'_>) -> Result<Accepted, NotConnected> {
        let mut at = None;
        match tokio::time::timeout(DEADLINE, self.try_connect(ask, &mut at)).await {
            Ok(result) => result,
            Err(_) => {
                let begin = format!("no connection within {} s", DEADLINE.as_secs());
                let Some(address) = at else { return Err(failed(begin, false)) };
                *locked(&self.silent) = at;
                Err(failed(format!("{begin}: {address} does not answer"), false))
            }
        }
    }

    /// Says `at` which address it is while that may still hold it up.
    async fn try_connect(
        &self,
        ask: &Ask<'_>,
        at: &mut Option<SocketAddr>,
    ) -> Result<Accepted, NotConnected> {
        let started = Instant::now();
        let (stream, peer) = self.open(at).await?;
        let key = generate_key();
        let path = self.endpoint.path.as_deref().unwrap_or(self.protocol.feed_path());
        let mut request = self.request(path, &self.protocol.feed_headers(ask))?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, header::HeaderValue::from_static("13"));
        let sent_key = header::HeaderValue::from_str(&key).expect("a key is base64");
        headers.insert(header::SEC_WEBSOCKET_KEY, sent_key);

        let answer = self.send(stream, request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(NotConnected::Refused(refusal(answer, ask.key).await));
        }
        let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept
            .is_none_or(|found| found.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
        {
            // RFC 6455, section 4.1: the client must fail the connection then.
            let reason = "expected the accept key of RFC 6455 in the answer, found another or none";
            return Err(failed(reason.to_owned(), true));
        }
        let upgraded = hyper::upgrade::on(answer)
            .await
            .map_err(|error| failed(format!("the upgrade was not completed: {error}"), false))?;
        let parts = upgraded
            .downcast::<TokioIo<BoxedStream>>()
            .map_err(|_| failed("the upgraded stream is another".to_owned(), false))?;
        let connection = Connection {
            stream: parts.io.into_inner(),
            socket: Socket::client(&[], self.limit),
            read_ahead: parts.read_buf,
            failed: None,
        };
        Ok(Accepted { connection, round_trip: started.elapsed(), peer })
    }

    /// Asks for the key's successor: the same key while it is valid. The error is in words.
    pub async fn renew(&self, key: &Key) -> Result<Key, String> {
        match tokio::time::timeout(DEADLINE, self.try_renew(key)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    async fn try_renew(&self, key: &Key) -> Result<Key, String> {
        let words = |error: NotConnected| match error {
            NotConnected::Failed(failure) => failure.reason,
            NotConnected::Refused(refused) => format!("status {}", refused.status),
        };
        let (path, headers) = self.protocol.renewal(key);
        let (stream, _) = self.open(&mut None).await.map_err(words)?;
        let request = self.request(path, &headers).map_err(words)?;
        let answer = self.send(stream, request).await.map_err(words)?;
        if answer.status() != StatusCode::OK {
            return Err(format!("expected status 200, found {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        self.protocol.renewed_key(&body).ok_or_else(|| "expected a token, found none".to_owned())
    }

    /// TCP and TLS, to the first address that answers; which one it is dealing with is in `at`.
    async fn open(
        &self,
        at: &mut Option<SocketAddr>,
    ) -> Result<(BoxedStream, SocketAddr), NotConnected> {
        let Endpoint { host, port, secure, .. } = &self.endpoint;
        let addresses = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| failed(format!("cannot resolve {host}: {error}"), false))?;
        let silent = *locked(&self.silent);
        let addresses = beginning_behind(silent, addresses.collect());
        // An address that swallows everything must leave time for the next ones.
        let share = DEADLINE / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = failed(format!("{host} has no address"), false);
        for address in addresses {
            *at = None;
            let error = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    *at = Some(address);
                    // Our pongs and closes are small and wanted at once.
                    let _ = stream.set_nodelay(true);
                    let stream = Gulps::new(stream);
                    if !*secure {
                        return Ok((Box::new(stream), address));
                    }
                    match self.secured(stream).await {
                        Ok(stream) => return Ok((stream, address)),
                        Err(error) => {
                            last = error;
                            continue;
                        }
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            last = failed(format!("cannot connect to {address}: {error}"), false);
        }
        Err(last)
    }

    async fn secured(&self, stream: Gulps) -> Result<BoxedStream, NotConnected> {
        let host = &self.endpoint.host;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| failed(format!("{host} is no name that a certificate can have"), true))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let lasting = matches!(fault, Some(rustls::Error::InvalidCertificate(_)));
                let told = fault.map_or_else(|| error.to_string(), error::tls);
                Err(failed(format!("TLS with {host} failed: {told}"), lasting))
            }
        }
    }

    fn request(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Request<Empty<Bytes>>, NotConnected> {
        let mut request = Request::get(path).header(header::HOST, self.endpoint.authority());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // The builder's error would show the value, which may be a key.
        let reason = "a header of the request has characters that no header can have";
        request.body(Empty::new()).map_err(|_| failed(reason.to_owned(), true))
    }

    async fn send(
        &self,
        stream: BoxedStream,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Body>, NotConnected> {
        let broken = |error: hyper::Error| {
            // A server that speaks something else altogether will do so the next time, too.
            let lasting = error.is_parse();
            failed(format!("expected an answer in HTTP, found none: {error}"), lasting)
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(broken)
    }
}

async fn refusal(answer: Response<Body>, key: &Key) -> Refused {
    let status = answer.status().as_u16();
    let retry_after = answer
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let mut body = BytesMut::new();
    let mut rest = answer.into_body();
    // The beginning is enough, with the whole of a key that stands at its end; what breaks off later
    // does not matter, nor does what never comes.
    let reading = async {
        while body.len() < BODY_KEPT + key.longest_form()
            && let Some(Ok(piece)) = rest.frame().await
        {
            if let Ok(data) = piece.into_data() {
                body.extend_from_slice(&data);
            }
        }
    };
    let _ = tokio::time::timeout(BODY_PATIENCE, reading).await;
    let mut body = key.hide_in(body.freeze());
    body.truncate(BODY_KEPT);
    Refused { status, body, retry_after }
}

/// The same addresses, those behind that one first.
fn beginning_behind(silent: Option<SocketAddr>, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if let Some(place) = addresses.iter().position(|&address| Some(address) == silent) {
        addresses.rotate_left(place + 1);
    }
    addresses
}

fn failed(reason: String, lasting: bool) -> NotConnected {
    NotConnected::Failed(Failure { reason, lasting })
}

/// An open connection. Read, take all messages out of the socket, bring them to safety, and only then
/// let the answers out.
pub struct Connection {
    stream: BoxedStream,
    /// The messages that were received, and the answers to them.
    pub socket: Socket,
    /// The first messages may have come behind the answer to the upgrade.
    read_ahead: Bytes,
    /// How reading has failed, behind what was read before that.
    failed: Option<io::Error>,
}

impl Connection {
    /// Reads once and hands it to the socket. `Ok(false)` is the end of the stream. Dropping the
    /// future loses nothing.
    pub async fn read(&mut self) -> io::Result<bool> {
        // Also where nothing is in it, it would keep all the room that the answer was read into.
        let read_ahead = std::mem::take(&mut self.read_ahead);
        if !read_ahead.is_empty() {
            self.socket.received(&read_ahead);
            return Ok(true);
        }
        poll_fn(|context| self.poll_read(context)).await
    }

    /// The last read has brought as much as one can: more may be there already.
    pub fn is_behind(&mut self) -> bool {
        self.stream.gulps().was_full()
    }

    /// What comes before the next [`read`](Self::read) is tried wakes nobody.
    pub fn leave_alone(&mut self) -> io::Result<()> {
        self.stream.gulps().leave_alone()
    }

    /// Takes all that one look at the kernel brings, so that the next look comes when that is safe.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.stream.gulps().allow_one();
        let mut found = false;
        loop {
            let count = match Pin::new(&mut self.stream).poll_fill_buf(context) {
                Poll::Ready(Ok(data)) => {
                    self.socket.received(data);
                    Some(data.len())
                }
                Poll::Ready(Err(error)) if found => {
                    self.failed = Some(error);
                    Some(0)
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => None,
            };
            match count {
                // If something came before the end, the next read finds the end.
                Some(0) => return Poll::Ready(Ok(found)),
                Some(count) => {
                    Pin::new(&mut self.stream).consume(count);
                    if !found {
                        // TLS hands on what it holds bit by bit.
                        self.socket.expect(self.stream.gulps().held());
                    }
                    found = true;
                }
                None if found => return Poll::Ready(Ok(true)),
                // Not enough yet for anything to come out of TLS.
                None if self.stream.gulps().allow_one() => {}
                None => return Poll::Pending,
            }
        }
    }

    /// Writes all that the socket wants out.
    pub async fn write(&mut self) -> io::Result<()> {
        while !self.socket.output().is_empty() {
            let count = self.stream.write(self.socket.output()).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.socket.sent(count);
        }
        self.stream.flush().await
    }

    /// Ends the stream properly.
    pub async fn shutdown(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::{
        net::{
            trust::{Trust, client_config},
            ws::MESSAGE_LIMIT,
        },
        protocol::PROTOCOLS,
    };

    fn shown(text: &str) -> (bool, String, u16, Option<String>, String) {
        let endpoint = Endpoint::parse(text).unwrap();
        let authority = endpoint.authority();
        (endpoint.secure, endpoint.host, endpoint.port, endpoint.path, authority)
    }

    #[test]
    fn hosts_and_urls_are_understood() {
        let of = |secure, host: &str, port, path: Option<&str>, authority: &str| {
            (secure, host.to_owned(), port, path.map(str::to_owned), authority.to_owned())
        };
        assert_eq!(
            shown("feed.example.com"),
            of(true, "feed.example.com", 443, None, "feed.example.com")
        );
        assert_eq!(shown("127.0.0.1:8443"), of(true, "127.0.0.1", 8443, None, "127.0.0.1:8443"));
        assert_eq!(shown("wss://[::1]:9/a?b"), of(true, "::1", 9, Some("/a?b"), "[::1]:9"));
        assert_eq!(shown("ws://localhost/"), of(false, "localhost", 80, None, "localhost"));
    }

    /// Connects to somebody who says just that, and returns what came of it. The other side must be left
    /// alone when the time is over.
    async fn connect(secure: bool, said: &str) -> (SocketAddr, NotConnected, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint =
            Endpoint { secure, host: "127.0.0.1".to_owned(), port: address.port(), path: None };
        let tls = client_config(Trust::Anybody).unwrap();
        let connector = Connector::new(endpoint, PROTOCOLS[0], tls, MESSAGE_LIMIT);
        let key = Key::new("synthetic-key").unwrap();
        let ask = Ask { key: &key, topic: "audit", username: None };
        let began = tokio::time::Instant::now();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            began.elapsed()
        };
        match tokio::join!(connector.connect(&ask), server) {
            (Err(error), took) => (address, error, took),
            (Ok(_), _) => panic!("connected to nobody"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_is_for_all_of_an_attempt() {
        for (secure, said) in [(true, ""), (false, ""), (false, "HTTP/1.1 101 Switching Pro")] {
            let (address, error, took) = connect(secure, said).await;
            let NotConnected::Failed(Failure { reason, .. }) = error else { panic!("{error:?}") };
            assert_eq!(reason, format!("no connection within 20 s: {address} does not answer"));
            assert!(took >= DEADLINE && took < DEADLINE + Duration::from_secs(1), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_whatever_comes_of_its_body() {
        let said = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 13\r\n\r\nToken ";
        let (_, error, took) = connect(false, said).await;
        let NotConnected::Refused(refused) = error else { panic!("{error:?}") };
        assert_eq!((refused.status, &*refused.body), (401, &b"Token "[..]));
        assert!(took < DEADLINE, "{took:?}");
    }

    #[test]
    fn an_address_that_used_up_the_time_comes_last() {
        let all: Vec<SocketAddr> = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::3]:1"]
            .map(|one| one.parse().unwrap())
            .into();
        assert_eq!(beginning_behind(None, all.clone()), all);
        assert_eq!(beginning_behind(Some(all[0]), all.clone()), [all[1], all[2], all[0]]);
        assert_eq!(beginning_behind(Some(all[2]), all.clone()), all);
        // The name has other addresses now.
        assert_eq!(beginning_behind(Some(all[0]), all[1..].into()), all[1..]);
    }

    #[test]
    fn what_is_no_host_is_refused_with_an_example() {
        for text in
            ["", "ftp://feed.example.com", "host:port", "a b", "wss://", "host:", "user@host"]
        {
            let error = Endpoint::parse(text).expect_err(text);
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_by_name_and_address() {
        for (text, expected) in
            [("localhost", true), ("127.9.9.9", true), ("[::1]:1", true), ("192.0.2.1", false)]
        {
            assert_eq!(Endpoint::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
