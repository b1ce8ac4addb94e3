//! What a proper server does not do: a connection under a fault.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Answer, Ended, LAST_WORDS_LIMIT, Peer, Reply, status};
use crate::fault::{Form, Refusal};

/// No TLS record and no WebSocket frame begins like that.
const NOISE: &[u8] = b"this is neither TLS nor a WebSocket\r\n";

/// A peer that is not read from is looked after so often.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// The answer of a refusal.
pub(super) fn refuse<P>(refusal: Refusal) -> Reply<P> {
    match refusal {
        Refusal::Answer { status: code, body, headers } => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let (mut response, answer) = status(code, body);
            for (name, value) in headers {
                // That they fit was found out when the file was read.
                let name = HeaderName::from_bytes(name.as_bytes());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                    response.headers_mut().insert(name, value);
                }
            }
            (response, answer)
        }
        Refusal::Raw(bytes) => (Response::default(), Answer::Raw(bytes)),
    }
}

/// Waits for the first bytes of a client and answers with some that are no TLS.
pub(super) async fn answer_with_noise(mut stream: TcpStream) {
    let mut hello = [0; 4096];
    if stream.read(&mut hello).await.is_ok() {
        make_noise(&mut stream).await;
    }
}

async fn make_noise(stream: &mut TcpStream) {
    let end = async {
        stream.write_all(NOISE).await?;
        stream.shutdown().await?;
        // Until the client is gone: closing with unread bytes would reset what it has not read yet.
        let mut ignored = [0; 4096];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(LAST_WORDS_LIMIT, end).await;
}

impl Peer {
    /// Queues a message in a form of its own, but not slowly.
    pub fn queue_as(&mut self, message: &Bytes, form: Form) {
        self.socket.send_in_frames(message, form.fragments as usize, form.text);
    }

    /// Queues so many pings.
    pub fn queue_pings(&mut self, count: u64) {
        for number in 1..=count {
            self.socket.send_ping(Bytes::from(number.to_string()));
        }
    }

    /// From here on no ping is answered.
    pub fn mute_pongs(&mut self) {
        self.socket.mute_pongs();
    }

    /// Writes all that is queued, so many bytes at a time with so much time between them. The peer is
    /// listened to meanwhile.
    pub async fn dribble(&mut self, bytes: usize, every: Duration) -> Result<(), Ended> {
        loop {
            self.allowance = bytes;
            self.flush().await?;
            if self.socket.output().is_empty() {
                break;
            }
            self.meanwhile(sleep(every)).await?;
        }
        self.allowance = usize::MAX;
        Ok(())
    }

    /// Writes so much of what is queued, from 0 for nothing to 1 for all of it; the rest never is, unless
    /// by a close.
    pub async fn write_part(&mut self, part: f64) -> Result<(), Ended> {
        #[allow(clippy::cast_sign_loss, reason = "a part is not below 0")]
        let bytes = (self.queued() as f64 * part) as usize;
        self.allowance = bytes;
        self.flush().await?;
        self.allowance = 0;
        Ok(())
    }

    /// Resets the connection, without a word of TLS or WebSocket.
    pub fn reset(mut self) {
        // Closing it, which is what dropping it does, resets it then.
        let _ = self.stream.tcp().set_zero_linger();
    }

    /// Neither reads nor writes any more. Completes when the peer has gone.
    pub async fn play_dead(&mut self) {
        let tcp = self.stream.tcp();
        while tcp.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
            // What it has sent stays there, so it is ready at any time.
            sleep(LOOK_AFTER).await;
        }
    }

    /// Writes bytes that are no TLS, and ends.
    pub async fn break_tls(mut self) {
        make_noise(self.stream.tcp()).await;
    }
}
