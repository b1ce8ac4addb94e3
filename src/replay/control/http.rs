//! Control over HTTP: JSON in, JSON out, and problems as RFC 9457 has them.
//!
//! Every request is a row of [`ROUTES`]: a command, or a question. One connection, one request, all of it
//! in a limited time; only a wait may take longer, and no more than so many do. Whoever reaches the address
//! controls the replay, so browsers are kept out: pages of elsewhere could reach it, too.
//! `docs/control.openapi.json` has all of it.

use std::{
    cell::RefCell,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::{Map, Value as Json, json};
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{Command, Control, Farewell, Until};
use crate::{
    error::{Error, Result},
    fault::Faults,
    net::{
        self,
        listening::{self, Listening},
    },
    pace, select,
};

/// How long a request may take to arrive, and its answer to leave.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long may be waited for something.
const WAIT_LIMIT: Duration = Duration::from_secs(3600);

/// How long is waited unless it is said.
const WAIT: Duration = Duration::from_secs(30);

/// How large the head of a request may be, in bytes,
const HEAD_LIMIT: usize = 16 * 1024;

/// and its body.
const BODY_LIMIT: usize = 1024 * 1024;

/// How many are answered at once; others wait.
const AT_ONCE: usize = 64;

/// So many of them may wait for something, so that commands get through.
const WAITING: usize = 32;

/// When the replay is over, those who wait for that are answered for so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One thing that can be asked for.
struct Route {
    method: Method,
    path: &'static str,
    does: Does,
}

enum Does {
    /// Says what there is to know.
    State,
    /// Carries out the command that the body says, and then the same.
    Command(fn(&str) -> Result<Command>),
    /// Waits for what the body says, and then the same.
    Wait,
    /// Says what can be asked for.
    Describe,
}

/// All that can be asked for.
static ROUTES: [Route; 12] = [
    Route { method: Method::GET, path: "/state", does: Does::State },
    Route {
        method: Method::POST,
        path: "/pause",
        does: Does::Command(|body| body_of::<Nothing>(body).map(|_| Command::Pause)),
    },
    Route {
        method: Method::POST,
        path: "/resume",
        does: Does::Command(|body| body_of::<Nothing>(body).map(|_| Command::Resume)),
    },
    Route {
        method: Method::POST,
        path: "/step",
        does: Does::Command(|body| Ok(Command::Step(body_of::<Step>(body)?.frames))),
    },
    Route {
        method: Method::POST,
        path: "/seek",
        does: Does::Command(|body| Ok(Command::Seek(body_of::<Seek>(body)?.to.parse()?))),
    },
    Route {
        method: Method::POST,
        path: "/speed",
        does: Does::Command(|body| Ok(Command::Speed(speed(&body_of::<Speed>(body)?.speed)?))),
    },
    Route {
        method: Method::POST,
        path: "/faults",
        does: Does::Command(|body| {
            Ok(Command::Inject(Faults::parse_json(body, "the request", None)?))
        }),
    },
    Route {
        method: Method::POST,
        path: "/drop",
        does: Does::Command(|body| {
            Ok(Command::Drop(match body_of::<Drop>(body)? {
                Drop { reset: false, code, reason } => Farewell::try_from((code, reason))?,
                Drop { reset: true, code: None, reason: None } => Farewell::Reset,
                Drop { .. } => {
                    let hint = "a reset says nothing";
                    return Err(Error::usage("a close or a reset", "both", hint));
                }
            }))
        }),
    },
    Route {
        method: Method::POST,
        path: "/expire",
        does: Does::Command(|body| Ok(Command::Expire(body_of::<Expire>(body)?.account))),
    },
    Route { method: Method::POST, path: "/wait", does: Does::Wait },
    Route {
        method: Method::POST,
        path: "/reset",
        does: Does::Command(|body| body_of::<Nothing>(body).map(|_| Command::Reset)),
    },
    Route { method: Method::GET, path: "/openapi.json", does: Does::Describe },
];

/// What is said of all of them.
const OPENAPI: &str = include_str!("../../../docs/control.openapi.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default = "one")]
    frames: u64,
}

const fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seek {
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Speed {
    speed: Json,
}

fn speed(said: &Json) -> Result<pace::Speed> {
    match said {
        Json::String(text) => text.parse(),
        // A third is one, though no decimal number: it is taken to the billionth, as all speeds are.
        Json::Number(number) => {
            let rounded = number.as_f64().map(|number| format!("{number:.9}"));
            let speed = rounded.and_then(|number| number.parse().ok());
            speed.map_or_else(|| number.to_string().parse(), Ok)
        }
        other => other.to_string().parse(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drop {
    code: Option<u16>,
    reason: Option<String>,
    #[serde(default)]
    reset: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    account: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    clients: Option<usize>,
    frames: Option<u64>,
    topic: Option<String>,
    subscription: Option<String>,
    client: Option<u64>,
    #[serde(default)]
    end: bool,
    timeout: Option<String>,
}

impl Wait {
    fn until(self) -> Result<(Until, Duration)> {
        let wait = self.timeout.as_deref().map_or(Ok(WAIT), select::duration)?;
        let is_narrow =
            self.topic.is_some() || self.subscription.is_some() || self.client.is_some();
        let Self { topic, subscription, client, .. } = self;
        let until = match (self.clients, self.frames, self.end) {
            (Some(clients), None, false) if !is_narrow => Until::Clients(clients),
            (None, None, true) if !is_narrow => Until::End,
            (None, Some(count), false) => Until::Frames { count, topic, subscription, client },
            _ => {
                let hint =
                    "{\"clients\": 1}, {\"frames\": 10, \"topic\": \"audit\"} or {\"end\": true}";
                let expected =
                    "one of clients, frames (of a topic, subscription or client) and end";
                return Err(Error::usage(expected, "something else", hint));
            }
        };
        if wait > WAIT_LIMIT {
            let hint = "wait again after that";
            return Err(Error::usage("1h at most as timeout", format!("{wait:?}"), hint));
        }
        Ok((until, wait))
    }
}

/// Reads the body of a request. None at all is an empty object.
fn body_of<T: DeserializeOwned>(body: &str) -> Result<T> {
    let body = if body.trim().is_empty() { "{}" } else { body };
    // Which of them is not what is expected serde does not say.
    let current = RefCell::new(None);
    // A list would do for serde, too.
    let read = serde_json::from_str::<Map<String, Json>>(body).and_then(|body| {
        let mut fields = body.into_iter();
        let fields = std::iter::from_fn(|| {
            let field = fields.next();
            *current.borrow_mut() = field.as_ref().map(|(name, _)| name.clone());
            field
        });
        T::deserialize(MapDeserializer::new(fields))
    });
    read.map_err(|error| {
        let of = current.take().map(|name| format!(" (in {name:?})")).unwrap_or_default();
        let hint = "docs/control.openapi.json says what each request takes";
        Error::usage("a JSON object that this request takes", format!("{error}{of}"), hint)
    })
}

/// An address at which a server can be controlled; nobody is answered there yet.
#[derive(Debug)]
pub struct Remote(Listening);

impl Remote {
    /// Takes the address; port 0 takes a free one. Whoever connects from now on waits to be served.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        Listening::at(address).map(Self)
    }

    /// Where it is, with the port that was free.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The same as a URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", net::reachable(self.address()))
    }

    /// Answers until all is over, and a moment longer those who wait for that. Dropping the future leaves
    /// them without an answer.
    pub async fn serve(self, control: Control, over: impl Future<Output = ()>) -> Result<()> {
        let guarded = self.address().ip().is_loopback();
        let listener = self.0.open()?;
        let desk = Arc::new(Desk {
            control,
            guarded,
            waiting: Semaphore::new(WAITING),
            answering: AtomicUsize::new(0),
        });
        let mut connections = JoinSet::new();
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => break,
                Some(_) = connections.join_next() => {}
                (stream, _) = listening::next(&listener), if connections.len() < AT_ONCE => {
                    connections.spawn(serve_one(stream, Arc::clone(&desk)));
                }
            }
        }
        let deadline = Instant::now() + LAST_WORDS;
        while desk.answering.load(Ordering::Relaxed) > 0 {
            if timeout_at(deadline, connections.join_next()).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// What all requests share.
struct Desk {
    control: Control,
    /// Whether only this machine can reach it, and its browsers are not to.
    guarded: bool,
    waiting: Semaphore,
    /// So many have been heard and not been answered.
    answering: AtomicUsize,
}

/// One that has been heard.
struct Heard<'d>(&'d Desk);

impl<'d> Heard<'d> {
    fn by(desk: &'d Desk) -> Self {
        desk.answering.fetch_add(1, Ordering::Relaxed);
        Self(desk)
    }
}

impl std::ops::Drop for Heard<'_> {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve_one(stream: TcpStream, desk: Arc<Desk>) {
    let (heard, hearing) = tokio::sync::oneshot::channel();
    let heard = std::sync::Mutex::new(Some(heard));
    let answered = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (desk, heard, answered) = (&desk, &heard, &answered);
        async move {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            let heard = heard.lock().ok().and_then(|mut heard| heard.take());
            let _ = heard.map(|heard| heard.send(Heard::by(desk)));
            let answer = match body {
                Ok(body) => desk.answer(&head, &body.to_bytes()).await,
                Err(error) if error.is::<LengthLimitError>() => {
                    let detail = format!("expected a body of {BODY_LIMIT} bytes at most");
                    Err(Problem::of(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail))
                }
                Err(error) => {
                    let detail = format!("expected a body as HTTP has them, found {error}");
                    Err(Problem::of(StatusCode::BAD_REQUEST, "wrong-request", detail))
                }
            };
            answered.notify_one();
            Ok::<_, Infallible>(answer.unwrap_or_else(Problem::response))
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Whoever hangs up early has only himself to tell.
    let heard = tokio::select! {
        _ = &mut connection => return,
        heard = timeout(TIME_LIMIT, hearing) => heard,
    };
    if let Ok(Ok(_heard)) = heard {
        tokio::select! {
            _ = &mut connection => return,
            () = answered.notified() => {}
        }
        // Whoever does not take the answer may not keep the place of others.
        let _ = timeout(TIME_LIMIT, connection).await;
    }
}

impl Desk {
    async fn answer(&self, head: &Parts, body: &Bytes) -> Result<Response<Full<Bytes>>, Problem> {
        self.guard(&head.headers)?;
        let (route, client) = asked(head)?;
        let body = std::str::from_utf8(body).map_err(|_| {
            Error::usage("JSON as body", "something that is not UTF-8", "see docs/control.md")
        })?;
        let state = match &route.does {
            Does::Describe => {
                return Ok(response(StatusCode::OK, "application/json", OPENAPI.to_owned()));
            }
            Does::State => self.control.state(),
            Does::Command(command) => {
                self.control.give(command(body)?, client)?;
                self.control.state()
            }
            Does::Wait => {
                let (until, patience) = body_of::<Wait>(body)?.until()?;
                let Ok(_place) = self.waiting.try_acquire() else {
                    let detail = format!("expected {WAITING} at most who wait, found more");
                    let status = StatusCode::SERVICE_UNAVAILABLE;
                    return Err(Problem::of(status, "too-many", detail));
                };
                self.control.wait(until, patience).await?
            }
        };
        let text = serde_json::to_string(&state).expect("a state has only what JSON has") + "\n";
        Ok(response(StatusCode::OK, "application/json", text))
    }

    /// Keeps browsers out: a page of anybody's may send requests to this machine, and get the answers, too,
    /// if its name is made to be this machine's.
    fn guard(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if headers.contains_key(header::ORIGIN) {
            let detail = "expected a client that is no browser, found the header Origin";
            return Err(Problem::of(StatusCode::FORBIDDEN, "browser", detail.to_owned()));
        }
        let Some(host) = headers.get(header::HOST).filter(|_| self.guarded) else { return Ok(()) };
        let name =
            host.to_str().ok().and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
        let is_ours = name.is_some_and(|name| {
            let host = name.host().trim_matches(['[', ']']);
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
        });
        if is_ours {
            return Ok(());
        }
        let detail = format!("expected localhost or an address as Host, found {host:?}");
        Err(Problem::of(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail))
    }
}

/// What a request asks for, and for which client.
fn asked(head: &Parts) -> Result<(&'static Route, Option<u64>), Problem> {
    let path = head.uri.path();
    let routes: Vec<_> = ROUTES.iter().filter(|route| route.path == path).collect();
    if routes.is_empty() {
        let paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        let detail = format!("expected one of {}, found {path}", paths.join(", "));
        return Err(Problem::of(StatusCode::NOT_FOUND, "no-such-path", detail));
    }
    let allowed: Vec<_> = routes.iter().map(|route| route.method.as_str()).collect();
    let Some(route) = routes.into_iter().find(|route| route.method == head.method) else {
        let allowed = allowed.join(", ");
        let detail = format!("expected {allowed} for {path}, found {}", head.method);
        let problem = Problem::of(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail);
        return Err(Problem { allow: Some(allowed), ..problem });
    };
    let client = client(head.uri.query())?;
    if client.is_some() && !matches!(route.does, Does::Command(_)) {
        let hint = "leave the client out";
        return Err(Error::usage("a request for all", "one for a client", hint).into());
    }
    Ok((route, client))
}

/// The client that a command is for.
fn client(query: Option<&str>) -> Result<Option<u64>> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let client = query.strip_prefix("client=").and_then(|client| client.parse().ok());
    client.map(Some).ok_or_else(|| {
        let hint = "clients have the numbers that /state says";
        Error::usage("client=NUMBER as query", format!("{query:?}"), hint)
    })
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request is not done, RFC 9457.
struct Problem {
    status: StatusCode,
    /// One word, for programs.
    reason: &'static str,
    detail: String,
    hint: Option<String>,
    allow: Option<String>,
}

impl Problem {
    fn of(status: StatusCode, reason: &'static str, detail: String) -> Self {
        Self { status, reason, detail, hint: None, allow: None }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let Self { status, reason, detail, hint, allow } = self;
        let mut document = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "reason": reason,
        });
        if let Some(hint) = hint {
            document["hint"] = hint.into();
        }
        let text = format!("{document}\n");
        let mut response = response(status, "application/problem+json", text);
        if let Some(allow) = allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, reason) = if error.is_no_client() {
            (StatusCode::NOT_FOUND, "no-such-client")
        } else if error.is_not_now() {
            (StatusCode::CONFLICT, "not-now")
        } else if error.is_not_in_time() {
            (StatusCode::CONFLICT, "not-in-time")
        } else if error.is_usage() || error.is_fault_file() {
            (StatusCode::BAD_REQUEST, "wrong-request")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        };
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::of(status, reason, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::House, *};
    use crate::{
        capture::Capture,
        replay::{Options, hold::Hold, offer::Share, spoil::Spoil},
    };

    /// Nothing waits for a time but what is tried, so that is what time goes on for.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_the_answer_keeps_the_place_no_longer_than_one_takes_to_leave() {
        let options = Options::new(Capture::open(&["fixtures/campus.mcap"]).unwrap());
        let spoil = Arc::new(Spoil::new(Faults::none(None)));
        let hold = Arc::new(Hold::until(0, BTreeSet::new()));
        let house = Arc::new(House::new(&options, [].into_iter(), (spoil, hold, None)));
        // More than the system keeps for a connection.
        let topic = "x".repeat(32 * 1024 * 1024);
        let share = Share { topic, subscriptions: BTreeSet::new() };
        let _here = house.enter(SocketAddr::from(([192, 0, 2, 1], 1)), &share, || ());
        let desk = Desk {
            control: Control(house),
            guarded: true,
            waiting: Semaphore::new(WAITING),
            answering: AtomicUsize::new(0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asking = TcpStream::connect(listener.local_addr().unwrap());
        let (asking, accepted) = tokio::join!(asking, listener.accept());
        let (mut asking, (stream, _)) = (asking.unwrap(), accepted.unwrap());
        asking.write_all(b"GET /state HTTP/1.1\r\n\r\n").await.unwrap();

        let began = Instant::now();
        serve_one(stream, Arc::new(desk)).await;

        let took = began.elapsed();
        assert!(took >= TIME_LIMIT && took < 2 * TIME_LIMIT, "{took:?}");
        let mut first = [0; 15];
        asking.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK", "it was not answered at all");
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told_with_the_name_of_the_field() {
        let wrong = |body| body_of::<Wait>(body).err().map(|error| error.to_string());
        for (body, found) in [
            (
                "{\"clients\": 1, \"timeout\": 5}",
                "invalid type: integer `5`, expected a string (in \"timeout\")",
            ),
            (
                "{\"timeout\": \"5s\", \"end\": 1}",
                "invalid type: integer `1`, expected a boolean (in \"end\")",
            ),
            ("[]", "invalid type: sequence, expected a map at line 1 column 0"),
        ] {
            let expected = format!("expected a JSON object that this request takes, found {found}");
            assert_eq!(wrong(body), Some(expected));
        }
        assert_eq!(wrong("{\"end\": true, \"timeout\": null}"), None);
        let missing = body_of::<Expire>("{}").err().unwrap().to_string();
        assert!(missing.ends_with("found missing field `account`"), "{missing}");
    }

    #[test]
    fn the_document_has_all_that_there_is_and_nothing_else() {
        let document: Json = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (path.clone(), method.to_uppercase()))
        });
        let served = ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_string()));
        assert_eq!(described.collect::<BTreeSet<_>>(), served.collect());
    }
}
