//! Features over HTTP, with nothing but the standard library: an image goes in, its features come out as JSON. The
//! model is opened once, and its forward pass is recorded once.
//!
//! ```text
//! cargo run --release --example 09_serve_features -- [CHECKPOINT [ADDRESS]]
//! curl --data-binary @web/assets/samples/0.png http://127.0.0.1:8077/
//! ```
//!
//! It serves one request after the other, and this machine alone: put a proxy in front of it for more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rowscan::data::load_sample;
use rowscan::infer::features::FrozenEncoder;
use rowscan::prelude::*;
use rowscan::run::checkpoint;

/// Bytes of an image that are read at most.
const LARGEST: usize = 64 << 20;

/// The body of a request, by its `Content-Length`.
fn body(stream: &TcpStream) -> Result<Vec<u8>, String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(8192).read_line(&mut line).map_err(|e| e.to_string())? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().map_err(|e| format!("{name}: {e}"))?;
        }
    }
    if length == 0 || length > LARGEST {
        return Err(format!("an image of {length} bytes: expected 1 to {LARGEST} in the body"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Serves the features of the model in `folder`, for `requests` requests.
pub fn serve(folder: &Path, listener: &TcpListener, requests: usize) -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    let config = checkpoint::config(folder)?;
    let encoder = FrozenEncoder::open(&g, &config, Some(checkpoint::weights(folder)?), 0)?;
    let program = encoder.program(&g, &config, 1)?;
    let transform = Transform::eval(config.image_size as u32);
    println!("{}: {encoder}", config.name);
    for stream in listener.incoming().take(requests) {
        let Ok(mut stream) = stream else { continue };
        let answer = body(&stream).and_then(|bytes| {
            let file = std::env::temp_dir().join(format!("rowscan-{}.image", std::process::id()));
            std::fs::write(&file, bytes).map_err(|e| e.to_string())?;
            let pixels = load_sample(&file, &transform).map_err(|e| e.to_string());
            let _ = std::fs::remove_file(&file);
            pollster::block_on(program.run(&pixels?)).map_err(|e| e.to_string())
        });
        let (status, text) = match answer {
            Ok(features) => ("200 OK", format!("{{\"features\": {features:?}}}")),
            Err(error) => ("400 Bad Request", format!("{{\"error\": {error:?}}}")),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", text.len());
        // a client that is gone is no reason to stop
        let _ = write!(stream, "{head}Connection: close\r\n\r\n{text}");
    }
    Ok(())
}

fn main() -> rowscan::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or("web/assets/map_micro".into());
    let address = args.next().unwrap_or("127.0.0.1:8077".into());
    let listener = TcpListener::bind(&address).map_err(rowscan::Error::io(&address, "listened on"))?;
    println!("http://{address}/");
    serve(Path::new(&folder), &listener, usize::MAX)
}
