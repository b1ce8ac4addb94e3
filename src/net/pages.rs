//! A few small pages over plain HTTP, for monitoring.
//!
//! Whoever asks gets one answer on one connection, in a limited time, and has no say in anything: a
//! request is a path, and what else it brings is not looked at. So many are answered at once; others
//! wait. A page is made off the runtime, as it may have to ask a slow disk.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use super::listening::{self, Listening};
use crate::error::{Error, Result};

/// How long a request and its answer may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How large a request may be, in bytes.
const REQUEST_LIMIT: usize = 16 * 1024;

/// How many are answered at once.
const AT_ONCE: usize = 16;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status of the answer.
    pub status: StatusCode,
    /// What it is, such as `text/plain`.
    pub kind: &'static str,
    /// What it says.
    pub text: String,
}

impl Page {
    /// Words.
    pub fn plain(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// An address that is ours; nobody is answered there yet.
#[derive(Debug)]
pub struct Pages(Listening);

impl Pages {
    /// Takes the address. Whoever connects from now on waits to be served.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        Listening::at(address).map(Self)
    }

    /// Where they are, with the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers until it is dropped. `page` is asked for the page at a path, and may take its time.
    pub async fn serve<P>(self, page: P) -> Result<Infallible>
    where
        P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
    {
        let listener = self.0.open()?;
        let (page, places) = (Arc::new(page), Arc::new(Semaphore::new(AT_ONCE)));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let (stream, _) = listening::next(&listener).await;
            // A page that hangs keeps its place, so that no more than so many ever hang.
            let (page, place) = (Arc::clone(&page), Arc::new(place));
            let answer = move |path: &str| {
                let _place = &place;
                page(path)
            };
            tokio::spawn(timeout(TIME_LIMIT, serve_one(stream, Arc::new(answer))));
        }
    }
}

/// Where they can be asked for: `9464` and `:9464` are ports of this machine alone; who wants to be
/// asked by others has to name the whole address.
pub fn address(text: &str) -> Result<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text).parse().ok();
    let loopback = port.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    loopback.or_else(|| text.parse().ok()).ok_or_else(|| {
        let hint = "such as 9464 or [::1]:9464; 0.0.0.0:9464 lets other machines ask, too";
        Error::usage("a port, or an address with a port", format!("{text:?}"), hint)
    })
}

async fn serve_one<P>(stream: TcpStream, page: Arc<P>)
where
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    let service = service_fn(|request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(answer(&request, page).await) }
    });
    // Whoever hangs up early has only himself to tell.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<P>(request: &Request<Incoming>, page: Arc<P>) -> Response<Full<Bytes>>
where
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let page = Page::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        let mut response = respond(page);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path().to_owned();
    respond(match tokio::task::spawn_blocking(move || page(&path)).await {
        Ok(Some(page)) => page,
        Ok(None) => Page::plain(StatusCode::NOT_FOUND, "Not Found\n"),
        Err(_) => Page::plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"),
    })
}

fn respond(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page.text));
    *response.status_mut() = page.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(page.kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::{listening::BREATH, *};

    fn serve() -> SocketAddr {
        let pages = Pages::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = pages.address();
        tokio::spawn(pages.serve(|_| Some(Page::plain(StatusCode::OK, "fine"))));
        address
    }

    async fn connect(address: SocketAddr, said: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream
    }

    /// What comes until the connection ends.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    const WHOLE: &str = "GET / HTTP/1.1\r\n\r\n";

    #[test]
    fn an_address_is_this_machines_own_unless_named_in_full() {
        for (text, expected) in [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("0", "127.0.0.1:0"),
            ("[::1]:9464", "[::1]:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for text in ["", ":", "65536", "0.0.0.0", "somewhere:9464"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_made_in_time_is_not_waited_for() {
        let address = serve();
        for said in ["", "GET / HTTP/1.1\r\nHalf: "] {
            let began = Instant::now();
            assert_eq!(rest(connect(address, said).await).await, "");
            let took = began.elapsed();
            assert!(took >= TIME_LIMIT && took < TIME_LIMIT + BREATH, "{took:?}");
        }
        let began = Instant::now();
        assert!(rest(connect(address, WHOLE).await).await.ends_with("fine"));
        assert!(began.elapsed() < BREATH);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_say_nothing_keep_others_waiting_for_no_longer_than_that() {
        let address = serve();
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE {
            silent.push(connect(address, "").await);
        }
        let began = Instant::now();
        assert!(rest(connect(address, WHOLE).await).await.ends_with("fine"));
        let took = began.elapsed();
        assert!(took >= TIME_LIMIT && took < TIME_LIMIT + BREATH, "{took:?}");
    }
}
