//! A client that is told what to say, byte by byte if need be.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use centralcap::net::ws::{Incoming, MESSAGE_LIMIT, Socket};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Nothing in a test takes longer.
const LIMIT: Duration = Duration::from_secs(20);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

/// Connects, with TLS if there is an authority to trust.
pub async fn connect(address: SocketAddr, ca_pem: Option<&str>) -> Box<dyn Stream> {
    try_connect(address, ca_pem).await.unwrap()
}

/// The same where that may fail.
pub async fn try_connect(address: SocketAddr, ca_pem: Option<&str>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    let Some(ca_pem) = ca_pem else { return Ok(Box::new(stream)) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

/// Sends a request and reads the answer: all of it, unless it is an upgrade.
pub async fn ask(
    stream: &mut Box<dyn Stream>,
    path: &str,
    headers: &[(&str, &str)],
) -> (Answer, Vec<u8>) {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let answered = async {
        loop {
            let end = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end
                && read.starts_with(b"HTTP/1.1 101 ")
            {
                return (end, read.split_off(end));
            }
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                return (end.expect("an answer"), Vec::new());
            }
        }
    };
    let (end, behind) = timeout(LIMIT, answered).await.expect("an answer in time");
    let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = String::from_utf8(read[end..].to_vec()).unwrap();
    (Answer { status, head, body }, behind)
}

/// The headers of a proper upgrade.
pub const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A client of a feed.
pub struct Client {
    stream: Box<dyn Stream>,
    pub socket: Socket,
    /// What was read and the socket has not been given.
    ahead: Vec<u8>,
}

impl Client {
    /// Subscribes, or says how that was refused.
    pub async fn subscribe(
        address: SocketAddr,
        ca_pem: Option<&str>,
        (key, topic): (&str, &str),
    ) -> Result<Self, Answer> {
        let mut stream = connect(address, ca_pem).await;
        let headers = [&UPGRADE[..], &[("Authorization", key), ("Topic", topic)]].concat();
        let (answer, behind) = ask(&mut stream, "/streaming/api", &headers).await;
        match answer.status {
            101 => Ok(Self { stream, socket: Socket::client(&[], MESSAGE_LIMIT), ahead: behind }),
            _ => Err(answer),
        }
    }

    /// What comes next; None at the end of the connection. Answers as a client has to.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.try_next().await.unwrap()
    }

    /// The same on a connection that may break.
    pub async fn try_next(&mut self) -> io::Result<Option<Incoming>> {
        self.try_next_within(LIMIT).await
    }

    /// The same where it may take longer than anything else.
    pub async fn try_next_within(&mut self, limit: Duration) -> io::Result<Option<Incoming>> {
        self.socket.received(&std::mem::take(&mut self.ahead));
        timeout(limit, async {
            loop {
                let incoming = self.socket.next().unwrap();
                if incoming.is_some() {
                    self.write().await;
                    return Ok(incoming);
                }
                self.try_write().await?;
                let mut buffer = vec![0; 16 * 1024];
                match self.stream.read(&mut buffer).await? {
                    0 => return Ok(None),
                    count => self.socket.received(&buffer[..count]),
                }
            }
        })
        .await
        .expect("something in time")
    }

    /// All bytes up to the end of the connection, as they are, and how it ended. Nothing is answered.
    pub async fn all_bytes(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = std::mem::take(&mut self.ahead);
        let end = timeout(LIMIT, self.stream.read_to_end(&mut bytes));
        let end = end.await.expect("an end in time").map(|_| ());
        (bytes, end)
    }

    /// The next binary messages.
    pub async fn messages(&mut self, count: usize) -> Vec<Bytes> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.next().await {
                Some(Incoming::Binary(message)) => messages.push(message),
                other => panic!("after {} messages: {other:?}", messages.len()),
            }
        }
        messages
    }

    /// All messages up to the close, the close's code, and the proper end of the connection.
    pub async fn rest(&mut self) -> (Vec<Bytes>, Option<u16>) {
        let mut messages = Vec::new();
        loop {
            match self.next().await {
                Some(Incoming::Binary(message)) => messages.push(message),
                Some(Incoming::Close { code, .. }) => {
                    assert_eq!(self.next().await, None, "something after the close");
                    return (messages, code);
                }
                other => panic!("after {} messages: {other:?}", messages.len()),
            }
        }
    }

    /// Closes the connection properly, and reads it to its end.
    pub async fn close(&mut self) {
        self.socket.send_close(1000, "");
        self.write().await;
        while self.next().await.is_some() {}
    }

    /// The next bytes as they are, past the socket.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let behind = self.ahead.split_off(count.min(self.ahead.len()));
        let mut bytes = std::mem::replace(&mut self.ahead, behind);
        let there = bytes.len();
        bytes.resize(count, 0);
        let read = self.stream.read_exact(&mut bytes[there..]);
        timeout(LIMIT, read).await.expect("something in time").unwrap();
        bytes
    }

    /// Writes bytes as they are, past the socket.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes what is queued.
    pub async fn write(&mut self) {
        self.try_write().await.unwrap();
    }

    async fn try_write(&mut self) -> io::Result<()> {
        let output = self.socket.output().to_vec();
        self.stream.write_all(&output).await?;
        self.stream.flush().await?;
        self.socket.sent(output.len());
        Ok(())
    }
}
