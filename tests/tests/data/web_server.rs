//! A web server on this machine that does what servers and networks do when they are not at their best.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers, also for a part of the file.
    Good,
    /// Closes the connection after so many bytes of the body.
    Truncates(usize),
    /// Says nothing more after so many bytes of the body.
    Stalls(usize),
    /// Closes the connection instead of an answer.
    HangsUp,
    /// Sends one wrong bit.
    Corrupts,
    /// Sends the whole file whatever part was asked for, and closes after so many bytes.
    IgnoresRangeAndTruncates(usize),
    /// Says that the file has this part, but from the next byte on.
    AnswersWithAnotherRange,
    /// Answers without a length, and with too much.
    SendsTooMuch,
    /// Sends to another place.
    Redirects(String),
    /// Answers with nothing but a status.
    Status(u16),
}

use Behaviour::*;

/// A server that runs as long as the tests do.
pub struct WebServer {
    /// `http://127.0.0.1:PORT`
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    /// A message for each client that closes a connection on which nothing comes.
    closed: Receiver<()>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// Of a request for a part.
    pub start: Option<usize>,
}

impl WebServer {
    /// Serves `files`. The first requests are answered as `behaviours` say, those after them well.
    pub fn start(files: &[(&str, Vec<u8>)], behaviours: &[Behaviour]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (close, closed) = channel();
        let files: HashMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (format!("/{name}"), bytes.clone())).collect();
        let (log, files, behaviours) = (Arc::clone(&requests), Arc::new(files), behaviours.to_vec());
        thread::spawn(move || {
            let mut behaviours = behaviours.into_iter();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let Some(request) = read_request(&stream) else { continue };
                log.lock().expect("no panic").push(request.clone());
                let (behaviour, files) = (behaviours.next().unwrap_or(Good), Arc::clone(&files));
                let close = close.clone();
                // A client that goes away is none of the server's business.
                thread::spawn(move || drop(answer(stream, &request, &behaviour, files.get(&request.path), &close)));
            }
        });
        Self { address, requests, closed }
    }

    /// Waits until a client closes a connection on which nothing came. Panics if none does for a minute.
    pub fn wait_for_closed(&self) {
        self.closed.recv_timeout(Duration::from_secs(60)).expect("the connection is closed");
    }

    /// All requests up to now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// The first bytes that were asked for, in order; 0 for a whole file.
    pub fn starts(&self) -> Vec<usize> {
        self.requests().iter().map(|request| request.start.unwrap_or(0)).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut start = None;
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().ok();
        }
    }
    Some(Request { path, start })
}

fn answer(
    mut stream: TcpStream,
    request: &Request,
    behaviour: &Behaviour,
    file: Option<&Vec<u8>>,
    close: &Sender<()>,
) -> std::io::Result<()> {
    match (behaviour, file) {
        (HangsUp, _) => Ok(()),
        // Such answers do not say that the connection is closed behind them.
        (Redirects(to), _) => write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        (Status(status), _) => write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"),
        (_, None) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        (SendsTooMuch, Some(file)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&[file.as_slice(), b"and more"].concat())
        }
        (_, Some(file)) => {
            let start = request.start.filter(|_| !matches!(behaviour, IgnoresRangeAndTruncates(_)));
            if start.is_some_and(|start| start >= file.len()) {
                return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
            }
            let said = start.map(|start| if matches!(behaviour, AnswersWithAnotherRange) { start + 1 } else { start });
            let mut body = file[start.unwrap_or(0)..].to_vec();
            write!(stream, "HTTP/1.1 {}\r\n", if start.is_some() { "206 Partial Content" } else { "200 OK" })?;
            if let Some(said) = said {
                write!(stream, "Content-Range: bytes {said}-{}/{}\r\n", file.len() - 1, file.len())?;
            }
            write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            match *behaviour {
                Truncates(bytes) | IgnoresRangeAndTruncates(bytes) => body.truncate(bytes),
                Stalls(bytes) => {
                    stream.write_all(&body[..bytes])?;
                    // Until the client closes the connection, in whatever way.
                    drop(std::io::copy(&mut stream, &mut std::io::sink()));
                    // The test may be over.
                    let _ = close.send(());
                    return Ok(());
                }
                Corrupts => body[file.len() / 2] ^= 1,
                _ => {}
            }
            stream.write_all(&body)
        }
    }?;
    stream.shutdown(Shutdown::Write)
}
