//! One request, on a thread of its own: whoever waits for it may stop waiting at any time.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{Response, header};
use ureq::{Agent, Body};

use crate::interrupt::{self, Interrupted};

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(100);
/// Pieces that the thread may be ahead of what is written.
const AHEAD: usize = 4;
const PIECE_BYTES: usize = 1 << 16;

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// Of HTTP.
    pub status: u16,
    /// First byte of what follows, in the whole file.
    pub start: u64,
    /// Size of the whole file, if the server tells.
    pub total: Option<u64>,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Broken {
    /// The server or the network.
    Failed(String),
    /// Ctrl-C.
    Interrupted(Interrupted),
}

/// An answer on its way. Dropping it closes the connection, with which its thread ends.
pub(super) struct Connection {
    agent: Agent,
    heads: Receiver<Result<Head, String>>,
    pieces: Receiver<Result<Vec<u8>, String>>,
    silence: Duration,
}

impl Connection {
    /// Asks for what is at `url`, from byte `start` on. Redirections are followed.
    pub fn open(url: &str, start: u64, silence: Duration) -> Result<Self, Broken> {
        let (send_head, heads) = sync_channel(1);
        let (send_piece, pieces) = sync_channel(AHEAD);
        let agent = agent();
        let (url, asking) = (url.to_owned(), agent.clone());
        // The thread is not waited for: while it looks for the host or connects, nothing can end it.
        thread::Builder::new()
            .name("download".into())
            .spawn(move || match request(&asking, &url, start) {
                Ok(response) => {
                    if send_head.send(Ok(head(&response))).is_ok() {
                        send_body(response, &send_piece);
                    }
                }
                Err(error) => drop(send_head.send(Err(described(error)))),
            })
            .map_err(|error| Broken::Failed(error.to_string()))?;
        Ok(Self { agent, heads, pieces, silence })
    }

    /// Waits for the beginning of the answer.
    pub fn head(&self) -> Result<Head, Broken> {
        match self.wait(&self.heads)? {
            Some(head) => Ok(head),
            None => Err(Broken::Failed("the connection broke".into())),
        }
    }

    /// Waits for the next piece of the body; `None` at its end.
    pub fn piece(&self) -> Result<Option<Vec<u8>>, Broken> {
        self.wait(&self.pieces)
    }

    fn wait<T>(&self, messages: &Receiver<Result<T, String>>) -> Result<Option<T>, Broken> {
        let start = Instant::now();
        loop {
            interrupt::check().map_err(Broken::Interrupted)?;
            match messages.recv_timeout(POLL.min(self.silence)) {
                Ok(message) => return message.map(Some).map_err(Broken::Failed),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= self.silence => {
                    return Err(Broken::Failed(format!("silent for {} s", self.silence.as_secs_f64())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.agent.clone().shutdown();
    }
}

/// Has no limits of time: whoever waits counts the silence. No connection is used twice, so that a redirection within a
/// server does not meet one that the server is about to close.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("darts/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::new_with_config(config)
}

fn request(agent: &Agent, url: &str, start: u64) -> Result<Response<Body>, ureq::Error> {
    let request = agent.get(url);
    let request = if start > 0 { request.header(header::RANGE, format!("bytes={start}-")) } else { request };
    request.call()
}

fn head(response: &Response<Body>) -> Head {
    let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    // `bytes 100-199/200`; the size may be `*`.
    let range = field(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes ")).filter(|_| status == 206);
    let (start, total) = match range.and_then(|range| range.split_once('/')) {
        Some((range, total)) => (range.split('-').next(), total.parse().ok()),
        None => (None, field(header::CONTENT_LENGTH).and_then(|length| length.parse().ok())),
    };
    Head { status, start: start.and_then(|start| start.parse().ok()).unwrap_or(0), total }
}

fn send_body(response: Response<Body>, pieces: &SyncSender<Result<Vec<u8>, String>>) {
    let mut reader = response.into_body().into_reader();
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let message = match reader.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                piece.truncate(read);
                Ok(piece)
            }
            Err(error) => Err(error.to_string()),
        };
        let last = message.is_err();
        if pieces.send(message).is_err() || last {
            return;
        }
    }
}

fn described(error: ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the host name is not known: is this machine online?".into(),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
