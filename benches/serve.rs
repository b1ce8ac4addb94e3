//! What serving costs at least: a bare tokio-tungstenite server over rustls, with the settings that they
//! have by themselves, which sends frames from memory. `measure_serve.py` holds `replay` against it.
//!
//! CAPTURE CA: reads all frames of the capture, says where it listens as `replay` does, and sends them to
//! each client as fast as it takes them. CA is where its authority is written. `each` CAPTURE CA: the same, but
//! each frame is on its way before the next one is looked at. `hot` CAPTURE OUT.mcap: writes all entries of the
//! capture as OUT.open.mcap, which is not compressed. Without arguments there is nothing to do.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "somebody waits for the line")]

use std::{collections::BTreeMap, env, path::Path, sync::Arc};

use bytes::Bytes;
use centralcap::{
    capture::{About, Capture, HotSegment},
    entry::Timestamp,
};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (way, capture, ca) = match &*arguments {
        [hot, capture, out] if hot == "hot" => return copy_hot(capture, out),
        [capture, ca] => (Way::Fed, capture, ca),
        [each, capture, ca] if each == "each" => (Way::Each, capture, ca),
        _ => return,
    };
    let entries = Capture::open(&[capture]).unwrap().entries();
    // Each in memory of its own, as if it had been made here.
    let frames =
        entries.filter_map(|entry| Some(Bytes::copy_from_slice(&entry.unwrap().frame()?.data)));
    let frames: Arc<[Bytes]> = frames.collect();
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(ca, own.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!(r#"{{"hostname":"{}"}}"#, listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&frames), way));
        }
    });
}

/// How frames are handed to tungstenite.
#[derive(Clone, Copy)]
enum Way {
    /// It queues as many as it does by itself.
    Fed,
    /// Each is flushed.
    Each,
}

fn copy_hot(capture: &str, out: &str) {
    let about = About { started: Timestamp::now(), host: String::new(), options: BTreeMap::new() };
    let mut hot = HotSegment::create(Path::new(out), &about, &[]).unwrap();
    for (number, entry) in Capture::open(&[capture]).unwrap().entries().enumerate() {
        hot.append(&entry.unwrap()).unwrap();
        // As a recorder does it every few milliseconds.
        if number % 100 == 0 {
            hot.commit().unwrap();
        }
    }
    hot.checkpoint().unwrap();
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, frames: Arc<[Bytes]>, way: Way) {
    stream.set_nodelay(true).unwrap();
    let stream = acceptor.accept(stream).await.unwrap();
    let mut stream = accept_async(stream).await.unwrap();
    for frame in &*frames {
        let message = Message::Binary(frame.clone());
        let sent = match way {
            Way::Fed => stream.feed(message).await,
            Way::Each => stream.send(message).await,
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = stream.flush().await;
    // A client that has all goes away.
    while stream.next().await.is_some_and(|message| message.is_ok()) {}
}
