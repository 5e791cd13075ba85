//! A collector of traces: it takes OTLP over HTTP and keeps what came.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Listens until it is dropped with the test.
pub struct Collector {
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone)]
pub struct Heard {
    pub head: String,
    pub body: Vec<u8>,
}

/// A field of a protobuf message.
#[derive(Clone, Debug)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub name: String,
    pub kind: u64,
    pub from: u64,
    pub to: u64,
    pub failed: bool,
    pub attributes: Vec<(String, String)>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { url, heard }
    }
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
    pub fn spans(&self) -> Vec<Received> {
        self.heard().iter().flat_map(|h| spans(&h.body)).collect()
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Heard>>) {
    while let Some((head, body)) = request(&mut stream) {
        kept.lock().unwrap().push(Heard { head, body });
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The head and the body of the next request on a connection.
pub fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// By the numbers of OTLP's published messages.
fn spans(request: &[u8]) -> Vec<Received> {
    let resources = inner(request, 1);
    resources.iter().flat_map(|r| inner(r, 2)).flat_map(|scope| inner(&scope, 2)).map(|span| received(&span)).collect()
}

fn received(span: &[u8]) -> Received {
    let bytes = |n| inner(span, n).into_iter().next().unwrap_or_default();
    let number = |n| fields(span).into_iter().find_map(|(f, v)| if let (true, Field::Number(v)) = (f == n, v) { Some(v) } else { None });
    let failed = inner(span, 15).iter().any(|status| fields(status).iter().any(|(n, v)| *n == 3 && matches!(v, Field::Number(2))));
    Received {
        trace: bytes(1),
        id: bytes(2),
        parent: bytes(4),
        name: String::from_utf8(bytes(5)).unwrap(),
        kind: number(6).unwrap(),
        from: number(7).unwrap(),
        to: number(8).unwrap(),
        failed,
        attributes: inner(span, 9).iter().map(|pair| attribute(pair)).collect(),
    }
}

fn attribute(pair: &[u8]) -> (String, String) {
    let key = String::from_utf8(inner(pair, 1).remove(0)).unwrap();
    let value = match fields(&inner(pair, 2)[0]).remove(0) {
        (_, Field::Bytes(text)) => String::from_utf8(text).unwrap(),
        (_, Field::Number(n)) => n.to_string(),
    };
    (key, value)
}

fn inner(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    let of = |(n, v)| if let (true, Field::Bytes(bytes)) = (n == number, v) { Some(bytes) } else { None };
    fields(message).into_iter().filter_map(of).collect()
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => {
                let (eight, rest) = message.split_at(8);
                message = rest;
                Field::Number(u64::from_le_bytes(eight.try_into().unwrap()))
            }
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                let (bytes, rest) = message.split_at(length);
                message = rest;
                Field::Bytes(bytes.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, field));
    }
    all
}

fn varint(message: &mut &[u8]) -> u64 {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = message[0];
        *message = &message[1..];
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return n;
        }
        shift += 7;
    }
}
