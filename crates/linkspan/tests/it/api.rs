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
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

impl Asked {
    /// A field of a form in the body.
    pub fn form(&self, name: &str) -> Option<String> {
        self.body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    }
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(|v| v.replace("%3A", ":"))
    }
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    /// Header lines, each with its end.
    pub headers: String,
    pub body: String,
}

impl From<(u16, String)> for Reply {
    fn from((status, body): (u16, String)) -> Self {
        Self { status, headers: String::new(), body }
    }
}

/// Answers until the test ends; its address without a slash. Connections are kept open.
pub fn serve<R: Into<Reply>>(answer: impl Fn(&Asked) -> R + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(move |asked: &Asked| answer(asked).into());
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                stream.set_nodelay(true).ok();
                let mut reader = BufReader::new(stream);
                while talk(&mut reader, &*answer).is_ok_and(|goes_on| goes_on) {}
            });
        }
    });
    address
}

/// Whether the connection may carry another request.
fn talk(reader: &mut BufReader<TcpStream>, answer: &dyn Fn(&Asked) -> Reply) -> std::io::Result<bool> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(false);
    }
    let mut length = 0;
    let mut authorization = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.to_lowercase().starts_with("authorization:") {
            authorization = line.split_once(':').map(|(_, value)| value.trim().to_owned());
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let target = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let Reply { status, headers, body } = answer(&Asked { target, body: String::from_utf8_lossy(&body).into_owned(), authorization });
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    reader.get_mut().write_all((head + &body).as_bytes())?;
    Ok(true)
}
