//! A client of the feed, tested without the vendor: each test serves a capture on a port of its own, over
//! TLS, and asks both sides afterwards.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    entry::envelope::MsgProto,
    fault::Faults,
    pace::Speed,
    replay::{Demands, Ending, Farewell, Options, Outcome, ReplayServer, Report, Server, Until},
};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

#[tokio::test]
async fn every_event_arrives() {
    let demands = Demands { expected: vec!["audit>=1".parse().unwrap()], ..Demands::default() };
    let feed = Feed::start(Options { demands, ..campus() }).await;

    let (messages, code) = receive(&feed, "audit").await;

    assert_eq!(code, Some(1000));
    assert_eq!(messages, recorded("audit"));
    let subjects = messages.into_iter().map(|message| MsgProto::decode(message).unwrap().subject);
    assert!(subjects.eq(std::iter::repeat_n("audit", recorded("audit").len())));
    let report = feed.report.await.unwrap();
    assert_eq!(report.outcome(), Outcome::Done, "{:?}", report.checks());
}

#[tokio::test]
async fn a_server_that_goes_away_costs_nothing() {
    let rules = r#"
        [[rule]]
        when = { connection = 1, nth = 4 }
        do = { close = { code = 1001, reason = "going away" } }
    "#;
    let faults = Some(Faults::parse(rules, "rules", None).unwrap());
    let feed = Feed::start(Options { faults, ..campus() }).await;

    let (messages, code) = receive(&feed, "audit").await;
    assert_eq!((messages.len(), code), (3, Some(1001)));
    let (messages, code) = receive(&feed, "audit").await;
    assert_eq!((messages, code), (recorded("audit"), Some(1000)));

    let endings: Vec<_> =
        feed.report.await.unwrap().clients.into_iter().map(|client| client.ending).collect();
    assert_eq!(endings, [Ending::Spoilt("close"), Ending::Played]);
}

#[tokio::test]
async fn a_client_waits_out_a_silence_and_a_lost_connection() {
    let capture = Capture::open(&["fixtures/campus.mcap"]).unwrap();
    let feed = ReplayServer::builder(capture).speed(Speed::MAX).once().start().unwrap();
    let (url, ca_pem) = (feed.url().to_owned(), feed.ca_pem().unwrap().to_owned());
    let control = feed.control();
    control.pause().unwrap();
    let receiving = tokio::spawn(async move {
        let first = receive_from(&url, &ca_pem, "audit").await;
        (first, receive_from(&url, &ca_pem, "audit").await)
    });

    let until = Until::Clients(1);
    control.wait(until, Duration::from_secs(10)).await.unwrap();
    control.step(2).unwrap();
    let frames = Until::Frames { count: 2, topic: None, subscription: None, client: None };
    control.wait(frames, Duration::from_secs(10)).await.unwrap();
    let close = Farewell::Close { code: Some(1012), reason: "restart".to_owned() };
    control.drop_clients(close).unwrap();
    control.resume().unwrap();

    let ((two, code), (all, _)) = receiving.await.unwrap();
    assert_eq!((two.as_slice(), code), (&recorded("audit")[..2], Some(1012)));
    assert_eq!(all, recorded("audit"));
    // Dropping it ends it.
    drop(feed);
}

/// As fast as a client reads; each is closed after its last frame, and the feed ends with the last client.
fn campus() -> Options {
    let capture = Capture::open(&["fixtures/campus.mcap"]).unwrap();
    Options { speed: Speed::MAX, once: true, ..Options::new(capture) }
}

/// The messages of a topic as they are in the capture.
fn recorded(topic: &str) -> Vec<Bytes> {
    let entries = campus().capture.entries().map(Result::unwrap);
    let entries = entries.filter(|entry| entry.subscription.topic == topic);
    entries.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
}

/// A feed beside the test.
struct Feed {
    url: String,
    ca_pem: String,
    /// What it did, when it has ended.
    report: JoinHandle<Report>,
}

impl Feed {
    async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let (url, ca_pem) = (server.url(), server.ca_pem().unwrap().to_owned());
        // What completes there stops it, say the receiver of a oneshot channel.
        let report = tokio::spawn(server.run(std::future::pending()));
        Self { url, ca_pem, report }
    }
}

/// The client under test: all messages of a topic up to the close, and its code.
async fn receive(feed: &Feed, topic: &str) -> (Vec<Bytes>, Option<u16>) {
    receive_from(&feed.url, &feed.ca_pem, topic).await
}

async fn receive_from(url: &str, ca_pem: &str, topic: &str) -> (Vec<Bytes>, Option<u16>) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("Authorization", "synthetic-key".parse().unwrap());
    request.headers_mut().insert("Topic", topic.parse().unwrap());

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).await.unwrap();
    let name = ServerName::try_from(request.uri().host().unwrap().to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();

    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let mut messages = Vec::new();
    loop {
        match socket.next().await.expect("a close at the end").unwrap() {
            Message::Binary(message) => messages.push(message),
            Message::Close(frame) => {
                // The answer to it.
                socket.flush().await.unwrap();
                return (messages, frame.map(|frame| frame.code.into()));
            }
            other => panic!("not of this feed: {other:?}"),
        }
    }
}
