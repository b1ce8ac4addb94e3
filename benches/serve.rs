//! What serving costs at least: a bare tokio-tungstenite server over rustls, with the settings that they
//! have by themselves, which sends frames from memory. `measure_serve.py` holds `replay` against it.
//!
//! CAPTURE CA: reads all frames of the capture, says where it listens as `replay` does, and sends them to
//! each client as fast as it takes them. CA is where its authority is written. `each` CAPTURE CA: the same, but
//! each frame is on its way before the next one is looked at. `unpack` CAPTURE CA: frames come from the sealed
//! file instead, which is unpacked meanwhile, and nothing more is done with it. `hot` CAPTURE OUT.mcap: writes
//! all entries of the capture as OUT.open.mcap, which is not compressed. Without arguments there is nothing to
//! do.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "somebody waits for the line")]

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use centralcap::{
    capture::{About, Capture, HotSegment},
    entry::Timestamp,
};
use futures_util::{SinkExt, StreamExt};
use mcap::records::{Record, op};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (way, ca) = match &*arguments {
        [hot, capture, out] if hot == "hot" => return copy_hot(capture, out),
        [capture, ca] => (Way::Fed(frames(capture)), ca),
        [each, capture, ca] if each == "each" => (Way::Each(frames(capture)), ca),
        [unpack, capture, ca] if unpack == "unpack" => (Way::Unpacked(capture.into()), ca),
        _ => return,
    };
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
            tokio::spawn(serve(acceptor.clone(), stream, way.clone()));
        }
    });
}

/// Where frames come from, and how they are handed to tungstenite.
#[derive(Clone)]
enum Way {
    /// It queues as many as it does by itself.
    Fed(Arc<[Bytes]>),
    /// Each is flushed.
    Each(Arc<[Bytes]>),
    /// From a sealed file, queued like the first ones.
    Unpacked(PathBuf),
}

/// Each in memory of its own, as if it had been made here.
fn frames(capture: &str) -> Arc<[Bytes]> {
    let entries = Capture::open(&[capture]).unwrap().entries();
    let frames = entries.map(|entry| Some(Bytes::copy_from_slice(&entry.unwrap().frame()?.data)));
    frames.flatten().collect()
}

/// The frames of each chunk, unpacked by a thread of its own into memory that nobody uses any more.
fn unpacked(capture: PathBuf) -> mpsc::Receiver<Vec<Bytes>> {
    const AHEAD: usize = 4;

    let (to, frames) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut file = File::open(capture).unwrap();
        file.seek(SeekFrom::Start(mcap::MAGIC.len() as u64)).unwrap();
        let (mut header, mut record, mut rooms) = ([0; 9], Vec::new(), VecDeque::<Bytes>::new());
        while header[0] != op::DATA_END {
            file.read_exact(&mut header).unwrap();
            record.clear();
            let length = u64::from_le_bytes(header[1..].try_into().unwrap());
            (&mut file).take(length).read_to_end(&mut record).unwrap();
            if header[0] != op::CHUNK {
                continue;
            }
            let Record::Chunk { header, data } = mcap::parse_record(op::CHUNK, &record).unwrap()
            else {
                unreachable!("its opcode is that of a chunk");
            };
            let is_free = rooms.front().is_some_and(Bytes::is_unique);
            let room = if is_free { rooms.pop_front() } else { None };
            let mut content = room.map_or_else(Vec::new, Vec::from);
            content.clear();
            content.reserve(header.uncompressed_size as usize);
            decompressor.decompress_to_buffer(&data, &mut content).unwrap();
            let content = Bytes::from(content);
            rooms.push_back(content.clone());
            if to.blocking_send(messages(&content)).is_err() {
                return;
            }
        }
    });
    frames
}

/// What the messages of a chunk have behind their headers.
fn messages(content: &Bytes) -> Vec<Bytes> {
    const HEADER: usize = 2 + 4 + 8 + 8;

    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some(header) = content[at..].first_chunk::<9>() {
        let length = u64::from_le_bytes(header[1..].try_into().unwrap()) as usize;
        let start = at + header.len();
        at = start + length;
        if header[0] == op::MESSAGE {
            messages.push(content.slice(start + HEADER..at));
        }
    }
    messages
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

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, way: Way) {
    stream.set_nodelay(true).unwrap();
    let stream = acceptor.accept(stream).await.unwrap();
    let mut stream = accept_async(stream).await.unwrap();
    let sent = async {
        match way {
            Way::Fed(frames) => {
                for frame in &*frames {
                    stream.feed(Message::Binary(frame.clone())).await?;
                }
            }
            Way::Each(frames) => {
                for frame in &*frames {
                    stream.send(Message::Binary(frame.clone())).await?;
                }
            }
            Way::Unpacked(capture) => {
                let mut chunks = unpacked(capture);
                while let Some(frames) = chunks.recv().await {
                    for frame in frames {
                        stream.feed(Message::Binary(frame)).await?;
                    }
                }
            }
        }
        stream.flush().await
    };
    if sent.await.is_err() {
        return;
    }
    // A client that has all goes away.
    while stream.next().await.is_some_and(|message| message.is_ok()) {}
}
