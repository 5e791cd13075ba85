//! An API that a test speaks: every request goes to one function, on a thread of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

/// What was asked.
pub struct Asked {
    /// Path and query.
    pub target: String,
    #[allow(dead_code, reason = "not every test looks at bodies")]
    pub body: String,
}

impl Asked {
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(|v| v.replace("%3A", ":"))
    }
}

/// Answers status and body until the test ends; its address without a slash.
pub fn serve(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || drop(talk(stream, &*answer)));
        }
    });
    address
}

fn talk(stream: TcpStream, answer: &dyn Fn(&Asked) -> (u16, String)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let target = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let (status, text) = answer(&Asked { target, body: String::from_utf8_lossy(&body).into_owned() });
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    reader.get_mut().write_all((head + &text).as_bytes())
}
