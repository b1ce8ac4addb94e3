//! What receiving costs at least: a bare tokio-tungstenite client over rustls, with the settings that they
//! have by themselves. `measure_receive.py` holds the whole process against `record`.
//!
//! HOSTNAME CA TOPIC CONNECTIONS FRAMES: so many connections at once, of each so many frames, which are
//! thrown away. Without arguments there is nothing to do.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::{env, path::Path, sync::Arc};

use centralcap::net::trust::{Trust, client_config};
use futures_util::StreamExt;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [hostname, ca, topic, connections, frames] = &*arguments else { return };
    let tls = client_config(Trust::File(Path::new(ca))).unwrap();
    let frames = frames.parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..connections.parse().unwrap() {
            let client = receive(Arc::clone(&tls), hostname.clone(), topic.clone(), frames);
            clients.spawn(client);
        }
        clients.join_all().await;
    });
}

async fn receive(tls: Arc<ClientConfig>, hostname: String, topic: String, frames: u64) {
    let mut request = format!("wss://{hostname}/streaming/api").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("Authorization", "synthetic-key".parse().unwrap());
    headers.insert("Topic", topic.parse().unwrap());
    let host = hostname.split(':').next().unwrap().to_owned();
    let stream = TcpStream::connect(hostname).await.unwrap();
    let name = ServerName::try_from(host).unwrap();
    let stream = TlsConnector::from(tls).connect(name, stream).await.unwrap();
    let (mut stream, _) = client_async(request, stream).await.unwrap();
    let mut received = 0;
    while received < frames
        && let Some(message) = stream.next().await
    {
        received += u64::from(matches!(message.unwrap(), Message::Binary(_)));
    }
    assert_eq!(received, frames, "the server has ended before all frames had come");
}
