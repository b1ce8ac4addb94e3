//! A client that is told what to say, byte by byte if need be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

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
    let stream = TcpStream::connect(address).await.unwrap();
    let Some(ca_pem) = ca_pem else { return Box::new(stream) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
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
            101 => Ok(Self { stream, socket: Socket::client(&behind, MESSAGE_LIMIT) }),
            _ => Err(answer),
        }
    }

    /// What comes next; None at the end of the connection. Answers as a client has to.
    pub async fn next(&mut self) -> Option<Incoming> {
        timeout(LIMIT, async {
            loop {
                let incoming = self.socket.next().unwrap();
                self.write().await;
                if incoming.is_some() {
                    return incoming;
                }
                let mut buffer = vec![0; 16 * 1024];
                match self.stream.read(&mut buffer).await.unwrap() {
                    0 => return None,
                    count => self.socket.received(&buffer[..count]),
                }
            }
        })
        .await
        .expect("something in time")
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
        let mut bytes = vec![0; count];
        let read = self.stream.read_exact(&mut bytes);
        timeout(LIMIT, read).await.expect("something in time").unwrap();
        bytes
    }

    /// Writes what is queued.
    pub async fn write(&mut self) {
        let output = self.socket.output().to_vec();
        self.stream.write_all(&output).await.unwrap();
        self.stream.flush().await.unwrap();
        self.socket.sent(output.len());
    }
}
